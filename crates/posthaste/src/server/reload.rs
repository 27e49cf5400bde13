//! What a reload refuses although it is a right configuration.
//!
//! Many editors and deployment tools empty a file before they write it, and a reload may come in between. What such a moment
//! leaves reads without an error, yet nobody means it: the server would close every socket, the console's among them. Who does
//! want a server that listens nowhere stops it.

use ph_config::Config;

/// Why `new` must not follow `present`, if so.
pub(super) fn refuse_truncated(present: &Config, new: &Config) -> Result<(), String> {
    let files = new.files();
    let file = files.first().map(|path| path.display().to_string()).unwrap_or_default();
    if new.text().trim().is_empty() {
        return Err(format!("{file}: the configuration is empty; the one in force stays"));
    }
    if listens(present) && !listens(new) {
        return Err(format!(
            "{file}: the configuration has no listener, while listeners are open; the one in force stays (stop the server to \
             close them all)"
        ));
    }
    Ok(())
}

fn listens(config: &Config) -> bool {
    config.listeners().iter().flat_map(|listener| &listener.listens).any(|entry| entry.enabled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_says_nothing_or_listens_nowhere_is_refused() {
        let config = |text: &str| Config::parse("posthaste.conf", text).expect("no errors").config;
        let esmtp = "ESMTP_Listener { Listen \"127.0.0.1:0\" {} }\n";
        let control = "Control_Listener { Listen \"/tmp/control\" {} }\n";
        for (present, new, refused) in [
            (esmtp, "", Some("is empty")),
            (esmtp, " \n\n", Some("is empty")),
            (esmtp, "# being written\n", Some("is empty")),
            ("retry_interval = 5\n", "", Some("is empty")),
            (esmtp, "retry_interval = 5\n", Some("no listener")),
            (control, "retry_interval = 5\n", Some("no listener")),
            (esmtp, "ESMTP_Listener {\n}\n", Some("no listener")),
            (esmtp, "ESMTP_Listener { Listen \"127.0.0.1:0\" { enable = false } }\n", Some("no listener")),
            // Somebody who keeps the console means it.
            (esmtp, control, None),
            (control, esmtp, None),
            ("retry_interval = 5\n", "retry_interval = 6\n", None),
        ] {
            match (refuse_truncated(&config(present), &config(new)), refused) {
                (Ok(()), None) => {}
                (Err(reason), Some(said)) => assert!(reason.contains(said), "{new:?}: {reason}"),
                (outcome, _) => panic!("{new:?} after {present:?}: {outcome:?}"),
            }
        }
    }
}
