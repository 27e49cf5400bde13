//! Reply texts, with and without enhanced codes, and the order of commands.

use super::*;
use crate::Reply;
use crate::server::{Ended, Phase};

const MESSAGE: &str = "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n";

#[test]
fn a_plain_session_byte_for_byte() {
    let script = format!("EHLO me\r\n{MESSAGE}");
    let (sent, record) =
        raw(Recorder::new(settings()), vec![script.into(), b"Subject: x\r\n\r\nhi\r\n.\r\nQUIT\r\n".to_vec()]);
    let text = String::from_utf8(sent.bytes.clone()).unwrap();
    let (greeting, rest) = text.split_once("\r\n").unwrap();
    assert!(greeting.starts_with("220 mx.example ESMTP Posthaste "), "{greeting}");
    assert!(greeting.ends_with(" +0000"), "{greeting}");
    assert_eq!(
        rest,
        "250-mx.example says EHLO to 192.0.2.7:40000\r\n250-SIZE\r\n250-PIPELINING\r\n250 8BITMIME\r\n\
         250 MAIL FROM accepted\r\n250 RCPT TO accepted\r\n354 continue.  finished with \"\\r\\n.\\r\\n\"\r\n\
         250 OK 1/2-3\r\n221 mx.example closing connection\r\n"
    );
    assert_eq!(record.messages, [b"Subject: x\r\n\r\nhi\r\n".to_vec()]);
    assert_eq!(record.ended, Some(Ended::Quit));
    // Greeting, the group, the rest.
    assert_eq!((sent.reads, sent.writes), (2, 3));
}

#[test]
fn a_plain_session_with_enhanced_codes() {
    let script = format!("HELO me\r\n{MESSAGE}");
    let (sent, _) = raw(
        Recorder::new(with(&["ENHANCEDSTATUSCODES"])),
        vec![script.into(), b"x: y\r\n\r\n.\r\nRSET\r\nNOOP\r\nVRFY x\r\nHELP\r\nQUIT\r\n".to_vec()],
    );
    let text = String::from_utf8(sent.bytes).unwrap();
    let (greeting, rest) = text.split_once("\r\n").unwrap();
    assert!(greeting.starts_with("220 2.0.0 mx.example ESMTP Posthaste "), "{greeting}");
    assert_eq!(
        rest,
        "250 2.0.0 mx.example says HELO to 192.0.2.7:40000\r\n250 2.0.0 MAIL FROM accepted\r\n\
         250 2.0.0 RCPT TO accepted\r\n354 3.0.0 continue.  finished with \"\\r\\n.\\r\\n\"\r\n250 2.0.0 OK 1/2-3\r\n\
         250 2.0.0 OK\r\n250 2.0.0 OK\r\n252 2.1.5 cannot verify, but will accept\r\n214 2.0.0 see RFC 5321\r\n\
         221 2.3.0 mx.example closing connection\r\n"
    );
}

#[test]
fn refusals_of_the_protocol() {
    for (script, wanted) in [
        ("BOGUS\r\n", "500 5.5.2 unrecognized command"),
        ("\r\n", "500 5.5.2 unrecognized command"),
        ("EHLO\r\n", "501 5.5.2 invalid EHLO"),
        ("HELO a b\r\n", "501 5.5.2 invalid HELO"),
        ("MAIL TO:<a@b.c>\r\n", "501 5.5.2 MAIL FROM syntax error"),
        ("RCPT TO:<a@b.c>\r\n", "503 5.5.1 RCPT TO without MAIL FROM"),
        ("DATA\r\n", "503 5.5.1 DATA without MAIL FROM"),
        ("DATA x\r\n", "501 5.5.4 unexpected argument to DATA"),
        ("RSET x\r\n", "501 5.5.4 invalid arguments to RSET"),
        ("QUIT x\r\n", "501 5.5.4 Syntax error (no parameters allowed)"),
        ("EXPN x\r\n", "502 5.5.1 EXPN not implemented"),
        ("STARTTLS\r\n", "500 5.5.2 unrecognized command"),
        ("AUTH PLAIN\r\n", "500 5.5.2 unrecognized command"),
        ("XCLIENT ADDR=1.2.3.4\r\n", "500 5.5.2 unrecognized command"),
        ("MAIL FROM:<a@b.c> FOO=1\r\n", "555 5.5.4 unsupported parameter"),
    ] {
        let (replies, record) = session(Recorder::new(with(&["ENHANCEDSTATUSCODES"])), &[script]);
        assert_eq!(replies, [wanted], "{script}");
        assert_eq!(record.refused.len(), 1, "{script}");
        assert_eq!(record.ended, Some(Ended::Aborted));
    }
}

