//! What the operator must see whatever the log writes otherwise: doors that are open to everybody, and TLS that is not as
//! the configuration has it. And the files of TLS, which are read while the process may read them.

use super::Core;
use ph_config::Config;
use ph_eventlog::{EventLog, Level, Subsystem};
use ph_reception::TlsMessage;
use std::path::PathBuf;

/// Options that name a file of TLS, in any scope.
const TLS_OPTIONS: [&str; 4] = ["tls_certificate", "tls_key", "tls_ca", "tls_client_ca"];

/// Every file of TLS that a configuration names, in whatever scope.
pub fn tls_files(config: &Config) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(&config.to_json(), &mut files);
    files.sort_unstable();
    files.dedup();
    files
}

fn collect(scope: &serde_json::Value, files: &mut Vec<PathBuf>) {
    for (name, value) in scope["options"].as_object().into_iter().flatten() {
        let is_file = TLS_OPTIONS.iter().any(|option| option.eq_ignore_ascii_case(name));
        files.extend(value.as_str().filter(|path| is_file && *path != "none").map(PathBuf::from));
    }
    scope["scopes"].as_array().into_iter().flatten().for_each(|inner| collect(inner, files));
}

/// The warnings about open relays that `old` did not have; all of them at the start. Errors in the log, since warnings are
/// not written unless a site asks for them.
pub fn of_relays(log: &EventLog, old: Option<&Config>, new: &Config) -> Vec<String> {
    let texts = |config: &Config| -> Vec<String> {
        config.relay_warnings().iter().map(|warning| warning.to_string().trim_end().to_owned()).collect()
    };
    let known = old.map(texts).unwrap_or_default();
    let fresh: Vec<String> = texts(new).into_iter().filter(|text| !known.contains(text)).collect();
    fresh.iter().for_each(|text| log.panic(Level::Error, Subsystem::Generic, text));
    fresh
}

impl Core {
    /// Writes what is wrong with TLS, and returns what is an error.
    pub(super) fn warn_of_tls(&self, messages: Vec<TlsMessage>) -> Vec<String> {
        for message in &messages {
            let level = if message.is_error { Level::Error } else { Level::Warning };
            self.log.panic(level, Subsystem::Ssl, &message.text);
        }
        messages.into_iter().filter(|message| message.is_error).map(|message| message.text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_every_scope() {
        let text = "tls_certificate = /a.pem tls_ca = /b.pem domain x.test { TLS_Key = /c.key TLS_Certificate = none }
            Esmtp_Listener { tls_client_ca = /d.pem Listen \":25\" { Peer 10.0.0.0/8 { tls_certificate = /a.pem tls_key = /e.key } } }";
        let config = Config::parse("t.conf", text).unwrap_or_else(|report| panic!("{report}")).config;
        let wanted = ["/a.pem", "/b.pem", "/c.key", "/d.pem", "/e.key"].map(PathBuf::from);
        assert_eq!(tls_files(&config), wanted);
    }
}
