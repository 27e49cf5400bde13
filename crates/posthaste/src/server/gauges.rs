//! The metrics that are looked at, not counted: once a second queues, sessions, spool, resolver and memory are asked how they
//! stand, so that a scrape costs nothing and tells what is at most a second old.
//!
//! Numbers that grow are kept by their owners; what was added since the last look goes into the counters here.

use super::{Core, memory};
use ph_config::options as opt;
use ph_dns::RecordType;
use ph_eventlog::metrics;
use std::collections::HashMap;

/// What was seen at the last look.
#[derive(Default)]
pub(super) struct Gauges {
    queries: HashMap<RecordType, (u64, u64)>,
    cache_hits: u64,
    spool_errors: u64,
    /// The question for the policies' memory: it waits while a hook computes.
    asked: Option<tokio::task::JoinHandle<()>>,
}

impl Gauges {
    pub(super) fn set(&mut self, core: &Core) {
        let queues = core.queue.overview();
        metrics::ACTIVE_QUEUE.set(gauge(queues.active));
        metrics::DELAYED_QUEUE.set(gauge(queues.delayed));
        metrics::TOTAL_QUEUE.set(gauge(queues.active + queues.delayed + queues.in_flight));
        metrics::ACTIVE_DOMAINS.set(gauge(queues.active_domains));
        metrics::INBOUND_SESSIONS.set(gauge(core.sessions.count() as u64));
        metrics::OUTBOUND_SESSIONS.set(gauge(core.delivery().map_or(0, |delivery| delivery.connection_count()) as u64));
        metrics::RESIDENT_MEMORY.set(gauge(memory::resident_bytes()));
        if self.asked.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            let generation = core.reception.generation.load_full();
            self.asked = Some(tokio::task::spawn_blocking(move || {
                metrics::POLICY_MEMORY.set(gauge(generation.policy.used_memory() as u64));
            }));
        }
        self.spool(core);
        self.resolver(core);
    }

    fn spool(&mut self, core: &Core) {
        let spool = core.spool.stats();
        metrics::SPOOL_MESSAGES.set(gauge(spool.messages));
        metrics::SPOOL_BYTES.set(gauge(spool.segment_bytes));
        metrics::SPOOL_ERRORS
            .add(grown(&mut self.spool_errors, spool.failed_full + spool.failed_io + spool.quarantined));
        let folder = core.config.load().global().get(&opt::SPOOLBASE);
        if let Ok(disk) = nix::sys::statvfs::statvfs(&*folder) {
            metrics::SPOOL_FREE_BYTES.set(gauge(disk.blocks_available().saturating_mul(disk.fragment_size())));
        }
    }

    fn resolver(&mut self, core: &Core) {
        let resolver = core.resolver.stats();
        metrics::DNS_PENDING.set(gauge(resolver.pending as u64));
        metrics::DNS_CACHE_HITS.add(grown(&mut self.cache_hits, resolver.cache_hits));
        for of_type in resolver.types {
            let (queries, timeouts) = self.queries.entry(of_type.record_type).or_default();
            metrics::DNS_QUERIES.add(of_type.record_type.name(), grown(queries, of_type.queries));
            metrics::DNS_TIMEOUTS.add(of_type.record_type.name(), grown(timeouts, of_type.timeouts));
        }
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// How much a number has grown since it was last asked.
fn grown(seen: &mut u64, now: u64) -> u64 {
    now.saturating_sub(std::mem::replace(seen, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_counted_once() {
        let mut seen = 0;
        assert_eq!([3, 3, 5, 2, 4].map(|now| grown(&mut seen, now)), [3, 0, 2, 0, 2]);
        assert_eq!(gauge(u64::MAX), i64::MAX);
    }
}
