//! The machines of SMTP: server session, content, client session, SASL.

use crate::choices::{Choices, steps};
use bytes::Bytes;
use ph_smtp::client;
use ph_smtp::sasl::{Exchange, MECHANISMS, Next, digest_md5, salted_keys};
use ph_smtp::server::testing::{self, Record, Recorder, converse};
use ph_smtp::server::{AuthOutcome, BodyFault, BodyReader, BodyRules, LoneLf, Progress, Secret};
use std::num::NonZeroU32;
use std::sync::Arc;

pub static SERVER_WORDS: &[&str] = &[
    "EHLO x\r\n",
    "HELO x\r\n",
    "MAIL FROM:<a@b.example>",
    "RCPT TO:<c@d.example>",
    " SIZE=10",
    " BODY=8BITMIME",
    " SMTPUTF8",
    " NOTIFY=SUCCESS,FAILURE",
    " ORCPT=rfc822;a+40b",
    " ENVID=x RET=HDRS",
    "DATA\r\n",
    "BDAT 4 LAST\r\n",
    "BDAT 18446744073709551615\r\n",
    "\r\n.\r\n",
    "\n.\n",
    "\r.\r",
    "RSET\r\n",
    "NOOP\r\n",
    "QUIT\r\n",
    "AUTH PLAIN AGFubgBwdw==\r\n",
    "AUTH LOGIN\r\n",
    "AUTH CRAM-MD5\r\n",
    "AUTH SCRAM-SHA-256\r\n",
    "STARTTLS\r\n",
    "XCLIENT ADDR=192.0.2.9 NAME=[UNAVAILABLE]\r\n",
    "XSETCONTEXT k=djE=\r\n",
    "XDUMPCONTEXT\r\n",
    "XREMOTEIP 192.0.2.8\r\n",
];

/// One session, whole and in pieces.
pub fn server(input: &[u8]) {
    testing::fuzz_session(input);
    let mut choices = Choices::new(input);
    let (look, step) = (choices.octet(), usize::from(choices.octet()) + 1);
    let script = choices.rest();
    // The name alone decides whether octets in pieces mean the same as octets at once.
    let whole = session(look, vec![script.to_vec()]);
    let pieces = session(look, steps(script, step).map(<[u8]>::to_vec).collect());
    assert_eq!(whole.calls, pieces.calls, "the handler was called otherwise in pieces of {step}");
    assert_eq!(whole.messages, pieces.messages, "the messages differ in pieces of {step}");
}

