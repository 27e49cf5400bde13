//! The options of the queue, read from the configuration.
//!
//! The only file here that knows names of options. A pool or a bucket is named by the scope instance that sets its option,
//! so everything that falls back to that scope shares it, and it survives a reload that leaves the option alone.

use crate::Queue;
use crate::limits::{HostLimits, Limits, OwnerKey, ServerLimits, Settings, UNLIMITED};
use crate::names::{DEFAULT, QueueRef};
use crate::retry::{MaxRetries, RetryRules};
use crate::throttle::Rate;
use arc_swap::ArcSwap;
use compact_str::CompactString;
use ph_config::{Config, Opt, Scope, ScopeKind, Throttle, options};
use ph_eventlog::Clock;
use std::sync::Arc;

impl Queue {
    /// An empty queue. Whoever swaps the configuration calls `config_changed` afterwards.
    pub fn new(config: Arc<ArcSwap<Config>>, clock: Clock) -> Queue {
        Queue::with_settings(Arc::new(FromConfig(config)), clock)
    }
}

struct FromConfig(Arc<ArcSwap<Config>>);

impl Settings for FromConfig {
    fn generation(&self) -> u64 {
        self.0.load().generation()
    }

    fn limits(&self, at: &QueueRef) -> Limits {
        let config = self.0.load();
        let scope = config.sending(&at.group, &at.binding, &at.domain);
        let binding_max = match scope.find(&options::SERVER_MAX_OUTBOUND_CONNECTIONS) {
            Some((max, origin)) if origin.kind != ScopeKind::Global => cap(max),
            _ => UNLIMITED,
        };
        Limits {
            retry: RetryRules {
                retry_interval_s: scope.get(&options::RETRY_INTERVAL),
                max_retry_interval_s: scope.get(&options::MAX_RETRY_INTERVAL),
                max_retries: max_retries(&scope.get(&options::MAX_RETRIES)),
                message_expiration_s: scope.get(&options::MESSAGE_EXPIRATION),
                never_retry: scope.get(&options::NEVER_RETRY),
                never_attempt_expired: scope.get(&options::NEVER_ATTEMPT_EXPIRED_MESSAGES),
            },
            suspend: match scope.find(&options::SUSPEND_DELIVERY) {
                Some((suspend, _)) => suspend,
                // What nobody has said otherwise about.
                None => {
                    at.binding == DEFAULT
                        && at.group == DEFAULT
                        && &*config.global().get(&options::DEFAULT_BINDING) == "suspended"
                }
            },
            blackhole: &*scope.get(&options::BLACKHOLE) != "false",
            connections_max: cap(scope.get(&options::MAX_OUTBOUND_CONNECTIONS)),
            scope_max: scope
                .bucket(&options::SCOPE_MAX_OUTBOUND_CONNECTIONS)
                .filter(|(max, _)| *max >= 0)
                .map(|(max, owner)| (OwnerKey(owner.0), cap(max))),
            binding_max,
            messages: throttle(&scope, &options::OUTBOUND_THROTTLE_MESSAGES),
            connects: throttle(&scope, &options::OUTBOUND_THROTTLE_CONNECTIONS),
            eager: &*scope.get(&options::CONNECTION_ALLOCATION_AGGRESSIVENESS) == "high",
            requeue_fuzz_s: scope.get(&options::DELAYED_BINDING_DOMAIN_FUZZ),
            host_failure_retry_s: scope.get(&options::HOST_FAILURE_RETRY),
            mx_failures_to_delay: number(scope.get(&options::MX_FAILURES_TO_DELAY)),
            connect_timeout_to_delay_s: scope.get(&options::CONNECT_TIMEOUT_TO_DELAY),
        }
    }

    fn host(&self, group: &str, binding: &str, host: &str) -> HostLimits {
        let config = self.0.load();
        let scope = config.host(group, binding, host);
        HostLimits {
            connections_max: cap(scope.get(&options::MAX_OUTBOUND_CONNECTIONS)),
            messages: throttle(&scope, &options::OUTBOUND_THROTTLE_MESSAGES),
            connects: throttle(&scope, &options::OUTBOUND_THROTTLE_CONNECTIONS),
        }
    }

    fn server(&self) -> ServerLimits {
        let config = self.0.load();
        let scope = config.global();
        ServerLimits {
            connections_max: cap(scope.get(&options::SERVER_MAX_OUTBOUND_CONNECTIONS)),
            reserve: number(scope.get(&options::SERVER_RESERVE_OUTBOUND_CONNECTIONS)),
            reserve_interval_s: scope.get(&options::RESERVE_MAINTENANCE_INTERVAL),
        }
    }

    fn group_of(&self, group: &str, binding: &str) -> Option<CompactString> {
        if group == DEFAULT && binding == DEFAULT {
            return Some(DEFAULT.into());
        }
        let config = self.0.load();
        let declared = || config.bindings().iter().filter(|known| *known.name == *binding);
        let found = declared().find(|known| *known.group == *group).or_else(|| declared().next());
        found.map(|known| CompactString::from(&*known.group))
    }
}

fn throttle(scope: &Scope<'_>, option: &Opt<Throttle>) -> Option<(OwnerKey, Rate)> {
    let (throttle, owner) = scope.bucket(option)?;
    Some((OwnerKey(owner.0), Rate { count: throttle.count, per_s: throttle.per_s })).filter(|(_, rate)| rate.count > 0)
}

fn max_retries(text: &str) -> MaxRetries {
    match text {
        "auto" => MaxRetries::Auto,
        "none" => MaxRetries::None,
        number => number.parse().map_or(MaxRetries::Auto, MaxRetries::Count),
    }
}

/// A cap; a negative one is none.
fn cap(value: i64) -> u32 {
    if value < 0 { UNLIMITED } else { u32::try_from(value).unwrap_or(UNLIMITED) }
}

fn number(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}
