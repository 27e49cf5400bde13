//! Reports: structure, fields, what of the original goes back, and what a hostile reply may not do.

use super::*;
use crate::envelope::Notify;
use bytes::Bytes;

const ORIGINAL: &str = "Subject: hello\r\nFrom: a@s.test\r\n\r\nthe body\r\n";

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text, true).unwrap()
}

struct Case {
    envelope: Envelope,
    original: Content,
    to: Mailbox,
}

impl Case {
    fn new(recipient: &str) -> Case {
        let envelope = Envelope {
            sender: mailbox("a@s.test"),
            recipient: mailbox(recipient),
            created: Time::from_secs(1_800_000_000),
            ..Envelope::default()
        };
        Case { to: envelope.sender.clone(), envelope, original: Content::parse(ORIGINAL.into()) }
    }

    fn report<'a>(&'a self, action: Action, reply: &'a str) -> Report<'a> {
        Report {
            action,
            envelope: &self.envelope,
            original: &self.original,
            inline: Inline::Headers,
            hostname: "mx.test",
            from: "mailer-daemon@mx.test",
            to: &self.to,
            id: "18/00-07149-D7E16B94".parse().unwrap(),
            now: Time::from_secs(1_800_000_100),
            reply,
            stage: "after RCPT TO",
            remote_mta: None,
            last_attempt: None,
            retry_until: None,
            preamble: None,
        }
    }
}

fn parts(content: &Content) -> Vec<(String, String)> {
    let tree = MimeTree::parse(content).unwrap();
    let text = |part| String::from_utf8_lossy(tree.body(part)).into_owned();
    tree.children(0).map(|at| &tree.parts()[at]).map(|part| (part.content_type.value.clone(), text(part))).collect()
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_failure_report_has_its_three_parts() {
    let case = Case::new("u@d.test");
    let report = case.report(Action::Failed, "550 5.1.1 User unknown").build().unwrap();
    let header = |name| report.header_text(name).unwrap();
    assert_eq!(header("Return-Path"), "<>");
    assert_eq!(header("From"), "Mail Delivery System <mailer-daemon@mx.test>");
    assert_eq!(header("To"), "a@s.test");
    assert_eq!(header("Subject"), "Mail Delivery Failure");
    assert_eq!(header("Auto-Submitted"), "auto-replied");
    assert_eq!(header("Message-ID"), "<18.00.07149.D7E16B94@mx.test>");
    assert!(header("Content-Type").starts_with("multipart/report; report-type=delivery-status;"));
    let parts = parts(&report);
    let kinds: Vec<_> = parts.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["text/plain", "message/delivery-status", "text/rfc822-headers"]);
    assert!(parts[0].1.ends_with("\r\n\r\nu@d.test (after RCPT TO): 550 5.1.1 User unknown"), "{}", parts[0].1);
    assert_eq!(parts[2].1, "Subject: hello\r\nFrom: a@s.test\r\n");
    assert!(!report.is_eight_bit().unwrap());
    let groups = extract_delivery_status(&report).unwrap().unwrap();
    assert_eq!(field(&groups[0], "Reporting-MTA"), Some("dns; mx.test"));
    assert_eq!(field(&groups[1], "Final-Recipient"), Some("rfc822; u@d.test"));
    assert_eq!(field(&groups[1], "Diagnostic-Code"), Some("smtp; 550 5.1.1 User unknown"));
    assert_eq!((field(&groups[1], "Status"), field(&groups[1], "Action")), (Some("5.1.1"), Some("failed")));
}

#[test]
fn fields_stand_in_their_order_and_read_back_the_same() {
    let mut case = Case::new("u@d.test");
    case.envelope.dsn.envid = Some("env-1".into());
    case.envelope.dsn.orcpt = Some("rfc822;old@d.test".into());
    let mut report = case.report(Action::Delayed, "450 4.2.0 later");
    report.remote_mta = Some("mx.d.test");
    report.last_attempt = Some(Time::from_secs(1_800_000_050));
    report.retry_until = Some(Time::from_secs(1_800_100_000));
    let status = report.delivery_status();
    let names = |fields: &[(String, String)]| fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&status.message), ["Arrival-Date", "Reporting-MTA", "Original-Envelope-Id"]);
    assert_eq!(
        names(&status.recipient),
        [
            "Remote-MTA",
            "Diagnostic-Code",
            "Action",
            "Original-Recipient",
            "Final-Recipient",
            "Last-Attempt-Date",
            "Status",
            "Will-Retry-Until"
        ]
    );
    assert_eq!(field(&status.recipient, "Original-Recipient"), Some("rfc822; old@d.test"));
    let groups = extract_delivery_status(&report.build().unwrap()).unwrap().unwrap();
    assert_eq!(groups, [status.message, status.recipient]);
}

