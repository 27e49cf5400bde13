//! TLS of outbound sessions: the options of a scope as a rustls configuration, and the judgement of the peer's certificate.
//!
//! The handshake itself accepts every certificate whose key signs the handshake; the certificate is judged afterwards, by
//! the scope's mode, so that a log can say what was wrong and opportunistic TLS works with whatever a peer has.

use super::stage::text;
use crate::tls::{Origin, with_files};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::FromDer;

/// `tls_verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    No,
    /// A valid chain.
    Ca,
    /// A valid chain, and the name of the domain or of the host.
    Host,
    /// As `Host`, for the record only.
    Optional,
}

/// The options of a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsOptions {
    /// PEM bundle in place of the system's authorities.
    pub ca: Option<PathBuf>,
    /// The client's certificate chain; the key may be in the same file.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// `tls_protocols`; empty: all that there are.
    pub protocols: String,
    /// `tls_ciphers`, for TLS 1.2; empty: the default.
    pub ciphers: String,
    /// `tlsv13_ciphersuites`; empty: all.
    pub ciphersuites_13: String,
    /// `tls_ec_curve_names`; empty: the library's own.
    pub curves: String,
}

/// What is wrong with the options: the operator is to blame.
#[derive(Debug, thiserror::Error)]
pub enum TlsOptionError {
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error(transparent)]
    Words(#[from] crate::tls::TlsError),
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// Options made ready, shared by all connections of the scopes that have the same.
#[derive(Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    roots: Option<Arc<WebPkiServerVerifier>>,
    warnings: Vec<String>,
}

/// What is known of a session once it stands, for logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSession {
    pub protocol: String,
    pub cipher: String,
    pub cipher_bits: u32,
    pub verified: bool,
    pub issuer: String,
    pub subject: String,
}

impl ClientTls {
    /// Reads the files of the options (blocking), where they are not those that were read before.
    pub fn new(options: &TlsOptions) -> Result<ClientTls, TlsOptionError> {
        let key = options.certificate.as_ref().map(|path| options.key.as_ref().unwrap_or(path));
        let paths: Vec<&Path> =
            options.certificate.iter().chain(key).chain(&options.ca).map(PathBuf::as_path).collect();
        let make = |files: &[Arc<[u8]>]| ClientTls::from_files(options, files);
        let (mut made, origin) = with_files(&paths, make, |path, error| unreadable(path, &error))?;
        if let Origin::Useless(reason) = origin {
            made.warnings.push(format!("{reason}; the TLS files that were read before stay in use"));
        }
        Ok(made)
    }

    /// `files`: certificate and key where there is one, the authorities where they are named.
    fn from_files(options: &TlsOptions, files: &[Arc<[u8]>]) -> Result<ClientTls, TlsOptionError> {
        let (identity, authorities) = files.split_at(if options.certificate.is_some() { 2 } else { 0 });
        let (provider, warnings) = crate::tls::provider(&options.ciphers, &options.ciphersuites_13, &options.curves)?;
        let provider = Arc::new(provider);
        let versions = crate::tls::protocol_versions(&options.protocols)?;
        let roots = match (&options.ca, authorities) {
            (Some(path), [pem, ..]) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path, pem)? {
                    roots.add(certificate)?;
                }
                Arc::new(roots)
            }
            _ => system_roots().clone(),
        };
        // Without any authority nothing can be verified; a mode that wants it then fails at the peer's certificate.
        let roots = match roots.is_empty() {
            true => None,
            false => WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build().ok(),
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)));
        let config = match (&options.certificate, identity) {
            (Some(path), [chain, key]) => {
                let key_path = options.key.as_ref().unwrap_or(path);
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unreadable(key_path, &error))?;
                builder.with_client_auth_cert(certificates(path, chain)?, key)?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(ClientTls { config: Arc::new(config), roots, warnings })
    }

    /// What in the options has no counterpart here: one sentence each, for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The handshake, and then the judgement: `domain` is the routing domain, `host` the name that was connected to. The
    /// error is the reply text of the failed attempt.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        verify: Verify,
        domain: &str,
        host: &str,
    ) -> Result<(TlsStream<TcpStream>, TlsSession), &'static str> {
        let name = server_name(host).or_else(|| server_name(domain)).ok_or(text::TLS_FAILED)?;
        let connector = TlsConnector::from(self.config.clone());
        let stream = connector.connect(name, stream).await.map_err(|_| text::TLS_FAILED)?;
        let session = stream.get_ref().1;
        let chain = session.peer_certificates().unwrap_or(&[]);
        let judgement = self.judge(chain, [domain, host]);
        match (verify, judgement) {
            (Verify::Ca | Verify::Host, Judgement::Untrusted) => return Err(text::CERT_CA),
            (Verify::Host, Judgement::OtherName) => return Err(text::CERT_NAME),
            _ => {}
        }
        let suite = session.negotiated_cipher_suite().map(|suite| suite.suite());
        let cipher = suite.and_then(|suite| suite.as_str()).unwrap_or("").replace("TLS13_", "TLS_");
        let (issuer, subject) = chain.first().map(names_of).unwrap_or_default();
        let facts = TlsSession {
            protocol: match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".into(),
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".into(),
                _ => String::new(),
            },
            cipher_bits: if cipher.contains("AES_128") { 128 } else { 256 },
            cipher,
            verified: judgement == Judgement::Good,
            issuer,
            subject,
        };
        Ok((stream, facts))
    }

    fn judge(&self, chain: &[CertificateDer<'_>], names: [&str; 2]) -> Judgement {
        let (Some(roots), Some((leaf, others))) = (&self.roots, chain.split_first()) else {
            return Judgement::Untrusted;
        };
        let mut judgement = Judgement::Untrusted;
        for name in names.into_iter().filter_map(server_name) {
            match roots.verify_server_cert(leaf, others, &name, &[], UnixTime::now()) {
                Ok(_) => return Judgement::Good,
                // The chain is looked at before the name: a wrong name means that the chain was right.
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => judgement = Judgement::OtherName,
                Err(_) => {}
            }
        }
        judgement
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Good,
    OtherName,
    Untrusted,
}

/// A host as the name that TLS knows: `[1.2.3.4]` and addresses too.
fn server_name(host: &str) -> Option<ServerName<'static>> {
    let bare = host.trim_matches(['[', ']']).trim_end_matches('.');
    ServerName::try_from(bare.to_owned()).ok()
}

fn system_roots() -> &'static Arc<RootCertStore> {
    static ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    &ROOTS
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsOptionError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| unreadable(path, &error))?;
    if found.is_empty() {
        return Err(TlsOptionError::File { path: path.into(), reason: "holds no certificate".into() });
    }
    Ok(found)
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> TlsOptionError {
    TlsOptionError::File { path: path.into(), reason: error.to_string() }
}

fn names_of(certificate: &CertificateDer<'_>) -> (String, String) {
    match x509_parser::certificate::X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => (parsed.issuer().to_string(), parsed.subject().to_string()),
        Err(_) => (String::new(), String::new()),
    }
}

/// Accepts every certificate, but checks that the peer holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
