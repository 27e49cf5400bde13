//! Messages as bytes and as meaning: envelope, header block, MIME, addresses, reports. Pure: no I/O, no clock.

pub mod address;
pub mod address_list;
pub mod charset;
mod codec;
pub mod compose;
mod content;
pub mod content_type;
mod context;
pub mod dsn;
pub mod eight_bit;
pub mod encoded_word;
mod envelope;
pub mod header;
pub mod header_check;
mod id;
pub mod mime;
mod time;
pub mod transfer;

pub use address::{AddressError, PathRules};
pub use address_list::{Address, parse_address_list};
pub use codec::DecodeError;
pub use content::{Body, Content, ExternalBody, HeadFacts};
pub use content_type::ContentType;
pub use context::Context;
pub use eight_bit::{EightBitLeft, SevenBit, strip_high_bits, transform_8bit};
pub use envelope::{
    DeliveryState, DsnRequest, Envelope, Mailbox, Notify, Protocol, Ret, SpoolKey, Summary, address_hash,
};
pub use header::{Field, HeaderError};
pub use header_check::{HeaderFault, Rules as HeaderRules};
pub use id::{Id, IdSource, NotAnId};
pub use mime::{MimeTree, Part};
pub use time::Time;
