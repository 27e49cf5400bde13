//! The part of resolv.conf(5) that a mail server needs.
//!
//! Names are always asked for as they are: `search`, `domain` and `ndots` are read over. Two extensions: a `nameserver` may
//! carry a port (`127.0.0.1:5353`, `[::1]:5353`), and `lookup bf` or `lookup file bind` says whether the hosts file or the
//! servers come first. A line that cannot be read is left out and reported; it never stops the program.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

const PORT: u16 = 53;
/// As many as other resolvers take.
const SERVERS_MAX: usize = 8;
const TIMEOUT_MAX_S: u64 = 30;
const ATTEMPTS_MAX: u32 = 5;

/// Which of the hosts file and the name servers is asked first for an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostsOrder {
    #[default]
    HostsFirst,
    DnsFirst,
    HostsOnly,
    DnsOnly,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<SocketAddr>,
    /// How long one server may take for one try.
    pub timeout: Option<Duration>,
    /// How often the list of servers is gone through.
    pub attempts: Option<u32>,
    /// Begin with another server each time.
    pub rotate: bool,
    pub order: HostsOrder,
    /// Lines that were left out: number and cause.
    pub faults: Vec<(usize, String)>,
}

impl ResolvConf {
    /// Reads a file. One that is missing or names no server means the server of this host (resolv.conf(5)).
    pub fn load(path: &Path) -> ResolvConf {
        let mut conf = match std::fs::read(path) {
            Ok(bytes) => ResolvConf::parse(&String::from_utf8_lossy(&bytes)),
            Err(error) => ResolvConf { faults: vec![(0, format!("cannot be read: {error}"))], ..ResolvConf::default() },
        };
        if conf.servers.is_empty() {
            conf.servers.push(SocketAddr::from(([127, 0, 0, 1], PORT)));
        }
        conf
    }

    pub fn parse(text: &str) -> ResolvConf {
        let mut conf = ResolvConf::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.split(['#', ';']).next().unwrap_or("");
            let mut words = line.split_ascii_whitespace();
            let fault = match words.next() {
                Some("nameserver") => conf.add_server(words.next().unwrap_or("")),
                Some("options") => conf.set_options(words),
                Some("lookup") => conf.set_order(&words.collect::<Vec<_>>()),
                Some("search" | "domain" | "sortlist" | "family") | None => None,
                Some(other) => Some(format!("unknown keyword {other}")),
            };
            conf.faults.extend(fault.map(|fault| (at + 1, fault)));
        }
        conf
    }

    fn add_server(&mut self, text: &str) -> Option<String> {
        if self.servers.len() >= SERVERS_MAX {
            return Some(format!("more than {SERVERS_MAX} name servers"));
        }
        match server_address(text) {
            Some(server) => self.servers.push(server),
            None => return Some(format!("not an address: {text}")),
        }
        None
    }

    fn set_options<'a>(&mut self, words: impl Iterator<Item = &'a str>) -> Option<String> {
        let mut fault = None;
        for word in words {
            match word.split_once(':') {
                Some(("timeout", number)) => match number.parse::<u64>() {
                    Ok(seconds) => self.timeout = Some(Duration::from_secs(seconds.clamp(1, TIMEOUT_MAX_S))),
                    Err(_) => fault = Some(format!("not a number: {word}")),
                },
                Some(("attempts", number)) => match number.parse::<u32>() {
                    Ok(attempts) => self.attempts = Some(attempts.clamp(1, ATTEMPTS_MAX)),
                    Err(_) => fault = Some(format!("not a number: {word}")),
                },
                None if word == "rotate" => self.rotate = true,
                _ => {} // options of other programs
            }
        }
        fault
    }

    fn set_order(&mut self, words: &[&str]) -> Option<String> {
        self.order = match words {
            ["bf"] | ["bind", "file"] => HostsOrder::DnsFirst,
            ["fb"] | ["file", "bind"] => HostsOrder::HostsFirst,
            ["b"] | ["bind"] => HostsOrder::DnsOnly,
            ["f"] | ["file"] => HostsOrder::HostsOnly,
            _ => return Some("lookup takes bf, fb, b or f".into()),
        };
        None
    }
}

/// An address with or without a port; a zone (`fe80::1%2`) must be a number.
pub(crate) fn server_address(text: &str) -> Option<SocketAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT));
    }
    if let Some((ip, zone)) = text.split_once('%') {
        let (ip, scope) = (ip.parse().ok()?, zone.parse().ok()?);
        return Some(std::net::SocketAddrV6::new(ip, PORT, 0, scope).into());
    }
    let bracketed = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).and_then(|ip| ip.parse::<IpAddr>().ok());
    text.parse().ok().or_else(|| bracketed.map(|ip| SocketAddr::new(ip, PORT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_with_and_without_ports() {
        for (text, server) in [
            ("192.0.2.1", Some("192.0.2.1:53")),
            ("127.0.0.1:5353", Some("127.0.0.1:5353")),
            ("::1", Some("[::1]:53")),
            ("[::1]", Some("[::1]:53")),
            ("[::1]:5353", Some("[::1]:5353")),
            ("fe80::1%2", Some("[fe80::1%2]:53")),
            ("localhost", None),
            ("1.2.3.4:99999", None),
            ("", None),
        ] {
            assert_eq!(server_address(text).map(|s| s.to_string()).as_deref(), server, "{text}");
        }
    }

    #[test]
    fn a_file_as_hosts_have_it() {
        let conf = ResolvConf::parse(
            "# comment\ndomain example.org\nsearch a b\nnameserver 192.0.2.1 ; first\n\tnameserver 127.0.0.1:5353\n\
             options timeout:3 attempts:9 rotate ndots:2 edns0\nlookup bf\nnameserver nonsense\nfoo\noptions timeout:x\n",
        );
        assert_eq!(
            conf.servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.0.2.1:53", "127.0.0.1:5353"]
        );
        assert_eq!((conf.timeout, conf.attempts, conf.rotate), (Some(Duration::from_secs(3)), Some(5), true));
        assert_eq!(conf.order, HostsOrder::DnsFirst);
        assert_eq!(conf.faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [8, 9, 10]);
        let many = ResolvConf::parse(&"nameserver 192.0.2.1\n".repeat(SERVERS_MAX + 2));
        assert_eq!((many.servers.len(), many.faults.len()), (SERVERS_MAX, 2));
    }

    #[test]
    fn without_a_server_it_is_this_hosts() {
        let missing = ResolvConf::load(Path::new("/nonexistent/resolv.conf"));
        assert_eq!(missing.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(missing.faults.len(), 1);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "search example.org\n").unwrap();
        assert_eq!(ResolvConf::load(file.path()).servers, ["127.0.0.1:53".parse().unwrap()]);
        assert!(ResolvConf::parse("").servers.is_empty());
    }
}
