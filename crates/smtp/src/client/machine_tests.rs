//! Conversations with the machine: what the peer says, what must be written, and what comes of the message.

use super::super::auth::{Credentials, Mechanism};
use super::super::settings::Timeouts;
use super::super::transaction::{Content, Recipient, Xclient};
use super::*;

fn settings() -> Settings {
    Settings {
        protocol: Protocol::Esmtp,
        hello: "me.example".into(),
        tls: TlsMode::No,
        pipelining: true,
        timeouts: Timeouts::default(),
    }
}

/// A conversation: `hear` is the peer's turn, `said` what we wrote since.
struct Talk(Client);

impl Talk {
    fn new(settings: Settings) -> Talk {
        Talk(Client::new(Arc::new(settings)))
    }

    /// Up to EHLO's reply.
    fn ready(settings: Settings, ehlo: &str) -> Talk {
        let mut talk = Talk::new(settings);
        talk.hear("220 peer.example\r\n");
        talk.said();
        talk.hear(ehlo);
        talk
    }

    fn hear(&mut self, text: &str) -> &mut Talk {
        self.0.input().extend_from_slice(text.as_bytes());
        self.0.advance();
        self
    }

    fn said(&mut self) -> Vec<u8> {
        let said = self.0.out.to_vec();
        self.0.out.advance(said.len());
        said
    }

    fn expect(&mut self, text: &str) -> &mut Talk {
        assert_eq!(String::from_utf8_lossy(&self.said()), text);
        self
    }

    fn send(&mut self, sender: &str, recipients: &[&str], body: &str) -> Result<(), Refused> {
        let recipients: Vec<Recipient<'_>> =
            recipients.iter().map(|to| Recipient { path: path(to), ..Recipient::default() }).collect();
        self.0.submit(&transaction(sender, &recipients, body))
    }

    fn outcome(&mut self) -> Vec<(Kind, u8, String)> {
        let outcome = self.0.outcome().expect("an outcome");
        outcome.recipients.iter().map(|v| (v.kind, v.stage.number(), v.reply.to_string())).collect()
    }
}

fn path(address: &str) -> Path<'_> {
    match address.rsplit_once('@') {
        Some((local, domain)) => Path { local, domain },
        None => Path { local: address, domain: "" },
    }
}

fn transaction<'a>(sender: &'a str, recipients: &'a [Recipient<'a>], body: &str) -> Transaction<'a> {
    Transaction {
        sender: path(sender),
        recipients,
        content: Content {
            head: Bytes::from_static(b"A: b\r\n\r\n"),
            body: Body::Memory(Bytes::copy_from_slice(body.as_bytes())),
        },
        size: 8 + body.len() as u64,
        body_8bit: false,
        smtputf8: false,
        ret_full: None,
        envid: None,
        auth: None,
        xclient: None,
    }
}

const PIPELINING: &str = "250-peer.example\r\n250 PIPELINING\r\n";
const PLAIN: &str = "250 peer.example\r\n";

fn delivered(reply: &str) -> (Kind, u8, String) {
    (Kind::Delivered, 9, reply.into())
}

#[test]
fn one_command_at_a_time_without_pipelining() {
    let mut talk = Talk::new(settings());
    talk.expect("").hear("220 peer\r\n").expect("EHLO me.example\r\n").hear(PLAIN);
    talk.send("a@b.example", &["c@d.example", "e@d.example"], "x\r\n").unwrap();
    talk.expect("MAIL FROM:<a@b.example>\r\n").hear("250 ok\r\n");
    talk.expect("RCPT TO:<c@d.example>\r\n").hear("250 ok\r\n");
    talk.expect("RCPT TO:<e@d.example>\r\n").hear("251 will forward\r\n");
    talk.expect("DATA\r\n").hear("354 go\r\n");
    talk.expect("A: b\r\n\r\nx\r\n.\r\n").hear("250 queued\r\n");
    assert_eq!(talk.outcome(), [delivered("250 queued"), delivered("250 queued")]);
    assert!(talk.0.is_reusable());
    talk.0.quit();
    talk.expect("QUIT\r\n").hear("221 bye\r\n");
    assert!(talk.0.is_closed());
}

