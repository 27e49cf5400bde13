//! Sets of networks: `( 10.0.0.0/8 fd00::/8 192.0.2.7 )`.
//!
//! Adjacent and overlapping blocks are merged into sorted ranges once, so that asking costs a binary search whatever the
//! length of the list. IPv4 addresses written as IPv6 (`::ffff:1.2.3.4`) are treated as IPv4.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A set of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrSet {
    nets: Vec<IpNet>,
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl CidrSet {
    /// A set of these networks.
    pub fn new(nets: Vec<IpNet>) -> CidrSet {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in &nets {
            match net {
                IpNet::V4(net) => v4.push((u32::from(net.network()), u32::from(net.broadcast()))),
                IpNet::V6(net) => v6.push((u128::from(net.network()), u128::from(net.broadcast()))),
            }
        }
        CidrSet { nets, v4: merge(v4, |end| end.checked_add(1)), v6: merge(v6, |end| end.checked_add(1)) }
    }

    /// Whether the address lies in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => within(&self.v4, u32::from(address)),
            IpAddr::V6(address) => within(&self.v6, u128::from(address)),
        }
    }

    /// The smallest of the networks that holds the address.
    pub fn longest_match(&self, address: IpAddr) -> Option<IpNet> {
        let address = address.to_canonical();
        self.nets.iter().filter(|net| net.contains(&address)).max_by_key(|net| net.prefix_len()).copied()
    }

    /// The networks as configured.
    pub fn nets(&self) -> &[IpNet] {
        &self.nets
    }

    /// No network at all.
    pub fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }

    /// Whether every IPv4 or every IPv6 address is in the set.
    pub fn holds_everybody(&self) -> bool {
        self.v4.first() == Some(&(0, u32::MAX)) || self.v6.first() == Some(&(0, u128::MAX))
    }
}

/// Reads `ADDRESS` or `ADDRESS/BITS`. The second value tells whether bits below the mask had to be cleared.
pub(crate) fn parse(text: &str) -> Result<(IpNet, bool), String> {
    let forms = "an IPv4 or IPv6 address without brackets, or one with `/bits`";
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    if address.starts_with('[') {
        return Err(format!("`{text}` has brackets; allowed is {forms}"));
    }
    let address: IpAddr = address.parse().map_err(|_| format!("`{text}` is not a network; allowed is {forms}"))?;
    let widest = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => widest,
        Some(bits) => bits
            .parse::<u8>()
            .ok()
            .filter(|n| *n <= widest && !bits.starts_with('+'))
            .ok_or_else(|| format!("`/{bits}` is not a prefix length; 0 to {widest} are allowed here"))?,
    };
    let net = IpNet::new(address, bits).map_err(|e| e.to_string())?;
    let cut = net.trunc();
    let net = match cut {
        // `::ffff:10.0.0.0/104` is meant for IPv4 clients, which never appear in that form here.
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.network().to_ipv4_mapped().is_some() => {
            let v4 = v6.network().to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED);
            IpNet::new(IpAddr::V4(v4), v6.prefix_len() - 96).unwrap_or(cut)
        }
        other => other,
    };
    Ok((net, cut.addr() != address))
}

fn merge<N: Copy + Ord>(mut ranges: Vec<(N, N)>, next: impl Fn(N) -> Option<N>) -> Vec<(N, N)> {
    ranges.sort_unstable();
    let mut merged: Vec<(N, N)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if next(last.1).is_none_or(|after| start <= after) => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

fn within<N: Copy + Ord>(ranges: &[(N, N)], value: N) -> bool {
    let at = ranges.partition_point(|(start, _)| *start <= value);
    at > 0 && value <= ranges[at - 1].1
}

/// The address that stands for a client on a unix socket.
pub const UNIX_PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The IPv6 wildcard, for `[*]`.
pub(crate) const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

#[cfg(test)]
mod tests {
    use super::*;

    fn set(list: &[&str]) -> CidrSet {
        CidrSet::new(list.iter().map(|text| parse(text).unwrap().0).collect())
    }

    #[test]
    fn membership() {
        let set = set(&["10.0.0.0/8", "192.0.2.7", "fd00::/8", "10.128.0.0/9", "11.0.0.0/8"]);
        for (address, inside) in [
            ("10.0.0.0", true),
            ("11.255.255.255", true),
            ("12.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("::ffff:10.1.1.1", true),
        ] {
            assert_eq!(set.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert!(!CidrSet::default().contains("::".parse().unwrap()));
    }

    #[test]
    fn the_smallest_network_wins() {
        let set = set(&["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0"]);
        let longest = |a: &str| set.longest_match(a.parse().unwrap()).map(|n| n.to_string());
        assert_eq!(longest("10.1.2.3").as_deref(), Some("10.1.0.0/16"));
        assert_eq!(longest("10.2.2.3").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(longest("1.1.1.1").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(longest("::1"), None);
        assert!(set.holds_everybody());
    }

    #[test]
    fn halves_of_the_world_are_the_world() {
        assert!(set(&["0.0.0.0/1", "128.0.0.0/1"]).holds_everybody());
        assert!(!set(&["0.0.0.0/1", "128.0.0.0/2"]).holds_everybody());
        assert!(set(&["::/0"]).contains("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()));
    }

    #[test]
    fn spellings() {
        assert_eq!(parse("10.1.2.3/8").unwrap(), ("10.0.0.0/8".parse().unwrap(), true));
        assert_eq!(parse("::ffff:10.0.0.0/104").unwrap().0.to_string(), "10.0.0.0/8");
        for bad in ["10.0.0.0/33", "10.0.0", "[::1]", "::/129", "10.0.0.0/", "10.0.0.0/+8", "a.example", ""] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
