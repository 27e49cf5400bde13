//! SMTP: the protocol and nothing of what it is for.
//!
//! Machines without I/O take bytes and give replies or commands; thin tokio drivers move the bytes. What a command *means*
//! is the matter of others: a server's `Handler`, a client's caller. This crate knows no policy, queue or configuration.
//!
//! * [`server`]: `serve` drives one accepted connection; `Machine` is the protocol alone.
//! * [`client`]: `Connection` delivers messages over one connection, pipelined; its machine is `Client`.
//! * [`sasl`]: the server side of authentication. [`tls`]: from options to a `rustls::ServerConfig`. [`proxy`]: who is behind
//!   a load balancer.
//!
//! ```no_run
//! use ph_smtp::server::testing::{Recorder, peer, settings};
//! use ph_smtp::server::{DriverOptions, serve};
//!
//! # async fn example() -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let (stream, _) = listener.accept().await?;
//! stream.set_nodelay(true)?;
//! serve(stream, peer(), Recorder::new(settings()), DriverOptions::default()).await;
//! # Ok(())
//! # }
//! ```

pub mod client;
pub mod proxy;
mod reply;
pub mod sasl;
pub mod server;
pub mod tls;

pub use reply::Reply;
