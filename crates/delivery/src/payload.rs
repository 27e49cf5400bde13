//! What a transaction carries: which messages may share one, and the values of its parameters.

use crate::settings::LOGIN_KEYS;
use ph_message::{Body, Content, Context, Envelope, ExternalBody};
use ph_smtp::client;
use ph_spool::Stored;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// Whether two messages may share a transaction: one batch, one sender, the same content and the same wishes.
pub(crate) fn share_a_transaction(a: &Stored, b: &Stored) -> bool {
    let (one, other) = (&a.envelope, &b.envelope);
    one.batch_id == other.batch_id
        && one.sender == other.sender
        && one.smtputf8 == other.smtputf8
        && one.eight_bit == other.eight_bit
        && one.dsn.ret == other.dsn.ret
        && one.dsn.envid == other.dsn.envid
        && same_login(&one.mess_context, &other.mess_context)
        && same_content(&a.content, &b.content)
}

/// Every recipient's message context is its own (`rcptto_localpart` and the like); what counts is with which login it goes.
fn same_login(one: &Arc<Context>, other: &Arc<Context>) -> bool {
    Arc::ptr_eq(one, other) || LOGIN_KEYS.iter().all(|key| one.get(key) == other.get(key))
}

/// Most often they are the same octets in memory; after a restart they were read one by one.
pub(crate) fn same_content(a: &Content, b: &Content) -> bool {
    let same_bytes = |a: &[u8], b: &[u8]| std::ptr::eq(a, b) || a == b;
    let same_body = match (a.body(), b.body()) {
        (Body::Memory(a), Body::Memory(b)) => same_bytes(a, b),
        (Body::External(a), Body::External(b)) => Arc::ptr_eq(a, b),
        _ => false,
    };
    same_body && same_bytes(a.head(), b.head())
}

/// `ORCPT=` of a recipient, encoded (RFC 3461 section 4.2).
pub(crate) fn orcpt(envelope: &Envelope) -> Option<String> {
    let (kind, address) = envelope.dsn.orcpt.as_deref()?.split_once(';')?;
    Some(format!("{kind};{}", client::xtext(address)))
}

/// `ENVID=` of a message, encoded (RFC 3461 section 4.4).
pub(crate) fn envid(envelope: &Envelope) -> Option<String> {
    envelope.dsn.envid.as_deref().map(client::xtext)
}

/// A body of the message as the client takes it.
pub(crate) fn body_of(body: &Body) -> client::Body {
    match body {
        Body::Memory(bytes) => client::Body::Memory(bytes.clone()),
        Body::External(file) => client::Body::File(Arc::new(File(file.clone()))),
    }
}

#[derive(Debug)]
struct File(Arc<dyn ExternalBody>);

impl client::ReadAt for File {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, into)
    }
}

/// The client that a message came from, as XCLIENT's arguments say it.
pub(crate) struct XclientSource {
    address: String,
    port: String,
    helo: String,
    login: String,
}

impl XclientSource {
    pub fn new(envelope: &Envelope) -> XclientSource {
        const UNAVAILABLE: &str = "[UNAVAILABLE]";
        let context = |key: &str| envelope.conn_context.text(key).unwrap_or(UNAVAILABLE).to_owned();
        let address = envelope.peer.map(|peer| match peer.ip().to_canonical() {
            IpAddr::V6(ip) => format!("IPV6:{ip}"),
            IpAddr::V4(ip) => ip.to_string(),
        });
        XclientSource {
            address: address.unwrap_or_else(|| UNAVAILABLE.to_owned()),
            port: envelope.peer.map_or_else(|| UNAVAILABLE.to_owned(), |peer| peer.port().to_string()),
            helo: context("ehlo_domain"),
            login: context("auth_user"),
        }
    }

    pub fn arguments(&self, required: bool) -> client::Xclient<'_> {
        let attributes = [
            ("NAME", "[UNAVAILABLE]"),
            ("ADDR", &*self.address),
            ("PORT", &*self.port),
            ("PROTO", "ESMTP"),
            ("HELO", &*self.helo),
            ("LOGIN", &*self.login),
        ];
        client::Xclient { required, attributes: attributes.into_iter().collect() }
    }
}