fn session(look: u8, pieces: Vec<Vec<u8>>) -> Record {
    let mut settings = testing::settings();
    settings.lone_lf_in_body = lone(look);
    settings.lone_lf_in_headers = lone(look >> 2);
    settings.max_message_size = [0, 100][usize::from(look >> 4 & 1)];
    settings.max_header_size = [1 << 20, 40][usize::from(look >> 5 & 1)];
    settings.allow_trailing_whitespace_in_commands = look & 0x40 != 0;
    settings.extensions = ["ENHANCEDSTATUSCODES", "SMTPUTF8", "DSN", "CHUNKING", "AUTH PLAIN LOGIN", "XCLIENT"]
        .map(str::to_owned)
        .to_vec();
    let mut recorder = Recorder::new(settings);
    recorder.users.insert("ann".to_owned(), Secret::Clear(b"pw".to_vec()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (sent, record) = runtime.block_on(converse(recorder, pieces));
    testing::check_replies(&sent.bytes);
    record
}

fn lone(bits: u8) -> LoneLf {
    [LoneLf::Ignore, LoneLf::Fix, LoneLf::Pedantic][usize::from(bits % 3)]
}

pub static BODY_WORDS: &[&str] = &[
    "\r\n.\r\n",
    "\n.\n",
    "\r.\r",
    "\r\n..\r\n",
    "\r\n\u{0}.\r\n",
    "\r\n.\u{0}\r\n",
    "\r\n..\n",
    "\r\n\r\n",
    "a: b\r\n",
];

/// Content after DATA and in chunks; and stuffing, which must be its inverse.
pub fn body(input: &[u8]) {
    let mut choices = Choices::new(input);
    let look = choices.octet();
    let rules = BodyRules {
        size_max: [0, 50][usize::from(look & 1)],
        header_size_max: [0, 30][usize::from(look >> 1 & 1)],
        lone_in_headers: lone(look >> 2),
        lone_in_body: lone(look >> 4),
    };
    let step = usize::from(choices.octet()) + 1;
    let wire = choices.rest();
    for dotted in [true, false] {
        let (whole, fault, left) = read(rules, dotted, wire, wire.len());
        let pieces = read(rules, dotted, wire, step);
        assert_eq!((fault, left), (pieces.1, pieces.2), "pieces of {step}, dotted {dotted}");
        if fault.is_none() {
            assert_eq!(whole, pieces.0, "pieces of {step}, dotted {dotted}");
            assert!(!testing::has_foreign_dot_line(&whole), "a dot line was stored: {whole:?}");
        }
    }
    let stuffed = stuff(wire, step);
    assert_eq!(stuffed, stuff(wire, wire.len()), "stuffing in pieces of {step}");
    let ignore =
        BodyRules { size_max: 0, header_size_max: 0, lone_in_headers: LoneLf::Ignore, lone_in_body: LoneLf::Ignore };
    let (read_back, fault, left) = read(ignore, true, &stuffed, step);
    assert_eq!(left, 0, "something is left behind the body that we send: {stuffed:?}");
    // A dot among NULs is refused by our own reader, stuffed or not: some host takes the NULs out.
    assert!(fault.is_none() || wire.contains(&0), "{fault:?} in what we send: {stuffed:?}");
    if !testing::has_foreign_dot_line(wire) && (wire.is_empty() || wire.ends_with(b"\r\n")) {
        assert_eq!(read_back, wire, "what was sent is not what was meant");
    }
}

/// The content, its fault, and how many octets were left behind its end.
fn read(rules: BodyRules, dotted: bool, wire: &[u8], step: usize) -> (Vec<u8>, Option<BodyFault>, usize) {
    let mut reader = if dotted { BodyReader::data(rules) } else { BodyReader::chunks(rules) };
    let mut content = Vec::new();
    let mut taken = 0;
    for piece in steps(wire, step) {
        match reader.feed(piece, &mut content) {
            Progress::More => taken += piece.len(),
            Progress::End { consumed } => {
                assert!(dotted, "chunks have no end of their own");
                return (content, reader.fault(), wire.len() - taken - consumed);
            }
        }
    }
    if !dotted {
        reader.finish(&mut content);
    }
    // A DATA without its end: nothing is known of what a reader would still say.
    (content, reader.fault(), 0)
}

fn stuff(content: &[u8], step: usize) -> Vec<u8> {
    let mut out = client::Out::default();
    let mut stuffer = client::Stuffer::default();
    for piece in steps(content, step) {
        stuffer.push(&Bytes::copy_from_slice(piece), &mut out);
    }
    stuffer.finish(&mut out);
    written(&out)
}

fn written(out: &client::Out) -> Vec<u8> {
    out.pieces().flatten().copied().collect()
}

pub static CLIENT_WORDS: &[&str] = &[
    "220 peer\r\n",
    "250-peer\r\n250-PIPELINING\r\n250-SIZE 100\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n",
    "250 ok\r\n",
    "354 go\r\n",
    "421 bye\r\n",
    "450 4.2.0 later\r\n",
    "550 5.1.1 no\r\n",
    "250-",
    "334 \r\n",
    "235 ok\r\n",
    "999 x\r\n",
    "\r\n",
];

/// A client that hears any bytes.
pub fn client(input: &[u8]) {
    let mut choices = Choices::new(input);
    let settings = client::Settings {
        protocol: choices.pick(&[client::Protocol::Esmtp, client::Protocol::Smtp, client::Protocol::Lmtp]),
        hello: "me.example".into(),
        tls: choices.pick(&[client::TlsMode::No, client::TlsMode::IfAvailable, client::TlsMode::Required]),
        pipelining: choices.flag(),
        timeouts: client::Timeouts::default(),
    };
    let (wish, look) = (choices.octet(), choices.octet());
    let cause = choices.pick(&[
        client::Cause::Closed,
        client::Cause::NoReply,
        client::Cause::NotSent,
        client::Cause::Unreadable,
    ]);
    let mut machine = client::Client::new(Arc::new(settings));
    let mut counts = Vec::new(); // recipients of each transaction that was taken
    let mut outcomes = 0;
    for piece in choices.pieces() {
        if machine.wants_input() {
            machine.input().extend_from_slice(piece);
        }
        machine.advance();
        if machine.wants_handshake() {
            if look & 1 == 0 { machine.tls_established() } else { machine.tls_failed("no TLS today") }
        }
        while machine.takes_more() && counts.len() < 8 {
            let recipients = 1 + (usize::from(wish) + counts.len()) % 3;
            match machine.submit(&transaction(wish, &RECIPIENTS[..recipients])) {
                Ok(()) => counts.push(recipients),
                Err(_) => break,
            }
        }
        if look & 2 == 0 {
            let octets = written(machine.output()).len();
            machine.output().advance(octets);
        }
        while let Some(outcome) = machine.outcome() {
            check_outcome(&outcome, counts.get(outcomes).copied());
            outcomes += 1;
        }
        assert!(machine.in_hand() <= client::DEPTH_MAX);
    }
    if look & 4 == 0 {
        machine.quit();
    }
    machine.fail(cause);
    while let Some(outcome) = machine.outcome() {
        check_outcome(&outcome, counts.get(outcomes).copied());
        outcomes += 1;
    }
    assert!(machine.is_closed(), "a connection that failed takes no more");
    assert_eq!(outcomes, counts.len(), "every transaction has one outcome");
}

static RECIPIENTS: [client::Recipient<'static>; 3] = [
    client::Recipient { path: client::Path { local: "c", domain: "d.example" }, notify: None, orcpt: None },
    client::Recipient {
        path: client::Path { local: "e", domain: "d.example" },
        notify: Some((true, false, true)),
        orcpt: None,
    },
    client::Recipient { path: client::Path { local: "f", domain: "d.example" }, notify: None, orcpt: Some("rfc822;f") },
];

fn transaction<'a>(wish: u8, recipients: &'a [client::Recipient<'a>]) -> client::Transaction<'a> {
    let credentials = client::Credentials {
        mechanism: [
            client::Mechanism::Plain,
            client::Mechanism::Login,
            client::Mechanism::CramMd5,
            client::Mechanism::Xoauth2,
        ][usize::from(wish >> 4 & 3)],
        user: "ann".into(),
        password: "pw".into(),
    };
    client::Transaction {
        sender: client::Path { local: "a", domain: "b.example" },
        recipients,
        content: client::Content {
            head: Bytes::from_static(b"Subject: x\r\n\r\n"),
            body: client::Body::Memory(Bytes::from_static(b".\r\nsecond line\r\n")),
        },
        size: 31,
        body_8bit: wish & 1 != 0,
        smtputf8: false,
        ret_full: Some(wish & 2 != 0),
        envid: Some("e"),
        auth: (wish & 4 != 0).then(|| Arc::new(credentials)),
        xclient: None,
    }
}

fn check_outcome(outcome: &client::Outcome, recipients: Option<usize>) {
    assert_eq!(Some(outcome.recipients.len()), recipients, "an outcome that nobody asked for: {outcome:?}");
    for verdict in &outcome.recipients {
        assert!(!verdict.reply.contains('\r') && !verdict.reply.contains('\0'), "controls in a reply: {verdict:?}");
        if verdict.kind == client::Kind::Delivered {
            // Lines of several codes are one reply, and its last line tells.
            let last = verdict.reply.rsplit('\n').next().unwrap_or("");
            assert!(last.starts_with('2'), "delivered by no success: {verdict:?}");
        }
    }
}

pub static SASL_WORDS: &[&str] = &[
    "\u{0}ann\u{0}pw",
    "ann",
    "n,,n=ann,r=abc",
    "c=biws,r=",
    ",p=AAAA",
    "username=\"ann\",",
    "nonce=\"\",",
    "response=",
    "qop=auth",
];

/// Exchanges in which the client has no way to know the challenge.
pub fn sasl(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mechanism = choices.pick(&MECHANISMS);
    let kind = choices.octet();
    let initial = choices.flag().then(|| choices.bytes());
    let Some(mut exchange) = Exchange::new(mechanism, "mx.example", "realm") else { return };
    let mut next = exchange.begin(initial);
    for _ in 0..16 {
        next = match next {
            Next::Challenge(challenge) => {
                assert!(challenge.len() < 4096, "a challenge without a limit");
                exchange.response(choices.bytes())
            }
            Next::Secret => exchange.secret(secret(kind).as_ref()),
            Next::Verify => {
                assert!(matches!(mechanism, "PLAIN" | "LOGIN"));
                let (_, _) = (exchange.user().len(), exchange.password().len());
                return;
            }
            Next::Done(outcome) => {
                assert_ne!(outcome, AuthOutcome::Pass, "{mechanism} let in somebody who knew no nonce");
                return;
            }
        };
    }
    panic!("{mechanism} has no end");
}

fn secret(kind: u8) -> Option<Secret> {
    let iterations = NonZeroU32::new(1)?;
    match kind % 4 {
        0 => None,
        1 => Some(Secret::Clear(b"pw".to_vec())),
        2 => Some(Secret::DigestMd5(digest_md5::user_hash("ann", "realm", b"pw"))),
        _ => {
            let (stored, server) = salted_keys(b"pw", b"salt", iterations);
            Some(Secret::Scram256 { iterations: iterations.get(), salt: b"salt".to_vec(), stored, server })
        }
    }
}
