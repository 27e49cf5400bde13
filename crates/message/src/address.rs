//! Addresses as SMTP writes them: `Mailbox::parse` (RFC 5321 section 4.1.2, RFC 6531 for UTF-8).
//!
//! The local part stays as the client wrote it, quotes included; the domain is lower-cased. Source routes are read and
//! dropped (RFC 5321 appendix C). Nothing that parses holds a control, a blank outside quotes, or an angle bracket outside
//! quotes, so that a mailbox can be written into a command or a trace field as it is.

use crate::envelope::Mailbox;
use compact_str::CompactString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest local part. RFC 5321 asks for 64 at least; addresses that carry another one (VERP) are longer.
pub const LOCAL_LEN_MAX: usize = 512;
/// The longest domain (RFC 5321 section 4.5.3.1.2).
pub const DOMAIN_LEN_MAX: usize = 255;
const LABEL_LEN_MAX: usize = 63;

/// Why a text is no mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("empty address")]
    Empty,
    #[error("bad local part")]
    Local,
    #[error("bad domain")]
    Domain,
    #[error("bad address literal")]
    Literal,
    /// The text has characters beyond ASCII and the session has no SMTPUTF8.
    #[error("address needs SMTPUTF8")]
    Utf8,
    #[error("address too long")]
    TooLong,
}

/// How strictly a path is read.
#[derive(Clone, Copy, Debug)]
pub struct PathRules {
    /// Characters beyond ASCII are allowed in both parts (SMTPUTF8).
    pub utf8: bool,
    /// False: empty atoms (`a..b@x`, `ab.@x`) are let through.
    pub pedantic: bool,
}

impl Default for PathRules {
    fn default() -> PathRules {
        PathRules { utf8: false, pedantic: true }
    }
}

impl Mailbox {
    /// Reads `local@domain`, `local` alone (the domain is then empty), or either with a source route or in angle brackets.
    pub fn parse(text: &str, allow_utf8: bool) -> Result<Mailbox, AddressError> {
        Mailbox::parse_with(text, PathRules { utf8: allow_utf8, pedantic: true })
    }

    /// As `parse`; nothing, or `<>`, is the null sender.
    pub fn parse_sender(text: &str, allow_utf8: bool) -> Result<Mailbox, AddressError> {
        match text {
            "" | "<>" => Ok(Mailbox::default()),
            _ => Mailbox::parse(text, allow_utf8),
        }
    }

    pub fn parse_with(text: &str, rules: PathRules) -> Result<Mailbox, AddressError> {
        let text = text.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')).unwrap_or(text);
        let text = without_route(text)?;
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if !rules.utf8 && !text.is_ascii() {
            return Err(AddressError::Utf8);
        }
        let local_len = local_len(text, rules)?;
        let (local, rest) = text.split_at(local_len);
        if local.len() > LOCAL_LEN_MAX {
            return Err(AddressError::TooLong);
        }
        let domain = match rest.strip_prefix('@') {
            Some(domain) => domain_of(domain)?,
            None if rest.is_empty() => CompactString::default(),
            None => return Err(AddressError::Local),
        };
        Ok(Mailbox { local: local.into(), domain })
    }

    /// Both parts are ASCII: no SMTPUTF8 is needed to send it.
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii() && self.domain.is_ascii()
    }

    /// The address that a domain such as `[192.0.2.1]` or `[IPv6:2001:db8::1]` stands for.
    pub fn literal(&self) -> Option<IpAddr> {
        domain_literal(&self.domain)
    }
}

/// The address of a domain literal with its brackets; the tag `IPv6:` may be missing.
pub fn domain_literal(domain: &str) -> Option<IpAddr> {
    let inner = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => inner[5..].parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => inner.parse().ok(),
    }
}

/// Takes `@host,@host:` off the front.
fn without_route(text: &str) -> Result<&str, AddressError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let (route, rest) = text.split_once(':').ok_or(AddressError::Domain)?;
    for hop in route.split(',') {
        domain_of(hop.trim_matches(' ').strip_prefix('@').ok_or(AddressError::Domain)?)?;
    }
    Ok(rest)
}

/// How much of `text` the local part takes.
fn local_len(text: &str, rules: PathRules) -> Result<usize, AddressError> {
    let bytes = text.as_bytes();
    if bytes[0] == b'"' {
        return quoted_len(bytes);
    }
    let len = bytes.iter().position(|&byte| !is_atext(byte) && byte != b'.').unwrap_or(bytes.len());
    let local = &bytes[..len];
    let empty_atom = local.starts_with(b".") || local.ends_with(b".") || local.windows(2).any(|pair| pair == b"..");
    match len {
        0 => Err(AddressError::Local),
        _ if rules.pedantic && empty_atom => Err(AddressError::Local),
        _ => Ok(len),
    }
}

/// The length of a quoted string, quotes included. Anything printable may stand in it (RFC 5321 section 4.1.2).
fn quoted_len(bytes: &[u8]) -> Result<usize, AddressError> {
    let mut at = 1;
    loop {
        at += match bytes.get(at) {
            Some(b'"') if at == 1 => return Err(AddressError::Local), // `""` names nobody
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') if bytes.get(at + 1).is_some_and(|&byte| is_printable(byte)) => 2,
            Some(b'\\') | None => return Err(AddressError::Local),
            Some(&byte) if is_printable(byte) => 1,
            Some(_) => return Err(AddressError::Local),
        };
    }
}

fn is_printable(byte: u8) -> bool {
    byte >= b' ' && byte != 127
}

