//! The console's view of the real queues: `ph_queue` for order and places, `ph_spool` for what the queue does not hold.
//!
//! Lists of many messages go page by page and read an envelope only where it is shown or compared, so that a queue of a
//! million messages is never held here as a whole beyond its ids. Failing and rebinding are delivery's business (`Work`).

use crate::jobs::{Jobs, Progress};
use crate::suspensions::Suspensions;
use crate::view::{
    Done, Failure, Find, JobRow, Later, MessageDetails, MessageError, MessageRow, QueueRow, Queues, Selection,
    Suspension,
};
use ph_eventlog::Clock;
use ph_message::{Body, Id, Mailbox, Time, address_hash};
use ph_queue::{
    Entry, Hold, ListQuery, MessageState, PAGE_MAX, Queue, QueueError, Reason, Scope, Suspension as Held, Taken, Which,
};
use ph_spool::{Spool, Stored};
use std::sync::Arc;
use std::time::Duration;

/// What delivery does with a message that was taken out of the queue for it.
pub trait Work: Send + Sync {
    /// Ends a message: log, DSN, spool. False: it could not be ended and is back in its queue.
    fn fail<'a>(&'a self, taken: Taken, failure: &'a Failure) -> Later<'a, bool>;

    /// Runs the hooks that choose a binding again and queues the message where they say. False: it is back where it was.
    fn rebind(&self, taken: Taken) -> Later<'_, bool>;
}

/// `Queues` over the real ones.
pub struct QueueAdapter {
    queue: Queue,
    spool: Spool,
    work: Arc<dyn Work>,
    clock: Clock,
    suspensions: Option<Suspensions>,
    jobs: Jobs,
}

/// Messages taken out at one time to be failed.
const CHUNK: usize = 64;

impl QueueAdapter {
    pub fn new(queue: Queue, spool: Spool, work: Arc<dyn Work>, clock: Clock) -> QueueAdapter {
        QueueAdapter { queue, spool, work, clock, suspensions: None, jobs: Jobs::default() }
    }

    /// Keeps the suspensions of users in that file from now on.
    pub fn with_suspensions(mut self, suspensions: Suspensions) -> QueueAdapter {
        self.suspensions = Some(suspensions);
        self
    }

    async fn keep_suspensions(&self) -> Result<(), String> {
        let Some(file) = self.suspensions.clone() else { return Ok(()) };
        let queue = self.queue.clone();
        let stored = tokio::task::spawn_blocking(move || file.store(&queue)).await;
        stored.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// The message's envelope and content; `None` once it is gone.
    async fn stored(&self, entry: &Entry) -> Option<Arc<Stored>> {
        self.spool.read(entry.key).await.ok()
    }

    async fn row(&self, entry: &Entry) -> Option<MessageRow> {
        let stored = self.stored(entry).await?;
        Some(row(entry, &stored))
    }

    /// A job over a selection, seen by `jobs` until it is dropped.
    fn begin(&self, command: &str, selection: &Selection) -> Progress<'_> {
        self.jobs.begin(format!("{command} {}", described(selection)), self.clock.now())
    }

    /// Calls `each` for every waiting message that a selection's filters match, until the job is stopped.
    async fn walk(
        &self,
        job: &Progress<'_>,
        selection: &Selection,
        which: Which,
        mut each: impl FnMut(&Entry, Option<&Stored>),
    ) {
        job.phase("looking for messages", self.queue.count(&scope(selection)));
        let mut query = ListQuery { scope: scope(selection), which, limit: PAGE_MAX, ..ListQuery::default() };
        loop {
            let page = self.queue.list(&query);
            for entry in &page.entries {
                if filtered(selection) {
                    match self.stored(entry).await {
                        Some(stored) if fits(selection, &stored) => each(entry, Some(&stored)),
                        _ => {}
                    }
                } else {
                    each(entry, None);
                }
                if !job.went_on(1) {
                    return;
                }
            }
            if page.next.is_none() {
                return;
            }
            (query.cursor, query.offset) = (page.next, 0);
            tokio::task::yield_now().await;
        }
    }

    /// The ids of a selection, filters applied.
    async fn ids(&self, job: &Progress<'_>, selection: &Selection, which: Which) -> Vec<Id> {
        let mut ids = Vec::new();
        self.walk(job, selection, which, |entry, _| ids.push(entry.id)).await;
        ids
    }

