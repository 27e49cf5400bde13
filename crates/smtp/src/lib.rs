//! SMTP without I/O: a server machine, a client machine, and thin tokio drivers.

pub mod client;
pub mod proxy;
mod reply;
pub mod sasl;
pub mod server;
pub mod tls;

pub use reply::Reply;
