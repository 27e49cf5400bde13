//! Outbound delivery: from the queue to the next hop, and what becomes of each message there.
//!
//! ```ignore
//! let delivery = Delivery::start(DeliveryServices { config, policy, queue, spool, log, clock, ids, lookup, inject });
//! // … mail pushed to the queue leaves …
//! delivery.stop(Duration::from_secs(30)).await;
//! ```
//!
//! `pool` opens connections as the queue permits them; `routes` and `route` know the hosts of a domain, `connect` makes a
//! session, `connection` keeps two transactions under way on it, `outcome` books the result, `report` and `delay_dsn`
//! tell the sender. The protocol itself is `ph_smtp::client`.

mod choose;
mod classify;
mod connect;
mod connection;
mod connections;
mod delay_dsn;
mod hooks;
mod lookup;
mod outcome;
mod payload;
mod pool;
mod report;
mod route;
mod routes;
mod services;
mod settings;

pub use classify::{Class, classify};
pub use connections::{ConnectionInfo, Connections};
pub use lookup::{Addresses, Answer, Lookup, MxAnswer};
pub use pool::{Delivery, DeliveryHandle};
pub use route::{Method, Route, Target};
pub use routes::{Failure, RouteInfo};
pub use services::{DeliveryServices, HasPolicy, Inject, InjectError, Injecting, Policies};

#[cfg(test)]
mod tests;
