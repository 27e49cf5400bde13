//! Options of TLS, in both directions.

use super::*;
use crate::scopes::*;
use crate::value::Value;
use std::sync::Arc;

const LPEW: Scopes = L.or(P).or(E).or(W);
const ALL: Scopes = S4.or(LPEW);

options! {
    /// Whether deliveries use STARTTLS: never, where it is offered, or always.
    TLS: Arc<str> = word("TLS", "no", &["no", "ifavailable", "required"], S4);
    /// With `TLS = ifavailable`, when the handshake fails: `true` tries again in clear at once, `false` later with TLS.
    TLS_IFAVAILABLE_FALLBACK: bool = boolean("TLS_IfAvailable_Fallback", "true", S4);
    /// What is asked of the certificate of the next hop: nothing; a chain to a known authority; that and the right name;
    /// or as `host`, but only for the record.
    TLS_VERIFY: Arc<str> = word("TLS_Verify", "no", &["no", "ca", "host", "optional"], S4);
    /// Authorities to verify the next hop with, as PEM.
    TLS_CA: Option<Arc<str>> = or_none("TLS_CA", S4);
    /// Certificate chain as PEM: of the server in a listener, of the client in the sending scopes.
    TLS_CERTIFICATE: Option<Arc<str>> = or_none("TLS_Certificate", ALL);
    /// Private key as PEM. The default is the file of the certificate.
    TLS_KEY: Option<Arc<str>> = or_none("TLS_Key", ALL);
    /// Authorities of client certificates, as PEM.
    TLS_CLIENT_CA: Option<Arc<str>> = or_none("TLS_Client_CA", G.or(LPEW));
    /// Client certificates: not asked for, required, or (unset) asked for, verified and recorded.
    TLS_VERIFY_MODE: Arc<str> = word("TLS_Verify_Mode", "unset", &["none", "require", "unset"], LPEW);
    /// Ciphers up to TLS 1.2 in the notation of OpenSSL.
    TLS_CIPHERS: Arc<str> = text("TLS_Ciphers", "DEFAULT", ALL);
    /// Cipher suites of TLS 1.3, separated by colons.
    TLSV13_CIPHERSUITES: Option<Arc<str>> = optional("TLSv13_Ciphersuites", S4.or(L).or(P).or(W));
    /// Protocol versions, such as `+ALL:-TLSv1.2`. SSL and TLS below 1.2 are accepted words and never spoken.
    TLS_PROTOCOLS: Arc<str> = text("TLS_Protocols", "+ALL", S4.or(L).or(P).or(E).or(W)).check(protocols);
    /// Curves for the key exchange, separated by colons.
    TLS_EC_CURVE_NAMES: Option<Arc<str>> = optional("TLS_EC_Curve_Names", G);
    /// Parameters for finite-field key exchange, which is not spoken here.
    TLS_DHPARAMS_FILE: Option<Arc<str>> = optional("TLS_DHParams_File", G).accepted();
    /// Finite-field key exchange, which is not spoken here.
    TLS_ENABLE_DHE_CIPHERS: bool = boolean("TLS_Enable_DHE_Ciphers", "true", G).accepted();
    /// Renegotiation, which is never done here.
    TLS_ALLOW_RENEGOTIATION: bool = boolean("TLS_Allow_Renegotiation", "true", LPEW).accepted();
    /// A client whose certificate was verified may relay.
    TLS_VERIFIED_PEER_CAN_RELAY: bool = boolean("TLS_Verified_Peer_Can_Relay", "false", L.or(P).or(E));
    /// What happens to bytes that a client sent in clear after STARTTLS: the connection is dropped, or they are. `allow`
    /// would be the injection itself and acts as `ignore`.
    STARTTLS_INJECTION_POLICY: Arc<str> = word("STARTTLS_Injection_Policy", "reject", &["allow", "ignore", "reject"], L.or(P));
    /// TLS from the first byte; then STARTTLS is not offered.
    USE_SSL: bool = boolean("Use_SSL", "false", LPEW);
    /// OpenSSL engine; there is none here.
    TLS_ENGINE: Option<Arc<str>> = optional("TLS_Engine", G).accepted();
    /// OpenSSL engine; there is none here.
    CRYPTO_ENGINE: Option<Arc<str>> = optional("Crypto_Engine", G).accepted();
    /// Locking of the TLS library; nothing to choose here.
    CRYPTO_LOCK_METHOD: Option<Arc<str>> = optional("Crypto_Lock_Method", G).accepted();
    /// Locking of the TLS library; nothing to choose here.
    SSL_LOCK_METHOD: Option<Arc<str>> = optional("SSL_Lock_Method", G).accepted();
    /// Which TLS library to use; there is one.
    TLS_LIBRARY: Option<Arc<str>> = optional("TLS_Library", G).accepted();
}

fn protocols(value: &Value) -> Result<(), String> {
    const WORDS: &[&str] = &["all", "sslv2", "sslv3", "tlsv1", "tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3", "none"];
    let Value::Text(text) = value else { return Ok(()) };
    for token in text.split([':', ',', ' ']).filter(|t| !t.is_empty()) {
        let name = token.trim_start_matches(['+', '-', '!']);
        if !WORDS.iter().any(|word| word.eq_ignore_ascii_case(name)) {
            return Err(format!("`{name}` is no protocol; known are ALL, SSLv2, SSLv3, TLSv1, TLSv1.0 to TLSv1.3"));
        }
    }
    Ok(())
}
