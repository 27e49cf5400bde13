//! The seam between the protocol and what it is for: the driver tells a `Handler` what the client asks, the handler
//! answers with replies. The handler knows nothing of lines, dots and buffers; the protocol nothing of policy and queues.
//!
//! Every method is called in the order of the session and never twice at once.

use crate::Reply;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

/// Who the client is, after PROXY, XCLIENT or XREMOTEIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub remote: SocketAddr,
    pub local: SocketAddr,
    pub name: PeerName,
}

/// What was said of the client's name in reverse DNS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PeerName {
    /// Nothing: whoever wants it looks it up.
    #[default]
    Unsaid,
    /// XCLIENT: it has none, or none that could be found.
    Unavailable,
    /// XCLIENT: this one.
    Given(String),
}

/// What the protocol machine must know of the configuration; made by the handler for the scope of the session.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Banner and EHLO name.
    pub hostname: String,
    /// The whole first line in place of ours, if set (`static_banner`, begins with `220`).
    pub static_banner: Option<String>,
    /// `smtp_extensions` as configured, order kept (`AUTH PLAIN`, `STARTTLS`, `XCLIENT`, free text ...), after the edits
    /// of `ac:esmtp_capability_add/remove`.
    pub extensions: Vec<String>,
    pub max_message_size: u64,
    pub max_header_size: u64,
    pub idle_time_s: u64,
    pub max_session_time_s: u64,
    pub max_session_errors: u32,
    pub require_ehlo: bool,
    pub allow_ip_literal: bool,
    pub allow_null_sender: bool,
    pub allow_trailing_whitespace_in_commands: bool,
    pub allow_whitespace_in_envelope: bool,
    pub pedantic_address_rules: bool,
    pub lone_lf_in_headers: LoneLf,
    pub lone_lf_in_body: LoneLf,
    pub starttls_injection_reject: bool,
    /// Present: STARTTLS can be offered.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// `rfc2822_lone_lf_in_headers`, `rfc2822_lone_lf_in_body`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoneLf {
    Ignore,
    Fix,
    Pedantic,
}

/// `MAIL FROM` after the machine's own checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailCommand {
    /// The line as clients sent it, in the normal form of the hooks: `MAIL FROM:<a@b> SIZE=10`, without CRLF.
    pub line: String,
    /// Local part (as written, with quotes) and lower-cased domain; both empty for `<>`; domain empty if unqualified.
    pub local: String,
    pub domain: String,
    pub size: Option<u64>,
    pub body_8bit: bool,
    pub smtputf8: bool,
    /// `RET=FULL` (true) or `RET=HDRS` (false).
    pub ret_full: Option<bool>,
    pub envid: Option<String>,
    pub auth: Option<String>,
}

/// `RCPT TO`, likewise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptCommand {
    pub line: String,
    pub local: String,
    pub domain: String,
    /// `NOTIFY=`: success, failure, delay; all false: NEVER.
    pub notify: Option<(bool, bool, bool)>,
    pub orcpt: Option<String>,
}

/// Why a body that was read to its end cannot be accepted; the driver turns it into the reply of the table in
/// `docs/differences.md` after telling the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    TooLarge,
    HeaderTooLarge,
    LoneLfInHeaders,
    LoneLfInBody,
}

/// Result of checking a user's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthOutcome {
    Pass,
    Fail,
    /// The backend could not say.
    Error,
}

impl AuthOutcome {
    /// The reply where no policy has another one.
    pub fn reply(self) -> Reply {
        match self {
            AuthOutcome::Pass => Reply::new(235, (2, 0, 0), "Authed. Go on."),
            AuthOutcome::Fail => Reply::new(535, (5, 7, 8), "Authentication failed."),
            AuthOutcome::Error => Reply::new(454, (4, 7, 0), "temporary authentication failure"),
        }
    }
}

/// What is known of a TLS session once it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    pub protocol: String,
    pub cipher: String,
    pub cipher_bits: u32,
    pub client_subject: Option<String>,
    pub client_subject_cn: Option<String>,
    pub client_issuer: Option<String>,
    pub client_issuer_cn: Option<String>,
    pub client_verified: bool,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Quit,
    /// The server closed it: timeout, limits, 421, shutdown.
    ByServer,
    /// The client went away without QUIT.
    Aborted,
}

/// The phase of the session at which something was refused: the names of the rejectlog (`P="..."`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connected,
    Banner,
    Ehlo,
    MailFrom,
    RcptTo,
    RcptToList,
    Data,
    Body,
    RcptToListFinal,
    EachRecipient,
}

pub trait Handler: Send {
    /// The settings of this session's scope. Asked at the start and again whenever `peer` changed (XCLIENT, XREMOTEIP),
    /// after STARTTLS, and after every hook that may edit the capabilities.
    fn settings(&mut self) -> Arc<Settings>;

    /// The connection stands (after a PROXY header and an implicit TLS handshake). `None`: greet as usual.
    fn connected(&mut self, peer: &Peer) -> impl Future<Output = Option<Reply>> + Send;

