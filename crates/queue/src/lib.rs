//! What is due, where and when: the queues of all (binding, routing domain) pairs.
//!
//! ```text
//! queue.push(key, summary);                       // reception, or `recover` at a restart
//! loop {
//!     let permit = queue.next_connection().await; // some queue has due mail, and every cap and throttle allows it
//!     tokio::spawn(async move {
//!         loop {
//!             for taken in queue.take(&permit, 10) { /* attempt; then delivered, failed, retry or give_back */ }
//!             if !queue.wait_for_work(&permit, idle_timeout).await { break }
//!         }
//!     });                                         // dropping the permit frees its place
//! }
//! ```
//!
//! The queue knows no sockets: it decides who may open a connection and which messages go next, keeps the retry schedule
//! (`retry`), throttles (`throttle`), caps, resting hosts and suspensions, and answers the console (`Queue::list`,
//! `find`, `explain`, jobs over many messages). A waiting message takes about 80 octets of memory.

mod connection;
mod entry;
mod explain;
mod finals;
mod hosts;
mod inspect;
mod limits;
mod names;
mod operate;
mod order;
mod permit;
mod pools;
mod queue;
mod refresh;
pub mod retry;
mod scheduler;
mod settings;
mod table;
mod taken;
mod throttle;

#[cfg(test)]
mod tests;

pub use explain::{Explanation, Reason};
pub use finals::Final;
pub use hosts::{HostBusy, HostPermit, HostState};
pub use inspect::{
    BindingInfo, Counters, Cursor, Entry, Find, Found, ListQuery, MessageState, Overview, PAGE_MAX, Page, QueueInfo,
    Which,
};
pub use limits::{HostLimits, Limits, OwnerKey, ServerLimits, Settings, UNLIMITED};
pub use names::{DEFAULT, QueueRef};
pub use operate::{Hold, Job, Moved, Orphan, Purge, QueueError, Scope, Suspension};
pub use permit::{Deferral, Permit};
pub use queue::Queue;
pub use retry::{MaxRetries, RetryRules, Verdict};
pub use taken::Taken;
pub use throttle::{Bucket, Rate};
