//! The envelope: everything about one message for one recipient that is not its content.
//!
//! A message for N recipients is one `Content` and N envelopes with one batch id. An envelope is fixed at the spool
//! commit; what changes afterwards (retries, next attempt, last reply) is its `DeliveryState`. `Summary` is the part
//! that the queue holds in memory and that the spool's index keeps, so that a restart need not read every envelope.
//!
//! The binary form is documented in `docs/formats/records.md`; `codec.rs` writes and reads it.

use crate::context::Context;
use crate::id::Id;
use crate::time::Time;
use compact_str::CompactString;
use std::net::SocketAddr;
use std::sync::Arc;

/// A mailbox as SMTP names it, without the angle brackets. Both parts empty: the null sender.
///
/// The local part is kept as the client wrote it (with its quotes, if any); the domain is lower-cased.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mailbox {
    pub local: CompactString,
    pub domain: CompactString,
}

impl Mailbox {
    pub fn is_null(&self) -> bool {
        self.local.is_empty() && self.domain.is_empty()
    }
}

impl std::fmt::Display for Mailbox {
    /// `local@domain`, `local` without a domain, or nothing for the null sender.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.local)?;
        if self.domain.is_empty() { Ok(()) } else { write!(f, "@{}", self.domain) }
    }
}

/// How a message came in: field 11 of the reception record, and `msg.recv_method`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// DSNs and mail made by policies.
    Internal = 1,
    #[default]
    Esmtp = 2,
    EcStream = 3,
    Rest = 4,
    Mm7 = 5,
    Smpp = 6,
}

/// RFC 3461 parameters, as given by the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DsnRequest {
    /// `NOTIFY=`; `None`: not given.
    pub notify: Option<Notify>,
    /// `ORCPT=`, decoded form `type;address`.
    pub orcpt: Option<CompactString>,
    /// `RET=`.
    pub ret: Option<Ret>,
    /// `ENVID=`, decoded.
    pub envid: Option<CompactString>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// All three false: `NOTIFY=NEVER`.
    pub success: bool,
    pub failure: bool,
    pub delay: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    Full,
    Headers,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Envelope {
    pub id: Id,
    /// Shared by the messages of one reception.
    pub batch_id: Id,
    /// The session it came in on; null for internal mail.
    pub conn_id: Id,
    pub sender: Mailbox,
    pub recipient: Mailbox,
    pub created: Time,
    pub protocol: Protocol,
    /// The client's address (after PROXY or XCLIENT); `None` for internal mail.
    pub peer: Option<SocketAddr>,
    /// Our address of that connection.
    pub listener: Option<SocketAddr>,
    /// Empty until a binding is set; then the binding's name and its group.
    pub binding: CompactString,
    pub binding_group: CompactString,
    /// Set by policy; otherwise the recipient's domain or the gateway decides.
    pub routing_domain: Option<CompactString>,
    pub conn_context: Arc<Context>,
    pub mess_context: Arc<Context>,
    pub dsn: DsnRequest,
    /// `SMTPUTF8` was given with MAIL.
    pub smtputf8: bool,
    /// `BODY=8BITMIME` was given, or the content has octets above 127.
    pub eight_bit: bool,
    /// `msg.priority` is 1: first out of its queue.
    pub urgent: bool,
    /// Octets of the content (header block and body) as spooled.
    pub size: u64,
    /// How many times policies made mail out of mail to get here; bounded, so that no policy mails itself for ever.
    pub generation: u8,
}

/// What deliveries changed since the commit. Written unsynced: a lost one means an attempt too many, never a loss.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryState {
    /// Attempts after the first.
    pub retries: u32,
    /// Attempts so far (the first one too).
    pub attempts: u32,
    pub next_attempt: Time,
    /// The last reply or internal text, for `message details`; at most 512 octets are kept.
    pub last_reply: CompactString,
}

/// A message's slot in the spool: valid from commit (or recovery) until `done`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpoolKey(pub u32);

/// The part of an envelope that the queue needs without reading the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub id: Id,
    pub batch_id: Id,
    pub created: Time,
    pub next_attempt: Time,
    pub retries: u32,
    pub attempts: u32,
    pub size: u64,
    pub binding: CompactString,
    pub binding_group: CompactString,
    /// The routing domain as far as the envelope knows it; the gateway option is applied by the queue's owner.
    pub domain: CompactString,
    /// `address_hash` of sender and recipient: a search compares these and reads only the likely envelopes.
    pub sender_hash: u32,
    pub recipient_hash: u32,
    /// The null sender: no DSN, and counted apart.
    pub null_sender: bool,
    /// Before all that is not.
    pub urgent: bool,
}

impl Envelope {
    /// The domain the message is queued under before `gateway` is looked up.
    pub fn queue_domain(&self) -> &str {
        self.routing_domain.as_deref().unwrap_or(&self.recipient.domain)
    }

    pub fn summary(&self, state: &DeliveryState) -> Summary {
        Summary {
            id: self.id,
            batch_id: self.batch_id,
            created: self.created,
            next_attempt: state.next_attempt,
            retries: state.retries,
            attempts: state.attempts,
            size: self.size,
            binding: self.binding.clone(),
            binding_group: self.binding_group.clone(),
            domain: self.queue_domain().into(),
            sender_hash: address_hash(&self.sender),
            recipient_hash: address_hash(&self.recipient),
            null_sender: self.sender.is_null(),
            urgent: self.urgent,
        }
    }
}

/// FNV-1a over the lower-cased address: stable across restarts and versions, since the spool's index stores it.
pub fn address_hash(mailbox: &Mailbox) -> u32 {
    let at: &[u8] = if mailbox.domain.is_empty() { b"" } else { b"@" };
    [mailbox.local.as_bytes(), at, mailbox.domain.as_bytes()]
        .into_iter()
        .flatten()
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193))
}
