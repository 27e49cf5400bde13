//! The hosts file: names with fixed addresses, and `localhost` whatever the file says (RFC 6761 section 6.3).

use crate::record::ascii_name;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Names of a hosts file with their addresses, in the file's order.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    names: HashMap<String, Vec<IpAddr>>,
}

impl Hosts {
    /// A missing or unreadable file is an empty one: the servers know the names then.
    pub fn load(path: &Path) -> Hosts {
        std::fs::read(path).map(|bytes| Hosts::parse(&String::from_utf8_lossy(&bytes))).unwrap_or_default()
    }

    pub fn parse(text: &str) -> Hosts {
        let mut names: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or("").split_ascii_whitespace();
            let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
            for name in words.filter_map(|word| ascii_name(word).ok()) {
                let addresses = names.entry(name.into_owned()).or_default();
                if !addresses.contains(&ip) {
                    addresses.push(ip);
                }
            }
        }
        Hosts { names }
    }

    /// The addresses of a name in its cached form; IPv6 ones only if wanted. `None`: the file does not know the name.
    pub fn addresses(&self, name: &str, want_v6: bool) -> Option<Vec<IpAddr>> {
        let wanted = |ip: &IpAddr| want_v6 || ip.is_ipv4();
        let known = self.names.get(name).map(|all| all.iter().copied().filter(wanted).collect::<Vec<_>>());
        let known = known.filter(|addresses| !addresses.is_empty());
        known.or_else(|| {
            let is_loopback = name == "localhost" || name.ends_with(".localhost");
            let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            is_loopback.then(|| both.into_iter().filter(wanted).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_file() {
        let hosts = Hosts::parse(
            "127.0.0.1 localhost\n192.0.2.7\tMail.Example.org mail # x\n2001:db8::7 mail\nbad line\n::1 six\n",
        );
        let addresses = |name, v6| {
            hosts.addresses(name, v6).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(addresses("mail.example.org", true).as_deref(), Some("192.0.2.7"));
        assert_eq!(addresses("mail", false).as_deref(), Some("192.0.2.7"));
        assert_eq!(addresses("mail", true).as_deref(), Some("192.0.2.7 2001:db8::7"));
        assert_eq!(addresses("six", false), None);
        assert_eq!(addresses("x", true), None);
        assert_eq!(addresses("localhost", true).as_deref(), Some("127.0.0.1"));
    }

    #[test]
    fn localhost_is_this_host_without_a_file() {
        let hosts = Hosts::load(Path::new("/nonexistent/hosts"));
        assert_eq!(hosts.addresses("localhost", false).unwrap(), [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        assert_eq!(hosts.addresses("mx.localhost", true).unwrap().len(), 2);
        assert_eq!(hosts.addresses("notlocalhost", true), None);
    }
}
