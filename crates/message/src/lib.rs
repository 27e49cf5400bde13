//! Messages as bytes and as meaning: envelope, header block, MIME, addresses, reports. Pure: no I/O, no clock.

mod codec;
mod content;
mod context;
mod envelope;
mod id;
mod time;

pub use codec::DecodeError;
pub use content::{Body, Content, ExternalBody};
pub use context::Context;
pub use envelope::{
    DeliveryState, DsnRequest, Envelope, Mailbox, Notify, Protocol, Ret, SpoolKey, Summary, address_hash,
};
pub use id::{Id, IdSource, NotAnId};
pub use time::Time;
