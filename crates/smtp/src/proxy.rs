//! The PROXY protocol, versions 1 and 2: the header in which a load balancer says who the client is
//! (HAProxy's `proxy-protocol.txt`).
//!
//! Bytes in, addresses out; no I/O. What is read of a header is bounded. TLVs of version 2 are skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is taken: version 2 with TLVs of a reasonable size.
pub const HEADER_SIZE_MAX: usize = 4096;
const V1_SIZE_MAX: usize = 107;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Client and server address; `None`: the header gives none, and those of the connection stay.
pub type Addresses = Option<(SocketAddr, SocketAddr)>;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    Header {
        size: usize,
        addresses: Addresses,
    },
    /// The beginning of a header.
    Partial,
    Invalid,
}

/// Reads a header off the beginning of `input`. The first byte tells the versions apart.
pub fn parse(input: &[u8]) -> Parsed {
    match input.first() {
        None => Parsed::Partial,
        Some(b'P') => v1(input),
        Some(_) => v2(input),
    }
}

fn v1(input: &[u8]) -> Parsed {
    let head = &input[..input.len().min(V1_SIZE_MAX)];
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        let begins = head.len() < V1_SIZE_MAX && b"PROXY ".starts_with(&head[..head.len().min(6)]);
        return if begins { Parsed::Partial } else { Parsed::Invalid };
    };
    let Some(line) = std::str::from_utf8(&head[..end]).ok().and_then(|line| line.strip_prefix("PROXY ")) else {
        return Parsed::Invalid;
    };
    let mut words = line.split(' ');
    let addresses = match words.next() {
        Some("UNKNOWN") => None, // whatever follows is to be ignored
        Some(family @ ("TCP4" | "TCP6")) => match v1_addresses(family == "TCP4", words) {
            Some(addresses) => Some(addresses),
            None => return Parsed::Invalid,
        },
        _ => return Parsed::Invalid,
    };
    Parsed::Header { size: end + 2, addresses }
}

fn v1_addresses<'a>(v4: bool, mut words: impl Iterator<Item = &'a str>) -> Option<(SocketAddr, SocketAddr)> {
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        if v4 { word.parse().ok().map(IpAddr::V4) } else { word.parse().ok().map(IpAddr::V6) }
    };
    let (remote, local) = (address()?, address()?);
    let mut port = || -> Option<u16> {
        let word = words.next()?;
        word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?
    };
    let (remote_port, local_port) = (port()?, port()?);
    let whole = words.next().is_none();
    whole.then(|| (socket(remote, remote_port), socket(local, local_port)))
}

fn v2(input: &[u8]) -> Parsed {
    let known = input.len().min(V2_SIGNATURE.len());
    if input[..known] != V2_SIGNATURE[..known] {
        return Parsed::Invalid;
    }
    let Some(&[version_command, family, high, low]) = input.get(12..16).and_then(|fixed| fixed.first_chunk()) else {
        return Parsed::Partial;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let size = 16 + length;
    if version_command >> 4 != 2 || version_command & 0xf > 1 || size > HEADER_SIZE_MAX {
        return Parsed::Invalid;
    }
    let Some(body) = input.get(16..size) else { return Parsed::Partial };
    let local_command = version_command & 0xf == 0;
    let addresses = match family {
        _ if local_command => None,
        0x11 => match body.first_chunk::<12>() {
            Some(block) => {
                let address = |at: usize| Ipv4Addr::new(block[at], block[at + 1], block[at + 2], block[at + 3]).into();
                let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
                Some((socket(address(0), port(8)), socket(address(4), port(10))))
            }
            None => return Parsed::Invalid,
        },
        0x21 => match body.first_chunk::<36>() {
            Some(block) => {
                let address = |at: usize| {
                    let mut octets = [0; 16];
                    octets.copy_from_slice(&block[at..at + 16]);
                    Ipv6Addr::from(octets).into()
                };
                let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
                Some((socket(address(0), port(32)), socket(address(16), port(34))))
            }
            None => return Parsed::Invalid,
        },
        _ => None, // UDP, unix, unspecified: not ours to use
    };
    Parsed::Header { size, addresses }
}

/// An IPv4 client in IPv6 clothes is an IPv4 client.
fn socket(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(remote: &str, local: &str) -> Addresses {
        Some((remote.parse().unwrap(), local.parse().unwrap()))
    }

    fn v2(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = V2_SIGNATURE.to_vec();
        header.extend([version_command, family]);
        header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        header.extend(body);
        header
    }

    #[test]
    fn version_1_headers() {
        for (text, wanted) in [
            ("PROXY TCP4 198.51.100.9 10.0.0.1 4000 25\r\n", addresses("198.51.100.9:4000", "10.0.0.1:25")),
            ("PROXY TCP6 2001:db8::1 ::1 4000 25\r\n", addresses("[2001:db8::1]:4000", "[::1]:25")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ff::1 ff::2 1 2\r\n", None),
        ] {
            let mut input = text.as_bytes().to_vec();
            input.extend(b"EHLO x\r\n");
            assert_eq!(parse(&input), Parsed::Header { size: text.len(), addresses: wanted }, "{text}");
            for end in 0..text.len() {
                assert_eq!(parse(&input[..end]), Parsed::Partial, "{text} cut at {end}");
            }
        }
    }

    #[test]
    fn what_is_no_version_1_header() {
        let long = format!("PROXY TCP4 {}\r\n", " ".repeat(100));
        for text in [
            "EHLO x\r\n",
            "PROXX ",
            "PROXY TCP4 1.2.3.4 10.0.0.1 4000\r\n",
            "PROXY TCP4 1.2.3.4 10.0.0.1 4000 25 6\r\n",
            "PROXY TCP4 ::1 ::1 4000 25\r\n",
            "PROXY TCP4 1.2.3.4 10.0.0.1 +400 25\r\n",
            "PROXY TCP4 1.2.3.4 10.0.0.1 65536 25\r\n",
            "PROXY TCP5 1.2.3.4 10.0.0.1 1 25\r\n",
            &long,
        ] {
            assert_eq!(parse(text.as_bytes()), Parsed::Invalid, "{text}");
        }
    }

    #[test]
    fn version_2_headers() {
        let v4 = [198, 51, 100, 9, 10, 0, 0, 1, 0x0f, 0xa0, 0, 25];
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15], v6[31], v6[33], v6[35]) = (0x20, 0x01, 1, 2, 3, 25);
        let mut with_tlv = v4.to_vec();
        with_tlv.extend([4, 0, 1, 0]);
        for (header, wanted) in [
            (v2(0x21, 0x11, &v4), addresses("198.51.100.9:4000", "10.0.0.1:25")),
            (v2(0x21, 0x11, &with_tlv), addresses("198.51.100.9:4000", "10.0.0.1:25")),
            (v2(0x21, 0x21, &v6), addresses("[2001::1]:3", "[::2]:25")),
            (v2(0x20, 0x11, &v4), None),
            (v2(0x20, 0, &[]), None),
            (v2(0x21, 0x12, &v4), None),
            (v2(0x21, 0x31, &[0; 216]), None),
        ] {
            assert_eq!(parse(&header), Parsed::Header { size: header.len(), addresses: wanted });
            for end in 0..header.len() {
                assert_eq!(parse(&header[..end]), Parsed::Partial);
            }
        }
        for bad in [v2(0x11, 0x11, &v4), v2(0x22, 0x11, &v4), v2(0x21, 0x11, &v4[..11]), v2(0x21, 0, &[0; 4081])] {
            assert_eq!(parse(&bad), Parsed::Invalid);
        }
    }
}
