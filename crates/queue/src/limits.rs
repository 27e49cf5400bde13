//! What the configuration says about one (group, binding, domain): read once per generation, then numbers.
//!
//! `Settings` is the seam to the configuration: `settings.rs` fills it from `ph_config`, tests from a closure. The queue
//! compares generations whenever it looks at a queue, and reads the options anew when they differ, so that a changed
//! option holds for mail that already waits. Caps and throttles fall back *by reference*: the scope that sets the option
//! owns one pool or bucket, which is why they come with a key.

use crate::names::{DEFAULT, QueueRef};
use crate::retry::RetryRules;
use crate::throttle::Rate;
use compact_str::CompactString;

/// Where options come from.
pub trait Settings: Send + Sync + 'static {
    /// Changes whenever any option may have changed.
    fn generation(&self) -> u64;
    /// The options of one queue.
    fn limits(&self, at: &QueueRef) -> Limits;
    /// The options of the `host` chain for one MX host.
    fn host(&self, group: &str, binding: &str, host: &str) -> HostLimits;
    /// The options that only the global scope has.
    fn server(&self) -> ServerLimits;
    /// The group in which the configuration declares a binding, the given one if it is declared there (`default` always
    /// is). `None`: it is not declared anywhere.
    fn group_of(&self, group: &str, binding: &str) -> Option<CompactString>;

    /// Where mail for a queue really goes: to the group that has the binding now, or to `default` if none has it.
    fn home(&self, at: QueueRef) -> QueueRef {
        match self.group_of(&at.group, &at.binding) {
            Some(group) => QueueRef { group, ..at },
            None => QueueRef { group: DEFAULT.into(), binding: DEFAULT.into(), domain: at.domain },
        }
    }
}

/// Names the scope instance that owns a pool or a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerKey(pub u64);

/// "No limit" for the caps below.
pub const UNLIMITED: u32 = u32::MAX;

/// The options of one queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Retry and expiry.
    pub retry: RetryRules,
    /// `suspend_delivery`.
    pub suspend: bool,
    /// `blackhole` is set (in whatever form): queued mail fails.
    pub blackhole: bool,
    /// `max_outbound_connections`: of this (binding, domain).
    pub connections_max: u32,
    /// `scope_max_outbound_connections`, and whose it is.
    pub scope_max: Option<(OwnerKey, u32)>,
    /// `server_max_outbound_connections` where a binding or its group sets it: of this binding.
    pub binding_max: u32,
    /// `outbound_throttle_messages`.
    pub messages: Option<(OwnerKey, Rate)>,
    /// `outbound_throttle_connections`.
    pub connects: Option<(OwnerKey, Rate)>,
    /// `connection_allocation_aggressiveness = high`.
    pub eager: bool,
    /// `delayed_binding_domain_fuzz`.
    pub requeue_fuzz_s: u64,
    /// `host_failure_retry`.
    pub host_failure_retry_s: u64,
    /// `mx_failures_to_delay`; 0: off.
    pub mx_failures_to_delay: u32,
    /// `connect_timeout_to_delay`; 0: off.
    pub connect_timeout_to_delay_s: u64,
}

impl Default for Limits {
    /// The defaults of the options.
    fn default() -> Limits {
        Limits {
            retry: RetryRules::default(),
            suspend: false,
            blackhole: false,
            connections_max: 32,
            scope_max: None,
            binding_max: UNLIMITED,
            messages: None,
            connects: None,
            eager: false,
            requeue_fuzz_s: 0,
            host_failure_retry_s: 120,
            mx_failures_to_delay: 50,
            connect_timeout_to_delay_s: 900,
        }
    }
}

/// The options of one MX host for one binding.
#[derive(Clone, Debug, PartialEq)]
pub struct HostLimits {
    /// `max_outbound_connections`: per address of the host and per binding.
    pub connections_max: u32,
    /// `outbound_throttle_messages`.
    pub messages: Option<(OwnerKey, Rate)>,
    /// `outbound_throttle_connections`.
    pub connects: Option<(OwnerKey, Rate)>,
}

impl Default for HostLimits {
    fn default() -> HostLimits {
        HostLimits { connections_max: UNLIMITED, messages: None, connects: None }
    }
}

/// The options of the whole server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// `server_max_outbound_connections` of the global scope.
    pub connections_max: u32,
    /// `server_reserve_outbound_connections`.
    pub reserve: u32,
    /// `reserve_maintenance_interval`.
    pub reserve_interval_s: u64,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits { connections_max: 20000, reserve: 200, reserve_interval_s: 15 }
    }
}
