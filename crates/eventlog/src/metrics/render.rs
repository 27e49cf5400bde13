//! The OpenMetrics text format (version 1.0.0) of all metrics, for `GET /metrics`.

use super::{ALL, Histogram, Metric, RESIDENT_MEMORY};
use std::fmt::Write;

/// The media type of `render_openmetrics`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics as text.
pub fn render_openmetrics() -> String {
    if let Some(bytes) = resident_bytes() {
        RESIDENT_MEMORY.set(bytes);
    }
    let mut out = String::with_capacity(16 << 10);
    for metric in ALL {
        metric.render(&mut out);
    }
    out.push_str("# EOF\n");
    out
}

impl Metric {
    pub(crate) fn name_and_help(&self) -> (&'static str, &'static str) {
        match self {
            Metric::Counter(metric) => (metric.name, metric.help),
            Metric::Counters(metric) => (metric.name, metric.help),
            Metric::Gauge(metric) => (metric.name, metric.help),
            Metric::Gauges(metric) => (metric.name, metric.help),
            Metric::Histogram(metric) => (metric.name, metric.help),
            Metric::Histograms(metric) => (metric.name, metric.help),
        }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Metric::Counter(_) | Metric::Counters(_) => "counter",
            Metric::Gauge(_) | Metric::Gauges(_) => "gauge",
            Metric::Histogram(_) | Metric::Histograms(_) => "histogram",
        }
    }

    /// The label, where the metric has one.
    pub(crate) fn label(&self) -> Option<&'static str> {
        match self {
            Metric::Counters(metric) => Some(metric.label),
            Metric::Gauges(metric) => Some(metric.label),
            Metric::Histograms(metric) => Some(metric.label),
            Metric::Counter(_) | Metric::Gauge(_) | Metric::Histogram(_) => None,
        }
    }

    fn render(&self, out: &mut String) {
        let (name, help) = self.name_and_help();
        // A counter's family is named without the suffix of its sample.
        let family = name.strip_suffix("_total").unwrap_or(name);
        // Writing into a String cannot fail.
        let _ = writeln!(out, "# HELP {family} {help}\n# TYPE {family} {}", self.type_name());
        let _ = match self {
            Metric::Counter(metric) => writeln!(out, "{name} {}", metric.value()),
            Metric::Gauge(metric) => writeln!(out, "{name} {}", metric.value()),
            Metric::Counters(metric) => metric.values().into_iter().try_for_each(|(label, value)| {
                writeln!(out, "{name}{{{}=\"{}\"}} {value}", metric.label, escaped(label))
            }),
            Metric::Gauges(metric) => metric.values().into_iter().try_for_each(|(label, value)| {
                writeln!(out, "{name}{{{}=\"{}\"}} {value}", metric.label, escaped(&label))
            }),
            Metric::Histogram(metric) => {
                histogram(out, metric, None);
                Ok(())
            }
            Metric::Histograms(metric) => {
                for (label, cell) in metric.values() {
                    histogram(out, cell, Some((metric.label, label)));
                }
                Ok(())
            }
        };
    }
}

fn histogram(out: &mut String, histogram: &Histogram, label: Option<(&str, &str)>) {
    let name = histogram.name;
    let pair = label.map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).unwrap_or_default();
    let comma = if pair.is_empty() { "" } else { "," };
    let braces = if pair.is_empty() { String::new() } else { format!("{{{pair}}}") };
    let (counts, sum) = histogram.read();
    let mut cumulated = 0;
    for (at, count) in counts.iter().enumerate() {
        cumulated += count;
        let bound = histogram.bounds.get(at).map_or_else(|| "+Inf".to_owned(), |bound| format!("{bound:?}"));
        let _ = writeln!(out, "{name}_bucket{{{pair}{comma}le=\"{bound}\"}} {cumulated}");
    }
    let _ = writeln!(out, "{name}_count{braces} {cumulated}\n{name}_sum{braces} {sum}");
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The second number of `/proc/self/statm` counts resident pages.
fn resident_bytes() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = text.split_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages.saturating_mul(page))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics;
    use std::time::Duration;

    #[test]
    fn the_text_has_each_family_once_and_ends_with_eof() {
        metrics::HOOK_SECONDS.observe("render_test", Duration::from_millis(3));
        metrics::AUTHENTICATIONS.add("pass", 2);
        let text = render_openmetrics();
        assert!(text.ends_with("# EOF\n"));
        for metric in ALL {
            let family = metric.name_and_help().0.trim_end_matches("_total");
            assert_eq!(text.matches(&format!("# TYPE {family} ")).count(), 1, "{family}");
        }
        assert!(text.contains("posthaste_hook_seconds_bucket{hook=\"render_test\",le=\"0.0025\"} 0\n"), "{text}");
        assert!(text.contains("posthaste_hook_seconds_bucket{hook=\"render_test\",le=\"0.005\"} 1\n"));
        assert!(text.contains("posthaste_hook_seconds_bucket{hook=\"render_test\",le=\"+Inf\"} 1\n"));
        assert!(text.contains("posthaste_hook_seconds_count{hook=\"render_test\"} 1\n"));
        assert!(text.contains("posthaste_hook_seconds_sum{hook=\"render_test\"} 0.003\n"));
        assert!(text.contains("posthaste_authentications_total{result=\"pass\"} "));
        assert!(metrics::RESIDENT_MEMORY.value() > 100_000.0);
    }

    #[test]
    fn a_gauge_asks_its_callback_and_label_values_are_escaped() {
        metrics::POLICY_COUNTERS.from_callback(|| vec![("/a\"b\\\n".to_owned(), 3.5)]);
        assert!(render_openmetrics().contains("posthaste_policy_counter{path=\"/a\\\"b\\\\\\n\"} 3.5\n"));
        static OWN: metrics::Gauge = metrics::Gauge::new("x", "x");
        let held = OWN.hold();
        assert_eq!(OWN.value(), 1.0);
        drop(held);
        assert_eq!(OWN.value(), 0.0);
        OWN.from_callback(|| 7.0);
        assert_eq!(OWN.value(), 7.0);
    }
}
