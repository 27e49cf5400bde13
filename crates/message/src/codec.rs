//! The compact binary form of `Envelope`, `DeliveryState` and `Summary`, for the spool and its index.
//!
//! Documented to the octet in `docs/formats/records.md`. One version octet, then the fields in a fixed order: ids and times as eight octets little-endian, numbers as LEB128
//! varints, texts as a varint length and their octets, optional fields announced by bits of a leading flag word. A
//! decoder consumes its input to the last octet, checks every length before it allocates, and answers arbitrary octets
//! with a `DecodeError`: a damaged spool costs a message and a log line, never the process. Checksums are the spool's.

use crate::context::Context;
use crate::envelope::{DeliveryState, DsnRequest, Envelope, Mailbox, Notify, Protocol, Ret, Summary};
use crate::id::Id;
use crate::time::Time;
use bytes::Bytes;
use compact_str::CompactString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

/// Why octets are no record of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first octet names a version that this program does not know: written by a newer one, or garbage.
    #[error("record version {0} is not known here")]
    Version(u8),
    /// A length or a field reaches beyond the end of the record.
    #[error("record ends too early")]
    Truncated,
    /// All fields were read and octets are left.
    #[error("{0} octets too many at the end of the record")]
    Trailing(usize),
    /// A number is larger than its field, or has a value with no meaning.
    #[error("record has an impossible value for {0}")]
    Value(&'static str),
    /// A text is not UTF-8.
    #[error("record has text that is not UTF-8")]
    Text,
}

/// The version that is written. Older ones stay readable; a newer one is refused.
const VERSION: u8 = 1;

/// Octets of `DeliveryState::last_reply` that are kept.
const LAST_REPLY_LEN_MAX: usize = 512;

mod flag {
    pub const PEER: u64 = 1;
    pub const LISTENER: u64 = 1 << 1;
    pub const ROUTING_DOMAIN: u64 = 1 << 2;
    pub const NOTIFY: u64 = 1 << 3;
    pub const NOTIFY_SUCCESS: u64 = 1 << 4;
    pub const NOTIFY_FAILURE: u64 = 1 << 5;
    pub const NOTIFY_DELAY: u64 = 1 << 6;
    pub const ORCPT: u64 = 1 << 7;
    pub const RET: u64 = 1 << 8;
    pub const RET_FULL: u64 = 1 << 9;
    pub const ENVID: u64 = 1 << 10;
    pub const SMTPUTF8: u64 = 1 << 11;
    pub const EIGHT_BIT: u64 = 1 << 12;
    pub const URGENT: u64 = 1 << 13;
    /// Every bit above; a word with others is not ours.
    pub const ALL: u64 = (1 << 14) - 1;
}

