//! The TLS of our listeners: certificates and keys, read once for each listen address and each way it is configured.
//!
//! A session ticket is good only for the listener that gave it, since each has a `ServerConfig` of its own. A certificate
//! that cannot be used is reported once, and the listener then offers no TLS: it never takes mail with the wrong one.

use crate::scope::Place;
use parking_lot::Mutex;
use ph_config::{Config, ListenerKind, Scope, options as opt};
use ph_smtp::tls::ServerTls;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// What a scope says about its certificate; `None` where it names none.
fn wanted(scope: &Scope<'_>) -> Option<ServerTls> {
    let certificate = scope.get(&opt::TLS_CERTIFICATE).filter(|path| &**path != "none")?;
    Some(ServerTls {
        certificate: PathBuf::from(&*certificate),
        key: scope.get(&opt::TLS_KEY).filter(|path| &**path != "none").map(|path| PathBuf::from(&*path)),
        client_ca: scope.get(&opt::TLS_CLIENT_CA).filter(|path| &**path != "none").map(|p| PathBuf::from(&*p)),
        require_client_certificate: &*scope.get(&opt::TLS_VERIFY_MODE) == "require",
        protocols: scope.get(&opt::TLS_PROTOCOLS).to_string(),
        ciphers: scope.get(&opt::TLS_CIPHERS).to_string(),
        ciphersuites_13: scope.get(&opt::TLSV13_CIPHERSUITES).map(|list| list.to_string()).unwrap_or_default(),
        curves: scope.get(&opt::TLS_EC_CURVE_NAMES).map(|list| list.to_string()).unwrap_or_default(),
    })
}

/// What is wrong with the TLS of a configuration's listeners: certificates that cannot be used, words of `tls_ciphers` that have
/// no counterpart. For its check; files are read with the rights of the caller, who may be another than the server's user.
pub fn check_tls(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    for (at, listener) in config.listeners().iter().enumerate().filter(|(_, one)| one.kind == ListenerKind::Esmtp) {
        for (nth, listen) in listener.listens.iter().enumerate().filter(|(_, listen)| listen.enabled) {
            match wanted(&config.listen_scope(at, nth)).map(|tls| tls.build()) {
                Some(Err(error)) => problems.push(format!("listen \"{}\": TLS is not offered: {error}", listen.name)),
                Some(Ok(built)) => {
                    problems.extend(built.warnings.iter().map(|text| format!("listen \"{}\": {text}", listen.name)));
                }
                None => {}
            }
        }
    }
    problems
}

/// What was made for one place: from which options and files, and what came of it.
struct Made {
    from: ServerTls,
    /// When the certificate file was changed last: a renewed one is taken up at the next configuration.
    stamp: Option<SystemTime>,
    generation: u64,
    config: Option<Arc<rustls::ServerConfig>>,
}

#[derive(Default)]
pub(crate) struct TlsContexts {
    made: Mutex<HashMap<Place, Vec<Made>>>,
    messages: Mutex<Vec<String>>,
}

/// Ways in which one listen address may be configured for different peers.
const VARIANTS_MAX: usize = 64;

impl TlsContexts {
    /// The TLS of a scope, or `None` where it has no usable certificate.
    pub fn server_config(&self, scope: &Scope<'_>, place: Place, generation: u64) -> Option<Arc<rustls::ServerConfig>> {
        let from = wanted(scope)?;
        let stamp = std::fs::metadata(&from.certificate).and_then(|meta| meta.modified()).ok();
        let mut made = self.made.lock();
        let variants = made.entry(place).or_default();
        if let Some(known) = variants.iter_mut().find(|known| known.from == from && known.stamp == stamp) {
            known.generation = generation;
            return known.config.clone();
        }
        let config = match from.build() {
            Ok(built) => {
                self.messages.lock().extend(built.warnings);
                Some(built.config)
            }
            Err(error) => {
                self.messages.lock().push(format!("TLS is not offered: {error}"));
                None
            }
        };
        variants.retain(|known| known.generation + 1 >= generation);
        variants.truncate(VARIANTS_MAX - 1);
        variants.push(Made { from, stamp, generation, config: config.clone() });
        config
    }

    /// What went wrong or was left out since the last call.
    pub fn take_messages(&self) -> Vec<String> {
        std::mem::take(&mut self.messages.lock())
    }
}
