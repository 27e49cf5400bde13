//! SMTP without I/O: a server machine, a client machine, and thin tokio drivers.

mod reply;
pub mod server;

pub use reply::Reply;
