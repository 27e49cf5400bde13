//! The server side of a session: `serve` drives a connection, `Machine` is the protocol without I/O, and a `Handler` knows
//! what the commands mean.

mod body;
mod command;
mod date;
mod driver;
mod envelope;
mod extensions;
mod handler;
mod input;
mod machine;
pub mod testing;
mod transport;

pub use body::{BodyReader, BodyRules, Progress};
pub use driver::{DriverOptions, serve};
pub use handler::{
    AuthOutcome, BodyFault, Ended, Handler, LoneLf, MailCommand, Peer, PeerName, Phase, RcptCommand, Secret, Settings,
    TlsFacts,
};
pub use input::{AUTH_LINE_SIZE_MAX, EATEN_SIZE_MAX, ENVELOPE_LINE_SIZE_MAX, Input, LINE_SIZE_MAX};
pub use machine::{AUTH_FAILURES_MAX, Action, FRUITLESS_COMMANDS_MAX, Machine, PeerChange};

#[cfg(test)]
mod tests;
