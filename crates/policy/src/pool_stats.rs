//! The numbers of the policy's thread pools for the console: those of `msys.threadpool.stat`, which counts them in `pool.lua`.

use crate::host::Policy;
use mlua::{Function, Table};

/// The pool as a policy sees it, in whose state it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolStats {
    pub name: String,
    pub invocations: u64,
    pub average_concurrency: f64,
    /// Percent of the time in which every slot was taken.
    pub saturation: f64,
    pub average_ms: f64,
    pub queued: u64,
    pub running: u64,
}

impl Policy {
    /// All pools, in the order of the configuration. Nothing of the policy runs for it, but a turn that is under way is waited for.
    pub fn pool_stats(&self) -> Vec<PoolStats> {
        let rows = self.lua.named_registry_value::<Function>("posthaste.pool_stats").and_then(|all| all.call(()));
        let rows: Vec<Table> = match rows {
            Ok(rows) => rows,
            Err(error) => {
                self.host.error(&format!("scriptlet: thread pools: {error}"));
                return Vec::new();
            }
        };
        rows.iter().filter_map(|row| stats(row).ok()).collect()
    }
}

fn stats(row: &Table) -> mlua::Result<PoolStats> {
    Ok(PoolStats {
        name: row.raw_get("name")?,
        invocations: row.raw_get("invocations")?,
        average_concurrency: row.raw_get("avg_concurrency")?,
        saturation: row.raw_get("saturation")?,
        average_ms: row.raw_get("avg_wallclock_time_per_op")?,
        queued: row.raw_get("job_num_queued")?,
        running: row.raw_get("job_num_running")?,
    })
}