/// Characters of an atom (RFC 5322 section 3.2.3), and all beyond ASCII (RFC 6531 section 3.3).
fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// A domain in lower case. An underscore is let through: hosts with one exist, and a look-up decides.
fn domain_of(text: &str) -> Result<CompactString, AddressError> {
    if text.len() > DOMAIN_LEN_MAX {
        return Err(AddressError::TooLong);
    }
    if text.starts_with('[') {
        return literal_of(text);
    }
    let label_is_good = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_LEN_MAX * if label.is_ascii() { 1 } else { 3 }
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| match c.is_ascii() {
                true => c.is_ascii_alphanumeric() || c == '-' || c == '_',
                false => c.is_alphanumeric() || !(c.is_control() || c.is_whitespace()),
            })
    };
    if !text.split('.').all(label_is_good) {
        return Err(AddressError::Domain);
    }
    Ok(match text.is_ascii() {
        true => {
            let mut domain = CompactString::from(text);
            domain.make_ascii_lowercase();
            domain
        }
        false => text.to_lowercase().into(),
    })
}

fn literal_of(text: &str) -> Result<CompactString, AddressError> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).ok_or(AddressError::Literal)?;
    let known = match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => inner[5..].parse::<Ipv6Addr>().is_ok(),
        _ => inner.parse::<Ipv4Addr>().is_ok(),
    };
    if !known {
        return Err(AddressError::Literal);
    }
    let mut domain = CompactString::from(text);
    domain.make_ascii_lowercase();
    Ok(domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> (String, String) {
        let mailbox = Mailbox::parse(text, true).unwrap_or_else(|error| panic!("{text}: {error}"));
        (mailbox.local.to_string(), mailbox.domain.to_string())
    }

    #[test]
    fn reads_what_clients_send() {
        let long_verp = format!("bounce+{}@x.org", "k".repeat(200));
        for (text, local, domain) in [
            ("Joe+x@Example.COM", "Joe+x", "example.com"),
            ("<a@b.c>", "a", "b.c"),
            ("postmaster", "postmaster", ""),
            ("<Postmaster>", "Postmaster", ""),
            ("\"a b\"@x", "\"a b\"", "x"),
            ("\"a\\\"@<b>\"@x", "\"a\\\"@<b>\"", "x"),
            ("@one.example,@two.example:joe@three.example", "joe", "three.example"),
            ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
            ("a@[IPv6:2001:DB8::1]", "a", "[ipv6:2001:db8::1]"),
            ("a!b%c/d@x_y.org", "a!b%c/d", "x_y.org"),
            ("δοκιμή@ΠΑΡΆΔΕΙΓΜΑ.gr", "δοκιμή", "παράδειγμα.gr"),
            (long_verp.as_str(), &long_verp[..207], "x.org"),
        ] {
            assert_eq!(parts(text), (local.into(), domain.into()), "{text}");
        }
    }

    #[test]
    fn refuses_with_the_cause() {
        use AddressError::*;
        let long_domain = format!("a@{}", "a.".repeat(127) + "aa");
        let long_label = format!("a@{}.org", "l".repeat(64));
        let long_local = format!("{}@x", "l".repeat(LOCAL_LEN_MAX + 1));
        for (text, error) in [
            ("", Empty),
            ("<>", Empty),
            ("@x", Domain),
            ("a@", Domain),
            ("a..b@x", Local),
            ("ab.@x", Local),
            (".a@x", Local),
            ("a b@x", Local),
            ("a@b@c", Domain),
            ("a@b c", Domain),
            ("a@-b", Domain),
            ("a@b-", Domain),
            ("a@b..c", Domain),
            ("a@b.c.", Domain),
            ("a@b>c", Domain),
            ("\"\"@x", Local),
            ("\"a@x", Local),
            ("\"a\\", Local),
            ("\"a\r\nb\"@x", Local),
            ("\"a\"b@x", Local),
            ("a@[300.1.1.1]", Literal),
            ("a@[IPv6:zz]", Literal),
            ("a@[1.2.3.4", Literal),
            ("a\r\n@x", Local),
            ("a@x\r\nRCPT", Domain),
            ("é@x", Utf8),
            (&long_domain, TooLong),
            (&long_label, Domain),
            (&long_local, TooLong),
        ] {
            assert_eq!(Mailbox::parse(text, false), Err(error), "{text}");
        }
    }

    #[test]
    fn loose_rules_let_empty_atoms_through() {
        let loose = PathRules { pedantic: false, ..PathRules::default() };
        for text in ["a..b@x", "ab.@x"] {
            assert_eq!(Mailbox::parse_with(text, loose).unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_null_sender_is_for_senders_only() {
        assert!(Mailbox::parse_sender("<>", false).unwrap().is_null());
        assert!(Mailbox::parse_sender("", false).unwrap().is_null());
        assert_eq!(Mailbox::parse_sender("a@", false), Err(AddressError::Domain));
    }

    #[test]
    fn literals_are_addresses() {
        let literal = |text| Mailbox::parse(text, false).unwrap().literal().map(|ip| ip.to_string());
        assert_eq!(literal("a@[192.0.2.1]").as_deref(), Some("192.0.2.1"));
        assert_eq!(literal("a@[IPv6:2001:db8::1]").as_deref(), Some("2001:db8::1"));
        assert_eq!(literal("a@x"), None);
        assert_eq!(domain_literal("[2001:db8::1]").map(|ip| ip.is_ipv6()), Some(true));
    }

    proptest! {
        #[test]
        fn what_parses_is_safe_in_a_command_and_parses_again(text in "[ -~é\r\n\t]{0,40}") {
            if let Ok(mailbox) = Mailbox::parse(&text, true) {
                let written = mailbox.to_string();
                prop_assert!(written.chars().all(|c| !c.is_control()));
                prop_assert_eq!(Mailbox::parse(&written, true), Ok(mailbox));
            }
        }
    }
}
