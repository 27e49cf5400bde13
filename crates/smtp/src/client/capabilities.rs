//! What a peer announced in its reply to EHLO (RFC 5321 section 4.1.1.1).

/// The extensions that the client can use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub pipelining: bool,
    /// `SIZE`; the limit where one is given that is not 0.
    pub size: bool,
    pub size_max: Option<u64>,
    pub eight_bit_mime: bool,
    pub smtputf8: bool,
    pub dsn: bool,
    pub starttls: bool,
    /// `AUTH` mechanisms, upper case; the old form `AUTH=…` counts.
    pub auth: Vec<String>,
    /// `XCLIENT` attributes, upper case; `Some` of nothing when it was announced bare.
    pub xclient: Option<Vec<String>>,
}

impl Capabilities {
    /// From the lines of the reply without codes; the first names the host.
    pub fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Capabilities {
        let mut found = Capabilities::default();
        for line in lines.skip(1) {
            let line = String::from_utf8_lossy(line).to_ascii_uppercase();
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else { continue };
            match keyword {
                "PIPELINING" => found.pipelining = true,
                "SIZE" => {
                    found.size = true;
                    found.size_max = words.next().and_then(|size| size.parse().ok()).filter(|&size| size > 0);
                }
                "8BITMIME" => found.eight_bit_mime = true,
                "SMTPUTF8" => found.smtputf8 = true,
                "DSN" => found.dsn = true,
                "STARTTLS" => found.starttls = true,
                "XCLIENT" => found.xclient = Some(words.map(str::to_owned).collect()),
                "AUTH" => found.auth.extend(words.map(str::to_owned)),
                _ => {
                    if let Some(first) = keyword.strip_prefix("AUTH=") {
                        found.auth.extend(
                            Some(first).filter(|name| !name.is_empty()).into_iter().chain(words).map(str::to_owned),
                        );
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_read_in_any_case_and_strangers_ignored() {
        let lines: [&[u8]; 9] = [
            b"SIZE 5 is the name of this host",
            b"pipelining",
            b"SIZE 1000",
            b"8bitmime",
            b"AUTH=PLAIN LOGIN",
            b"AUTH CRAM-MD5",
            b"XCLIENT NAME addr",
            b"DSN",
            b"X-WHATEVER 1 2",
        ];
        let found = Capabilities::parse(lines.into_iter());
        assert!(found.pipelining && found.eight_bit_mime && found.dsn && !found.starttls && !found.smtputf8);
        assert_eq!(found.size_max, Some(1000));
        assert_eq!(found.auth, ["PLAIN", "LOGIN", "CRAM-MD5"]);
        assert_eq!(found.xclient, Some(vec!["NAME".into(), "ADDR".into()]));
        assert_eq!(Capabilities::parse([&b"h"[..], b"SIZE 0"].into_iter()).size_max, None);
    }
}
