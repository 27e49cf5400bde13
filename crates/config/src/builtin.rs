//! The configuration that holds where no file is given.
//!
//! It is a text like any other, so that it goes through the same checks and can be shown. It listens on loopback only,
//! relays for loopback, and keeps everything in the folder of the user who starts it.

use crate::config::Config;
use std::path::PathBuf;

/// Port of the SMTP service without a configuration file.
pub const SMTP_PORT: u16 = 2525;

pub(crate) fn config() -> Config {
    let loaded = Config::parse("built-in configuration", &text(&data_folder().to_string_lossy()));
    loaded.expect("the built-in configuration has no errors").config
}

/// The text of the built-in configuration, for `posthaste` to print.
pub fn builtin_text() -> String {
    text(&data_folder().to_string_lossy())
}

fn text(folder: &str) -> String {
    let folder = folder.replace('\\', "\\\\").replace('"', "\\\"").replace('\0', "");
    format!(
        r#"# What holds where no configuration file is given.
Spoolbase = "{folder}/spool"
Pidfile = "{folder}/posthaste.pid"
MasterDB_File = "{folder}/counters"
Relay_Hosts = ( 127.0.0.0/8 "::1" )

ESMTP_Listener {{
  SMTP_Extensions = ( ENHANCEDSTATUSCODES STARTTLS SMTPUTF8 CHUNKING DSN )
  Listen "127.0.0.1:{SMTP_PORT}" {{ }}
}}

Control_Listener {{
  Listen "{folder}/control.sock" {{ }}
}}

EC_Logger {{
  MainLog = "{folder}/log/mainlog.ec"
  RejectLog = "{folder}/log/rejectlog.ec"
  PanicLog = "{folder}/log/paniclog.ec"
  AcctLog = "{folder}/log/acctlog.ec"
}}
"#
    )
}

/// `$XDG_DATA_HOME/posthaste`, else `~/.local/share/posthaste`, else a folder below the one for temporary files.
fn data_folder() -> PathBuf {
    let absolute = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(std::env::temp_dir)
        .join("posthaste")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options;

    #[test]
    fn any_folder_gives_a_valid_configuration() {
        for folder in ["/home/u/.local/share/posthaste", "/a \"b\"\\c", "/ü\n"] {
            let loaded = Config::parse("builtin", &text(folder)).unwrap_or_else(|report| panic!("{report}"));
            assert_eq!(&*loaded.config.global().get(&options::SPOOLBASE), format!("{folder}/spool"));
            assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        }
    }

    #[test]
    fn it_serves_this_machine_only() {
        let config = Config::builtin();
        assert!(config.listeners().iter().flat_map(|l| &l.listens).all(|l| l.address.is_local()));
        assert!(config.global().get(&options::RELAY_HOSTS).contains("127.0.0.1".parse().unwrap()));
        assert!(!config.global().get(&options::RELAY_HOSTS).contains("192.0.2.1".parse().unwrap()));
        assert!(config.relay_warnings().is_empty());
    }
}