#[test]
fn refusals_within_a_transaction() {
    for (script, wanted, phase) in [
        ("MAIL FROM:<x@y.z>\r\n", "501 MAIL FROM already established", Phase::RcptTo),
        ("DATA\r\n", "503 DATA without RCPT TO", Phase::RcptTo),
        ("RCPT TO:<>\r\n", "501 RCPT TO syntax error", Phase::RcptTo),
        ("RCPT TO:<a@b.c> NOTIFY=NEVER\r\n", "555 unsupported parameter", Phase::RcptTo),
    ] {
        let (replies, record) = session(Recorder::new(settings()), &["MAIL FROM:<a@b.c>\r\n", script]);
        assert_eq!(replies[1..], [wanted], "{script}");
        assert_eq!(record.refused[0].0, phase);
    }
}

#[test]
fn mail_needs_a_hello_only_where_it_is_required() {
    let settings = Settings { require_ehlo: true, ..with(&["ENHANCEDSTATUSCODES"]) };
    let got = replies(settings, "MAIL FROM:<a@b.c>\r\nHELO x\r\nMAIL FROM:<a@b.c>\r\n");
    assert_eq!(got[0], "550 5.5.1 RFC2821 HELO/EHLO needed");
    assert_eq!(got[2], "250 2.0.0 MAIL FROM accepted");
}

#[test]
fn replies_of_one_packet_keep_their_order() {
    let mut recorder = Recorder::new(with(&["ENHANCEDSTATUSCODES"]));
    recorder.replies.insert("rcpt", Reply::new(550, (5, 7, 1), "relaying denied"));
    let (replies, _) = session(recorder, &[MESSAGE]);
    assert_eq!(
        replies,
        ["250 2.0.0 MAIL FROM accepted", "550 5.7.1 relaying denied", "503 5.5.1 DATA without RCPT TO"]
    );
}

#[test]
fn one_refused_recipient_leaves_the_other() {
    let mut recorder = Recorder::new(with(&["ENHANCEDSTATUSCODES"]));
    recorder.replies.insert("rcpt:no", Reply::new(550, (5, 7, 1), "relaying denied"));
    let script = "MAIL FROM:<a@b.c>\r\nRCPT TO:<yes@e.f>\r\nRCPT TO:<no@e.f>\r\nDATA\r\n";
    let (replies, record) = session(recorder, &[script, "s: x\r\n\r\n.\r\n"]);
    assert_eq!(replies[1..3], ["250 2.0.0 RCPT TO accepted", "550 5.7.1 relaying denied"]);
    assert_eq!(replies[4], "250 2.0.0 OK 1/2-3");
    // The handler refused, and knows.
    assert!(record.refused.is_empty());
}

#[test]
fn size_is_announced_and_held() {
    let settings = Settings { max_message_size: 1000, ..with(&["ENHANCEDSTATUSCODES"]) };
    let got = replies(settings.clone(), "EHLO x\r\nMAIL FROM:<a@b.c> SIZE=1001\r\nMAIL FROM:<a@b.c> SIZE=1000\r\n");
    assert!(got.contains(&"250-SIZE 1000".to_owned()));
    assert_eq!(got[5..], ["552 5.3.4 message size limit exceeded", "250 2.0.0 MAIL FROM accepted"]);
    for (size, wanted) in [(1000, "250 2.0.0 OK 1/2-3"), (1001, "552 5.3.4 message size limit exceeded")] {
        let body = format!("s: x\r\n\r\n{}\r\n.\r\nNOOP\r\n", "y".repeat(size - 10));
        let (replies, _) = session(Recorder::new(settings.clone()), &[MESSAGE, &body]);
        assert_eq!(replies[3..], [wanted, "250 2.0.0 OK"], "{size}");
    }
}

#[test]
fn a_second_ehlo_acts_as_rset() {
    let script = "EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nEHLO y\r\nDATA\r\n";
    assert_eq!(replies(settings(), script).last().unwrap(), "503 DATA without MAIL FROM");
}

#[test]
fn a_refused_hello_starts_nothing_and_a_policy_may_rewrite_the_first_line() {
    let mut recorder = Recorder::new(settings());
    recorder.replies.insert("hello", Reply::verbatim(550, "5.7.1 not you"));
    assert_eq!(session(recorder, &["EHLO x\r\n"]).0, ["550 5.7.1 not you"]);
    let mut recorder = Recorder::new(settings());
    recorder.replies.insert("hello", Reply::verbatim(250, "hello, you"));
    assert_eq!(session(recorder, &["EHLO x\r\n"]).0[0], "250-hello, you");
}

