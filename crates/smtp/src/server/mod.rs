//! The server side of a session.

mod handler;

pub use handler::{
    AuthOutcome, BodyFault, Ended, Handler, LoneLf, MailCommand, Peer, Phase, RcptCommand, Secret, Settings, TlsFacts,
};