    /// Writes a new next attempt to the spool, so that a restart knows it too.
    async fn note_next_attempt(&self, id: Id, next_attempt: Time) {
        let Some(entry) = self.queue.entry(id) else { return };
        if let Some(stored) = self.stored(&entry).await {
            let mut state = stored.state.clone();
            state.next_attempt = next_attempt;
            self.spool.update(entry.key, state);
        }
    }
}

impl Queues for QueueAdapter {
    fn rows(&self, selection: &Selection) -> Vec<QueueRow> {
        let mut rows: Vec<QueueRow> = self
            .queue
            .queues(&scope(selection))
            .into_iter()
            .map(|info| QueueRow {
                group: info.at.group.to_string(),
                binding: info.at.binding.to_string(),
                domain: info.at.domain.to_string(),
                connections: info.connections.into(),
                active: info.active.into(),
                delayed: info.delayed.into(),
                in_flight: info.in_flight.into(),
                deliveries: info.counters.deliveries,
                failures: info.counters.failures,
                transient_failures: info.counters.transients,
                receptions: info.counters.receptions,
            })
            .collect();
        rows.sort_by(|a, b| (&a.domain, &a.group, &a.binding).cmp(&(&b.domain, &b.group, &b.binding)));
        rows
    }

    fn messages<'a>(
        &'a self,
        selection: &'a Selection,
        active: Option<bool>,
        limit: usize,
        offset: usize,
    ) -> Later<'a, Vec<MessageRow>> {
        Box::pin(async move {
            let which = match active {
                None => Which::Both,
                Some(true) => Which::Active,
                Some(false) => Which::Delayed,
            };
            let mut query = ListQuery { scope: scope(selection), which, offset, ..ListQuery::default() };
            let mut rows = Vec::new();
            while rows.len() < limit {
                query.limit = (limit - rows.len()).min(PAGE_MAX);
                let page = self.queue.list(&query);
                for entry in &page.entries {
                    rows.extend(self.row(entry).await);
                }
                if page.next.is_none() {
                    break;
                }
                (query.cursor, query.offset) = (page.next, 0);
            }
            rows
        })
    }

    fn matching<'a>(&'a self, selection: &'a Selection, limit: usize) -> Later<'a, (Vec<MessageRow>, u64)> {
        Box::pin(async move {
            if !filtered(selection) {
                let rows = self.messages(selection, None, limit, 0).await;
                return (rows, self.queue.count(&scope(selection)));
            }
            let (mut rows, mut all) = (Vec::new(), 0);
            let job = self.begin("dry run", selection);
            self.walk(&job, selection, Which::Both, |entry, stored| {
                all += 1;
                if rows.len() < limit {
                    rows.extend(stored.map(|stored| row(entry, stored)));
                }
            })
            .await;
            (rows, all)
        })
    }

    fn details(&self, id: Id, with_body: bool) -> Later<'_, Result<MessageDetails, MessageError>> {
        Box::pin(async move {
            let entry = self.queue.entry(id).ok_or(MessageError::NotFound(id))?;
            if entry.state == MessageState::InFlight {
                return Err(MessageError::InDelivery(id));
            }
            let unreadable = |reason: String| MessageError::Unreadable { id, reason };
            let stored = self.spool.read(entry.key).await.map_err(|error| unreadable(error.to_string()))?;
            let body = match stored.content.body() {
                Body::Memory(bytes) if with_body => bytes.to_vec(),
                Body::External(file) if with_body => {
                    format!("[{} octets, kept in a file of their own]\r\n", file.len()).into_bytes()
                }
                Body::Memory(_) | Body::External(_) => Vec::new(),
            };
            let mut state = stored.state.clone();
            // The queue is ahead of the spool.
            (state.next_attempt, state.retries, state.attempts) = (entry.next_attempt, entry.retries, entry.attempts);
            let head = stored.content.head().to_vec();
            Ok(MessageDetails { envelope: Arc::clone(&stored.envelope), state, head, body })
        })
    }

    fn retry(&self, id: Id) -> Result<(), MessageError> {
        self.queue.requeue(id).map_err(|error| message_error(id, error))
    }

    fn fail_one<'a>(&'a self, id: Id, failure: &'a Failure) -> Later<'a, Result<(), MessageError>> {
        Box::pin(async move {
            let taken = self.queue.take_one(id).map_err(|error| message_error(id, error))?;
            match self.work.fail(taken, failure).await {
                true => Ok(()),
                false => Err(MessageError::Unreadable { id, reason: "it is back in its queue".to_owned() }),
            }
        })
    }

    fn fail<'a>(&'a self, selection: &'a Selection, failure: &'a Failure) -> Later<'a, Done> {
        Box::pin(async move {
            let job = self.begin("fail", selection);
            let mut count = 0;
            if filtered(selection) {
                let ids = self.ids(&job, selection, Which::Both).await;
                job.phase("failing", ids.len() as u64);
                for id in ids {
                    if job.was_stopped() {
                        break;
                    }
                    // One that went into delivery meanwhile is left to it.
                    if let Ok(taken) = self.queue.take_one(id) {
                        count += u64::from(self.work.fail(taken, failure).await);
                    }
                    job.went_on(1);
                }
                return Done { count, stopped: job.was_stopped() };
            }
            let mut purge = self.queue.purge(&scope(selection));
            job.phase("failing", purge.left());
            while !job.was_stopped() {
                let chunk = purge.next_chunk(CHUNK);
                if chunk.is_empty() {
                    break;
                }
                for taken in chunk {
                    // What was taken out and is dropped is back in its queue.
                    if job.was_stopped() {
                        break;
                    }
                    count += u64::from(self.work.fail(taken, failure).await);
                    job.went_on(1);
                }
                tokio::task::yield_now().await;
            }
            Done { count, stopped: job.was_stopped() }
        })
    }

    fn flush<'a>(&'a self, selection: &'a Selection) -> Later<'a, Done> {
        // A restart would bring the old times back, and that is harmless: a flush is a wish of this moment.
        Box::pin(async move {
            let (progress, mut job) = (self.begin("flush", selection), self.queue.flush(&scope(selection)));
            progress.phase("requeueing", job.left());
            while let Some(moved) = job.step() {
                if !progress.went_on(moved.len() as u64) {
                    break;
                }
                tokio::task::yield_now().await;
            }
            Done { count: job.done(), stopped: progress.was_stopped() }
        })
    }

    fn delay<'a>(&'a self, selection: &'a Selection, span: Duration) -> Later<'a, Done> {
        Box::pin(async move {
            let until = self.clock.now().plus(span);
            let job = self.begin("delay", selection);
            let mut count = 0;
            let ids = self.ids(&job, selection, Which::Active).await;
            job.phase("delaying", ids.len() as u64);
            for id in ids {
                if job.was_stopped() {
                    break;
                }
                if self.queue.delay_one(id, until).is_ok() {
                    self.note_next_attempt(id, until).await;
                    count += 1;
                }
                job.went_on(1);
            }
            Done { count, stopped: job.was_stopped() }
        })
    }

    fn reroute<'a>(&'a self, selection: &'a Selection, domain: &'a str) -> Later<'a, Done> {
        Box::pin(async move {
            let job = self.begin("reroute", selection);
            let mut count = 0;
            let ids = self.ids(&job, selection, Which::Both).await;
            job.phase("moving", ids.len() as u64);
            for id in ids {
                if job.was_stopped() {
                    break;
                }
                job.went_on(1);
                let Some(entry) = self.queue.entry(id) else { continue };
                if entry.at.domain == domain {
                    continue;
                }
                let Some(stored) = self.stored(&entry).await else { continue };
                let mut envelope = (*stored.envelope).clone();
                envelope.routing_domain = Some(domain.into());
                let to = ph_queue::QueueRef::new(&entry.at.group, &entry.at.binding, domain);
                // The spool first: a message that a restart finds elsewhere would be worse than one that stayed.
                if self.spool.replace(entry.key, envelope).await.is_ok() && self.queue.move_one(id, &to).is_ok() {
                    count += 1;
                }
            }
            Done { count, stopped: job.was_stopped() }
        })
    }

    fn rebind<'a>(&'a self, selection: &'a Selection) -> Later<'a, Done> {
        Box::pin(async move {
            let job = self.begin("rebind", selection);
            let mut count = 0;
            let ids = self.ids(&job, selection, Which::Both).await;
            job.phase("rebinding", ids.len() as u64);
            for id in ids {
                if job.was_stopped() {
                    break;
                }
                if let Ok(taken) = self.queue.take_one(id) {
                    count += u64::from(self.work.rebind(taken).await);
                }
                job.went_on(1);
            }
            Done { count, stopped: job.was_stopped() }
        })
    }

    fn jobs(&self) -> Vec<JobRow> {
        self.jobs.rows()
    }

    fn stop_job(&self, number: u64) -> bool {
        self.jobs.stop(number)
    }

    fn find<'a>(&'a self, find: &'a Find) -> Later<'a, Vec<MessageRow>> {
        Box::pin(async move {
            let selection =
                Selection { domain: find.domain.clone(), binding: find.binding.clone(), ..Selection::default() };
            let (sender, recipient) = (find.sender.as_deref().map(mailbox), find.recipient.as_deref().map(mailbox));
            let mut query = ph_queue::Find {
                scope: scope(&selection),
                sender_hash: sender.as_ref().map(address_hash),
                recipient_hash: recipient.as_ref().map(address_hash),
                limit: PAGE_MAX,
                from: 0,
            };
            let mut rows = Vec::new();
            while rows.len() < find.limit {
                let found = self.queue.find(&query);
                for entry in &found.entries {
                    let Some(stored) = self.stored(entry).await else { continue };
                    // Hashes may agree by chance.
                    let is = |wanted: &Option<Mailbox>, given: &Mailbox| {
                        wanted.as_ref().is_none_or(|wanted| wanted.to_string().eq_ignore_ascii_case(&given.to_string()))
                    };
                    if is(&sender, &stored.envelope.sender) && is(&recipient, &stored.envelope.recipient) {
                        rows.push(row(entry, &stored));
                    }
                }
                let Some(next) = found.next else { break };
                query.from = next;
                tokio::task::yield_now().await;
            }
            rows.truncate(find.limit);
            rows
        })
    }

    fn explain(&self, id: Id) -> Result<Vec<(String, String)>, MessageError> {
        let explanation = self.queue.explain(id).ok_or(MessageError::NotFound(id))?;
        let (entry, queue) = (&explanation.entry, &explanation.queue);
        let time = |time: Time| time.secs().to_string();
        let mut lines: Vec<(String, String)> = Vec::new();
        let mut line = |label: &str, value: String| lines.push((label.to_owned(), value));
        line("Reason", explanation.reason.to_string());
        if let (Reason::Suspended { .. }, Some(Held::Hold(hold))) = (&explanation.reason, &queue.suspension) {
            line("Suspended Since", time(hold.since));
            if !hold.by.is_empty() {
                line("Suspended By", hold.by.to_string());
            }
        }
        if let Some(next) = explanation.next {
            line("Can Change At", time(next));
        }
        line("State", entry.state.to_string());
        line("Queue", format!("{}/{} {}", entry.at.group, entry.at.binding, entry.at.domain));
        line("Created", time(entry.created));
        line("Next Attempt", time(entry.next_attempt));
        line("Attempts", entry.attempts.to_string());
        line("Retries", entry.retries.to_string());
        line("Expires", time(explanation.expires));
        let rules = &explanation.rules;
        line("Retry Interval", format!("{} up to {} seconds", rules.retry_interval_s, rules.max_retry_interval_s));
        line(
            "Queue Holds",
            format!("{} active, {} delayed, {} in delivery", queue.active, queue.delayed, queue.in_flight),
        );
        line("Connections", queue.connections.to_string());
        line("Failures In A Row", queue.failures.to_string());
        if let Some((at, text)) = &queue.last_error {
            line("Last Error", format!("{} {text}", at.secs()));
        }
        Ok(lines)
    }

    fn suspend<'a>(&'a self, suspension: &'a Suspension) -> Later<'a, Result<(), String>> {
        Box::pin(async move {
            let hold = Hold {
                scope: scope(&suspension.selection),
                since: suspension.since,
                until: suspension.until.unwrap_or(Time::MAX),
                note: suspension.note.as_str().into(),
                by: suspension.by.as_str().into(),
            };
            self.queue.hold(hold).map_err(|error| error.to_string())?;
            self.keep_suspensions()
                .await
                .map_err(|reason| format!("Suspended, but only until the next start: {reason}"))
        })
    }

    fn resume<'a>(&'a self, selection: &'a Selection) -> Later<'a, Result<bool, String>> {
        Box::pin(async move {
            let was_there = self.queue.resume(&scope(selection));
            if was_there {
                let kept = self.keep_suspensions().await;
                kept.map_err(|reason| format!("Resumed, but the next start will suspend it again: {reason}"))?;
            }
            Ok(was_there)
        })
    }

    fn suspensions(&self) -> Vec<Suspension> {
        self.queue.holds().iter().map(|hold| suspension(hold)).collect()
    }
}