#[test]
fn the_next_message_leaves_with_the_dot_of_the_one_before() {
    let mut talk = Talk::ready(settings(), PIPELINING);
    talk.said();
    talk.send("a@b", &["c@d"], "1\r\n").unwrap();
    talk.expect("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    talk.send("a@b", &["e@d"], "2\r\n").unwrap();
    talk.expect("");
    assert_eq!(talk.send("a@b", &["e@d"], "3\r\n"), Err(Refused::Busy), "two are the most");
    talk.hear("250 ok\r\n250 ok\r\n354 go\r\n");
    talk.expect("A: b\r\n\r\n1\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<e@d>\r\nDATA\r\n");
    talk.hear("250 first\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!(talk.outcome(), [delivered("250 first")]);
    talk.send("", &["f@d"], "3\r\n").unwrap();
    talk.expect("A: b\r\n\r\n2\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<f@d>\r\nDATA\r\n");
    talk.hear("250 second\r\n250 ok\r\n250 ok\r\n354 go\r\n").hear("");
    talk.expect("A: b\r\n\r\n3\r\n.\r\n").hear("250 third\r\n");
    assert_eq!(talk.0.outcome().unwrap().bytes_sent, 14);
    assert_eq!(talk.outcome(), [delivered("250 third")]);
}

#[test]
fn refusals_have_the_stage_of_their_command() {
    // (replies to MAIL, RCPT, DATA, dot; kind; stage; reply)
    for (replies, kind, stage, reply) in [
        (&["550 no"][..], Kind::Permanent, 3, "550 no"),
        (&["451 later"], Kind::Transient, 3, "451 later"),
        (&["250 ok", "550 5.1.1 unknown"], Kind::Permanent, 5, "550 5.1.1 unknown"),
        (&["250 ok", "450 4.2.0 greylisted"], Kind::Transient, 5, "450 4.2.0 greylisted"),
        (&["250 ok", "650 what"], Kind::Transient, 5, "650 what"),
        (&["250 ok", "250 ok", "451 no"], Kind::Transient, 7, "451 no"),
        (&["250 ok", "250 ok", "250 what"], Kind::Transient, 7, "250 what"),
        (&["250 ok", "250 ok", "354 go", "554 spam"], Kind::Permanent, 9, "554 spam"),
        (&["250 ok", "250 ok", "354 go", "421 busy"], Kind::Transient, 9, "421 busy"),
    ] {
        for ehlo in [PLAIN, PIPELINING] {
            let mut talk = Talk::ready(settings(), ehlo);
            talk.said();
            talk.send("a@b", &["c@d"], "x\r\n").unwrap();
            for reply in replies {
                talk.said();
                talk.hear(&format!("{reply}\r\n"));
            }
            if ehlo == PIPELINING {
                // The commands that were sent already are answered too.
                for _ in replies.len()..3 {
                    talk.hear("503 no\r\n");
                }
            }
            assert_eq!(talk.outcome(), [(kind, stage, reply.to_owned())], "{replies:?} {ehlo}");
        }
    }
}

#[test]
fn what_had_left_counts_only_for_those_who_were_sent_content() {
    let mut talk = Talk::ready(settings(), PIPELINING);
    talk.said();
    talk.send("a@b", &["now@d", "never@d"], "x\r\n").unwrap();
    talk.said();
    talk.hear("250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n").said();
    talk.hear("250 taken\r\n");
    let outcome = talk.0.outcome().unwrap();
    assert!(outcome.bytes_sent > 0);
    let about: Vec<bool> = outcome.recipients.iter().map(|verdict| verdict.stage.is_about_content()).collect();
    assert_eq!(about, [true, false]);
}

#[test]
fn rset_follows_only_a_transaction_that_was_left_open() {
    for ehlo in [PLAIN, PIPELINING] {
        let mut talk = Talk::ready(settings(), ehlo);
        talk.said();
        talk.send("a@b", &["c@d"], "x\r\n").unwrap();
        talk.said();
        talk.hear("250 ok\r\n").said();
        talk.hear("550 no\r\n");
        if ehlo == PIPELINING {
            talk.hear("503 no\r\n");
        }
        talk.outcome();
        talk.send("a@b", &["e@d"], "x\r\n").unwrap();
        if ehlo == PIPELINING {
            talk.expect("RSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<e@d>\r\nDATA\r\n").hear("250 reset\r\n");
        } else {
            talk.expect("RSET\r\n").hear("250 reset\r\n").expect("MAIL FROM:<a@b>\r\n");
        }
        talk.hear("250 ok\r\n").said();
        talk.hear("250 ok\r\n").said();
        talk.hear("354 go\r\n").said();
        talk.hear("250 done\r\n");
        assert_eq!(talk.outcome(), [delivered("250 done")]);
        // After a whole transaction there is nothing to reset.
        talk.send("a@b", &["e@d"], "x\r\n").unwrap();
        assert!(talk.said().starts_with(b"MAIL"));
    }
}

#[test]
fn some_recipients_may_fail_and_the_others_get_the_message() {
    let mut talk = Talk::ready(settings(), PIPELINING);
    talk.said();
    talk.send("a@b", &["1@d", "2@d", "3@d"], "x\r\n").unwrap();
    talk.said();
    talk.hear("250 ok\r\n250 ok\r\n550 no\r\n450 later\r\n354 go\r\n");
    talk.expect("A: b\r\n\r\nx\r\n.\r\n").hear("250 done\r\n");
    let wanted =
        [delivered("250 done"), (Kind::Permanent, 5, "550 no".into()), (Kind::Transient, 5, "450 later".into())];
    assert_eq!(talk.outcome(), wanted);
}

#[test]
fn a_go_ahead_for_nobody_gets_an_empty_message() {
    let mut talk = Talk::ready(settings(), PIPELINING);
    talk.said();
    talk.send("a@b", &["1@d"], "secret\r\n").unwrap();
    talk.said();
    talk.hear("250 ok\r\n550 no\r\n354 go\r\n").expect(".\r\n");
    talk.send("a@b", &["2@d"], "x\r\n").unwrap();
    talk.expect("MAIL FROM:<a@b>\r\nRCPT TO:<2@d>\r\nDATA\r\n");
    talk.hear("554 no valid recipients\r\n");
    assert_eq!(talk.outcome(), [(Kind::Permanent, 5, "550 no".into())]);
    // MAIL refused, and yet a go-ahead: nothing but the dot leaves.
    talk.hear("550 no\r\n250 ok\r\n354 go\r\n").expect(".\r\n").hear("250 accepted nothing\r\n");
    assert_eq!(talk.outcome(), [(Kind::Permanent, 3, "550 no".into())]);
}

#[test]
fn after_421_nothing_is_sent_and_the_rest_was_not_attempted() {
    let mut talk = Talk::ready(settings(), PIPELINING);
    talk.said();
    talk.send("a@b", &["1@d", "2@d", "3@d"], "x\r\n").unwrap();
    talk.send("a@b", &["4@d"], "x\r\n").unwrap();
    talk.said();
    talk.hear("250 ok\r\n250 ok\r\n421 too much\r\n").expect("");
    let kinds: Vec<Kind> = talk.0.outcome().unwrap().recipients.iter().map(|verdict| verdict.kind).collect();
    assert_eq!(kinds, [Kind::NotAttempted, Kind::Transient, Kind::NotAttempted]);
    assert_eq!(talk.outcome()[0].0, Kind::NotAttempted);
    assert!(talk.0.is_closed());
    // At MAIL the first recipient carries it.
    let mut talk = Talk::ready(settings(), PLAIN);
    talk.send("a@b", &["1@d", "2@d"], "x\r\n").unwrap();
    talk.hear("421 bye\r\n");
    let kinds: Vec<Kind> = talk.0.outcome().unwrap().recipients.iter().map(|verdict| verdict.kind).collect();
    assert_eq!(kinds, [Kind::Transient, Kind::NotAttempted]);
}

#[test]
fn a_broken_session_is_told_by_stage_and_text() {
    // (replies heard, is everything written, cause, stage, text)
    for (heard, written, cause, stage, reply) in [
        ("", true, Cause::NoReply, 3, text::NO_MAIL),
        ("", true, Cause::Closed, 3, text::CLOSED),
        ("", false, Cause::NotSent, 2, text::SEND_MAIL),
        ("250 ok\r\n", true, Cause::NoReply, 5, text::NO_RCPT),
        ("250 ok\r\n", false, Cause::NotSent, 4, text::SEND_RCPT),
        ("250 ok\r\n250 ok\r\n", true, Cause::NoReply, 7, text::NO_DATA),
        ("250 ok\r\n250 ok\r\n", false, Cause::NotSent, 6, text::SEND_DATA),
        ("250 ok\r\n250 ok\r\n354 go\r\n", false, Cause::NotSent, 8, text::SEND_BODY),
        ("250 ok\r\n250 ok\r\n354 go\r\n", false, Cause::NoReply, 8, text::SEND_BODY),
        ("250 ok\r\n250 ok\r\n354 go\r\n", true, Cause::NoReply, 9, text::NO_BODY),
        ("250 ok\r\n250 ok\r\n354 go\r\n", true, Cause::Closed, 9, text::CLOSED),
    ] {
        let mut talk = Talk::ready(settings(), PLAIN);
        talk.said();
        talk.send("a@b", &["c@d"], "x\r\n").unwrap();
        for line in heard.split_inclusive("\r\n") {
            talk.said();
            talk.hear(line);
        }
        if written {
            talk.said();
        }
        talk.0.fail(cause);
        assert_eq!(talk.outcome(), [(Kind::Transient, stage, reply.into())], "{heard:?} {cause:?}");
    }
}

#[test]
fn a_kept_connection_that_the_peer_closes_costs_no_attempt() {
    let mut talk = Talk::ready(settings(), PIPELINING);
    talk.send("a@b", &["c@d"], "1\r\n").unwrap();
    talk.said();
    talk.hear("250 ok\r\n250 ok\r\n354 go\r\n").said();
    talk.hear("250 done\r\n");
    assert_eq!(talk.outcome(), [delivered("250 done")]);
    talk.send("a@b", &["e@d"], "2\r\n").unwrap();
    talk.said();
    talk.0.fail(Cause::Closed);
    assert_eq!(talk.outcome()[0].0, Kind::NotAttempted);
    // The first of a connection is an attempt all the same.
    let mut talk = Talk::ready(settings(), PIPELINING);
    talk.send("a@b", &["c@d"], "1\r\n").unwrap();
    talk.said();
    talk.0.fail(Cause::Closed);
    assert_eq!(talk.outcome(), [(Kind::Transient, 3, text::CLOSED.into())]);
}

#[test]
fn a_session_that_is_about_to_close_strands_no_message() {
    let mut talk = Talk::ready(settings(), PLAIN);
    talk.send("a@b", &["c@d"], "x\r\n").unwrap();
    talk.send("a@b", &["e@d"], "x\r\n").unwrap();
    for reply in ["250 ok\r\n", "250 ok\r\n", "250 what\r\n"] {
        talk.said();
        talk.hear(reply);
    }
    assert_eq!(talk.outcome(), [(Kind::Transient, 7, "250 what".to_owned())]);
    assert_eq!(talk.outcome()[0].0, Kind::NotAttempted);
}

#[test]
fn a_reply_to_a_dot_that_is_not_out_ends_the_session() {
    for (reply, kind, wanted) in
        [("250 ok", Kind::Transient, text::SEND_BODY), ("552 too big", Kind::Permanent, "552 too big")]
    {
        let mut talk = Talk::ready(settings(), PLAIN);
        talk.send("a@b", &["c@d"], "x\r\n").unwrap();
        for line in ["250 ok\r\n", "250 ok\r\n", "354 go\r\n"] {
            talk.said();
            talk.hear(line);
        }
        talk.hear(&format!("{reply}\r\n"));
        assert_eq!(talk.outcome(), [(kind, 8, wanted.to_owned())]);
        assert!(talk.0.is_closed());
        assert_eq!(talk.said(), b"", "what is left of the content must not become commands");
    }
}

#[test]
fn setting_up_fails_with_stage_and_text() {
    let required = Settings { tls: TlsMode::Required, ..settings() };
    let smtp = Settings { protocol: Protocol::Smtp, ..settings() };
    for (settings, heard, stage, reply, tls) in [
        (settings(), &["554 go away"][..], 12, "554 go away", false),
        (settings(), &["hello"], 12, text::NO_BANNER, false),
        (settings(), &["220 hi", "421 busy"], 11, "421 busy", false),
        (settings(), &["220 hi", "502 what", "501 what"], 11, "501 what", false),
        (smtp, &["220 hi", "501 what"], 11, "501 what", false),
        (required.clone(), &["220 hi", "250 peer"], 11, text::STARTTLS_MISSING, true),
        (required.clone(), &["220 hi", "500 what", "250 peer"], 11, text::STARTTLS_MISSING, true),
        (required.clone(), &["220 hi", "250-peer\r\n250 STARTTLS", "454 no"], 16, text::NO_TLS_GO_AHEAD, true),
        (required, &["220 hi", "250-peer\r\n250 STARTTLS", "220 go\r\n250 injected"], 17, text::TLS_FAILED, true),
    ] {
        let mut talk = Talk::new(settings);
        for line in heard {
            talk.said();
            talk.hear(&format!("{line}\r\n"));
        }
        let wanted = Failure { stage: stage_of(stage), reply: reply.into(), tls };
        assert_eq!(talk.0.failure(), Some(&wanted), "{heard:?}");
    }
    for (cause, said_hello, stage, reply) in [
        (Cause::Closed, false, 12, text::NO_BANNER),
        (Cause::NoReply, false, 12, text::NO_BANNER),
        (Cause::NoReply, true, 11, text::NO_HELLO),
        (Cause::Closed, true, 11, text::CLOSED),
    ] {
        let mut talk = Talk::new(settings());
        if said_hello {
            talk.hear("220 hi\r\n").said();
        }
        talk.0.fail(cause);
        assert_eq!(talk.0.failure().map(|f| (f.stage.number(), f.reply.as_str())), Some((stage, reply)));
    }
}

fn stage_of(number: u8) -> Stage {
    [Stage::AfterEhlo, Stage::ReadingBanner, Stage::AfterStartTls, Stage::HandshakingTls]
        .into_iter()
        .find(|stage| stage.number() == number)
        .expect("a stage of setting up")
}

#[test]
fn helo_is_the_fallback_and_has_no_extensions() {
    let mut talk = Talk::new(Settings { tls: TlsMode::IfAvailable, ..settings() });
    talk.hear("220 hi\r\n").expect("EHLO me.example\r\n").hear("500-what\r\n500 PIPELINING\r\n");
    talk.expect("HELO me.example\r\n").hear("250-peer\r\n250 PIPELINING\r\n");
    assert!(talk.0.is_ready());
    assert_eq!(*talk.0.capabilities(), Capabilities::default());
}

#[test]
fn after_the_handshake_everything_begins_anew() {
    let mut talk = Talk::new(Settings { tls: TlsMode::IfAvailable, ..settings() });
    talk.hear("220 hi\r\n").said();
    talk.hear("250-peer\r\n250-SIZE 5\r\n250 STARTTLS\r\n").expect("STARTTLS\r\n").hear("220 go\r\n");
    assert!(talk.0.wants_handshake());
    talk.0.tls_established();
    talk.expect("EHLO me.example\r\n").hear("250-peer\r\n250 STARTTLS\r\n");
    assert!(talk.0.is_ready());
    assert_eq!(talk.0.capabilities().size_max, None);
}

#[test]
fn parameters_are_sent_only_to_peers_that_announced_them() {
    let all = "250-p\r\n250-SIZE 100\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN\r\n";
    for (ehlo, mail, rcpt) in [
        (
            all,
            "MAIL FROM:<a@b> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+20y\r\n",
            "RCPT TO:<c@d> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@d\r\n",
        ),
        ("250-p\r\n250 SMTPUTF8\r\n", "MAIL FROM:<a@b> SMTPUTF8\r\n", "RCPT TO:<c@d>\r\n"),
    ] {
        let mut talk = Talk::ready(settings(), ehlo);
        talk.said();
        let to = [Recipient { path: path("c@d"), notify: Some((true, false, true)), orcpt: Some("rfc822;c@d") }];
        let it = transaction("a@b", &to, "x\n");
        let it = Transaction { body_8bit: true, smtputf8: true, ret_full: Some(false), envid: Some("x+20y"), ..it };
        talk.0.submit(&it).unwrap();
        talk.expect(mail).hear("250 ok\r\n").expect(rcpt);
    }
    let mut talk = Talk::ready(settings(), all);
    talk.said();
    let to = [Recipient { path: path("c@d"), notify: Some((false, false, false)), orcpt: Some("bad value") }];
    let it = Transaction { envid: Some("bad\r\nvalue"), ..transaction("a@b", &to, "x\n") };
    talk.0.submit(&it).unwrap();
    talk.expect("MAIL FROM:<a@b> SIZE=10\r\n").hear("250 ok\r\n").expect("RCPT TO:<c@d> NOTIFY=NEVER\r\n");
}

#[test]
fn what_the_peer_cannot_take_is_not_sent() {
    let mut talk = Talk::ready(settings(), "250-p\r\n250 SIZE 20\r\n");
    talk.said();
    assert_eq!(talk.send("a@b", &["c@d"], "0123456789abc"), Err(Refused::TooLarge));
    assert_eq!(talk.send("a@b", &["\u{e9}@d"], "x"), Err(Refused::NoUtf8));
    assert_eq!(talk.send("a@b", &["c@d>\r\nDATA"], "x"), Err(Refused::BadAddress));
    assert_eq!(talk.send("a@b", &[""], "x"), Err(Refused::BadAddress));
    talk.expect("");
    assert_eq!(talk.send("a@b", &["c@d"], "0123456789ab"), Ok(()), "a message of the very limit");
}

#[test]
fn lmtp_has_a_verdict_for_each_recipient() {
    let mut talk = Talk::new(Settings { protocol: Protocol::Lmtp, ..settings() });
    talk.hear("220 hi\r\n").expect("LHLO me.example\r\n").hear(PIPELINING);
    talk.send("a@b", &["1@d", "2@d", "3@d"], "x\r\n").unwrap();
    talk.said();
    talk.hear("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n").said();
    talk.hear("250 one\r\n");
    assert!(talk.0.outcome().is_none());
    talk.hear("452 full\r\n");
    let wanted = [delivered("250 one"), (Kind::Permanent, 5, "550 no".into()), (Kind::Transient, 9, "452 full".into())];
    assert_eq!(talk.outcome(), wanted);
}

#[test]
fn auth_comes_before_the_first_mail_and_fixes_the_identity() {
    let who = Arc::new(Credentials { mechanism: Mechanism::Login, user: "u".into(), password: "p".into() });
    let to = [Recipient { path: path("c@d"), ..Recipient::default() }];
    let it = Transaction { auth: Some(who), ..transaction("a@b", &to, "x\r\n") };
    let mut talk = Talk::ready(settings(), "250-p\r\n250-AUTH LOGIN\r\n250 PIPELINING\r\n");
    talk.said();
    talk.0.submit(&it).unwrap();
    talk.expect("AUTH LOGIN\r\n").hear("334 VXNlcm5hbWU6\r\n").expect("dQ==\r\n").hear("334 UGFzc3dvcmQ6\r\n");
    talk.expect("cA==\r\n").hear("235 ok\r\n").expect("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    assert_eq!(talk.send("a@b", &["e@d"], "x"), Err(Refused::Busy), "somebody else");
    talk.0.submit(&it).unwrap();
    // Refused, or not to be had.
    for (ehlo, heard, reply) in
        [("250-p\r\n250 AUTH LOGIN\r\n", "535 no\r\n", "535 no"), (PLAIN, "", text::AUTH_MISSING)]
    {
        let mut talk = Talk::ready(settings(), ehlo);
        talk.0.submit(&it).unwrap();
        talk.said();
        talk.hear(heard);
        assert_eq!(talk.outcome(), [(Kind::Transient, 11, reply.to_owned())]);
    }
}

#[test]
fn xclient_goes_before_each_message_and_restarts_the_session() {
    let args = |required| Xclient {
        required,
        attributes: [("ADDR", "192.0.2.1"), ("HELO", "a b"), ("PORT", "1")].into_iter().collect(),
    };
    let to = [Recipient { path: path("c@d"), ..Recipient::default() }];
    let it = |required| Transaction { xclient: Some(args(required)), ..transaction("a@b", &to, "x\r\n") };
    let mut talk = Talk::ready(settings(), "250-p\r\n250-XCLIENT ADDR HELO\r\n250 PIPELINING\r\n");
    talk.said();
    talk.0.submit(&it(true)).unwrap();
    talk.expect("XCLIENT ADDR=192.0.2.1 HELO=a+20b\r\n").hear("220 hi\r\n").expect("EHLO me.example\r\n");
    talk.hear("250-p\r\n250-XCLIENT ADDR HELO\r\n250 PIPELINING\r\n");
    talk.expect("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n").hear("250 ok\r\n250 ok\r\n354 go\r\n").said();
    talk.0.submit(&it(true)).unwrap();
    talk.expect("").hear("250 done\r\n").expect("XCLIENT ADDR=192.0.2.1 HELO=a+20b\r\n").hear("550 no\r\n");
    assert_eq!(talk.outcome(), [delivered("250 done")]);
    assert_eq!(talk.outcome(), [(Kind::Transient, 20, "550 no".into())]);
    // Not announced.
    let mut talk = Talk::ready(settings(), PLAIN);
    talk.0.submit(&it(true)).unwrap();
    assert_eq!(talk.outcome(), [(Kind::Transient, 11, text::XCLIENT_MISSING.into())]);
    talk.said();
    talk.0.submit(&it(false)).unwrap();
    talk.expect("MAIL FROM:<a@b>\r\n");
}

#[test]
fn any_split_of_the_replies_gives_the_same_conversation() {
    let replies = "220-hi\r\n220 there\r\n250-p\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n250 done\r\n";
    let run = |pieces: &[&str]| {
        let mut talk = Talk::new(settings());
        let mut said = Vec::new();
        let mut sent = false;
        for piece in pieces {
            talk.hear(piece);
            if talk.0.is_ready() && !sent {
                talk.send("a@b", &["c@d"], "x\r\n").unwrap();
                sent = true;
                talk.hear("");
            }
            said.extend(talk.said());
        }
        said
    };
    // Replies ahead of their commands are not what a machine sees, so the split keeps to the dialogue's turns.
    let turns = [replies.find("250-p").unwrap(), replies.find("250 ok").unwrap(), replies.find("250 done").unwrap()];
    let whole =
        run(&[&replies[..turns[0]], &replies[turns[0]..turns[1]], &replies[turns[1]..turns[2]], &replies[turns[2]..]]);
    assert!(whole.ends_with(b"A: b\r\n\r\nx\r\n.\r\n"));
    let bytes: Vec<&str> = replies.split_inclusive(|_: char| true).collect();
    assert_eq!(run(&bytes), whole);
}

#[test]
fn every_reply_begins_a_wait_of_its_own() {
    let timeouts = Timeouts { rcpt: Duration::from_secs(3), body: Duration::from_secs(6), ..Timeouts::default() };
    let mut talk = Talk::ready(Settings { timeouts, ..settings() }, "250-p\r\n250 PIPELINING\r\n");
    talk.send("s@x", &["r@y"], "x\r\n").unwrap();
    let mut waits = vec![(talk.0.wait(), talk.0.patience())];
    for reply in ["250 ok\r\n", "250 ok\r\n", "354 go on\r\n"] {
        talk.hear(reply);
        assert!(!waits.iter().any(|(wait, _)| *wait == talk.0.wait()), "{reply}");
        waits.push((talk.0.wait(), talk.0.patience()));
    }
    let seconds = |patience: Option<Duration>| patience.map(|patience| patience.as_secs());
    assert_eq!(seconds(waits[2].1), Some(3), "for the go-ahead");
    assert_eq!(seconds(waits[3].1), Some(6), "for the answer to the dot, though as many are waited for as before");
}
