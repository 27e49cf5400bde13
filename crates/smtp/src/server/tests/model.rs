//! Random orders of commands against a model that is too simple to be wrong: what a command is answered depends on three
//! facts alone. `POSTHASTE_MODEL_STEPS` sets how many commands are tried.

use super::*;
use crate::Reply;

/// What decides on the next reply.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    mail: bool,
    recipients: bool,
    chunks: Chunks,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Chunks {
    #[default]
    None,
    Begun,
}

struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }
}

const BAD: &str = "503 bad sequence of commands";
const OK: &str = "250 OK";
const ACCEPTED: &str = "250 OK 1/2-3";

impl Model {
    /// One command (with all that follows it) and the reply lines that it must get.
    fn step(&mut self, random: &mut Random) -> (String, Vec<String>) {
        let one = |line: &str, reply: &str| (format!("{line}\r\n"), vec![reply.to_owned()]);
        match random.below(16) {
            0 | 1 if self.mail => one("MAIL FROM:<a@b.c>", "501 MAIL FROM already established"),
            0 | 1 => {
                *self = Model { mail: true, ..Model::default() };
                one("MAIL FROM:<a@b.c>", "250 MAIL FROM accepted")
            }
            2 if self.mail => one("MAIL FROM:<refused@b.c", "501 MAIL FROM already established"),
            2 => one("MAIL FROM:<refused@b.c", "501 MAIL FROM syntax error"),
            3 | 4 if !self.mail => one("RCPT TO:<d@e.f>", "503 RCPT TO without MAIL FROM"),
            3 | 4 if self.chunks == Chunks::Begun => one("RCPT TO:<d@e.f>", BAD),
            3 | 4 => {
                self.recipients = true;
                one("RCPT TO:<d@e.f>", "250 RCPT TO accepted")
            }
            5 if !self.mail => one("RCPT TO:<no@e.f>", "503 RCPT TO without MAIL FROM"),
            5 if self.chunks == Chunks::Begun => one("RCPT TO:<no@e.f>", BAD),
            5 => one("RCPT TO:<no@e.f>", "550 relaying denied"),
            6 | 7 => {
                let refusal = match *self {
                    Model { mail: false, .. } => Some("503 DATA without MAIL FROM"),
                    Model { chunks: Chunks::Begun, .. } => Some(BAD),
                    Model { recipients: false, .. } => Some("503 DATA without RCPT TO"),
                    _ => None,
                };
                if let Some(refusal) = refusal {
                    return one("DATA", refusal);
                }
                *self = Model::default();
                let body = ["", "s: x\r\n\r\nQUIT\r\n", "a\r\n..\r\n.QUIT\r\n"][random.below(3)];
                let go_on = "354 continue.  finished with \"\\r\\n.\\r\\n\"".to_owned();
                (format!("DATA\r\n{body}.\r\n"), vec![go_on, ACCEPTED.to_owned()])
            }
            8..=10 => {
                let content = ["", "QUIT\r\n", "x"][random.below(3)];
                let last = random.below(2) == 0;
                let command = format!("BDAT {}{}\r\n{content}", content.len(), if last { " LAST" } else { "" });
                let reply = match *self {
                    Model { mail: false, .. } => "503 BDAT without MAIL FROM".to_owned(),
                    Model { recipients: false, .. } => "503 BDAT without RCPT TO".to_owned(),
                    _ if last => {
                        *self = Model::default();
                        ACCEPTED.to_owned()
                    }
                    _ => {
                        self.chunks = Chunks::Begun;
                        format!("250 {} octets received", content.len())
                    }
                };
                (command, vec![reply])
            }
            11 | 12 => {
                *self = Model::default();
                one("RSET", OK)
            }
            13 => {
                *self = Model::default();
                one("HELO x", "250 mx.example says HELO to 192.0.2.7:40000")
            }
            14 => one("NOOP", OK),
            _ => one("BOGUS", "500 unrecognized command"),
        }
    }
}

#[test]
fn any_order_of_commands_is_answered_as_the_model_says() {
    const SESSION_STEPS: usize = 200;
    let steps = std::env::var("POSTHASTE_MODEL_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    for seed in 1..=steps / SESSION_STEPS {
        let mut random = Random((seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut model = Model::default();
        let mut wanted = Vec::new();
        let mut script = String::new();
        let mut messages = 0;
        for _ in 0..SESSION_STEPS {
            let (command, replies) = model.step(&mut random);
            messages += usize::from(replies.contains(&ACCEPTED.to_owned()));
            script.push_str(&command);
            wanted.extend(replies);
        }
        let settings = Settings { max_session_errors: 0, ..with(&["CHUNKING"]) };
        let mut recorder = Recorder::new(settings);
        recorder.replies.insert("rcpt:no", Reply::verbatim(550, "relaying denied"));
        let mut pieces = Vec::new();
        let mut rest = script.as_bytes();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at((1 + random.below(300)).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = tail;
        }
        let (sent, record) = raw(recorder, pieces);
        let got = lines(&sent);
        if let Some(at) = got.iter().zip(&wanted).position(|(got, wanted)| got != wanted) {
            panic!("seed {seed}, reply {at}: {:?}, wanted {:?}; script:\n{script}", got[at], wanted[at]);
        }
        assert_eq!(got.len(), wanted.len(), "seed {seed}");
        assert_eq!(record.messages.len(), messages, "seed {seed}");
    }
}
