//! The names that options and logs use for protocols, cipher suites and curves: OpenSSL's.

use super::TlsError;
use rustls::crypto::{SupportedKxGroup, aws_lc_rs};
use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};

/// A suite that there is: OpenSSL's name, key size in bits, and the words of OpenSSL's cipher lists that stand for it.
struct Suite {
    suite: CipherSuite,
    name: &'static str,
    bits: u32,
    /// TLS 1.2 only: in a list, a word or several joined by `+` select every suite that has them all.
    words: &'static [&'static str],
}

const SUITES: [Suite; 9] = [
    Suite { suite: CipherSuite::TLS13_AES_256_GCM_SHA384, name: "TLS_AES_256_GCM_SHA384", bits: 256, words: &[] },
    Suite { suite: CipherSuite::TLS13_AES_128_GCM_SHA256, name: "TLS_AES_128_GCM_SHA256", bits: 128, words: &[] },
    Suite {
        suite: CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        name: "TLS_CHACHA20_POLY1305_SHA256",
        bits: 256,
        words: &[],
    },
    Suite {
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        bits: 256,
        words: &["ECDSA", "AECDSA", "AES", "AES256", "AESGCM", "SHA384"],
    },
    Suite {
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        bits: 128,
        words: &["ECDSA", "AECDSA", "AES", "AES128", "AESGCM", "SHA256"],
    },
    Suite {
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        name: "ECDHE-ECDSA-CHACHA20-POLY1305",
        bits: 256,
        words: &["ECDSA", "AECDSA", "CHACHA20"],
    },
    Suite {
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        bits: 256,
        words: &["ARSA", "AES", "AES256", "AESGCM", "SHA384"],
    },
    Suite {
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        bits: 128,
        words: &["ARSA", "AES", "AES128", "AESGCM", "SHA256"],
    },
    Suite {
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        name: "ECDHE-RSA-CHACHA20-POLY1305",
        bits: 256,
        words: &["ARSA", "CHACHA20"],
    },
];

/// Words that stand for every TLS 1.2 suite of ours.
const WORDS_OF_ALL: [&str; 10] =
    ["ALL", "DEFAULT", "HIGH", "SECURE", "ECDHE", "EECDH", "KECDHE", "KEECDH", "TLSV1.2", "FIPS"];

impl Suite {
    fn is_13(&self) -> bool {
        self.words.is_empty()
    }

    fn has(&self, token: &str) -> bool {
        self.name.eq_ignore_ascii_case(token)
            || token.split('+').all(|word| {
                let word = word.to_ascii_uppercase();
                WORDS_OF_ALL.contains(&&*word) || self.words.contains(&&*word)
            })
    }

    fn supported(&self) -> Option<SupportedCipherSuite> {
        aws_lc_rs::ALL_CIPHER_SUITES.iter().find(|known| known.suite() == self.suite).copied()
    }
}

/// The suites that an OpenSSL cipher list (TLS 1.2) and a list of TLS 1.3 suites select, in their order.
///
/// A word that selects nothing here adds a warning, unless it only excludes: then what it names is absent anyway.
pub fn cipher_suites(
    ciphers: &str,
    ciphersuites_13: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    let mut chosen: Vec<&Suite> = Vec::new();
    let ciphersuites_13 = if ciphersuites_13.is_empty() { None } else { Some(ciphersuites_13) };
    match ciphersuites_13 {
        None => chosen.extend(SUITES.iter().filter(|suite| suite.is_13())),
        Some(list) => {
            for name in tokens(list) {
                match SUITES.iter().find(|suite| suite.is_13() && suite.name.eq_ignore_ascii_case(name)) {
                    Some(suite) if !chosen.iter().any(|known| known.suite == suite.suite) => chosen.push(suite),
                    Some(_) => {}
                    None => warnings.push(format!("tlsv13_ciphersuites: '{name}' is not available")),
                }
            }
        }
    }
    let mut legacy: Vec<&Suite> = Vec::new();
    let mut banned: Vec<&str> = Vec::new();
    for token in tokens(if ciphers.is_empty() { "DEFAULT" } else { ciphers }) {
        if token.starts_with('@') {
            continue; // @STRENGTH, @SECLEVEL: no weak suite is there to be moved or refused
        }
        let (sign, word) = match token.split_at_checked(1) {
            Some((sign @ ("!" | "-" | "+"), word)) => (sign, word),
            _ => ("", token),
        };
        let named: Vec<_> = SUITES.iter().filter(|suite| !suite.is_13() && suite.has(word)).collect();
        let is_named = |suite: &Suite| named.iter().any(|other| other.suite == suite.suite);
        match sign {
            "!" => {
                banned.extend(named.iter().map(|suite| suite.name));
                legacy.retain(|suite| !is_named(suite));
            }
            "-" => legacy.retain(|suite| !is_named(suite)),
            "+" => {
                let (kept, moved): (Vec<_>, Vec<_>) = legacy.iter().partition(|suite| !is_named(suite));
                legacy = [kept, moved].concat();
            }
            _ if named.is_empty() => {
                warnings.push(format!("tls_ciphers: '{token}' selects no suite that is available"))
            }
            _ => {
                let new = named.iter().filter(|suite| {
                    !banned.contains(&suite.name) && !legacy.iter().any(|known| known.suite == suite.suite)
                });
                let new: Vec<_> = new.copied().collect();
                legacy.extend(new);
            }
        }
    }
    chosen.extend(legacy);
    let suites: Vec<_> = chosen.into_iter().filter_map(Suite::supported).collect();
    if suites.is_empty() { Err(TlsError::NoCipher) } else { Ok(suites) }
}

