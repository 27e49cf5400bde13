//! DATA and BDAT within whole sessions.

use super::*;
use crate::Reply;
use crate::server::{BodyFault, Ended, Phase};

const ENVELOPE: &str = "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n";
const MESSAGE: &str = "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n";

fn chunking() -> Recorder {
    Recorder::new(with(&["ENHANCEDSTATUSCODES", "CHUNKING"]))
}

#[test]
fn smuggled_ends_leave_one_message_or_a_refusal_in_any_packet_split() {
    for near in ["\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r\n.\0\r\n", "\n\0.\n"] {
        let smuggled =
            format!("s: x\r\n\r\nfirst{near}MAIL FROM:<evil@x.y>\r\nRCPT TO:<v@w.x>\r\nDATA\r\nhi\r\n.\r\nNOOP\r\n");
        for policy in [LoneLf::Ignore, LoneLf::Fix, LoneLf::Pedantic] {
            let whole = format!("{MESSAGE}{smuggled}");
            for split in MESSAGE.len()..whole.len() {
                let (head, tail) = whole.split_at(split);
                let (replies, record) = session(Recorder::new(lone(LoneLf::Pedantic, policy)), &[head, tail]);
                let refused = policy == LoneLf::Pedantic || near.contains('\0');
                let wanted = if refused { "550 Lone CR or LF in body" } else { "250 OK 1/2-3" };
                assert_eq!(replies[3..], [wanted, "250 OK"], "{near:?} {policy:?} at {split}");
                assert_eq!(record.messages.len(), usize::from(!refused));
                assert!(!record.calls.iter().any(|call| call.contains("evil")));
                for message in &record.messages {
                    assert!(!crate::server::testing::has_foreign_dot_line(message), "{near:?} {policy:?}");
                }
            }
        }
    }
}

#[test]
fn smuggled_ends_in_a_chunk() {
    for near in ["\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r\n.\r\n"] {
        let content = format!("s: x\r\n\r\nfirst{near}QUIT\r\n");
        let script = format!("{ENVELOPE}BDAT {} LAST\r\n{content}NOOP\r\n", content.len());
        let (replies, record) = session(chunking(), &[&script]);
        assert_eq!(replies[2..], ["250 2.0.0 OK 1/2-3", "250 2.0.0 OK"], "{near:?}");
        assert!(String::from_utf8_lossy(&record.messages[0]).contains("first\r\n.\r\n"), "{near:?}");
    }
}

#[test]
fn chunks_make_one_message_in_any_packet_split() {
    let script = format!("{ENVELOPE}BDAT 10\r\ns: x\r\n\r\nabBDAT 0\r\nBDAT 3\r\n.\r\nBDAT 2 LAST\r\nyzQUIT\r\n");
    for split in 0..script.len() {
        let (head, tail) = script.split_at(split);
        let (replies, record) = session(chunking(), &[head, tail]);
        assert_eq!(
            replies[2..],
            [
                "250 2.0.0 10 octets received",
                "250 2.0.0 0 octets received",
                "250 2.0.0 3 octets received",
                "250 2.0.0 OK 1/2-3",
                "221 2.3.0 mx.example closing connection"
            ],
            "split at {split}"
        );
        assert_eq!(record.messages, [b"s: x\r\n\r\nab.\r\nyz".to_vec()]);
        assert_eq!(record.calls.iter().filter(|call| *call == "data").count(), 1);
    }
}

#[test]
fn refused_chunks_are_eaten() {
    for (script, wanted) in [
        ("BDAT 6\r\nQUIT\r\nNOOP\r\n".to_owned(), vec!["503 5.5.1 BDAT without MAIL FROM", "250 2.0.0 OK"]),
        ("BDAT 6 LAST\r\nQUIT\r\nBDAT 0\r\n".to_owned(), vec!["503 5.5.1 BDAT without MAIL FROM"; 2]),
        (
            "MAIL FROM:<a@b.c>\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n".to_owned(),
            vec!["250 2.0.0 MAIL FROM accepted", "503 5.5.1 BDAT without RCPT TO", "250 2.0.0 OK"],
        ),
        ("BDAT x\r\nNOOP\r\n".to_owned(), vec!["501 5.5.4 invalid arguments to BDAT", "250 2.0.0 OK"]),
    ] {
        assert_eq!(session(chunking(), &[&script]).0, wanted, "{script}");
    }
    let (replies, _) = session(Recorder::new(settings()), &["BDAT 6\r\nQUIT\r\nNOOP\r\n"]);
    assert_eq!(replies, ["500 unrecognized command", "250 OK"]);
}

#[test]
fn a_policy_that_refuses_the_first_chunk_refuses_all_up_to_rset() {
    let mut recorder = chunking();
    recorder.replies.insert("data", Reply::verbatim(550, "no"));
    let script = format!(
        "{ENVELOPE}BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nDATA\r\nRCPT TO:<a@b>\r\nRSET\r\nMAIL FROM:<a@b>\r\n"
    );
    let (replies, record) = session(recorder, &[&script]);
    let bad = "503 5.5.1 bad sequence of commands";
    assert_eq!(replies[2..], ["550 no", bad, bad, bad, "250 2.0.0 OK", "250 2.0.0 MAIL FROM accepted"]);
    assert_eq!(record.refused.len(), 3, "the policy's own refusal is not told to it");
}

