//! Client certificates: asked for, verified, and the result recorded; refused only where the options say `require`.
//!
//! rustls has one verifier for all connections of a configuration and no way to ask it afterwards, so the result of each
//! handshake travels in a task-local value: `watching_verification` sets it up around the handshake.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

tokio::task_local! {
    static VERIFIED: Arc<AtomicBool>;
}

/// Runs a handshake; its output, and whether the client's certificate was verified in it.
pub(crate) async fn watching_verification<T>(handshake: impl Future<Output = T>) -> (T, bool) {
    let verified = Arc::new(AtomicBool::new(false));
    let output = VERIFIED.scope(verified.clone(), handshake).await;
    (output, verified.load(Ordering::Relaxed))
}

/// A verifier that trusts `roots`; with `require`, the handshake fails without a certificate that verifies.
pub(super) fn client_verifier(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
    require: bool,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if require { builder } else { builder.allow_unauthenticated() };
    let strict = builder.build().map_err(|error| error.to_string())?;
    Ok(Arc::new(Recording { strict, require }))
}

#[derive(Debug)]
struct Recording {
    strict: Arc<dyn ClientCertVerifier>,
    require: bool,
}

impl ClientCertVerifier for Recording {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.require
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.strict.verify_client_cert(end_entity, intermediates, now) {
            Ok(verified) => {
                // Outside of a session's handshake nobody watches.
                let _ = VERIFIED.try_with(|flag| flag.store(true, Ordering::Relaxed));
                Ok(verified)
            }
            Err(error) if self.require => Err(error),
            // The session goes on as one whose client is unverified: policy decides.
            Err(_) => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}