impl Envelope {
    /// Appends the binary form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_varint(out, self.flags());
        put_ids(out, &[self.id, self.batch_id, self.conn_id]);
        put_time(out, self.created);
        out.push(self.protocol as u8);
        put_mailbox(out, &self.sender);
        put_mailbox(out, &self.recipient);
        for address in [&self.peer, &self.listener].into_iter().flatten() {
            put_socket_addr(out, address);
        }
        put_bytes(out, self.binding.as_bytes());
        put_bytes(out, self.binding_group.as_bytes());
        for text in [&self.routing_domain, &self.dsn.orcpt, &self.dsn.envid].into_iter().flatten() {
            put_bytes(out, text.as_bytes());
        }
        put_context(out, &self.conn_context);
        put_context(out, &self.mess_context);
        put_varint(out, self.size);
        out.push(self.generation);
    }

    /// Reads what `encode` wrote; the whole of `bytes` must be one envelope.
    pub fn decode(bytes: &[u8]) -> Result<Envelope, DecodeError> {
        let mut input = Input::versioned(bytes)?;
        let flags = input.varint()?;
        if flags & !flag::ALL != 0 {
            return Err(DecodeError::Value("flags"));
        }
        let has = |bit: u64| flags & bit != 0;
        let envelope = Envelope {
            id: input.id()?,
            batch_id: input.id()?,
            conn_id: input.id()?,
            created: input.time()?,
            protocol: protocol_of(input.octet()?)?,
            sender: input.mailbox()?,
            recipient: input.mailbox()?,
            peer: input.optional(has(flag::PEER), Input::socket_addr)?,
            listener: input.optional(has(flag::LISTENER), Input::socket_addr)?,
            binding: input.text()?,
            binding_group: input.text()?,
            routing_domain: input.optional(has(flag::ROUTING_DOMAIN), Input::text)?,
            dsn: DsnRequest {
                notify: has(flag::NOTIFY).then(|| Notify {
                    success: has(flag::NOTIFY_SUCCESS),
                    failure: has(flag::NOTIFY_FAILURE),
                    delay: has(flag::NOTIFY_DELAY),
                }),
                orcpt: input.optional(has(flag::ORCPT), Input::text)?,
                ret: has(flag::RET).then(|| if has(flag::RET_FULL) { Ret::Full } else { Ret::Headers }),
                envid: input.optional(has(flag::ENVID), Input::text)?,
            },
            smtputf8: has(flag::SMTPUTF8),
            eight_bit: has(flag::EIGHT_BIT),
            urgent: has(flag::URGENT),
            conn_context: Arc::new(input.context()?),
            mess_context: Arc::new(input.context()?),
            size: input.varint()?,
            generation: input.octet()?,
        };
        input.end()?;
        Ok(envelope)
    }

    fn flags(&self) -> u64 {
        let mut flags = 0;
        let mut set = |condition: bool, bit: u64| flags |= if condition { bit } else { 0 };
        set(self.peer.is_some(), flag::PEER);
        set(self.listener.is_some(), flag::LISTENER);
        set(self.routing_domain.is_some(), flag::ROUTING_DOMAIN);
        if let Some(notify) = self.dsn.notify {
            set(true, flag::NOTIFY);
            set(notify.success, flag::NOTIFY_SUCCESS);
            set(notify.failure, flag::NOTIFY_FAILURE);
            set(notify.delay, flag::NOTIFY_DELAY);
        }
        set(self.dsn.orcpt.is_some(), flag::ORCPT);
        set(self.dsn.ret.is_some(), flag::RET);
        set(self.dsn.ret == Some(Ret::Full), flag::RET_FULL);
        set(self.dsn.envid.is_some(), flag::ENVID);
        set(self.smtputf8, flag::SMTPUTF8);
        set(self.eight_bit, flag::EIGHT_BIT);
        set(self.urgent, flag::URGENT);
        flags
    }
}

impl DeliveryState {
    /// Appends the binary form to `out`. Of `last_reply` the first 512 octets are kept, cut between characters.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_varint(out, u64::from(self.retries));
        put_varint(out, u64::from(self.attempts));
        put_time(out, self.next_attempt);
        let kept = self.last_reply.floor_char_boundary(LAST_REPLY_LEN_MAX);
        put_bytes(out, &self.last_reply.as_bytes()[..kept]);
    }

    /// Reads what `encode` wrote; the whole of `bytes` must be one state.
    pub fn decode(bytes: &[u8]) -> Result<DeliveryState, DecodeError> {
        let mut input = Input::versioned(bytes)?;
        let state = DeliveryState {
            retries: input.number("retries")?,
            attempts: input.number("attempts")?,
            next_attempt: input.time()?,
            last_reply: input.text()?,
        };
        input.end()?;
        Ok(state)
    }
}