#[test]
fn data_after_bdat_and_binary_content_in_data_are_out_of_sequence() {
    let script = format!("{ENVELOPE}BDAT 2\r\nxxDATA\r\nRCPT TO:<x@y.z>\r\n");
    let bad = "503 5.5.1 bad sequence of commands";
    assert_eq!(session(chunking(), &[&script]).0[2..], ["250 2.0.0 2 octets received", bad, bad]);
    let recorder = Recorder::new(with(&["CHUNKING", "BINARYMIME"]));
    let script = "MAIL FROM:<a@b.c> BODY=BINARYMIME\r\nRCPT TO:<d@e.f>\r\nDATA\r\nBDAT 3 LAST\r\nx\0y";
    assert_eq!(session(recorder, &[script]).0[2..], ["503 bad sequence of commands", "250 OK 1/2-3"]);
}

#[test]
fn a_faulty_chunk_is_refused_at_once() {
    let recorder = Recorder::new(Settings { max_message_size: 10, ..with(&["CHUNKING"]) });
    let script = format!("{ENVELOPE}BDAT 8\r\ns: x\r\n\r\nBDAT 4\r\nxxxxBDAT 2 LAST\r\nxxMAIL FROM:<a@b.c>\r\n");
    let (replies, record) = session(recorder, &[&script]);
    assert_eq!(
        replies[2..],
        [
            "250 8 octets received",
            "552 message size limit exceeded",
            "503 BDAT without MAIL FROM",
            "250 MAIL FROM accepted"
        ]
    );
    assert!(record.calls.contains(&format!("body_end {:?}", Some(BodyFault::TooLarge))));
}

#[test]
fn a_refused_data_starts_no_content() {
    let mut recorder = Recorder::new(settings());
    recorder.replies.insert("data", Reply::verbatim(451, "later"));
    let (replies, _) = session(recorder, &[MESSAGE, "NOOP\r\n"]);
    assert_eq!(replies[2..], ["451 later", "250 OK"]);
}

#[test]
fn the_fate_of_a_message_that_cannot_be_stored_is_told_at_its_end() {
    for (script, end) in [("DATA\r\n", "\r\n.\r\n"), ("BDAT 1002 LAST\r\n", "\r\n")] {
        let mut recorder = chunking();
        recorder.flush_size = 100;
        recorder.replies.insert("body", Reply::new(452, (4, 3, 1), "Insufficient system storage"));
        let body = format!("{}{end}NOOP\r\n", "x".repeat(1000));
        let (replies, record) = session(recorder, &[ENVELOPE, script, &body[..600], &body[600..]]);
        let wanted = ["452 4.3.1 Insufficient system storage", "250 2.0.0 OK"];
        assert_eq!(replies[replies.len() - 2..], wanted, "{script}");
        assert!(record.messages.is_empty());
        assert!(!record.calls.iter().any(|call| call.starts_with("body_end")));
        assert_eq!(record.calls.last().unwrap(), "reset");
    }
}

#[test]
fn large_content_leaves_by_pieces() {
    let mut recorder = Recorder::new(settings());
    recorder.flush_size = 10_000;
    let line = format!("{}\r\n", "y".repeat(98));
    let body = format!("s: x\r\n\r\n{}", line.repeat(20_000));
    let wire = format!("{body}.\r\n").into_bytes();
    let pieces = [MESSAGE.as_bytes().to_vec(), wire].to_vec();
    let (sent, record) = raw(recorder, pieces);
    assert!(lines(&sent).contains(&"250 OK 1/2-3".to_owned()));
    assert_eq!(record.messages, [body.into_bytes()]);
    assert!(record.buffered_max <= 10_000 + (64 << 10), "{}", record.buffered_max);
}

#[test]
fn a_client_that_leaves_within_its_message_leaves_nothing() {
    for wire in ["", "s: x\r\n", "s: x\r\n\r\n.\r"] {
        let (_, record) = session(Recorder::new(settings()), &[MESSAGE, wire]);
        assert!(record.messages.is_empty());
        assert_eq!(record.ended, Some(Ended::Aborted));
    }
}

#[test]
fn a_header_block_without_an_end_is_bounded() {
    let settings = Settings { max_header_size: 1000, ..with(&["ENHANCEDSTATUSCODES"]) };
    let body = format!("{}\r\n.\r\n", "x: y\r\n".repeat(200));
    let (replies, record) = session(Recorder::new(settings), &[MESSAGE, &body]);
    assert_eq!(replies[3], "552 5.3.4 message header size limit exceeded");
    assert!(record.refused.is_empty(), "the handler gave the reply");
}

#[test]
fn three_messages_in_one_session_pipelined_behind_their_ends() {
    let body = "s: x\r\n\r\nhello\r\n.\r\n";
    let next = format!("{body}{MESSAGE}");
    let (sent, record) = raw(
        Recorder::new(settings()),
        [MESSAGE, &next, &next, &format!("{body}QUIT\r\n")].map(|piece| piece.as_bytes().to_vec()).to_vec(),
    );
    assert_eq!(record.messages.len(), 3);
    // Greeting, and one write for each read.
    assert_eq!((sent.reads, sent.writes), (4, 5));
}

#[test]
fn protocol_refusals_name_their_phase() {
    let (_, record) = session(chunking(), &["DATA x\r\nBDAT 0\r\nBOGUS\r\nHELO x\r\nBOGUS\r\n"]);
    let phases: Vec<Phase> = record.refused.iter().map(|(phase, _)| *phase).collect();
    assert_eq!(phases, [Phase::Data, Phase::Ehlo, Phase::Ehlo, Phase::MailFrom]);
}
