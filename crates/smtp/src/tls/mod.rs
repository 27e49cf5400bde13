//! TLS for listeners: from the options' words to a `rustls::ServerConfig`, and what is known of a session once it stands.
//!
//! The provider is always passed explicitly (aws-lc-rs), so that no other in the process can be meant. Each configuration has
//! its own ticket keys: a ticket of one listener is worth nothing at another. TLS 1.0 and 1.1, renegotiation, and suites
//! without forward secrecy do not exist here; options that ask for them are accepted with a warning.

mod files;
mod names;
mod verify;

use crate::server::TlsFacts;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoClientAuth, NoServerSessionStorage, ServerConnection};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

pub(crate) use files::with_files;
pub use files::{Origin, are_unchanged, keep_files};
pub use names::{cipher_suites, curves, protocol_versions};
pub(crate) use verify::watching_verification;

/// What the options of a listener say about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTls {
    /// `tls_certificate`: PEM, the server's certificate first, then its chain.
    pub certificate: PathBuf,
    /// `tls_key`; `None`: the key is in the certificate's file.
    pub key: Option<PathBuf>,
    /// `tls_client_ca`: whose client certificates are asked for and verified.
    pub client_ca: Option<PathBuf>,
    /// `tls_verify_mode = require`: the handshake fails without a valid client certificate. Otherwise the result is recorded.
    pub require_client_certificate: bool,
    /// `tls_protocols`, such as `+ALL:-TLSv1.2`. Empty: all that there are.
    pub protocols: String,
    /// `tls_ciphers`: an OpenSSL list, for TLS 1.2. Empty: `DEFAULT`.
    pub ciphers: String,
    /// `tlsv13_ciphersuites`: a colon list. Empty: all three.
    pub ciphersuites_13: String,
    /// `tls_ec_curve_names`: a colon list. Empty: the library's own.
    pub curves: String,
}

/// Why there is no TLS for a listener. The operator's matter, all of them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {what} from {}: {reason}", path.display())]
    Pem { what: &'static str, path: PathBuf, reason: String },
    #[error("no certificate in {}", .0.display())]
    Empty(PathBuf),
    #[error("unknown protocol '{0}' in tls_protocols")]
    UnknownProtocol(String),
    #[error("'{0}' leaves no usable protocol: TLSv1.2 and TLSv1.3 are what there is")]
    NoProtocol(String),
    #[error("no cipher suite is left")]
    NoCipher,
    #[error("unknown curve '{0}'")]
    UnknownCurve(String),
    #[error("tls_verify_mode = require needs tls_client_ca")]
    VerifyWithoutCa,
    #[error("certificate and key in {}: {source}", path.display())]
    Unusable { path: PathBuf, source: rustls::Error },
    #[error("client CA in {}: {reason}", path.display())]
    ClientCa { path: PathBuf, reason: String },
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// A configuration that was made, and what in the options has no counterpart here: one sentence each, for the log.
#[derive(Clone, Debug)]
pub struct Made {
    pub config: Arc<ServerConfig>,
    pub warnings: Vec<String>,
    pub origin: Origin,
}

impl ServerTls {
    /// The files: certificate, key, and the client's authorities where they are verified.
    pub fn files(&self) -> Vec<&Path> {
        let key = self.key.as_ref().unwrap_or(&self.certificate);
        [&self.certificate, key].into_iter().chain(&self.client_ca).map(PathBuf::as_path).collect()
    }

    /// Reads the files, where they are not those that were read before, and makes the configuration. Call it once per
    /// listener: tickets are bound to the result.
    pub fn build(&self) -> Result<Made, TlsError> {
        let what = |path: &Path| match path {
            path if path == self.certificate => "certificates",
            path if self.key.as_deref() == Some(path) => "a private key",
            _ => "certificates",
        };
        let unreadable = |path: &Path, error: io::Error| pem_error(what(path), path, &error);
        let (made, origin) = with_files(&self.files(), |files| self.build_from(files), unreadable)?;
        Ok(Made { origin, ..made })
    }

    /// From what is in the files, in the order of `files`.
    fn build_from(&self, files: &[Arc<[u8]>]) -> Result<Made, TlsError> {
        let (provider, warnings) = provider(&self.ciphers, &self.ciphersuites_13, &self.curves)?;
        let provider = Arc::new(provider);
        let versions = protocol_versions(&self.protocols)?;
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions)?;
        let builder = match &self.client_ca {
            Some(path) => {
                let verifier =
                    verify::client_verifier(roots(path, &files[2])?, provider, self.require_client_certificate)
                        .map_err(|reason| TlsError::ClientCa { path: path.clone(), reason })?;
                builder.with_client_cert_verifier(verifier)
            }
            None if self.require_client_certificate => return Err(TlsError::VerifyWithoutCa),
            None => builder.with_client_cert_verifier(Arc::new(NoClientAuth)),
        };
        let chain = certificates(&self.certificate, &files[0])?;
        let key_path = self.key.as_ref().unwrap_or(&self.certificate);
        let key =
            PrivateKeyDer::from_pem_slice(&files[1]).map_err(|error| pem_error("a private key", key_path, &error))?;
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|source| TlsError::Unusable { path: self.certificate.clone(), source })?;
        if self.client_ca.is_some() {
            // A resumed session would not show its certificate again, and "verified" must never be a memory.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = aws_lc_rs::Ticketer::new()?;
        }
        Ok(Made { config: Arc::new(config), warnings, origin: Origin::Read })
    }
}

/// The aws-lc-rs provider, narrowed to what the options name. Serves the client side too.
pub fn provider(
    ciphers: &str,
    ciphersuites_13: &str,
    curve_names: &str,
) -> Result<(CryptoProvider, Vec<String>), TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    let mut warnings = Vec::new();
    provider.cipher_suites = cipher_suites(ciphers, ciphersuites_13, &mut warnings)?;
    if !curve_names.is_empty() {
        provider.kx_groups = curves(curve_names)?;
    }
    Ok((provider, warnings))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| pem_error("certificates", path, &error))?;
    if chain.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(chain) }
}

fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::ClientCa { path: path.to_owned(), reason: error.to_string() })?;
    }
    Ok(roots)
}

fn pem_error(what: &'static str, path: &Path, error: &dyn std::fmt::Display) -> TlsError {
    TlsError::Pem { what, path: path.to_owned(), reason: error.to_string() }
}

/// What a session that stands is like. `verified`: the client's certificate was.
pub(crate) fn facts(connection: &ServerConnection, verified: bool) -> TlsFacts {
    let mut facts = TlsFacts { client_verified: verified, ..TlsFacts::default() };
    if let Some(version) = connection.protocol_version() {
        facts.protocol = names::protocol_name(version);
    }
    if let Some(suite) = connection.negotiated_cipher_suite() {
        (facts.cipher, facts.cipher_bits) = names::cipher_name(suite.suite());
    }
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    if let Some((_, certificate)) = certificate.and_then(|der| X509Certificate::from_der(der).ok()) {
        facts.client_subject = Some(certificate.subject().to_string());
        facts.client_subject_cn = common_name(certificate.subject());
        facts.client_issuer = Some(certificate.issuer().to_string());
        facts.client_issuer_cn = common_name(certificate.issuer());
    }
    facts
}

fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned)
}

#[cfg(test)]
pub(crate) mod tests;
