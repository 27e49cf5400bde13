//! Small readers: the PROXY header, console frames, resolver files, log formats.

use crate::choices::{Choices, steps};
use ph_admin::{Address, FrameError, Replies, Requests, UserFile, encode_reply, encode_request};
use ph_dns::{Hosts, RecordType, ResolvConf, arpa_name, ascii_name};
use ph_smtp::proxy::{self, Parsed};

pub static PROXY_WORDS: &[&str] = &[
    "PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n",
    "PROXY UNKNOWN\r\n",
    "PROXY TCP6 ::1 ::2 ",
    "\r\n\r\n\u{0}\r\nQUIT\n",
    "65536",
];

/// A header that comes octet by octet is decided once.
pub fn proxy_header(input: &[u8]) {
    let mut decided = None;
    for len in 0..=input.len().min(proxy::HEADER_SIZE_MAX + 64) {
        let parsed = proxy::parse(&input[..len]);
        match decided {
            Some(before) => assert_eq!(parsed, before, "decided otherwise after {len} octets"),
            None if parsed != Parsed::Partial => decided = Some(parsed),
            None => assert!(len < proxy::HEADER_SIZE_MAX, "waits for ever"),
        }
        if let Parsed::Header { size, .. } = parsed {
            assert!(size <= len, "a header longer than its octets");
        }
    }
}

/// The console's frames, both ways, in any pieces; and where a console is.
pub fn console(input: &[u8]) {
    let mut choices = Choices::new(input);
    let step = usize::from(choices.octet()) + 1;
    let bytes = choices.rest();
    let whole = requests(bytes, bytes.len());
    assert_eq!(whole, requests(bytes, step), "in pieces of {step}");
    assert_eq!(replies(bytes, bytes.len()), replies(bytes, step), "in pieces of {step}");

    let mut wire = Vec::new();
    encode_request(bytes, &mut wire).expect("inputs are short");
    assert_eq!(requests(&wire, step), (vec![bytes.to_vec()], None));
    wire.clear();
    encode_reply(bytes, &mut wire);
    assert_eq!(replies(&wire, step), (vec![bytes.to_vec()], None));

    let text = String::from_utf8_lossy(bytes);
    if let Ok(address) = text.parse::<Address>() {
        let _ = address.to_string();
    }
    let _ = UserFile::parse(&text);
}

fn requests(bytes: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut reader = Requests::default();
    let mut found = Vec::new();
    for piece in steps(bytes, step) {
        reader.feed(piece);
        loop {
            match reader.next_command() {
                Ok(Some(command)) => found.push(command),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn replies(bytes: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut reader = Replies::default();
    let mut found = Vec::new();
    for piece in steps(bytes, step) {
        reader.feed(piece);
        loop {
            match reader.next_reply() {
                Ok(Some(reply)) => found.push(reply),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

pub static DNS_WORDS: &[&str] = &[
    "nameserver 192.0.2.53\n",
    "nameserver [::1]:5353\n",
    "options timeout:2 attempts:3 rotate\n",
    "lookup bf\n",
    "lookup file bind\n",
    "search a.example b.example\n",
    "127.0.0.1 localhost\n",
    "b\u{fc}cher.example",
    "xn--",
    "MX",
    "TXT",
];

/// The resolver's files, and names of any kind.
pub fn dns_files(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let conf = ResolvConf::parse(&text);
    assert!(conf.servers.len() <= 64, "servers without a limit");
    let hosts = Hosts::parse(&text);
    for word in text.split_ascii_whitespace() {
        if let Ok(ip) = word.parse() {
            let name = arpa_name(ip);
            assert!(name.ends_with(".arpa") || name.ends_with(".arpa."), "{name}");
        }
        let _ = word.parse::<RecordType>();
        if let Ok(name) = ascii_name(word) {
            assert!(name.is_ascii() && !name.contains(' '), "{name:?}");
            assert_eq!(ascii_name(&name).as_deref(), Ok(&*name), "a name that changes when it is read again");
            let with = hosts.addresses(&name, true).map_or(0, |all| all.len());
            let without = hosts.addresses(&name, false).map_or(0, |all| all.len());
            assert!(without <= with);
        }
    }
}

pub static FORMAT_WORDS: &[&str] = &[
    "%BI",
    "%h{Subject}",
    "%t{%Y-%m-%d}",
    "%T{3}",
    "%us{6}",
    "%vctx_mess{k}",
    "%%",
    "%outbound_tls",
    "%",
    "{",
    "}",
    "\\n",
    " -> ",
];

/// Formats of the custom logger.
pub fn log_format(input: &[u8]) {
    let mut choices = Choices::new(input);
    let rules = choices.flag().then(|| choices.text());
    let text = String::from_utf8_lossy(choices.rest());
    if let Err(error) = ph_eventlog::Format::parse(&text, rules.as_deref()) {
        assert!(!error.to_string().is_empty());
    }
}
