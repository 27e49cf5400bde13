//! What the rooms tell the log: one struct for each kind of event, all borrowed, so that telling costs no allocation.
//!
//! `Facts` gathers what one record may print; the declarations of the records (`mainlog`, `json` …) read from it.

use crate::stage::{Phase, Stage};
use ph_message::{Content, Context, Envelope, Id, Time};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

/// One attempt to deliver a message: for `delivery`, `transfer`, `transient` and `permanent`.
///
/// Binding and binding group come from the envelope; an empty one prints as `default`.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The outbound connection; `Id::NULL` when there never was one.
    pub connection: Id,
    pub routing_domain: &'a str,
    /// Delivery: the octets of the message. Failure: the octets that went out before it.
    pub bytes: u64,
    pub stage: Stage,
    /// Attempts made before this one: the first attempt says 0.
    pub retries: u32,
    /// The remote host, once there was a connection.
    pub peer: Option<IpAddr>,
    /// Our end of the connection.
    pub local: Option<IpAddr>,
    /// The remote reply with its code, lines apart by CRLF or LF; or our own text.
    pub reply: &'a str,
    /// Bounce classification; 1 (undetermined) where nobody classified.
    pub class: u16,
    /// The classification in words, for `%c`.
    pub class_name: &'a str,
    pub tls: Option<&'a OutboundTls>,
    /// For `%h{X}` of a custom format; where it is `None` such a field is empty.
    pub content: Option<&'a Content>,
}

impl Attempt<'_> {
    /// An attempt that never had a connection.
    pub const NONE: Attempt<'static> = Attempt {
        connection: Id::NULL,
        routing_domain: "",
        bytes: 0,
        stage: Stage::NotConnected,
        retries: 0,
        peer: None,
        local: None,
        reply: "",
        class: 1,
        class_name: "Undetermined",
        tls: None,
        content: None,
    };
}

impl Default for Attempt<'_> {
    fn default() -> Self {
        Attempt::NONE
    }
}

/// TLS of an outbound connection, for the `%outbound_tls…` macros and the JSON events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboundTls {
    /// `TLSv1.2`, `TLSv1.3`.
    pub protocol: String,
    pub cipher: String,
    pub cipher_bits: u32,
    /// The peer's certificate was verified.
    pub verified: bool,
    pub issuer: String,
    pub subject: String,
}

/// A refusal: one rejectlog line.
#[derive(Clone, Copy, Debug)]
pub struct Rejection<'a> {
    pub now: Time,
    pub remote: Option<SocketAddr>,
    pub local: Option<SocketAddr>,
    pub connection: Id,
    /// Empty: `default`.
    pub pathway: &'a str,
    /// Empty: `default`.
    pub pathway_group: &'a str,
    pub phase: Phase,
    /// The reply's code, three digits.
    pub code: u16,
    /// The last module that ran; empty prints `-`.
    pub module: &'a str,
    /// `None`: there is no such context yet.
    pub conn_context: Option<&'a Context>,
    pub mess_context: Option<&'a Context>,
    /// The reply without its code.
    pub text: &'a str,
    /// The message, if there is one yet.
    pub envelope: Option<&'a Envelope>,
    pub content: Option<&'a Content>,
}

impl Rejection<'_> {
    pub const NONE: Rejection<'static> = Rejection {
        now: Time::ZERO,
        remote: None,
        local: None,
        connection: Id::NULL,
        pathway: "",
        pathway_group: "",
        phase: Phase::JustConnected,
        code: 550,
        module: "",
        conn_context: None,
        mess_context: None,
        text: "",
        envelope: None,
        content: None,
    };
}

impl Default for Rejection<'_> {
    fn default() -> Self {
        Rejection::NONE
    }
}

