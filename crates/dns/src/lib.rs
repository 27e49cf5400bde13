//! The resolver: typed look-ups with their cause of failure, a cache, and a server for tests.
//!
//! ```no_run
//! # async fn example() -> Result<(), ph_dns::DnsError> {
//! let resolver = ph_dns::Resolver::from_resolv_conf("/etc/resolv.conf".as_ref(), ph_dns::Settings::default());
//! for mx in resolver.mx("example.org").await? {
//!     println!("{} {} {:?}", mx.preference, mx.host, resolver.addresses(&mx.host, true).await?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It is a stub: it asks recursive servers and trusts them, as a mail server with a resolver on the same host does. What
//! the answers mean for mail (order of hosts, fall-back to addresses, loops) is the delivery's business.

mod conf;
mod error;
mod hosts;
mod record;
mod resolver;
mod stub;
pub mod testing;

pub use conf::{HostsOrder, ResolvConf};
pub use error::DnsError;
pub use hosts::Hosts;
pub use record::{Answer, Data, Mx, Record, RecordType, arpa_name, ascii_name};
pub use resolver::{Resolver, Settings, Stats, TypeStats};
