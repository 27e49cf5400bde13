//! Who may do what: the rules of one control connection, from its listener's options.

use crate::auth::Mechanisms;
use crate::users::Groups;
use pcre2::bytes::{Regex, RegexBuilder};
use std::net::SocketAddr;

/// How a client is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// A unix socket; the user name of the peer's uid.
    Local {
        user: String,
    },
    Remote(SocketAddr),
}

/// The rules of one connection.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// As configured: `/tmp/2025`, `*:2025`.
    pub listener: String,
    pub enable_authentication: bool,
    /// Every authentication passes, unless `always_deny`.
    pub always_allow: bool,
    pub always_deny: bool,
    pub mechanisms: Mechanisms,
    /// Authentications over TCP go to the acctlog; those of unix sockets always do.
    pub log_authentication: bool,
    pub enable_authorization: bool,
    pub groups: Option<Groups>,
    /// In the order of the configuration.
    pub roles: Vec<Role>,
    /// Seconds without a request after which the session is closed; 0: 60.
    pub idle_timeout_s: u64,
}

/// `Authorization { Role NAME { allow = ( … ) } }`.
#[derive(Clone, Debug)]
pub struct Role {
    pub name: String,
    pub allow: Vec<Regex>,
}

impl Role {
    /// Compiles the patterns; an error names the wrong one.
    pub fn new(name: &str, allow: &[impl AsRef<str>]) -> Result<Role, String> {
        let allow = allow
            .iter()
            .map(|pattern| {
                let pattern = pattern.as_ref();
                // The command line is a stranger's; a pattern must not be made to run for ever by it.
                let limited = format!("(*LIMIT_MATCH=100000){pattern}");
                let compiled = RegexBuilder::new().utf(false).jit_if_available(true).build(&limited);
                compiled.map_err(|error| format!("role '{name}': pattern '{pattern}': {error}"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Role { name: name.to_owned(), allow })
    }
}

impl Access {
    /// The user's own name and their groups: the names that roles are looked up by.
    pub fn names(&self, user: &str) -> Vec<String> {
        let mut names = vec![user.to_owned()];
        names.extend(self.groups.iter().flat_map(|groups| groups.of(user)));
        names
    }

    /// The role that allows a command line, if one does. A pattern may match anywhere.
    pub fn role_for(&self, user: &str, command: &str) -> Option<&Role> {
        let names = self.names(user);
        self.roles
            .iter()
            .filter(|role| names.contains(&role.name))
            .find(|role| role.allow.iter().any(|pattern| pattern.is_match(command.as_bytes()).unwrap_or(false)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_allows_what_one_of_its_patterns_matches() {
        let ops = Role::new("ops", &["^config (get|eval|show)", "^summary$", "^(binding )?flush "]).unwrap();
        let access = Access { roles: vec![ops], ..Access::default() };
        for (user, command, allowed) in [
            ("ops", "config get x", true),
            ("ops", "config set x 1", false),
            ("ops", "summary", true),
            ("ops", "summary reset", false),
            ("ops", "binding flush domain b all", true),
            ("other", "summary", false),
        ] {
            assert_eq!(access.role_for(user, command).is_some(), allowed, "{user}: {command}");
        }
    }

    #[test]
    fn a_pattern_that_would_run_for_ever_denies() {
        let role = Role::new("r", &["^(a+)+$"]).unwrap();
        let access = Access { roles: vec![role], ..Access::default() };
        assert!(access.role_for("r", &("a".repeat(60) + "b")).is_none());
        assert!(Role::new("r", &["("]).is_err());
    }
}