#[test]
fn the_status_is_the_replys_where_its_class_fits() {
    for (reply, action, code) in [
        ("550 relay not permitted", Action::Failed, "5.0.0"),
        ("550 5.1.1 no", Action::Failed, "5.1.1"),
        ("550-5.1.1 no\r\n550 5.1.1 really", Action::Failed, "5.1.1"),
        ("450 4.2.0 later", Action::Failed, "5.0.0"),
        ("", Action::Delayed, "4.0.0"),
        ("250 2.0.0 OK", Action::Relayed, "2.0.0"),
        ("550 5.1.1234 x", Action::Failed, "5.0.0"),
        ("550 the 5.1.1 later", Action::Failed, "5.0.0"),
        ("5.7.1 text", Action::Failed, "5.7.1"),
    ] {
        assert_eq!(status(reply, action), code, "{reply}");
    }
    let text = String::from_utf8(DeliveryStatus::of_reply("550 5.1.1 no such user").to_bytes()).unwrap();
    assert_eq!(text, "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\nAction: failed\r\nStatus: 5.1.1\r\n");
}

#[test]
fn ret_and_the_option_decide_what_goes_back() {
    let kind = |ret, inline, action| {
        let mut case = Case::new("u@d.test");
        case.envelope.dsn.ret = ret;
        let report = Report { inline, ..case.report(action, "") }.build().unwrap();
        parts(&report).get(2).cloned()
    };
    let full = Some(("message/rfc822".to_owned(), ORIGINAL.to_owned()));
    let headers = Some(("text/rfc822-headers".to_owned(), "Subject: hello\r\nFrom: a@s.test\r\n".to_owned()));
    assert_eq!(kind(None, Inline::None, Action::Failed), None);
    assert_eq!(kind(None, Inline::Full, Action::Failed), full);
    assert_eq!(kind(Some(Ret::Headers), Inline::Full, Action::Failed), headers);
    assert_eq!(kind(Some(Ret::Full), Inline::None, Action::Failed), full);
    assert_eq!(kind(Some(Ret::Full), Inline::None, Action::Delivered), headers);
    let mut case = Case::new("u@d.test");
    case.original = Content::parse(Bytes::from(format!("A: 1\r\n\r\n{}", "x".repeat(ORIGINAL_LEN_MAX as usize))));
    let report = Report { inline: Inline::Full, ..case.report(Action::Failed, "") }.build().unwrap();
    assert_eq!(parts(&report)[2].0, "text/rfc822-headers");
}

#[test]
fn addresses_beyond_ascii_follow_rfc_6533() {
    let mut case = Case::new("jürg@dömäin.test");
    let groups = |case: &Case| {
        extract_delivery_status(&case.report(Action::Failed, "550 né").build().unwrap()).unwrap().unwrap()
    };
    // The sender reads ASCII only.
    let report = case.report(Action::Failed, "550 né").build().unwrap();
    assert_eq!(parts(&report)[1].0, "message/delivery-status");
    assert_eq!(field(&groups(&case)[1], "Final-Recipient"), Some("utf-8; j\\x{FC}rg@d\\x{F6}m\\x{E4}in.test"));
    assert!(!report.is_eight_bit().unwrap());
    case.envelope.smtputf8 = true;
    case.original = Content::parse("Subject: é\r\n\r\nbody\r\n".into());
    let report = case.report(Action::Failed, "550 né").build().unwrap();
    assert_eq!(parts(&report)[1].0, "message/global-delivery-status");
    assert_eq!(parts(&report)[2].0, "message/global-headers");
    assert_eq!(field(&groups(&case)[1], "Final-Recipient"), Some("utf-8; jürg@dömäin.test"));
    assert_eq!(report.header_text("Content-Transfer-Encoding").as_deref(), Some("8bit"));
}

