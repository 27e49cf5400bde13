//! Steering and seeing a running server: the control channel with its console commands, and HTTP for metrics, health and
//! statistics.
//!
//! ```ignore
//! let services = Arc::new(Services { log, clock, queues, configuration, server });
//! let control = ControlServer::new(services.clone(), rules_of_the_configuration);
//! let listener = bind_unix("/tmp/2025".as_ref(), 0o660)?;
//! tokio::spawn(async move { control.serve_unix(listener, "/tmp/2025", stop).await });
//! ```
//!
//! Every command is declared once (`command`); help, completion and `docs/console.md` come from the declaration. What
//! commands look at and act on are the traits of `view`.

mod access;
mod auth;
mod client;
mod command;
mod configuration;
mod doc;
mod framing;
mod http;
mod jobs;
mod page;
mod queues;
mod server;
mod session;
mod suspensions;
mod users;
mod view;

pub use access::{Access, Client, Role};
pub use auth::{Mechanisms, digest_secret};
pub use client::{Address, AddressError, Client as ConsoleClient, ClientError, DEFAULT_ADDRESS};
pub use command::{Category, Command, CommandError, Context, commands};
pub use configuration::{Apply, Configuration};
pub use doc::{Data, Doc, Form};
pub use framing::{FrameError, Replies, Requests, encode_reply, encode_request};
pub use http::serve_http;
pub use page::{command_names, reference_markdown};
pub use queues::{QueueAdapter, Work};
pub use server::{ControlServer, Rules, bind_unix};
pub use session::{Reply, Session};
pub use suspensions::{SUSPENSIONS_FILE, Suspensions, SuspensionsError};
pub use users::{BadUri, DigestUsers, Groups, LoginUsers, UserFile};
pub use view::*;
