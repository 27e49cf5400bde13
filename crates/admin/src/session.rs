//! One control session: command bytes in, reply text out. No sockets here.
//!
//! Order of the checks: authentication (every command but `auth …` is refused before it), authorization (each decision
//! goes to the acctlog), then the command. Dropping the session rolls its transaction back.

use crate::access::{Access, Client};
use crate::auth::{DENIED, Exchange, PASSED, REQUIRED, Step};
use crate::command::{self, Context};
use crate::doc::{Form, render_error};
use crate::view::Services;
use data_encoding::HEXLOWER;
use ph_config::EditSession;
use ph_eventlog::{Auth, AuthResult, Authz, Decision};
use std::net::SocketAddr;
use std::sync::Arc;

/// Failed authentications after which the connection is closed.
const FAILURES_MAX: u32 = 3;

/// Longest user name that is kept of what a client claims, in characters.
const USER_MAX: usize = 256;

/// A session from connect to close.
pub struct Session {
    context: Context,
    exchange: Exchange,
    authenticated: bool,
    failures: u32,
}

/// What goes back for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub text: String,
    /// The connection is closed after it.
    pub close: bool,
}

impl Session {
    pub fn new(services: Arc<Services>, access: Access, client: Client) -> Session {
        let needed = access.enable_authentication || access.always_deny;
        let authenticated = !access.always_deny && (access.always_allow || !needed);
        let user = match &client {
            Client::Local { user } => user.clone(),
            Client::Remote(_) => "anonymous".to_owned(),
        };
        if authenticated && matches!(client, Client::Local { .. }) {
            // Whoever opens a unix socket is known by the kernel, and always accounted for.
            log_auth(&services, &access, &client, &user, AuthResult::Pass);
        }
        let context = Context {
            services,
            access,
            client,
            user,
            edit: EditSession::default(),
            line: String::new(),
            debugging: false,
            close: false,
            form: Form::Text,
            instance: None,
            trace: None,
        };
        Session { context, exchange: Exchange::default(), authenticated, failures: 0 }
    }

    /// Answers one request.
    pub async fn command(&mut self, bytes: &[u8]) -> Reply {
        let line = String::from_utf8_lossy(bytes);
        let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        if let Some(words) = strip_word(line, "auth") {
            return self.authenticate(words);
        }
        if !self.authenticated {
            return Reply { text: REQUIRED.to_owned(), close: false };
        }
        if line.is_empty() {
            return Reply { text: String::new(), close: false };
        }
        let (form, line) = command::form_of(line);
        self.context.form = form;
        if !self.authorize(line) {
            return Reply { text: render_error("Not Authorized for this command", form), close: false };
        }
        let text = command::run(&mut self.context, line).await;
        Reply { text, close: self.context.close }
    }

    /// The client was idle for too long. One that never authenticated where it had to is accounted for.
    pub fn timed_out(&self) {
        if !self.authenticated {
            self.log_auth("", AuthResult::TimedOut);
        }
    }

    /// The user and whether they are authenticated.
    pub fn user(&self) -> (&str, bool) {
        (&self.context.user, self.authenticated)
    }

    fn authenticate(&mut self, words: &str) -> Reply {
        let access = &self.context.access;
        let step = self.exchange.command(words.trim(), &access.mechanisms, fresh_nonce);
        let step = match step {
            Step::Passed { user } if access.always_deny => Step::Failed { user },
            Step::Failed { user } if access.always_allow && !access.always_deny => Step::Passed { user },
            step => step,
        };
        let (text, close) = match step {
            Step::Ask(text) => (text, false),
            Step::Refused(text) => (text.to_owned(), false),
            Step::Passed { user } => {
                let user = if user.is_empty() { "anonymous".to_owned() } else { cut(&user) };
                self.log_auth(&user, AuthResult::Pass);
                self.context.user = user;
                self.authenticated = true;
                (PASSED.to_owned(), false)
            }
            Step::Failed { user } => {
                self.log_auth(&cut(&user), AuthResult::Fail);
                self.failures += 1;
                (DENIED.to_owned(), self.failures >= FAILURES_MAX)
            }
        };
        Reply { text, close }
    }

    fn log_auth(&self, user: &str, outcome: AuthResult) {
        let Context { services, access, client, .. } = &self.context;
        if access.log_authentication || matches!(client, Client::Local { .. }) {
            log_auth(services, access, client, user, outcome);
        }
    }

    fn authorize(&self, line: &str) -> bool {
        let Context { services, access, client, user, .. } = &self.context;
        if !access.enable_authorization || matches!(line, "quit" | "authz id") {
            return true;
        }
        let role = access.role_for(user, line);
        let authz = Authz {
            listener: &access.listener,
            peer: peer(client),
            user,
            decision: if role.is_some() { Decision::Allowed } else { Decision::Denied },
            command: line,
            role: role.map(|role| role.name.as_str()),
        };
        services.log.authz(services.clock.now(), &authz);
        role.is_some()
    }
}

fn log_auth(services: &Services, access: &Access, client: &Client, user: &str, outcome: AuthResult) {
    let auth = Auth { listener: &access.listener, peer: peer(client), user, outcome };
    services.log.auth(services.clock.now(), &auth);
}

fn peer(client: &Client) -> Option<SocketAddr> {
    match client {
        Client::Local { .. } => None,
        Client::Remote(address) => Some(*address),
    }
}

fn cut(user: &str) -> String {
    user.chars().take(USER_MAX).collect()
}

/// What follows `word`, if the line begins with it as a whole word.
fn strip_word<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(word)?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some(rest)
}

/// 128 random bits in hex: neither comma nor quote, and never the same.
fn fresh_nonce() -> String {
    let mut bytes = [0_u8; 16];
    // Without random numbers a digest login must not be possible: the empty nonce fits no answer that we would take.
    if getrandom::fill(&mut bytes).is_err() {
        return String::new();
    }
    HEXLOWER.encode(&bytes)
}