#[test]
fn a_hostile_reply_stays_one_value_and_the_boundary_is_safe() {
    let mut case = Case::new("u@d.test");
    let boundary = "=_report_18.00.07149.D7E16B94";
    case.original = Content::parse(format!("A: 1\r\n\r\n--{boundary}\r\nnot a part\r\n--{boundary}_\r\n").into());
    let reply = format!("550 x\r\n\r\nBcc: y\r\n--{boundary}--\r\n{}", "long ".repeat(2000));
    let report = Report { inline: Inline::Full, ..case.report(Action::Failed, &reply) }.build().unwrap();
    let parts = parts(&report);
    assert_eq!(parts.len(), 3);
    assert_eq!(parts[2].1.as_bytes(), &case.original.to_bytes().unwrap()[..]);
    assert!(report.to_bytes().unwrap().split(|&byte| byte == b'\n').all(|line| line.len() <= 999));
    let groups = extract_delivery_status(&report).unwrap().unwrap();
    assert_eq!(groups.len(), 2);
    assert_eq!(field(&groups[1], "Bcc"), None);
    assert!(field(&groups[1], "Diagnostic-Code").unwrap().len() < REPLY_LEN_MAX + 10);
}

#[test]
fn other_actions_and_a_policys_preamble() {
    let case = Case::new("u@d.test");
    for (action, subject) in [
        (Action::Delayed, "Delayed Mail (still being retried)"),
        (Action::Delivered, "Mail Delivery Status"),
        (Action::Relayed, "Mail Delivery Status"),
        (Action::Expanded, "Mail Delivery Status"),
    ] {
        let report = Report { preamble: Some("Policy says\nso."), ..case.report(action, "") }.build().unwrap();
        assert_eq!(report.header_text("Subject").as_deref(), Some(subject));
        let text = &parts(&report)[0].1;
        assert!(text.starts_with("Policy says\r\nso.\r\n\r\nu@d.test (after RCPT TO)"), "{text}");
        let groups = extract_delivery_status(&report).unwrap().unwrap();
        assert_eq!(field(&groups[1], "Action"), Some(action.name()));
    }
}

#[test]
fn notify_says_which_reports_are_wanted() {
    let notify = |success, failure, delay| Some(Notify { success, failure, delay });
    use Action::*;
    for (notify, wanted) in [
        (None, &[Failed, Delayed][..]),
        (notify(false, false, false), &[]),
        (notify(true, false, false), &[Delivered, Relayed, Expanded]),
        (notify(false, true, false), &[Failed]),
        (notify(false, true, true), &[Failed, Delayed]),
    ] {
        let dsn = DsnRequest { notify, ..DsnRequest::default() };
        let found: Vec<_> = [Failed, Delayed, Delivered, Relayed, Expanded]
            .into_iter()
            .filter(|action| is_wanted(&dsn, *action))
            .collect();
        assert_eq!(found, wanted, "{notify:?}");
    }
}

#[test]
fn what_is_no_report_gives_nothing() {
    let report = |body: &str| {
        let raw = format!(
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n\
             Content-Type: message/delivery-status\r\n\r\n{body}\r\n--b--\r\n"
        );
        extract_delivery_status(&Content::parse(raw.into())).unwrap()
    };
    assert_eq!(extract_delivery_status(&Content::parse(ORIGINAL.into())).unwrap(), None);
    assert_eq!(report(""), None);
    assert_eq!(report("no field"), None);
    let two = report("reporting-mta: dns; x\r\n\r\nstatus: 5.1.1\r\nStatus: 5.0.0\r\nX-Own: y\r\n\r\n\r\nfinal-recipient: rfc822;\r\n b@c\r\n").unwrap();
    assert_eq!(two.len(), 3);
    assert_eq!((field(&two[1], "Status"), field(&two[1], "X-Own")), (Some("5.1.1"), Some("y")));
    assert_eq!(field(&two[2], "Final-Recipient"), Some("rfc822; b@c"));
    let wrapped = "Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\
        Content-Type: message/delivery-status\r\n\r\nStatus: 5.1.1\r\n--b--\r\n";
    assert_eq!(extract_delivery_status(&Content::parse(wrapped.into())).unwrap(), None);
}