fn suspension(hold: &Hold) -> Suspension {
    let part = |text: &Option<_>| text.as_ref().map(ToString::to_string);
    Suspension {
        selection: Selection {
            group: part(&hold.scope.group),
            binding: part(&hold.scope.binding),
            domain: part(&hold.scope.domain),
            ..Selection::default()
        },
        since: hold.since,
        until: (hold.until != Time::MAX).then_some(hold.until),
        by: hold.by.to_string(),
        note: hold.note.to_string(),
    }
}

/// A selection in the words of the console.
fn described(selection: &Selection) -> String {
    let named = [("group", &selection.group), ("binding", &selection.binding), ("domain", &selection.domain)];
    let mut words: Vec<String> =
        named.into_iter().filter_map(|(kind, name)| Some(format!("{kind} {}", name.as_ref()?))).collect();
    for (option, pair) in [("--meta", &selection.meta), ("--header", &selection.header)] {
        words.extend(pair.as_ref().map(|(name, value)| format!("{option} {name} {value}")));
    }
    if words.is_empty() { "all".to_owned() } else { words.join(" ") }
}

fn scope(selection: &Selection) -> Scope {
    let owned = |text: &Option<String>| text.as_deref().map(Into::into);
    Scope { group: owned(&selection.group), binding: owned(&selection.binding), domain: owned(&selection.domain) }
}