impl Summary {
    /// Appends the binary form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.push(u8::from(self.null_sender) | u8::from(self.urgent) << 1);
        put_ids(out, &[self.id, self.batch_id]);
        put_time(out, self.created);
        put_time(out, self.next_attempt);
        put_varint(out, u64::from(self.retries));
        put_varint(out, u64::from(self.attempts));
        put_varint(out, self.size);
        put_bytes(out, self.binding.as_bytes());
        put_bytes(out, self.binding_group.as_bytes());
        put_bytes(out, self.domain.as_bytes());
        out.extend_from_slice(&self.sender_hash.to_le_bytes());
        out.extend_from_slice(&self.recipient_hash.to_le_bytes());
    }

    /// Reads what `encode` wrote; the whole of `bytes` must be one summary.
    pub fn decode(bytes: &[u8]) -> Result<Summary, DecodeError> {
        let mut input = Input::versioned(bytes)?;
        let flags = input.octet()?;
        if flags > 3 {
            return Err(DecodeError::Value("flags of a summary"));
        }
        let summary = Summary {
            id: input.id()?,
            batch_id: input.id()?,
            created: input.time()?,
            next_attempt: input.time()?,
            retries: input.number("retries")?,
            attempts: input.number("attempts")?,
            size: input.varint()?,
            binding: input.text()?,
            binding_group: input.text()?,
            domain: input.text()?,
            sender_hash: u32::from_le_bytes(input.array()?),
            recipient_hash: u32::from_le_bytes(input.array()?),
            null_sender: flags & 1 != 0,
            urgent: flags & 2 != 0,
        };
        input.end()?;
        Ok(summary)
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_ids(out: &mut Vec<u8>, ids: &[Id]) {
    for id in ids {
        out.extend_from_slice(&id.0.to_le_bytes());
    }
}

fn put_time(out: &mut Vec<u8>, time: Time) {
    out.extend_from_slice(&time.0.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_mailbox(out: &mut Vec<u8>, mailbox: &Mailbox) {
    put_bytes(out, mailbox.local.as_bytes());
    put_bytes(out, mailbox.domain.as_bytes());
}

fn put_context(out: &mut Vec<u8>, context: &Context) {
    put_varint(out, context.len() as u64);
    for (key, value) in context.iter() {
        put_bytes(out, key.as_bytes());
        put_bytes(out, value);
    }
}

/// Family (4 or 6), octets of the address, port; for IPv6 also flow label and scope, which link-local peers need.
fn put_socket_addr(out: &mut Vec<u8>, address: &SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_le_bytes());
    if let SocketAddr::V6(v6) = address {
        put_varint(out, u64::from(v6.flowinfo()));
        put_varint(out, u64::from(v6.scope_id()));
    }
}

fn protocol_of(octet: u8) -> Result<Protocol, DecodeError> {
    Ok(match octet {
        1 => Protocol::Internal,
        2 => Protocol::Esmtp,
        3 => Protocol::EcStream,
        4 => Protocol::Rest,
        5 => Protocol::Mm7,
        6 => Protocol::Smpp,
        _ => return Err(DecodeError::Value("protocol")),
    })
}

/// What is left of a record.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn versioned(bytes: &'a [u8]) -> Result<Input<'a>, DecodeError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => Ok(Input { rest }),
            Some((&other, _)) => Err(DecodeError::Version(other)),
            None => Err(DecodeError::Truncated),
        }
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.rest.len())) }
    }

    fn octet(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (first, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let octet = self.octet()?;
            let bits = u64::from(octet & 0x7f);
            // The tenth octet has room for one bit only.
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Value("varint"))
    }

    fn number(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?).map_err(|_| DecodeError::Value(field))
    }

    fn id(&mut self) -> Result<Id, DecodeError> {
        Ok(Id(u64::from_le_bytes(self.array()?)))
    }

    fn time(&mut self) -> Result<Time, DecodeError> {
        Ok(Time(i64::from_le_bytes(self.array()?)))
    }

    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<CompactString, DecodeError> {
        let bytes = self.bytes()?;
        Ok(CompactString::from(std::str::from_utf8(bytes).map_err(|_| DecodeError::Text)?))
    }

    fn optional<T>(
        &mut self,
        present: bool,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if present { read(self).map(Some) } else { Ok(None) }
    }

    fn mailbox(&mut self) -> Result<Mailbox, DecodeError> {
        Ok(Mailbox { local: self.text()?, domain: self.text()? })
    }

    fn context(&mut self) -> Result<Context, DecodeError> {
        let count = self.varint()?;
        // An entry takes two octets at least, so that a damaged count cannot ask for more memory than the record has.
        if count > (self.rest.len() / 2) as u64 {
            return Err(DecodeError::Truncated);
        }
        let mut entries = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let key = self.text()?;
            entries.push((key, Bytes::copy_from_slice(self.bytes()?)));
        }
        Ok(Context::from_entries(entries))
    }

    fn socket_addr(&mut self) -> Result<SocketAddr, DecodeError> {
        match self.octet()? {
            4 => {
                let ip = Ipv4Addr::from(self.array::<4>()?);
                Ok(SocketAddr::from((ip, u16::from_le_bytes(self.array()?))))
            }
            6 => {
                let ip = Ipv6Addr::from(self.array::<16>()?);
                let port = u16::from_le_bytes(self.array()?);
                let (flow, scope) = (self.number("flow label")?, self.number("scope")?);
                Ok(SocketAddr::V6(SocketAddrV6::new(ip, port, flow, scope)))
            }
            _ => Err(DecodeError::Value("address family")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = CompactString> {
        "\\PC{0,40}".prop_map(CompactString::from)
    }

    fn mailbox() -> impl Strategy<Value = Mailbox> {
        (text(), text()).prop_map(|(local, domain)| Mailbox { local, domain })
    }

    fn context() -> impl Strategy<Value = Arc<Context>> {
        proptest::collection::vec((text(), proptest::collection::vec(any::<u8>(), 0..200)), 0..6).prop_map(|entries| {
            let mut context = Context::new();
            for (key, value) in entries {
                context.set(&key, value);
            }
            Arc::new(context)
        })
    }

    fn address() -> impl Strategy<Value = Option<SocketAddr>> {
        proptest::option::of(prop_oneof![
            any::<([u8; 4], u16)>().prop_map(|(ip, port)| SocketAddr::from((ip, port))),
            any::<([u8; 16], u16, u32, u32)>().prop_map(|(ip, port, flow, scope)| SocketAddrV6::new(
                ip.into(),
                port,
                flow,
                scope
            )
            .into()),
        ])
    }

    fn protocol() -> impl Strategy<Value = Protocol> {
        (1..=6_u8).prop_map(|octet| protocol_of(octet).expect("1 to 6 are protocols"))
    }

    fn dsn() -> impl Strategy<Value = DsnRequest> {
        let notify = any::<[bool; 3]>().prop_map(|[success, failure, delay]| Notify { success, failure, delay });
        let ret = any::<bool>().prop_map(|full| if full { Ret::Full } else { Ret::Headers });
        let option = proptest::option::of::<BoxedStrategy<CompactString>>;
        (proptest::option::of(notify), option(text().boxed()), proptest::option::of(ret), option(text().boxed()))
            .prop_map(|(notify, orcpt, ret, envid)| DsnRequest { notify, orcpt, ret, envid })
    }

    fn envelope() -> impl Strategy<Value = Envelope> {
        let numbers = any::<(u64, u64, u64, i64, u64, u8, bool, bool)>();
        let texts = (text(), text(), proptest::option::of(text()));
        let edges = (mailbox(), mailbox(), address(), address(), protocol());
        (numbers, texts, edges, context(), context(), dsn()).prop_map(
            |(n, (binding, binding_group, routing_domain), edges, conn_context, mess_context, dsn)| Envelope {
                id: Id(n.0),
                batch_id: Id(n.1),
                conn_id: Id(n.2),
                sender: edges.0,
                recipient: edges.1,
                created: Time(n.3),
                protocol: edges.4,
                peer: edges.2,
                listener: edges.3,
                binding,
                binding_group,
                routing_domain,
                conn_context,
                mess_context,
                dsn,
                smtputf8: n.6,
                eight_bit: n.7,
                urgent: n.4 % 2 == 1,
                size: n.4,
                generation: n.5,
            },
        )
    }

    fn encoded(encode: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out);
        out
    }

    proptest! {
        #[test]
        fn an_envelope_comes_back_as_it_was(envelope in envelope()) {
            let bytes = encoded(|out| envelope.encode(out));
            prop_assert_eq!(Envelope::decode(&bytes), Ok(envelope));
        }

        #[test]
        fn a_summary_comes_back_as_it_was(envelope in envelope(), state in any::<(u32, u32, i64)>()) {
            let state = DeliveryState { retries: state.0, attempts: state.1, next_attempt: Time(state.2), ..Default::default() };
            let summary = envelope.summary(&state);
            prop_assert_eq!(Summary::decode(&encoded(|out| summary.encode(out))), Ok(summary));
            prop_assert_eq!(DeliveryState::decode(&encoded(|out| state.encode(out))), Ok(state));
        }

        #[test]
        fn a_cut_record_is_truncated_and_a_longer_one_has_a_tail(envelope in envelope(), cut in any::<prop::sample::Index>()) {
            let mut bytes = encoded(|out| envelope.encode(out));
            let short = &bytes[..cut.index(bytes.len())];
            prop_assert_eq!(Envelope::decode(short), Err(DecodeError::Truncated));
            bytes.push(0);
            prop_assert_eq!(Envelope::decode(&bytes), Err(DecodeError::Trailing(1)));
        }

        #[test]
        fn any_octets_are_answered(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            let _ = Envelope::decode(&bytes);
            let _ = DeliveryState::decode(&bytes);
            let _ = Summary::decode(&bytes);
        }

        #[test]
        fn a_damaged_octet_never_panics(envelope in envelope(), at in any::<prop::sample::Index>(), value in any::<u8>()) {
            let mut bytes = encoded(|out| envelope.encode(out));
            let at = at.index(bytes.len());
            bytes[at] = value;
            let _ = Envelope::decode(&bytes);
        }
    }

    #[test]
    fn a_long_reply_is_cut_between_characters() {
        let state = DeliveryState { last_reply: "é".repeat(300).into(), ..Default::default() };
        let back = DeliveryState::decode(&encoded(|out| state.encode(out))).expect("own encoding");
        assert_eq!(back.last_reply, "é".repeat(256));
        let state = DeliveryState { last_reply: format!("x{}", "é".repeat(300)).into(), ..Default::default() };
        let back = DeliveryState::decode(&encoded(|out| state.encode(out))).expect("own encoding");
        assert_eq!(back.last_reply.len(), 511);
    }

    #[test]
    fn foreign_versions_and_values_are_named() {
        assert_eq!(Envelope::decode(&[]), Err(DecodeError::Truncated));
        assert_eq!(Envelope::decode(&[9, 0]), Err(DecodeError::Version(9)));
        assert_eq!(Envelope::decode(&[1, 0x80, 0x80, 0x01]), Err(DecodeError::Value("flags")));
        assert_eq!(Summary::decode(&[1, 4]), Err(DecodeError::Value("flags of a summary")));
        let eleven = [&[1][..], &[0xff; 9], &[0x02]].concat();
        assert_eq!(DeliveryState::decode(&eleven), Err(DecodeError::Value("varint")));
        let more_than_u32 = [1, 0xff, 0xff, 0xff, 0xff, 0x1f];
        assert_eq!(DeliveryState::decode(&more_than_u32), Err(DecodeError::Value("retries")));
    }

    #[test]
    fn a_huge_count_allocates_nothing() {
        let mut input = Input { rest: &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0] };
        assert_eq!(input.context().err(), Some(DecodeError::Truncated));
    }

    /// Written by version 1; must stay readable for ever.
    #[test]
    fn the_first_version_stays_readable() {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hexadecimal digits");
        let mut mess_context = Context::new();
        mess_context.set("k", &b"v"[..]);
        let envelope = Envelope {
            id: Id(0x0102_0304_0506_0708),
            batch_id: Id(2),
            conn_id: Id(3),
            sender: Mailbox { local: "a".into(), domain: "s.test".into() },
            recipient: Mailbox { local: "b".into(), domain: "r.test".into() },
            created: Time::from_secs(1),
            peer: Some(SocketAddr::from(([192, 0, 2, 1], 2525))),
            listener: Some(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 25, 0, 0).into()),
            binding: "b1".into(),
            binding_group: "g1".into(),
            routing_domain: Some("route.test".into()),
            mess_context: Arc::new(mess_context),
            dsn: DsnRequest {
                notify: Some(Notify { failure: true, ..Notify::default() }),
                orcpt: Some("rfc822;o".into()),
                ret: Some(Ret::Full),
                envid: Some("e".into()),
            },
            smtputf8: true,
            eight_bit: true,
            size: 300,
            generation: 2,
            ..Envelope::default()
        };
        assert_eq!(Envelope::decode(&hex(ENVELOPE_1)), Ok(envelope.clone()));
        let state = DeliveryState { retries: 1, attempts: 2, next_attempt: Time::from_secs(2), ..Default::default() };
        assert_eq!(Summary::decode(&hex(SUMMARY_1)), Ok(envelope.summary(&state)));

        let state = [1, 3, 4, 0x40, 0x42, 0x0f, 0, 0, 0, 0, 0, 2, b'o', b'k'];
        let expected =
            DeliveryState { retries: 3, attempts: 4, next_attempt: Time::from_secs(1), last_reply: "ok".into() };
        assert_eq!(DeliveryState::decode(&state), Ok(expected));
    }

    const ENVELOPE_1: &str = "01af3f08070605040302010200000000000000030000000000000040420f000000000002016106732e74657374016206722e\
        7465737404c0000201dd090600000000000000000000000000000001190000000262310267310a726f7574652e7465737408\
        7266633832323b6f01650001016b0176ac0202";
    const SUMMARY_1: &str = "01000807060504030201020000000000000040420f000000000080841e00000000000102ac020262310267310a726f757465\
        2e74657374599c87b70ff17947";
}
