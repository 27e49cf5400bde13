//! Reception: what the commands of an inbound session mean, and how a message gets from its last dot onto the disk.
//!
//! `listener` takes connections, `session` and `handler` answer the protocol, `scope` is what the configuration says about a
//! client, `relay` decides who may send where, `accept` takes a message from the end of its data to the reply, `recipient` does
//! for one recipient what every way in has in common, and `inject` is the way in of mail that the server itself makes.

mod accept;
mod body;
mod context;
mod handler;
mod handshake;
mod inject;
mod listener;
mod login;
mod recipient;
mod relay;
mod reverse;
mod scope;
mod services;
mod session;
mod sessions;
mod tls;
mod trace;
mod users;

pub use inject::{GENERATION_MAX, InjectError, Maker};
pub use listener::{Bound, ListenError, Listeners, bind};
pub use scope::Place;
pub use services::{Bouncer, Generation, Parts, Reception};
pub use session::Inbound;
pub use sessions::{SessionLine, Sessions};
pub use tls::{TlsContext, TlsMessage, check_tls};
