//! Names, record types and records as callers see them, free of the library's types.

use crate::error::DnsError;
use hickory_proto::rr::{self, RData};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest name in its text form, without the final dot (RFC 1035 section 2.3.4).
const NAME_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;

/// The types that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordType {
    A,
    Aaaa,
    Mx,
    Txt,
    Ptr,
    Ns,
    Cname,
}

impl RecordType {
    pub const ALL: [RecordType; 7] = [
        RecordType::A,
        RecordType::Aaaa,
        RecordType::Mx,
        RecordType::Txt,
        RecordType::Ptr,
        RecordType::Ns,
        RecordType::Cname,
    ];

    pub fn name(self) -> &'static str {
        match self {
            RecordType::A => "A",
            RecordType::Aaaa => "AAAA",
            RecordType::Mx => "MX",
            RecordType::Txt => "TXT",
            RecordType::Ptr => "PTR",
            RecordType::Ns => "NS",
            RecordType::Cname => "CNAME",
        }
    }

    pub(crate) fn wire(self) -> rr::RecordType {
        match self {
            RecordType::A => rr::RecordType::A,
            RecordType::Aaaa => rr::RecordType::AAAA,
            RecordType::Mx => rr::RecordType::MX,
            RecordType::Txt => rr::RecordType::TXT,
            RecordType::Ptr => rr::RecordType::PTR,
            RecordType::Ns => rr::RecordType::NS,
            RecordType::Cname => rr::RecordType::CNAME,
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no type that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown record type: expected A, AAAA, MX, TXT, PTR, NS or CNAME")]
pub struct UnknownRecordType;

impl FromStr for RecordType {
    type Err = UnknownRecordType;

    fn from_str(text: &str) -> Result<RecordType, UnknownRecordType> {
        RecordType::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text)).ok_or(UnknownRecordType)
    }
}

/// A mail host of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mx {
    pub preference: u16,
    /// In lower case, without a final dot.
    pub host: String,
}

/// What a record says. Names are in lower case and without a final dot; the root is an empty name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Mx(Mx),
    /// The strings of one record, joined.
    Txt(Vec<u8>),
    Ptr(String),
    Ns(String),
    Cname(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub ttl_s: u32,
    pub data: Data,
}

impl Record {
    /// `None`: of a type that nobody here asks for.
    pub(crate) fn from_wire(record: &rr::Record) -> Option<Record> {
        let data = match &record.data {
            RData::A(ip) => Data::A(ip.0),
            RData::AAAA(ip) => Data::Aaaa(ip.0),
            RData::MX(mx) => Data::Mx(Mx { preference: mx.preference, host: name_text(&mx.exchange) }),
            RData::TXT(txt) => Data::Txt(txt.txt_data.concat()),
            RData::PTR(name) => Data::Ptr(name_text(&name.0)),
            RData::NS(name) => Data::Ns(name_text(&name.0)),
            RData::CNAME(name) => Data::Cname(name_text(&name.0)),
            _ => return None,
        };
        Some(Record { ttl_s: record.ttl, data })
    }
}

impl fmt::Display for Record {
    /// `300 IN MX 10 mx.example.org.`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} IN ", self.ttl_s)?;
        match &self.data {
            Data::A(ip) => write!(f, "A {ip}"),
            Data::Aaaa(ip) => write!(f, "AAAA {ip}"),
            Data::Mx(mx) => write!(f, "MX {} {}.", mx.preference, mx.host),
            Data::Txt(text) => write!(f, "TXT {:?}", String::from_utf8_lossy(text)),
            Data::Ptr(name) => write!(f, "PTR {name}."),
            Data::Ns(name) => write!(f, "NS {name}."),
            Data::Cname(name) => write!(f, "CNAME {name}."),
        }
    }
}

/// The records of one look-up, aliases followed; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub records: Vec<Record>,
    /// How long it holds: the smallest TTL on the way, within the configured bounds.
    pub ttl_s: u32,
}

/// A name in the form that is asked for and cached: A-labels (UTS 46), lower case, no final dot.
pub fn ascii_name(name: &str) -> Result<Cow<'_, str>, DnsError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || matches!(byte, b'-' | b'.' | b'_');
    let ascii = match name.bytes().all(is_plain) {
        true => Cow::Borrowed(name),
        false if name.is_ascii() => Cow::Owned(name.to_ascii_lowercase()),
        false => idna::uts46::Uts46::new()
            .to_ascii(
                name.as_bytes(),
                idna::AsciiDenyList::EMPTY, // underscores and the like are for the servers to judge
                idna::uts46::Hyphens::Allow,
                idna::uts46::DnsLength::Ignore,
            )
            .map_err(|_| DnsError::BadName)?,
    };
    let labels_are_good = |name: &str| {
        name.split('.').all(|label| {
            (1..=LABEL_LEN_MAX).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        })
    };
    if ascii.len() > NAME_LEN_MAX || !labels_are_good(&ascii) {
        return Err(DnsError::BadName);
    }
    Ok(ascii)
}

/// The name under which an address is looked up in reverse.
pub fn arpa_name(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let mut out = String::with_capacity(72);
            for octet in ip.octets().iter().rev() {
                out.push_str(&format!("{:x}.{:x}.", octet & 15, octet >> 4));
            }
            out.push_str("ip6.arpa");
            out
        }
    }
}

pub(crate) fn name_text(name: &rr::Name) -> String {
    let mut text = name.to_ascii();
    text.make_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_one_form() {
        for (name, ascii) in [
            ("Example.ORG.", Ok("example.org")),
            ("_dmarc.example.org", Ok("_dmarc.example.org")),
            ("παράδειγμα.gr", Ok("xn--hxajbheg2az3al.gr")),
            ("BÜCHER.example", Ok("xn--bcher-kva.example")),
            ("", Err(DnsError::BadName)),
            (".", Err(DnsError::BadName)),
            ("a..b", Err(DnsError::BadName)),
            ("a b", Err(DnsError::BadName)),
            ("a\0b", Err(DnsError::BadName)),
        ] {
            assert_eq!(ascii_name(name).as_deref().map_err(|e| *e), ascii, "{name}");
        }
        let label = "l".repeat(63);
        assert!(ascii_name(&label).is_ok());
        assert_eq!(ascii_name(&format!("{label}l")), Err(DnsError::BadName));
        let long = [label.as_str(); 4].join(".");
        assert_eq!(ascii_name(&long), Err(DnsError::BadName)); // 255
        assert!(ascii_name(&long[2..]).is_ok()); // 253
    }

    #[test]
    fn addresses_have_reverse_names() {
        assert_eq!(arpa_name("192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa");
        assert_eq!(arpa_name("::ffff:192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa");
        assert_eq!(
            arpa_name("2001:db8::1".parse().unwrap()),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }

    #[test]
    fn types_are_read_in_any_case() {
        assert_eq!("aaaa".parse(), Ok(RecordType::Aaaa));
        assert_eq!("SRV".parse::<RecordType>(), Err(UnknownRecordType));
    }
}
