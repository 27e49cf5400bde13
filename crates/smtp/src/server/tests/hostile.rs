//! Clients that mean harm, or are badly broken.

use super::*;
use crate::server::{AuthOutcome, EATEN_SIZE_MAX, Ended, FRUITLESS_COMMANDS_MAX};

const MESSAGE: &str = "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n";

#[test]
fn a_line_without_an_end_ends_the_session() {
    let pieces = vec![vec![b'x'; 64 << 10]; 20];
    let (sent, record) = raw(Recorder::new(settings()), pieces);
    assert_eq!(lines(&sent), ["421 too many errors"]);
    assert_eq!(record.ended, Some(Ended::ByServer));
    assert!(sent.reads as u64 * 4096 < EATEN_SIZE_MAX * 2);
}

#[test]
fn the_same_within_an_auth_exchange() {
    let mut pieces = vec![b"AUTH LOGIN\r\n".to_vec()];
    pieces.extend(vec![vec![b'x'; 64 << 10]; 20]);
    let (sent, _) = raw(Recorder::new(with(&["AUTH LOGIN"])), pieces);
    assert_eq!(lines(&sent), ["334 VXNlcm5hbWU6", "421 too many errors"]);
    let long = format!("AUTH LOGIN\r\n{}\r\nNOOP\r\n", "x".repeat(20_000));
    assert_eq!(replies(with(&["AUTH LOGIN"]), &long), ["334 VXNlcm5hbWU6", "500 line too long", "250 OK"]);
}

#[test]
fn mistakes_of_protocol_are_counted_and_others_are_not() {
    let settings = Settings { max_session_errors: 3, ..with(&["ENHANCEDSTATUSCODES"]) };
    let script = "BOGUS\r\nRCPT TO:<a@b>\r\nEHLO\r\nDATA\r\nMAIL FROM:<a@b> FOO\r\nEXPN x\r\nNOOP\r\n";
    let (replies, record) = session(Recorder::new(settings), &[script]);
    assert_eq!(
        replies,
        [
            "500 5.5.2 unrecognized command",
            "503 5.5.1 RCPT TO without MAIL FROM",
            "501 5.5.2 invalid EHLO",
            "503 5.5.1 DATA without MAIL FROM",
            "555 5.5.4 unsupported parameter",
            "421 4.7.0 too many errors"
        ]
    );
    assert_eq!(record.ended, Some(Ended::ByServer));
    assert_eq!(record.refused.len(), 6);
    let unlimited = Settings { max_session_errors: 0, ..super::settings() };
    assert_eq!(super::replies(unlimited, &"BOGUS\r\n".repeat(500)).len(), 500);
}

#[test]
fn commands_that_bring_no_message_are_bounded() {
    let max = FRUITLESS_COMMANDS_MAX as usize;
    for command in ["NOOP", "RSET", "VRFY x", "EHLO x", "HELP", "BDAT 0", "DATA", "RCPT TO:<a@b>"] {
        let unlimited = Settings { max_session_errors: 0, ..with(&["CHUNKING"]) };
        let (replies, record) = session(Recorder::new(unlimited), &[&format!("{command}\r\n").repeat(max + 10)]);
        assert_eq!(replies.last().unwrap(), "421 too many errors", "{command}");
        let finals = replies.iter().filter(|line| line.as_bytes()[3] == b' ').count();
        assert_eq!(finals, max + 1, "{command}");
        assert_eq!(record.ended, Some(Ended::ByServer));
    }
    // Chunks of nothing within a transaction.
    let script = format!("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n{}", "BDAT 0\r\n".repeat(max + 10));
    assert_eq!(replies(with(&["CHUNKING"]), &script).last().unwrap(), "421 too many errors");
    let mut refusing = Recorder::new(settings());
    refusing.replies.insert("connected", crate::Reply::verbatim(554, "no service"));
    assert_eq!(session(refusing, &[&"DATA\r\n".repeat(max + 10)]).0.len(), max + 1);
    // A message begins the count anew, and recipients are no part of it.
    let recipients = "RCPT TO:<d@e.f>\r\n".repeat(max + 10);
    let noops = "NOOP\r\n".repeat(max - 1);
    let script = format!("{noops}MAIL FROM:<a@b.c>\r\n{recipients}DATA\r\n.\r\n{noops}QUIT\r\n");
    let replies = super::replies(settings(), &script);
    assert_eq!(replies.last().unwrap(), "221 mx.example closing connection");
}