fn tokens(list: &str) -> impl Iterator<Item = &str> {
    list.split([':', ',', ' ', ';']).filter(|token| !token.is_empty())
}

/// `+ALL:-TLSv1.2`: what is left of TLS 1.2 and 1.3. Protocols older than these are accepted words without effect.
pub fn protocol_versions(text: &str) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    // A list that begins by taking away takes away from all.
    let all_at_first = text.is_empty() || text.trim_start().starts_with('-');
    let (mut tls12, mut tls13) = (all_at_first, all_at_first);
    for token in tokens(text) {
        let (on, name) = match token.split_at_checked(1) {
            Some(("-" | "!", name)) => (false, name),
            Some(("+", name)) => (true, name),
            _ => (true, token),
        };
        match &*name.to_ascii_uppercase() {
            "ALL" => (tls12, tls13) = (on, on),
            "TLSV1.2" => tls12 = on,
            "TLSV1.3" => tls13 = on,
            "SSLV2" | "SSLV3" | "TLSV1" | "TLSV1.0" | "TLSV1.1" => {}
            _ => return Err(TlsError::UnknownProtocol(name.to_owned())),
        }
    }
    let versions = [(tls13, &rustls::version::TLS13), (tls12, &rustls::version::TLS12)];
    let versions: Vec<_> = versions.into_iter().filter_map(|(on, version)| on.then_some(version)).collect();
    if versions.is_empty() { Err(TlsError::NoProtocol(text.to_owned())) } else { Ok(versions) }
}

/// A colon list of curves. One unknown name makes the whole value unusable.
pub fn curves(list: &str) -> Result<Vec<&'static dyn SupportedKxGroup>, TlsError> {
    tokens(list)
        .map(|name| match &*name.to_ascii_uppercase() {
            "X25519" => Ok(aws_lc_rs::kx_group::X25519),
            "P-256" | "PRIME256V1" | "SECP256R1" => Ok(aws_lc_rs::kx_group::SECP256R1),
            "P-384" | "SECP384R1" => Ok(aws_lc_rs::kx_group::SECP384R1),
            "X25519MLKEM768" => Ok(aws_lc_rs::kx_group::X25519MLKEM768),
            _ => Err(TlsError::UnknownCurve(name.to_owned())),
        })
        .collect()
}

pub(super) fn protocol_name(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::TLSv1_2 => "TLSv1.2".to_owned(),
        ProtocolVersion::TLSv1_3 => "TLSv1.3".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Name and key size in bits.
pub(super) fn cipher_name(suite: CipherSuite) -> (String, u32) {
    match SUITES.iter().find(|known| known.suite == suite) {
        Some(known) => (known.name.to_owned(), known.bits),
        None => (format!("{suite:?}"), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(ciphers: &str, suites_13: &str) -> (Vec<String>, usize) {
        let mut warnings = Vec::new();
        let suites = cipher_suites(ciphers, suites_13, &mut warnings).unwrap_or_default();
        (suites.iter().map(|suite| cipher_name(suite.suite()).0).collect(), warnings.len())
    }

    #[test]
    fn cipher_lists_select_in_their_order() {
        assert_eq!(chosen("", "").0.len(), 9);
        let (names, warnings) = chosen("EECDH+AESGCM:!ECDSA:@STRENGTH:!aNULL", "TLS_AES_128_GCM_SHA256");
        assert_eq!(names, ["TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"]);
        assert_eq!(warnings, 0);
        let (names, _) = chosen("ECDHE-RSA-CHACHA20-POLY1305:HIGH:!AES256:+CHACHA20", "TLS_AES_256_GCM_SHA384");
        assert_eq!(
            names,
            [
                "TLS_AES_256_GCM_SHA384",
                "ECDHE-ECDSA-AES128-GCM-SHA256",
                "ECDHE-RSA-AES128-GCM-SHA256",
                "ECDHE-RSA-CHACHA20-POLY1305",
                "ECDHE-ECDSA-CHACHA20-POLY1305",
            ]
        );
        // What was banned never comes back.
        assert!(!chosen("!AES:ALL", "").0.contains(&"ECDHE-RSA-AES128-GCM-SHA256".to_owned()));
    }

    #[test]
    fn what_is_not_available_is_named_in_a_warning() {
        assert_eq!(chosen("RC4-SHA:AES128-SHA:ALL:!MD5", "TLS_AES_128_CCM_SHA256:TLS_AES_256_GCM_SHA384").1, 3);
        let mut warnings = Vec::new();
        assert!(matches!(cipher_suites("RC4-SHA", "x", &mut warnings), Err(TlsError::NoCipher)));
    }

    #[test]
    fn protocol_lists() {
        let count = |text: &str| protocol_versions(text).map(|versions| versions.len());
        for (text, wanted) in [
            ("", 2),
            ("+ALL", 2),
            ("+ALL:-TLSv1.0:-TLSv1.1", 2),
            ("+all:-SSLv3:-TLSv1.2", 1),
            ("TLSv1.2", 1),
            ("-TLSv1.3", 1),
        ] {
            assert_eq!(count(text).unwrap(), wanted, "{text}");
        }
        assert!(matches!(protocol_versions("+TLSv1.0"), Err(TlsError::NoProtocol(_))));
        assert!(matches!(protocol_versions("+ALL:-TLSv9"), Err(TlsError::UnknownProtocol(name)) if name == "TLSv9"));
    }

    #[test]
    fn one_unknown_curve_rejects_the_list() {
        assert_eq!(curves("X25519:prime256v1:P-384").unwrap().len(), 3);
        assert!(matches!(curves("X25519:brainpoolP256r1"), Err(TlsError::UnknownCurve(_))));
    }
}
