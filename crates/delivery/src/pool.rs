//! The tasks of delivery: one that opens connections as the queue allows, one that fails what must fail unattempted, one
//! that reports delays; and their graceful end.

use crate::connection::{self, fail_purged};
use crate::connections::{ConnectionInfo, Connections};
use crate::delay_dsn;
use crate::outcome::{Quietly, Where};
use crate::report::Refusal;
use crate::routes::RouteInfo;
use crate::services::{DeliveryServices, Shared};
use ph_eventlog::Subsystem;
use ph_message::{Content, Envelope, Time};
use ph_queue::{Purge, QueueRef, Taken};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Messages that are failed unattempted at a time.
const FINALS_STEP: usize = 256;
/// Between the breakdown of a task and its next start: one that breaks at once must not take a whole processor.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// The outbound side of the server.
pub struct Delivery;

impl Delivery {
    /// Begins to deliver. Needs a tokio runtime.
    pub fn start(services: DeliveryServices) -> DeliveryHandle {
        let shared = Shared::new(services);
        let tasks = vec![
            keep(&shared, "opens connections", open_connections),
            keep(&shared, "fails mail unattempted", fail_finals),
            keep(&shared, "reports delays", delay_dsn::run),
        ];
        DeliveryHandle { shared, tasks: Arc::new(tasks) }
    }
}

/// Starts a task that all mail depends on. One that panics is started anew: a fault that one message brings out must not hold up
/// all the others until a restart.
fn keep<F>(shared: &Arc<Shared>, what: &'static str, run: fn(Arc<Shared>) -> F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let shared = shared.clone();
    tokio::spawn(async move {
        loop {
            let task = AbortOnDrop(tokio::spawn(run(shared.clone())));
            match task.ended().await {
                Err(error) if error.is_panic() => {
                    let text = format!("the task that {what} broke and is started again: {error}");
                    shared.complain(Subsystem::Generic, &text);
                    tokio::time::sleep(RESTART_PAUSE).await;
                }
                _ => return,
            }
        }
    })
}

struct AbortOnDrop(JoinHandle<()>);

impl AbortOnDrop {
    async fn ended(mut self) -> Result<(), tokio::task::JoinError> {
        (&mut self.0).await
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn open_connections(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    loop {
        let permit = tokio::select! {
            permit = shared.queue.next_connection() => permit,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let entry = shared.connections.enter(permit.queue());
        // A connection's whole life is one task; a message never is one.
        let task = tokio::spawn(connection::run(shared.clone(), permit, entry.clone()));
        entry.set_abort(task.abort_handle());
    }
}

async fn fail_finals(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    loop {
        let finals = tokio::select! {
            finals = shared.queue.next_finals(FINALS_STEP) => finals,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        for message in finals {
            shared.fail_unattempted(message.taken, message.text, Quietly::No).await;
        }
    }
}

/// Delivery that runs. Clones are the same.
#[derive(Clone)]
pub struct DeliveryHandle {
    shared: Arc<Shared>,
    tasks: Arc<Vec<JoinHandle<()>>>,
}

impl DeliveryHandle {
    /// Ends delivery: idle connections say QUIT, those that wait for a reply get until `deadline` from now, so that what
    /// the peer took is known as delivered. What is left then goes back to the queue.
    pub async fn stop(&self, deadline: Duration) {
        self.shared.stop.send_replace(true);
        self.shared.queue.close();
        if tokio::time::timeout(deadline, self.shared.connections.drained()).await.is_err() {
            self.shared.connections.abort_all();
            let _ = tokio::time::timeout(Duration::from_secs(1), self.shared.connections.drained()).await;
        }
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The open connections, oldest first.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.shared.connections.list()
    }

    /// How many there are.
    pub fn connection_count(&self) -> usize {
        self.shared.connections.count()
    }

    /// Tracers of SMTP conversations.
    pub fn tracers(&self) -> &Connections {
        &self.shared.connections
    }

    /// What is known of a domain's hosts, without a look-up.
    pub fn route(&self, domain: &str) -> Option<RouteInfo> {
        self.shared.routes.info(domain)
    }

    /// Looks a domain's hosts up, for the console.
    pub async fn resolve(&self, domain: &str) -> Option<RouteInfo> {
        let _ = self.shared.routes.route(domain, true).await;
        self.shared.routes.info(domain)
    }

    /// Other domains behind the same address.
    pub fn also_used_by(&self, address: std::net::IpAddr, domain: &str) -> Vec<Arc<str>> {
        self.shared.routes.siblings(address, domain)
    }

    /// Forgets the routing of a domain, or of all.
    pub fn refresh(&self, domain: Option<&str>) {
        self.shared.routes.refresh(domain);
    }

    /// Fails a message that the console took out of its queue; `quiet`: without a report.
    pub async fn fail(&self, taken: Taken, text: &str, quiet: bool) {
        let quietly = if quiet { Quietly::Yes } else { Quietly::No };
        self.shared.fail_unattempted(taken, text, quietly).await;
    }

    /// Fails all that a purge lifts out of the queues; how many there were.
    pub async fn fail_all(&self, purge: Purge, text: &str, quiet: bool) -> u64 {
        let quietly = if quiet { Quietly::Yes } else { Quietly::No };
        fail_purged(&self.shared, purge, text, quietly).await
    }

    /// Delays all active mail of a queue with a text of its own (`mail_queue_delay_domain`): one T record each.
    pub async fn delay_all(&self, at: &QueueRef, text: &str) -> u64 {
        connection::fail_all(&self.shared, at, |taken| self.shared.delay_unattempted(taken, &Where::NOWHERE, text))
            .await
    }

    /// A report to the sender of a message that a policy refused after the client had its `250`.
    pub async fn bounce_refused(&self, envelope: &Envelope, content: &Content, reply: &str) -> Result<(), String> {
        self.shared.report_refusal(&Refusal { envelope, content, reply }).await
    }

    /// The time that delivery goes by.
    pub fn now(&self) -> Time {
        self.shared.clock.now()
    }
}
