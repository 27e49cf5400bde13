//! Reports about mail that is still waiting: when each is due, and the rounds that make them.
//!
//! The first is due `delay_dsn_retry_interval` after a message was received, then after gaps that double up to
//! `delay_dsn_max_retry_interval`. Nothing about reports made is stored: what is due by a given age follows from the age
//! alone, and a round makes those that became due since the round before. After a restart the first round looks back to
//! the start of the process, so that none is made twice; one that fell into the time of the restart is left out.

use crate::outcome::Where;
use crate::services::Shared;
use crate::settings::Reports;
use ph_message::Time;
use ph_message::dsn::Action;
use ph_queue::{Cursor, Entry, ListQuery, PAGE_MAX, QueueRef, Scope};
use std::sync::Arc;
use std::time::Duration;

/// How often delays are looked at.
pub(crate) const ROUND: Duration = Duration::from_secs(60);

/// Makes due reports until delivery stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let mut last = shared.clock.now();
    loop {
        tokio::select! {
            () = shared.clock.sleep_until(last.plus(ROUND)) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let now = shared.clock.now();
        round(&shared, last, now).await;
        last = now;
    }
}

/// Makes the reports that became due after `last` and until `now`.
pub(crate) async fn round(shared: &Shared, last: Time, now: Time) {
    for queue in shared.queue.queues(&Scope::all()) {
        let settings = shared.settings.of(&queue.at);
        if !settings.reports.delay {
            continue;
        }
        let mut cursor: Option<Cursor> = None;
        loop {
            let query = ListQuery {
                scope: Scope::of(&queue.at),
                limit: PAGE_MAX,
                cursor: cursor.take(),
                ..ListQuery::default()
            };
            let page = shared.queue.list(&query);
            for entry in &page.entries {
                if is_due(&settings.reports, entry.created, last, now) {
                    report(shared, &queue.at, entry).await;
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
    }
}

async fn report(shared: &Shared, at: &QueueRef, entry: &Entry) {
    let Ok(stored) = shared.spool.read(entry.key).await else { return };
    let reply = stored.state.last_reply.to_string();
    let made = shared.report(&stored.envelope, &stored.content, at, &Where::NOWHERE, &reply, Action::Delayed).await;
    if let Err(reason) = made {
        shared.complain(ph_eventlog::Subsystem::Generic, &format!("no report of delay for {}: {reason}", entry.id));
    }
}

/// Whether a report about a message of that age became due in the time from `last` (excluded) to `now`.
fn is_due(reports: &Reports, created: Time, last: Time, now: Time) -> bool {
    let (before, by) = (last.since(created).as_secs(), now.since(created).as_secs());
    let mut gap = reports.delay_first_s;
    let mut due = gap;
    while due <= by {
        if due > before {
            return true;
        }
        let next_gap = gap.saturating_mul(2).min(reports.delay_max_s);
        if next_gap == gap {
            // From here on the gaps are equal: no need to count them one by one.
            let steps = (before - due) / gap;
            due = due.saturating_add(gap.saturating_mul(steps)).saturating_add(gap);
        } else {
            gap = next_gap.max(1);
            due = due.saturating_add(gap);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use ph_message::dsn::Inline;

    #[test]
    fn delays_are_reported_after_doubling_gaps_up_to_their_cap() {
        const H: u64 = 3600;
        let reports = |first, max| Reports {
            generate: true,
            from: "".into(),
            hostname: "".into(),
            mdn_failures_notify: None,
            original: Inline::Headers,
            delay: true,
            delay_first_s: first,
            delay_max_s: max,
        };
        let start = Time::from_secs(1_800_000_000);
        let due = |reports: &Reports, hours: u64| -> Vec<u64> {
            let at = |minute: u64| start.plus_secs(minute * 60);
            (1..=hours * 60).filter(|m| is_due(reports, start, at(m - 1), at(*m))).map(|m| m / 60).collect()
        };
        assert_eq!(due(&reports(3 * H, 24 * H), 120), [3, 9, 21, 45, 69, 93, 117]);
        assert_eq!(due(&reports(H, 12 * H), 40), [1, 3, 7, 15, 27, 39]);
        assert_eq!(due(&reports(2 * H, H), 6), [2, 3, 4, 5, 6]);
    }
}
