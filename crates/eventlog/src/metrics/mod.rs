//! The metrics: each declared once, with its name and help, counted with plain atomics, shown as OpenMetrics text.
//!
//! `EventLog` counts what it logs (receptions, deliveries, failures, rejections, authentications, time in queue): nobody
//! else adds to those. Everything else is added to where it happens. Names, types and labels are a promise: they are
//! documented in `docs/formats/metrics.md`, which comes from these declarations, and only ever grow.
//!
//! A counter never falls while the process lives; the console's `summary reset` works on differences (`Stats`).

mod cells;
mod render;

pub use cells::{Counter, CounterFamily, Gauge, GaugeFamily, Histogram, HistogramFamily};
pub use render::{CONTENT_TYPE, render_openmetrics};

/// A metric of any type, for the renderer and the page.
pub(crate) enum Metric {
    Counter(&'static Counter),
    Counters(&'static CounterFamily),
    Gauge(&'static Gauge),
    Gauges(&'static GaugeFamily),
    Histogram(&'static Histogram),
    Histograms(&'static HistogramFamily),
}

macro_rules! metrics {
    ($($(#[$attribute:meta])* $static:ident: $variant:ident($type:ident) = $name:literal $([$($extra:expr),*])? $help:literal;)*) => {
        $(
            #[doc = $help]
            $(#[$attribute])*
            pub static $static: $type = $type::new($name, $help $($(, $extra)*)?);
        )*

        /// All metrics, in the order of the page.
        pub(crate) static ALL: &[Metric] = &[$(Metric::$variant(&$static),)*];
    };
}

metrics! {
    RECEIVED: Counter(Counter) = "posthaste_received_messages_total"
        "Messages accepted, one for each recipient.";
    RECEIVED_BYTES: Counter(Counter) = "posthaste_received_bytes_total"
        "Octets of accepted messages, counted once for each recipient.";
    DELIVERED: Counter(Counter) = "posthaste_delivered_messages_total"
        "Messages that the next host took.";
    DELIVERED_BYTES: Counter(Counter) = "posthaste_delivered_bytes_total"
        "Octets of delivered messages.";
    TRANSFERRED: Counter(Counter) = "posthaste_transferred_messages_total"
        "Messages handed to another node.";
    TRANSIENT_FAILURES: Counter(Counter) = "posthaste_transient_failures_total"
        "Attempts that failed and will be repeated.";
    PERMANENT_FAILURES: Counter(Counter) = "posthaste_permanent_failures_total"
        "Messages given up.";
    REJECTIONS: Counter(Counter) = "posthaste_rejections_total"
        "Refusals: commands and messages answered with 4xx or 5xx, or discarded by a policy.";
    OUT_OF_BAND_BOUNCES: Counter(Counter) = "posthaste_out_of_band_bounces_total"
        "Bounce reports that came in for messages delivered earlier.";
    DSNS_SENT: Counter(Counter) = "posthaste_dsns_sent_total"
        "Delivery status notifications made.";
    AUTHENTICATIONS: Counters(CounterFamily) = "posthaste_authentications_total" ["result"]
        "Authentications, by result: pass, fail, timeout, unknown.";
    INBOUND_CONNECTIONS: Counter(Counter) = "posthaste_inbound_connections_total"
        "SMTP connections accepted.";
    INBOUND_SESSIONS: Gauge(Gauge) = "posthaste_inbound_sessions"
        "SMTP sessions open now.";
    INBOUND_TLS: Counter(Counter) = "posthaste_inbound_tls_sessions_total"
        "Inbound TLS handshakes completed.";
    OUTBOUND_CONNECTIONS: Counter(Counter) = "posthaste_outbound_connections_total"
        "Connections made to other hosts.";
    OUTBOUND_SESSIONS: Gauge(Gauge) = "posthaste_outbound_sessions"
        "Connections to other hosts open now.";
    OUTBOUND_CONNECT_FAILURES: Counter(Counter) = "posthaste_outbound_connect_failures_total"
        "Connections to other hosts that could not be made.";
    OUTBOUND_TLS: Counter(Counter) = "posthaste_outbound_tls_sessions_total"
        "Outbound TLS handshakes completed.";
    OUTBOUND_TLS_FAILURES: Counter(Counter) = "posthaste_outbound_tls_failures_total"
        "Outbound TLS handshakes that failed.";
    ACTIVE_QUEUE: Gauge(Gauge) = "posthaste_active_queue_messages"
        "Messages that are due.";
    DELAYED_QUEUE: Gauge(Gauge) = "posthaste_delayed_queue_messages"
        "Messages that wait for their next attempt.";
    TOTAL_QUEUE: Gauge(Gauge) = "posthaste_total_queue_messages"
        "All messages in the queues, those being delivered included.";
    ACTIVE_DOMAINS: Gauge(Gauge) = "posthaste_active_domains"
        "Domains with at least one message.";
    TIME_IN_QUEUE: Histogram(Histogram) = "posthaste_time_in_queue_seconds" [LONG]
        "From reception to delivery.";
    ACCEPT_SECONDS: Histogram(Histogram) = "posthaste_accept_seconds" [SHORT]
        "From the end of the data to the final reply.";
    COMMIT_SECONDS: Histogram(Histogram) = "posthaste_spool_commit_seconds" [SHORT]
        "From handing messages to the spool to their being on stable storage.";
    SPOOL_MESSAGES: Gauge(Gauge) = "posthaste_spool_messages"
        "Messages in the spool.";
    SPOOL_BYTES: Gauge(Gauge) = "posthaste_spool_bytes"
        "Octets that the spool occupies on disk.";
    SPOOL_FREE_BYTES: Gauge(Gauge) = "posthaste_spool_free_bytes"
        "Octets left on the spool's file system.";
    SPOOL_ERRORS: Counter(Counter) = "posthaste_spool_errors_total"
        "Reads and writes of the spool that failed.";
    ATTEMPT_SECONDS: Histogram(Histogram) = "posthaste_delivery_attempt_seconds" [SHORT]
        "From handing in a transaction to the final reply of the remote host.";
    CONNECT_SECONDS: Histogram(Histogram) = "posthaste_connect_seconds" [SHORT]
        "Making a connection to another host.";
    HOOK_SECONDS: Histograms(HistogramFamily) = "posthaste_hook_seconds" ["hook", SHORT]
        "Running a policy's hook, waits included, by hook.";
    HOOK_ERRORS: Counters(CounterFamily) = "posthaste_hook_errors_total" ["hook"]
        "Hook calls that ended in an error, by hook.";
    POLICY_COUNTERS: Gauges(GaugeFamily) = "posthaste_policy_counter" ["path"]
        "Counters that policies keep (msys.counter).";
    POLICY_MEMORY: Gauge(Gauge) = "posthaste_policy_memory_bytes"
        "Memory of all Lua states.";
    DNS_QUERIES: Counters(CounterFamily) = "posthaste_dns_queries_total" ["type"]
        "DNS queries sent, by type.";
    DNS_TIMEOUTS: Counters(CounterFamily) = "posthaste_dns_timeouts_total" ["type"]
        "DNS queries without an answer in time, by type.";
    DNS_CACHE_HITS: Counter(Counter) = "posthaste_dns_cache_hits_total"
        "DNS look-ups answered from the cache.";
    DNS_PENDING: Gauge(Gauge) = "posthaste_dns_pending_queries"
        "DNS queries without an answer yet.";
    CONSOLE_SESSIONS: Gauge(Gauge) = "posthaste_console_sessions"
        "Control sessions open now.";
    CONFIG_RELOADS: Counters(CounterFamily) = "posthaste_config_reloads_total" ["result"]
        "Reloads of the configuration, by result: ok, failed.";
    CONFIG_GENERATION: Gauge(Gauge) = "posthaste_config_generation"
        "Number of the configuration in force; grows with each change.";
    DIAGNOSTICS: Counters(CounterFamily) = "posthaste_diagnostics_total" ["level"]
        "Paniclog messages, by level.";
    LOG_LINES_LOST: Counter(Counter) = "posthaste_log_lines_lost_total"
        "Log lines dropped because their file could not be written.";
    START_TIME: Gauge(Gauge) = "posthaste_start_time_seconds"
        "When the process started, seconds since the epoch.";
    RESIDENT_MEMORY: Gauge(Gauge) = "posthaste_resident_memory_bytes"
        "Resident memory of the process.";
}

/// Bounds of what should take milliseconds, in seconds.
const SHORT: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Bounds of time in the queue, from a tenth of a second to a week.
const LONG: &[f64] =
    &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_follow_the_rules_of_the_format() {
        let mut seen = HashSet::new();
        for metric in ALL {
            let (name, help) = metric.name_and_help();
            assert!(seen.insert(name), "{name} is declared twice");
            assert!(name.starts_with("posthaste_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            assert_eq!(metric.type_name() == "counter", name.ends_with("_total"), "{name}");
            assert!(help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn bounds_grow_and_fit() {
        for bounds in [SHORT, LONG] {
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(bounds.len() <= cells::BOUNDS_MAX);
        }
    }
}
