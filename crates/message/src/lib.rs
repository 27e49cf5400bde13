//! Messages as bytes and as meaning: envelope, header block, MIME, addresses, reports. Pure: no I/O, no clock.

pub mod address;
pub mod address_list;
pub mod charset;
mod codec;
mod content;
mod context;
pub mod encoded_word;
mod envelope;
pub mod header;
pub mod header_check;
mod id;
mod time;
pub mod transfer;

pub use address::{AddressError, PathRules};
pub use address_list::{Address, parse_address_list};
pub use codec::DecodeError;
pub use content::{Body, Content, ExternalBody, HeadFacts};
pub use context::Context;
pub use envelope::{
    DeliveryState, DsnRequest, Envelope, Mailbox, Notify, Protocol, Ret, SpoolKey, Summary, address_hash,
};
pub use header::{Field, HeaderError};
pub use header_check::{HeaderFault, Rules as HeaderRules};
pub use id::{Id, IdSource, NotAnId};
pub use time::Time;