fn filtered(selection: &Selection) -> bool {
    selection.meta.is_some() || selection.header.is_some()
}

fn fits(selection: &Selection, stored: &Stored) -> bool {
    let meta = selection.meta.as_ref().is_none_or(|(key, value)| {
        stored.envelope.mess_context.get(key).is_some_and(|found| found.as_ref() == value.as_bytes())
    });
    meta && selection.header.as_ref().is_none_or(|(name, line)| has_header(stored.content.head(), name, line))
}

/// Whether a physical line of the header block is `name: line`; folded lines are not put together.
fn has_header(head: &[u8], name: &str, line: &str) -> bool {
    head.split(|&byte| byte == b'\n').any(|physical| {
        let Some(colon) = physical.iter().position(|&byte| byte == b':') else { return false };
        physical[..colon].trim_ascii_end().eq_ignore_ascii_case(name.as_bytes())
            && physical[colon + 1..].trim_ascii() == line.trim().as_bytes()
    })
}

fn row(entry: &Entry, stored: &Stored) -> MessageRow {
    MessageRow {
        id: entry.id,
        binding: entry.at.binding.to_string(),
        domain: entry.at.domain.to_string(),
        active: entry.state != MessageState::Delayed,
        created: entry.created,
        sender: stored.envelope.sender.to_string(),
        recipient: stored.envelope.recipient.to_string(),
    }
}

fn mailbox(address: &str) -> Mailbox {
    let address = address.trim().trim_start_matches('<').trim_end_matches('>');
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    Mailbox { local: local.into(), domain: domain.to_lowercase().into() }
}

fn message_error(id: Id, error: QueueError) -> MessageError {
    match error {
        QueueError::InDelivery(id) => MessageError::InDelivery(id),
        QueueError::Unknown(id) => MessageError::NotFound(id),
        other => MessageError::Unreadable { id, reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_compared_by_physical_line() {
        let head = b"From: a\r\nX-Purge:  yes \r\nX-Long: one\r\n two\r\n\r\n";
        for (name, line, wanted) in [
            ("x-purge", "yes", true),
            ("X-Purge", "ye", false),
            ("X-Long", "one", true),
            ("X-Long", "one two", false),
            ("X-None", "", false),
        ] {
            assert_eq!(has_header(head, name, line), wanted, "{name}: {line}");
        }
    }

    #[test]
    fn addresses_come_with_or_without_brackets() {
        assert_eq!(mailbox("<Bob@Example.COM>"), Mailbox { local: "Bob".into(), domain: "example.com".into() });
        assert_eq!(mailbox("<>"), Mailbox::default());
    }
}
