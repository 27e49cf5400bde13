//! What the tests of policies share: a folder of scripts, a log that is kept, sessions and messages without an engine.
#![allow(dead_code)] // Each test file uses its part.

pub mod engine;

use bytes::Bytes;
use parking_lot::Mutex;
use ph_message::{Content, Envelope, Id, Mailbox};
use ph_policy::{Log, LogLevel, Message, Policy, Recipient, Script, Services, Session, Settings};
use std::sync::Arc;

/// A log that remembers.
#[derive(Default)]
pub struct Lines(Mutex<Vec<(LogLevel, String)>>);

impl Log for Lines {
    fn panic(&self, level: LogLevel, _: &str, text: &str) {
        self.0.lock().push((level, text.to_owned()));
    }

    fn is_on(&self, _: LogLevel) -> bool {
        true
    }
}

impl Lines {
    pub fn all(&self) -> Vec<String> {
        self.0.lock().iter().map(|(_, text)| text.clone()).collect()
    }

    pub fn has(&self, part: &str) -> bool {
        self.all().iter().any(|line| line.contains(part))
    }

    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

/// Scripts in a folder of their own, and what they write.
pub struct Site {
    pub folder: tempfile::TempDir,
    pub log: Arc<Lines>,
    pub settings: Settings,
    pub services: Services,
}

impl Site {
    /// One script, `policy.lua`.
    pub fn new(source: &str) -> Site {
        Site::with(&[("policy", source)])
    }

    pub fn with(scripts: &[(&str, &str)]) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(Lines::default());
        let mut settings = Settings { folder: Some(folder.path().to_owned()), ..Settings::default() };
        for (name, source) in scripts {
            std::fs::write(folder.path().join(format!("{name}.lua")), source).unwrap();
            let place = format!("test.conf:{}", settings.scripts.len() + 1);
            settings.scripts.push(Script { name: (*name).to_owned(), source: (*name).to_owned(), place });
        }
        Site { folder, services: Services::without_engine(log.clone()), log, settings }
    }

    pub async fn load(&self) -> Policy {
        match Policy::load(self.services.clone(), self.settings.clone()).await {
            Ok(policy) => policy,
            Err(errors) => panic!("{errors}"),
        }
    }

    /// The text of a load that is refused.
    pub async fn refused(&self) -> String {
        match Policy::load(self.services.clone(), self.settings.clone()).await {
            Ok(_) => panic!("the load was not refused"),
            Err(errors) => errors.to_string(),
        }
    }
}

/// A module whose functions are given as Lua source.
pub fn module(functions: &str) -> String {
    format!("require(\"msys.core\")\nlocal mod = {{}}\n{functions}\nmsys.registerModule(\"policy\", mod)\n")
}

pub fn session() -> Arc<Session> {
    let remote = "192.0.2.7:2525".parse().unwrap();
    Session::new(Id(7 << 32), remote, "127.0.0.1:25".parse().unwrap(), ":25", "SMTP")
}

pub fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse_sender(text, true).unwrap()
}

pub fn recipient(text: &str) -> Recipient {
    Recipient { mailbox: mailbox(text), dsn: Default::default() }
}

pub fn envelope(sender: &str, recipient: &str) -> Envelope {
    Envelope {
        id: Id(11 << 32),
        batch_id: Id(10 << 32),
        conn_id: Id(7 << 32),
        sender: mailbox(sender),
        recipient: mailbox(recipient),
        peer: Some("192.0.2.7:2525".parse().unwrap()),
        listener: Some("127.0.0.1:25".parse().unwrap()),
        ..Envelope::default()
    }
}

/// A message in reception, with content unless `raw` is empty.
pub fn message(session: &Arc<Session>, raw: &str) -> Arc<Message> {
    let content = (!raw.is_empty()).then(|| Content::parse(Bytes::copy_from_slice(raw.as_bytes())));
    Message::in_session(envelope("a@b.c", "d@e.f"), content, session)
}