#[test]
fn a_client_refused_at_the_greeting_may_only_quit() {
    let mut recorder = Recorder::new(settings());
    recorder.replies.insert("connected", Reply::verbatim(554, "no service"));
    let (sent, record) = raw(recorder, vec![b"EHLO x\r\nMAIL FROM:<a@b.c>\r\nQUIT\r\n".to_vec()]);
    let text = String::from_utf8(sent.bytes).unwrap();
    assert_eq!(
        text,
        "554 no service\r\n503 bad sequence of commands\r\n503 bad sequence of commands\r\n\
         221 mx.example closing connection\r\n"
    );
    assert_eq!(record.refused.len(), 2);
    let mut recorder = Recorder::new(settings());
    recorder.replies.insert("connected", Reply::verbatim(421, "go away").closing());
    let (sent, record) = raw(recorder, vec![b"EHLO x\r\n".to_vec()]);
    assert_eq!(sent.bytes, b"421 go away\r\n");
    assert_eq!(record.ended, Some(Ended::ByServer));
}

#[test]
fn a_static_banner_is_the_whole_greeting() {
    let settings = Settings { static_banner: Some("220 hi\r\nthere".to_owned()), ..settings() };
    let (sent, _) = raw(Recorder::new(settings), vec![b"QUIT\r\n".to_vec()]);
    assert!(sent.bytes.starts_with(b"220 hi  there\r\n221 "));
}

#[test]
fn farewell_comes_at_mail_and_rset_and_nowhere_else() {
    for (script, count) in [("MAIL FROM:<a@b.c>\r\nNOOP\r\n", 1), ("RSET\r\nNOOP\r\n", 1), ("NOOP\r\nRSET\r\n", 2)] {
        let mut recorder = Recorder::new(settings());
        recorder.replies.insert("farewell", Reply::verbatim(421, "4.3.2 Reconfiguration in progress"));
        let (replies, record) = session(recorder, &[script]);
        assert_eq!(replies.len(), count, "{script}");
        assert_eq!(replies.last().unwrap(), "421 4.3.2 Reconfiguration in progress");
        assert_eq!(record.ended, Some(Ended::ByServer));
    }
}

#[test]
fn a_mail_line_over_4096_octets_leaves_the_session_usable() {
    let long = format!("MAIL FROM:<{}@b.c>\r\nMAIL FROM:<a@b.c>\r\n", "a".repeat(4097 - 18));
    assert_eq!(long.find('\n'), Some(4096));
    assert_eq!(replies(settings(), &long), ["500 line too long", "250 MAIL FROM accepted"]);
    let longest = format!("MAIL FROM:<{}@b.c>\r\n", "a".repeat(4096 - 18));
    assert_eq!(replies(settings(), &longest), ["250 MAIL FROM accepted"]);
}

#[test]
fn hooks_see_the_normal_form_of_a_command() {
    let script = "mail from: <A@B.C>  size=10\r\nrcpt to:<D@e.f>\r\n";
    let (_, record) = session(Recorder::new(settings()), &[script]);
    assert_eq!(record.calls[1..], ["MAIL FROM:<A@B.C> size=10", "RCPT TO:<D@e.f>"]);
}

#[test]
fn any_two_packets_give_the_same_session() {
    let script = "EHLO x\r\nBOGUS\r\nMAIL FROM:<a@b.c> SIZE=9\r\nRCPT TO:<no@e.f>\r\nRCPT TO:<yes@e.f>\r\nDATA\r\ns: x\r\n\r\n\
        ..\r\n.x\ny\r\n.\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<d@e.f>\r\nBDAT 5\r\n.\r\n.\rBDAT 3 LAST\r\n\nabAUTH LOGIN\r\n\
        YW5u\r\n*\r\nQUIT\r\n";
    let run = |pieces: &[&str]| {
        let mut recorder = Recorder::new(with(&["ENHANCEDSTATUSCODES", "CHUNKING", "AUTH LOGIN"]));
        recorder.replies.insert("rcpt:no", Reply::verbatim(550, "no"));
        session(recorder, pieces)
    };
    let (whole, record) = run(&[script]);
    assert_eq!(record.messages, [b"s: x\r\n\r\n.\r\nx\ny\r\n".to_vec(), b".\r\n.\r\nab".to_vec()]);
    for split in 1..script.len() {
        let (head, tail) = script.split_at(split);
        assert_eq!(run(&[head, tail]), (whole.clone(), record.clone()), "split at {split}");
    }
    let single: Vec<&str> = script.split_inclusive(|_: char| true).collect();
    assert_eq!(run(&single), (whole, record));
}