/// An authentication, by SMTP or on the control channel: an acctlog line of type `N` or `T`.
#[derive(Clone, Copy, Debug)]
pub struct Auth<'a> {
    /// As configured: `*:2025`, `/tmp/2025`.
    pub listener: &'a str,
    /// `None` on unix sockets.
    pub peer: Option<SocketAddr>,
    pub user: &'a str,
    pub outcome: AuthResult,
}

/// How an authentication ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthResult {
    Pass,
    Fail,
    /// The client gave no answer in time.
    TimedOut,
    /// Nobody can say.
    Unknown,
}

/// An authorization: an acctlog line of type `Z`.
#[derive(Clone, Copy, Debug)]
pub struct Authz<'a> {
    pub listener: &'a str,
    /// `None` on unix sockets.
    pub peer: Option<SocketAddr>,
    pub user: &'a str,
    pub decision: Decision,
    /// The whole command line.
    pub command: &'a str,
    /// The role that allowed it; ignored unless `decision` is `Allowed`.
    pub role: Option<&'a str>,
}

/// The answer to "may this user do that?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    Denied,
    /// The decision could not be made (a backend failed).
    Unknown,
}

/// An out-of-band bounce: a bouncelog line of stage 21.
#[derive(Clone, Copy, Debug)]
pub struct Bounce<'a> {
    /// The connection the report came in on.
    pub connection: Id,
    pub class: u16,
    pub class_name: &'a str,
    /// The host that bounced.
    pub peer: Option<IpAddr>,
    /// The reason; the log puts `550 5.7.1 550 [internal] [oob] ` before it.
    pub text: &'a str,
}

/// The classification whose messages the bouncelog leaves out: a subscribe request is no bounce.
pub const CLASS_SUBSCRIBE: u16 = 80;

/// What kind of record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Reception,
    Delivery,
    Transfer,
    Transient,
    Permanent,
    Rejection,
    OutOfBand,
}

/// Everything a record of a message event can print.
pub(crate) struct Facts<'a> {
    pub(crate) kind: Kind,
    pub(crate) now: Time,
    /// Epoch fields are microseconds (`log_hires_timestamp`).
    pub(crate) hires: bool,
    pub(crate) envelope: &'a Envelope,
    /// False where `envelope` only stands in for one that does not exist yet.
    pub(crate) has_message: bool,
    pub(crate) content: Option<&'a Content>,
    pub(crate) attempt: &'a Attempt<'a>,
    pub(crate) rejection: &'a Rejection<'a>,
}

static NO_ENVELOPE: LazyLock<Envelope> = LazyLock::new(Envelope::default);

impl<'a> Facts<'a> {
    pub(crate) fn reception(now: Time, hires: bool, envelope: &'a Envelope, content: Option<&'a Content>) -> Facts<'a> {
        let (attempt, rejection) = (&Attempt::NONE, &Rejection::NONE);
        Facts { kind: Kind::Reception, now, hires, envelope, has_message: true, content, attempt, rejection }
    }

    pub(crate) fn attempt(
        kind: Kind,
        now: Time,
        hires: bool,
        envelope: &'a Envelope,
        attempt: &'a Attempt<'a>,
    ) -> Facts<'a> {
        let rejection = &Rejection::NONE;
        Facts { kind, now, hires, envelope, has_message: true, content: attempt.content, attempt, rejection }
    }

    pub(crate) fn rejection(hires: bool, rejection: &'a Rejection<'a>) -> Facts<'a> {
        Facts {
            kind: Kind::Rejection,
            now: rejection.now,
            hires,
            envelope: rejection.envelope.unwrap_or(&NO_ENVELOPE),
            has_message: rejection.envelope.is_some(),
            content: rejection.content,
            attempt: &Attempt::NONE,
            rejection,
        }
    }

    pub(crate) fn conn_context(&self) -> &'a Context {
        self.rejection.conn_context.unwrap_or(&self.envelope.conn_context)
    }

    pub(crate) fn mess_context(&self) -> &'a Context {
        self.rejection.mess_context.unwrap_or(&self.envelope.mess_context)
    }
}
