//! The text that Prometheus reads, in its format 0.0.4.

use std::fmt::{Display, Write};
use std::time::Duration;

use super::Times;

/// MIME type of a [`Page`]; Prometheus 3 reads no page without one that it knows.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Step of whatever packets or clients move, unless exact figures are asked for.
const STEP: u64 = 1000;

/// Step of memory that they move, in bytes: about the packets of one [`STEP`].
const MEMORY_STEP: u64 = 1024 * 1024;

/// How fine exported figures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// As they are.
    Exact,
    /// In steps in which a single packet or client does not show.
    Coarse,
}

impl Grain {
    /// A number of packets, clients or items.
    #[must_use]
    pub const fn number(self, value: u64) -> u64 {
        self.step(value, STEP)
    }

    /// A number of bytes of memory.
    #[must_use]
    pub const fn memory(self, bytes: u64) -> u64 {
        self.step(bytes, MEMORY_STEP)
    }

    /// A time in which work was done, in seconds.
    #[must_use]
    pub const fn seconds(self, time: Duration) -> f64 {
        match self {
            Self::Exact => time.as_secs_f64(),
            Self::Coarse => Duration::from_secs(time.as_secs()).as_secs_f64(),
        }
    }

    const fn step(self, value: u64, step: u64) -> u64 {
        match self {
            Self::Exact => value,
            Self::Coarse => value - value % step,
        }
    }
}

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug)]
pub enum MetricKind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// A page that is being written. Names, labels and their values are words of the code, so none needs to be escaped and
/// none tells of a peer.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// One figure without a label.
    pub fn one(&mut self, kind: MetricKind, name: &'static str, help: &'static str, value: impl Display) {
        self.head(kind, name, help);
        self.line(format_args!("{name} {value}"));
    }

    /// One figure for each value of a label.
    pub fn each<V: Display>(
        &mut self,
        kind: MetricKind,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, V)>,
    ) {
        self.head(kind, name, help);
        for (word, value) in values {
            self.line(format_args!("{name}{{{label}=\"{word}\"}} {value}"));
        }
    }

    /// A date, in Unix milliseconds; in seconds on the page.
    pub fn date(&mut self, name: &'static str, help: &'static str, date_ms: u64) {
        self.one(MetricKind::Gauge, name, help, Duration::from_millis(date_ms).as_secs_f64());
    }

    /// A histogram of times, in seconds. Coarse ones keep the mean; their sum changes where their count does.
    pub fn times(&mut self, name: &'static str, help: &'static str, times: &Times, grain: Grain) {
        self.typed("histogram", name, help);
        let (mut exact, mut total) = (0, 0);
        for (bound, count) in times.buckets() {
            exact += count;
            total += grain.number(count);
            let bound = if bound.is_finite() { format!("{bound:?}") } else { "+Inf".to_owned() };
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {total}"));
        }
        let sum = match grain {
            Grain::Exact => times.sum(),
            Grain::Coarse => times.stepped_sum(total, exact),
        };
        self.line(format_args!("{name}_sum {}", sum.as_secs_f64()));
        self.line(format_args!("{name}_count {total}"));
    }

    /// What was written so far.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }

    fn head(&mut self, kind: MetricKind, name: &str, help: &str) {
        debug_assert_eq!(matches!(kind, MetricKind::Counter), name.ends_with("_total"), "{name}");
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        self.typed(kind, name, help);
    }

    fn typed(&mut self, kind: &str, name: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: impl Display) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static BOUNDS: super::super::Bounds = [0.000_005, 0.01, 0.02, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];

    #[test]
    fn a_page_has_a_head_for_each_metric_and_a_line_for_each_value() {
        let times = Times::new(&BOUNDS);
        times.observe(Duration::from_millis(15));
        times.observe(Duration::from_secs(9));
        let mut page = Page::default();
        page.one(MetricKind::Counter, "a_total", "Things", 3);
        page.each(MetricKind::Gauge, "b", "Levels", "kind", [("x", 0.5), ("y", 2.0)]);
        page.times("c_seconds", "Times", &times, Grain::Exact);
        let text = page.into_text();
        let head = "# HELP a_total Things\n# TYPE a_total counter\na_total 3\n# HELP b Levels\n# TYPE b gauge\n\
                    b{kind=\"x\"} 0.5\nb{kind=\"y\"} 2\n# HELP c_seconds Times\n# TYPE c_seconds histogram\n\
                    c_seconds_bucket{le=\"5e-6\"} 0\nc_seconds_bucket{le=\"0.01\"} 0\nc_seconds_bucket{le=\"0.02\"} 1\n";
        assert!(text.starts_with(head), "{text}");
        let tail =
            "c_seconds_bucket{le=\"8.0\"} 1\nc_seconds_bucket{le=\"+Inf\"} 2\nc_seconds_sum 9.015\nc_seconds_count 2\n";
        assert!(text.ends_with(tail), "{text}");
    }

    /// INV-LINK-09
    #[test]
    fn coarse_figures_are_whole_steps() {
        let (number, memory) = (7 * STEP + 999, 3 * MEMORY_STEP + 1);
        assert_eq!((7000, 3 << 20), (Grain::Coarse.number(number), Grain::Coarse.memory(memory)));
        assert_eq!((number, memory), (Grain::Exact.number(number), Grain::Exact.memory(memory)));
        let time = Duration::from_millis(2_750);
        assert_eq!(
            ["2", "2.75"],
            [Grain::Coarse, Grain::Exact].map(|grain| grain.seconds(time).to_string()).as_slice()
        );
    }

    /// INV-LINK-09
    #[test]
    fn a_coarse_histogram_keeps_the_mean_and_steps_with_its_counts() {
        let times = Times::new(&BOUNDS);
        times.observe_shared(Duration::from_secs(4 * 1250), 1250);
        let render = || {
            let mut page = Page::default();
            page.times("c_seconds", "Times", &times, Grain::Coarse);
            page.into_text()
        };
        assert!(render().ends_with("c_seconds_sum 4000\nc_seconds_count 1000\n"), "{}", render());
        // Whatever the times of those that fill no step: neither count nor sum tells of them.
        for (seconds, count) in [(4, 1), (1, 374), (7, 374)] {
            times.observe_shared(Duration::from_secs(seconds * u64::from(count)), count);
            assert!(render().ends_with("c_seconds_sum 4000\nc_seconds_count 1000\n"), "{}", render());
        }
        times.observe_shared(Duration::from_secs(4 * 749), 749);
        assert!(render().ends_with("c_seconds_sum 8000\nc_seconds_count 2000\n"), "{}", render());
    }
}
