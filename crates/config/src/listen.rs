//! Addresses to listen on: `":25"`, `"10.0.0.1:25"`, `"[*]:25"`, `"[fd82::1]:587"`, `"/path"`.

use crate::cidr::ANY_V6;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl ListenAddr {
    /// Reads an address; the error is what is wrong and how to mend it.
    pub(crate) fn parse(text: &str) -> Result<ListenAddr, (String, String)> {
        const FORMS: &str = "write \":25\", \"10.0.0.1:25\", \"[*]:25\", \"[fd00::1]:25\" or \"/path\"";
        let error = |message: String| (message, FORMS.to_string());
        if text.starts_with('/') {
            return Ok(ListenAddr::Unix(PathBuf::from(text)));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) =
                    rest.split_once(']').ok_or_else(|| error(format!("`{text}`: the `]` is missing")))?;
                let address = if host == "*" {
                    ANY_V6
                } else {
                    IpAddr::V6(host.parse().map_err(|_| error(format!("`{host}` is not an IPv6 address")))?)
                };
                (address, rest.strip_prefix(':').ok_or_else(|| error(format!("`{text}` has no port")))?)
            }
            None => {
                let (host, port) = text.rsplit_once(':').ok_or_else(|| error(format!("`{text}` has no port")))?;
                if host.contains(':') {
                    return Err(error(format!("`{text}`: an IPv6 address needs brackets")));
                }
                let address = match host {
                    "" | "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    _ => host.parse().map_err(|_| error(format!("`{host}` is not an address of this machine")))?,
                };
                (address, port)
            }
        };
        let number = port.parse::<u16>().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit()));
        let port = number.ok_or_else(|| error(format!("`{port}` is not a port; 0 to 65535 are")))?;
        Ok(ListenAddr::Tcp(SocketAddr::new(host, port)))
    }

    /// Whether only programs of this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            ListenAddr::Tcp(address) => address.ip().is_loopback(),
            ListenAddr::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Tcp(address) => address.fmt(f),
            ListenAddr::Unix(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for (text, wanted) in [
            (":25", "0.0.0.0:25"),
            ("*:25", "0.0.0.0:25"),
            ("10.0.0.1:25", "10.0.0.1:25"),
            ("[*]:25", "[::]:25"),
            ("[::]:25", "[::]:25"),
            ("[fd82::1]:587", "[fd82::1]:587"),
            ("127.0.0.1:40000", "127.0.0.1:40000"),
            ("/tmp/2025", "/tmp/2025"),
        ] {
            assert_eq!(ListenAddr::parse(text).unwrap().to_string(), wanted);
        }
        for bad in ["25", "", "::1:25", "[::1]", "[10.0.0.1]:25", "a.example:25", ":65536", ":+25", ":", "[*:25"] {
            assert!(ListenAddr::parse(bad).is_err(), "{bad}");
        }
    }
}