    /// EHLO (`esmtp`) or HELO with a valid argument. `None`: the standard reply. Any transaction is dropped.
    fn hello(&mut self, esmtp: bool, name: &str) -> impl Future<Output = Option<Reply>> + Send;

    /// `None`: the standard `250`. A reply of 4xx or 5xx: no transaction starts.
    fn mail(&mut self, command: &MailCommand) -> impl Future<Output = Option<Reply>> + Send;

    fn rcpt(&mut self, command: &RcptCommand) -> impl Future<Output = Option<Reply>> + Send;

    /// DATA, or the first BDAT, with at least one accepted recipient. `None`: go on (354, or reading the chunk).
    fn data(&mut self) -> impl Future<Output = Option<Reply>> + Send;

    /// Where the body's bytes go. The driver appends repaired, unstuffed content to it.
    fn body_buffer(&mut self) -> &mut Vec<u8>;

    /// Called when `body_buffer` has grown by a read: the place to move a large body to disk. An error is the reply to be
    /// given at the end of the data; the driver reads and drops the rest.
    fn body_grew(&mut self) -> impl Future<Output = Result<(), Reply>> + Send;

    /// True when `body_grew` needs to be called at this length (a cheap check that spares a future).
    fn body_wants_flush(&self) -> bool;

    /// The body is whole (or faulty, then the message is dropped and `Some` reply of the machine's table is sent unless
    /// this returns one). Returns the final reply; `Ok`-class only once the message is on stable storage.
    fn body_end(&mut self, fault: Option<BodyFault>) -> impl Future<Output = Reply> + Send;

    /// RSET, or anything that ends a transaction without a message.
    fn reset(&mut self);

    /// A command was refused by the protocol itself: for the rejectlog. `text` is the reply without its code.
    fn refused(&mut self, phase: Phase, reply: &Reply);

    /// The secret of `user` for the mechanisms that need it (CRAM-MD5, SCRAM); `None`: no such user.
    fn secret(&mut self, mechanism: &str, user: &str) -> impl Future<Output = Result<Option<Secret>, ()>> + Send;

    /// PLAIN and LOGIN: is this the user's password?
    fn verify(&mut self, mechanism: &str, user: &str, password: &[u8]) -> impl Future<Output = AuthOutcome> + Send;

    /// The outcome of an AUTH, for context and hooks. `None`: the standard reply.
    fn authenticated(
        &mut self,
        mechanism: &str,
        user: &str,
        outcome: AuthOutcome,
    ) -> impl Future<Output = Option<Reply>> + Send;

    /// What an exchange's own outcome means here: `always_allow` and `always_deny` change it.
    fn judge(&mut self, _mechanism: &str, _user: &str, outcome: AuthOutcome) -> AuthOutcome {
        outcome
    }

    /// The realm of DIGEST-MD5; `None`: the banner's host name.
    fn realm(&mut self) -> Option<String> {
        None
    }

    /// The TLS of a handshake that is about to begin, where it is to be another than the settings have. The error ends the session.
    fn tls_config(
        &mut self,
        config: Arc<rustls::ServerConfig>,
    ) -> impl Future<Output = Result<Arc<rustls::ServerConfig>, String>> + Send {
        async { Ok(config) }
    }

    /// A handshake failed, and the session ends; for the log.
    fn tls_failed(&mut self, _error: &str) {}

    /// TLS stands; what an AUTH in clear gave is dropped. With an implicit handshake it comes before `connected`.
    fn tls_started(&mut self, facts: &TlsFacts) -> impl Future<Output = Option<Reply>> + Send;

    /// XCLIENT or XREMOTEIP changed the peer (`helo` and `login` from XCLIENT).
    fn peer_changed(
        &mut self,
        peer: &Peer,
        helo: Option<&str>,
        login: Option<&str>,
    ) -> impl Future<Output = Option<Reply>> + Send;

    /// XSETCONTEXT; an error is the reply.
    fn set_context(&mut self, key: &str, value: &[u8]) -> Result<(), Reply>;

    /// XDUMPCONTEXT: lines `[connection] KEY VALUE` and `[message] KEY VALUE`.
    fn dump_context(&mut self) -> Vec<String>;

    /// Whether the server is shutting down or a reload asks this session to end: checked at MAIL and RSET.
    fn farewell(&mut self) -> Option<Reply>;

    fn ended(&mut self, how: Ended) -> impl Future<Output = ()> + Send;
}

/// What is stored for a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    Clear(Vec<u8>),
    /// H(user:realm:password), 16 octets: what a `digest://` file holds; serves DIGEST-MD5 only.
    DigestMd5([u8; 16]),
    /// `SCRAM-SHA-256$iterations:salt$stored:server`.
    Scram256 {
        iterations: u32,
        salt: Vec<u8>,
        stored: [u8; 32],
        server: [u8; 32],
    },
}
