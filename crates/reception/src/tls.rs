//! The TLS of our listeners: made once for each listen address and each way it is configured.
//!
//! Certificates and keys are looked at again with each new configuration; where the new ones are of no use, the old ones
//! stay (`ph_smtp::tls::Origin`).
//!
//! A session ticket is good only for the listener that gave it, since each has a `ServerConfig` of its own. A certificate
//! that cannot be used is reported once, and the listener then offers no TLS: it never takes mail with the wrong one.

use crate::scope::Place;
use crate::services::Reception;
use parking_lot::Mutex;
use ph_config::{Config, ListenerKind, Scope, options as opt};
use ph_smtp::tls::{Origin, ServerTls, are_unchanged};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a scope says about its certificate; `None` where it names none.
pub(crate) fn wanted(scope: &Scope<'_>) -> Option<ServerTls> {
    let certificate = scope.get(&opt::TLS_CERTIFICATE).filter(|path| &**path != "none")?;
    Some(ServerTls {
        certificate: PathBuf::from(&*certificate),
        key: scope.get(&opt::TLS_KEY).filter(|path| &**path != "none").map(|path| PathBuf::from(&*path)),
        client_ca: scope
            .get(&opt::TLS_CLIENT_CA)
            .filter(|path| &**path != "none" && &*scope.get(&opt::TLS_VERIFY_MODE) != "none")
            .map(|path| PathBuf::from(&*path)),
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

impl Reception {
    /// Makes the TLS of all listeners of the present generation ready, and says what is wrong with it.
    pub fn prepare_tls(&self) -> Vec<TlsMessage> {
        self.scopes.prepare_tls(&self.generation.load().config);
        self.take_tls_messages()
    }

    /// What went wrong with certificates and keys since the last call.
    pub fn take_tls_messages(&self) -> Vec<TlsMessage> {
        self.scopes.tls().take_messages()
    }

    /// The TLS that is in use.
    pub fn tls_contexts(&self) -> Vec<TlsContext> {
        self.scopes.tls().list()
    }

    /// Makes the TLS of new sessions anew: files are looked at, tickets of before are worth nothing.
    pub fn renew_tls(&self) -> Vec<TlsMessage> {
        self.scopes.clear_tls();
        self.prepare_tls()
    }
}

/// What was made for one place: from which options, and what came of it.
struct Made {
    from: ServerTls,
    generation: u64,
    made_at: Instant,
    config: Option<Arc<rustls::ServerConfig>>,
}

/// One line of `tls show cache`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsContext {
    pub certificate: PathBuf,
    pub client_ca: Option<PathBuf>,
    /// `tls_ciphers`; empty: the default.
    pub ciphers: String,
    /// Since it was made.
    pub age: Duration,
    /// Its certificate can be used.
    pub works: bool,
}

/// Something about certificates and keys that the operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsMessage {
    /// TLS is not what the configuration says.
    pub is_error: bool,
    pub text: String,
}

#[derive(Default)]
pub(crate) struct TlsContexts {
    made: Mutex<HashMap<Place, Vec<Made>>>,
    messages: Mutex<Vec<TlsMessage>>,
}

/// Ways in which one listen address may be configured for different peers.
const VARIANTS_MAX: usize = 64;
/// Messages that wait for `take_messages`.
const MESSAGES_MAX: usize = 256;

impl TlsContexts {
    /// The TLS of a scope, or `None` where it has no usable certificate. Files are looked at once in a generation; where
    /// they are the same, the tickets of the last one stay good.
    pub fn server_config(&self, scope: &Scope<'_>, place: Place, generation: u64) -> Option<Arc<rustls::ServerConfig>> {
        self.made_of(wanted(scope)?, place, generation)
    }

    /// The same for options that a policy may have changed.
    pub fn made_of(&self, from: ServerTls, place: Place, generation: u64) -> Option<Arc<rustls::ServerConfig>> {
        let mut made = self.made.lock();
        let variants = made.entry(place).or_default();
        let known = variants.iter_mut().find(|known| known.from == from);
        if let Some(known) = &known
            && (known.generation == generation || (known.config.is_some() && are_unchanged(&from.files())))
        {
            let config = known.config.clone();
            known_in(variants, &from, generation);
            return config;
        }
        let before = known.and_then(|known| known.config.clone());
        let config = match from.build() {
            Ok(built) => match (built.origin, before) {
                (Origin::Useless(reason), before) => {
                    self.say(true, format!("TLS of {}: {reason}; {STAYS}", from.certificate.display()));
                    before.or(Some(built.config))
                }
                // At the first look that is as it should be: they were read before the rights to do so were given up.
                (Origin::Unseen(reason), Some(before)) => {
                    self.say(true, format!("TLS of {}: {reason}; {STAYS}", from.certificate.display()));
                    Some(before)
                }
                _ => {
                    built.warnings.into_iter().for_each(|text| self.say(false, text));
                    Some(built.config)
                }
            },
            Err(error) => {
                self.say(true, format!("TLS is not offered: {error}"));
                None
            }
        };
        variants.retain(|known| known.generation + 1 >= generation && known.from != from);
        variants.truncate(VARIANTS_MAX - 1);
        variants.push(Made { from, generation, made_at: Instant::now(), config: config.clone() });
        config
    }

    /// What went wrong or was left out since the last call.
    pub fn take_messages(&self) -> Vec<TlsMessage> {
        std::mem::take(&mut self.messages.lock())
    }

    /// What is in use.
    pub fn list(&self) -> Vec<TlsContext> {
        let made = self.made.lock();
        let mut all: Vec<(Place, TlsContext)> =
            made.iter().flat_map(|(place, variants)| variants.iter().map(|made| (*place, context(made)))).collect();
        all.sort_by_key(|(place, context)| (place.listener, place.listen, std::cmp::Reverse(context.age)));
        all.into_iter().map(|(_, context)| context).collect()
    }

    /// Forgets what was made: the next session makes it anew, with other keys for its tickets.
    pub fn clear(&self) {
        self.made.lock().clear();
    }

    fn say(&self, is_error: bool, text: String) {
        let mut messages = self.messages.lock();
        if messages.len() < MESSAGES_MAX {
            messages.push(TlsMessage { is_error, text });
        }
    }
}

const STAYS: &str = "the certificate and key that were read before stay in use";

fn known_in(variants: &mut [Made], from: &ServerTls, generation: u64) {
    variants.iter_mut().filter(|known| known.from == *from).for_each(|known| known.generation = generation);
}

fn context(made: &Made) -> TlsContext {
    TlsContext {
        certificate: made.from.certificate.clone(),
        client_ca: made.from.client_ca.clone(),
        ciphers: made.from.ciphers.clone(),
        age: made.made_at.elapsed(),
        works: made.config.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(folder: &std::path::Path) -> String {
        let made = rcgen::generate_simple_self_signed(vec!["mx.test".to_owned()]).unwrap();
        std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let folder = folder.display();
        format!(
            "Esmtp_Listener {{ Listen \":2525\" {{ TLS_Certificate = {folder}/cert.pem TLS_Key = {folder}/key.pem }} }}"
        )
    }

    #[test]
    fn a_reload_takes_up_a_renewed_pair_and_keeps_the_old_one_where_the_new_one_is_of_no_use() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse("tls.conf", &pair(folder.path())).unwrap().config;
        let (contexts, place) = (TlsContexts::default(), Place { listener: 0, listen: 0 });
        let at = |generation| {
            let scope = config.listen_scope(0, 0);
            contexts.server_config(&scope, place, generation).expect("there is TLS")
        };
        let first = at(1);
        assert!(Arc::ptr_eq(&first, &at(1)) && Arc::ptr_eq(&first, &at(2)), "the same files");
        pair(folder.path());
        assert!(Arc::ptr_eq(&first, &at(2)), "not within a generation");
        let second = at(3);
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(contexts.take_messages(), []);
        // A key that cannot be read, and then one that fits no certificate.
        std::fs::remove_file(folder.path().join("key.pem")).unwrap();
        assert!(Arc::ptr_eq(&second, &at(4)));
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        std::fs::write(folder.path().join("key.pem"), key).unwrap();
        assert!(Arc::ptr_eq(&second, &at(5)));
        let messages = contexts.take_messages();
        assert!(messages.iter().all(|one| one.is_error && one.text.ends_with(STAYS)), "{messages:?}");
        assert!(messages.len() == 2 && messages[0].text.contains("/key.pem: No such file"), "{messages:?}");
        pair(folder.path());
        assert!(!Arc::ptr_eq(&second, &at(6)));
        assert_eq!(contexts.list().len(), 1);
        contexts.clear();
        assert!(contexts.list().is_empty());
    }
}
