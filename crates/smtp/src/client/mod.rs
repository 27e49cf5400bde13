//! The client side of a session: SMTP and LMTP, a machine without I/O and its tokio driver.
//!
//! A `Connection` is opened over a connected socket and then takes transactions with `submit`; `outcome` gives what became
//! of each recipient, with the stage and the reply. Two transactions may be under way, so that the next message's
//! commands leave together with the content of the present one.

mod auth;
mod capabilities;
mod commands;
mod driver;
mod in_hand;
mod machine;
mod out;
mod reply;
mod settings;
mod stage;
mod stuff;
mod tls;
mod transaction;

pub use auth::{Credentials, Mechanism};
pub use capabilities::Capabilities;
pub use commands::xtext;
pub use driver::{Connection, SENDING_RATE_MIN, Socket, TlsTarget, Trace};
pub use machine::{Client, DEPTH_MAX};
pub use out::Out;
pub use reply::{REPLY_LINES_MAX, REPLY_SIZE_MAX};
pub use settings::{Cause, Protocol, Settings, Timeouts, TlsMode};
pub use stage::{Stage, text};
pub use stuff::Stuffer;
pub use tls::{ClientTls, TlsOptionError, TlsOptions, TlsSession, Verify};
pub use transaction::{
    Body, Content, Failure, Kind, Outcome, PATH_LEN_MAX, Path, ReadAt, Recipient, Refused, Transaction, Verdict,
    Xclient, is_sendable,
};
