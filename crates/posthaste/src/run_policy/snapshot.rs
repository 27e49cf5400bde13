//! What a hook may change, before and after it: the difference says what the hook did.

use ph_message::header;
use ph_policy::{CapabilityEdit, ContextKind, Message, Session, Verdict};
use std::collections::BTreeMap;

#[derive(Clone, Default)]
pub struct Snapshot {
    verdict: Verdict,
    tarpit_s: f64,
    recipients: Vec<String>,
    capability_edits: usize,
    conn: BTreeMap<String, String>,
    mess: BTreeMap<String, String>,
    message: Option<Parts>,
}

#[derive(Clone, PartialEq)]
struct Parts {
    sender: String,
    recipient: String,
    binding: String,
    group: String,
    routing_domain: Option<String>,
    discarded: Option<String>,
    code: Option<(u16, String)>,
    headers: Vec<(String, String)>,
    size: u64,
    body: u64,
}

/// A longer value is cut where it is shown.
const SHOWN_MAX: usize = 200;

impl Snapshot {
    pub fn of(session: Option<&Session>, message: Option<&Message>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        if let Some(session) = session {
            let state = session.state.lock();
            snapshot.verdict = state.verdict.clone();
            snapshot.tarpit_s = state.tarpit_s;
            snapshot.recipients = state.recipients.iter().map(|recipient| recipient.mailbox.to_string()).collect();
            snapshot.capability_edits = state.capability_edits.len();
            snapshot.conn = dictionary(&state.conn);
            snapshot.mess = dictionary(&state.mess);
        }
        if let Some(message) = message {
            snapshot.conn = message.context(ContextKind::Conn, dictionary);
            snapshot.mess = message.context(ContextKind::Mess, dictionary);
            let state = message.state.lock();
            let envelope = &state.envelope;
            let block = state.content.as_ref().map_or(&[][..], |content| content.header_block());
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            snapshot.message = Some(Parts {
                sender: envelope.sender.to_string(),
                recipient: envelope.recipient.to_string(),
                binding: envelope.binding.to_string(),
                group: envelope.binding_group.to_string(),
                routing_domain: envelope.routing_domain.as_ref().map(ToString::to_string),
                discarded: state.discarded.clone(),
                code: state.code.clone(),
                headers: header::fields(block).map(|field| (text(field.name), text(&field.unfolded()))).collect(),
                size: state.content.as_ref().map_or(0, |content| content.size()),
                body: state
                    .content
                    .as_ref()
                    .and_then(|content| content.body().to_bytes().ok())
                    .map_or(0, |body| hash(&body)),
            });
        }
        snapshot
    }

    pub fn contexts(&self) -> (&BTreeMap<String, String>, &BTreeMap<String, String>) {
        (&self.conn, &self.mess)
    }

    /// What is otherwise in `after`, one line each.
    pub fn changes(&self, after: &Snapshot, edits: &[CapabilityEdit]) -> Vec<String> {
        let mut lines = Vec::new();
        if self.verdict != after.verdict {
            let note = after.verdict.note.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let close = if after.verdict.disconnect { " and disconnect" } else { "" };
            lines.push(cut(format!("verdict {} {note}{close}", after.verdict.code).trim_end().to_owned()));
        }
        if self.tarpit_s < after.tarpit_s {
            lines.push(format!("reply delayed by {} s", after.tarpit_s - self.tarpit_s));
        }
        for edit in edits.iter().skip(self.capability_edits) {
            lines.push(match edit {
                CapabilityEdit::Add(line) => format!("capability {line} added"),
                CapabilityEdit::Remove(key) => format!("capability {key} removed"),
            });
        }
        let missing = |from: &[String], of: &[String]| -> Vec<String> {
            of.iter().filter(|address| !from.contains(address)).cloned().collect()
        };
        lines.extend(missing(&self.recipients, &after.recipients).iter().map(|a| format!("recipient {a} added")));
        lines.extend(missing(&after.recipients, &self.recipients).iter().map(|a| format!("recipient {a} removed")));
        dictionary_changes("CONN", &self.conn, &after.conn, &mut lines);
        dictionary_changes("MESS", &self.mess, &after.mess, &mut lines);
        if let (Some(before), Some(after)) = (&self.message, &after.message) {
            message_changes(before, after, &mut lines);
        }
        lines
    }
}

fn dictionary(context: &ph_message::Context) -> BTreeMap<String, String> {
    context.iter().map(|(key, value)| (key.to_owned(), String::from_utf8_lossy(value).into_owned())).collect()
}

fn dictionary_changes(
    name: &str,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    lines: &mut Vec<String>,
) {
    for (key, value) in after {
        if before.get(key) != Some(value) {
            lines.push(cut(format!("{name} {key} = {value:?}")));
        }
    }
    lines.extend(before.keys().filter(|key| !after.contains_key(*key)).map(|key| format!("{name} {key} removed")));
}

fn message_changes(before: &Parts, after: &Parts, lines: &mut Vec<String>) {
    let mut changed = |what: &str, before: &str, after: &str| {
        if before != after {
            lines.push(cut(format!("{what} {}", if after.is_empty() { "none" } else { after })));
        }
    };
    let sender = |parts: &Parts| format!("<{}>", parts.sender);
    changed("sender", &sender(before), &sender(after));
    changed("recipient", &before.recipient, &after.recipient);
    changed("binding", &before.binding, &after.binding);
    changed("binding group", &before.group, &after.group);
    let domain = |parts: &Parts| parts.routing_domain.clone().unwrap_or_default();
    changed("routing domain", &domain(before), &domain(after));
    if before.discarded != after.discarded {
        lines.push(cut(format!("discarded: {}", after.discarded.as_deref().unwrap_or_default())));
    }
    if let Some((code, text)) = after.code.as_ref().filter(|code| before.code.as_ref() != Some(*code)) {
        lines.push(cut(format!("message code {code} {text}")));
    }
    header_changes(&before.headers, &after.headers, lines);
    if before.body != after.body {
        lines.push(format!("body changed; the message has {} octets, {} before", after.size, before.size));
    }
}

/// Fields that are in one block more often than in the other.
fn header_changes(before: &[(String, String)], after: &[(String, String)], lines: &mut Vec<String>) {
    let count = |of: &[(String, String)], field: &(String, String)| of.iter().filter(|other| *other == field).count();
    let more = |than: &[(String, String)], of: &[(String, String)]| -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        for field in of {
            if count(of, field) > count(than, field) + count(&found, field) {
                found.push(field.clone());
            }
        }
        found
    };
    let (mut gone, new) = (more(after, before), more(before, after));
    for (name, value) in new {
        match gone.iter().position(|(old, _)| old.eq_ignore_ascii_case(&name)) {
            Some(at) => {
                gone.remove(at);
                lines.push(cut(format!("header {name} changed to {value:?}")));
            }
            None => lines.push(cut(format!("header {name} added: {value:?}"))),
        }
    }
    lines.extend(gone.into_iter().map(|(name, value)| cut(format!("header {name} removed: {value:?}"))));
}

fn cut(text: String) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