#[test]
fn many_tiny_chunks_need_no_memory_of_their_own() {
    let mut recorder = Recorder::new(with(&["CHUNKING"]));
    recorder.flush_size = 1000;
    let chunks = "BDAT 1\r\nx".repeat(100_000);
    let script = format!("MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n{chunks}BDAT 0 LAST\r\n");
    let (sent, record) = raw(recorder, script.as_bytes().chunks(1000).map(<[u8]>::to_vec).collect());
    assert!(sent.bytes.ends_with(b"250 1 octets received\r\n250 OK 1/2-3\r\n"));
    assert_eq!(record.messages[0].len(), 100_000);
    assert!(record.buffered_max <= 2000, "{}", record.buffered_max);
    // Replies do not pile up until the input is drained.
    assert!(sent.writes > 100);
}

#[test]
fn any_size_of_a_refused_chunk_is_eaten_and_never_overflows() {
    let script = "BDAT 18446744073709551615\r\n".to_owned() + &"QUIT\r\n".repeat(1000);
    let (replies, record) = session(Recorder::new(with(&["CHUNKING"])), &[&script]);
    assert!(replies.is_empty());
    assert_eq!(record.ended, Some(Ended::Aborted));
    let script =
        format!("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 18446744073709551615 LAST\r\n{}", "QUIT\r\n".repeat(1000));
    let (replies, record) = session(Recorder::new(with(&["CHUNKING"])), &[&script]);
    assert_eq!(replies.len(), 2);
    assert!(record.messages.is_empty());
}

#[test]
fn bytes_of_any_kind_are_answered_or_ignored_but_never_end_the_process() {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    for _ in 0..300 {
        let length = usize::from(random()) * 8;
        let bytes: Vec<u8> = (0..length).map(|_| random()).collect();
        crate::server::testing::fuzz_session(&bytes);
    }
}

#[test]
fn the_seeds_of_the_fuzz_corpus_are_sound() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/server");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        crate::server::testing::fuzz_session(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{count} seeds");
}

#[test]
fn control_characters_of_the_client_never_reach_a_reply() {
    let script = "EHLO a\u{1b}[2J\r\nMAIL FROM:<a\u{7}@b>\r\nVRFY \u{0}\r\nNOOP a\nb\rc\r\n\u{0}\r\n";
    let (replies, _) = session(Recorder::new(settings()), &[script]);
    assert_eq!(replies.len(), 5);
}

#[test]
fn a_client_that_reads_nothing_holds_no_session_for_ever() {
    use tokio::io::AsyncWriteExt;
    run(async {
        let (mut client, stream) = tokio::io::duplex(256);
        let recorder = Recorder::new(Settings { idle_time_s: 10, ..settings() });
        let peer = crate::server::testing::peer();
        let serving = crate::server::serve(stream, peer, recorder, crate::server::DriverOptions::default());
        let begin = tokio::time::Instant::now();
        let talking = async {
            // Never reads; writes until nobody takes it any more.
            while client.write_all(b"HELP\r\n").await.is_ok() {}
        };
        let (ended, ()) = tokio::join!(serving, talking);
        assert_eq!(ended, Ended::Aborted);
        assert!(begin.elapsed().as_secs() <= 20);
    });
}

#[test]
fn content_is_never_taken_for_commands_whatever_was_wrong_with_it() {
    let inner = "x\nMAIL FROM:<evil@x.y>\r\nRCPT TO:<z@z.z>\r\nDATA\r\n";
    for settings in [
        Settings { max_message_size: 10, ..settings() },
        Settings { max_header_size: 10, ..settings() },
        lone(LoneLf::Pedantic, LoneLf::Pedantic),
    ] {
        let (replies, record) = session(Recorder::new(settings), &[MESSAGE, inner, inner, "\r\n.\r\nNOOP\r\n"]);
        assert!(replies[3].starts_with("55"), "{replies:?}");
        assert_eq!(replies[4..], ["250 OK"]);
        assert!(!record.calls.iter().any(|call| call.contains("evil")));
    }
}

#[test]
fn auth_outcomes_have_no_fourth_way() {
    // An exchange that ends in nothing known is a failure, not a pass.
    let mut exchange = crate::sasl::Exchange::new("SCRAM-SHA-256", "h", "r").unwrap();
    for _ in 0..3 {
        assert_eq!(exchange.response(b""), crate::sasl::Next::Done(AuthOutcome::Fail));
    }
}
