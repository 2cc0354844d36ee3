//! What this process takes of its machine, as the kernel says.

use std::fs::File;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};

use super::{Grain, MetricKind, Page};
use crate::bounded::read_at_most;
use crate::clock::{boot_ms, wall_ms};
use crate::process::open_files;

/// Bytes of what the kernel says about a process.
const STAT_LIMIT: usize = 4096;

/// What a process takes; nothing where the kernel does not tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// When it was started, in Unix milliseconds.
    started_ms: u64,
    /// Processor time.
    busy: Duration,
    /// Memory that it has, in bytes.
    resident: u64,
    open_files: u64,
    most_files: u64,
}

impl ProcessUsage {
    /// Of this process, which was started at `started_ms` as [`ProcessUsage::started_ms`] told.
    #[must_use]
    pub fn now(started_ms: u64) -> Self {
        let Stat { busy_ticks, pages, .. } = Stat::own().unwrap_or_default();
        let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        // One of them is the list.
        let files = u64::try_from(files.saturating_sub(1)).unwrap_or(u64::MAX);
        let most_files = open_files().and_then(|limit| limit.current).unwrap_or(0);
        Self {
            started_ms,
            busy: Duration::from_millis(ticks_ms(busy_ticks)),
            resident: pages.saturating_mul(u64::try_from(page_size()).unwrap_or(0)),
            open_files: files,
            most_files,
        }
    }

    /// When this process was started, in Unix milliseconds by the wall clock of now. Ask once: that clock may be set.
    #[must_use]
    pub fn started_ms() -> u64 {
        let age_ms = Stat::own().map_or(0, |stat| boot_ms().saturating_sub(ticks_ms(stat.started_ticks)));
        wall_ms().saturating_sub(age_ms)
    }

    /// Writes it. What packets and clients move is stepped.
    pub(super) fn write(&self, page: &mut Page, grain: Grain) {
        let seconds = grain.seconds(self.busy);
        page.one(MetricKind::Counter, "process_cpu_seconds_total", "Processor time of the process in seconds", seconds);
        let memory = grain.memory(self.resident);
        page.one(MetricKind::Gauge, "process_resident_memory_bytes", "Memory of the process in bytes", memory);
        page.one(MetricKind::Gauge, "process_open_fds", "Open files of the process", grain.number(self.open_files));
        page.one(MetricKind::Gauge, "process_max_fds", "Files that the process may have open", self.most_files);
        page.date("process_start_time_seconds", "When the process was started, in Unix seconds", self.started_ms);
    }
}

fn ticks_ms(ticks: u64) -> u64 {
    ticks.saturating_mul(1000) / clock_ticks_per_second().max(1)
}

/// What is read of `/proc/self/stat`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stat {
    busy_ticks: u64,
    /// After the machine.
    started_ticks: u64,
    pages: u64,
}

impl Stat {
    fn own() -> Option<Self> {
        let text = File::open("/proc/self/stat").and_then(|file| read_at_most(file, STAT_LIMIT)).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// Fields are counted behind the name, which may have blanks and brackets in it: the first is the third of proc(5).
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { busy_ticks: field(14)? + field(15)?, started_ticks: field(22)?, pages: field(24)? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    #[test]
    fn figures_are_found_behind_any_name() {
        let stat = "7 (a) 1 b)) S 4 5 6 7 8 9 10 11 12 13 1400 15 16 17 18 19 20 21 2200 23 2400 25";
        assert_eq!(Some(Stat { busy_ticks: 1415, started_ticks: 2200, pages: 2400 }), Stat::parse(stat));
        for broken in ["", "7 (a) S 4 5", "7 (a", &stat.replace("2400", "x")] {
            assert_eq!(None, Stat::parse(broken), "{broken}");
        }
    }

    #[test]
    fn this_process_takes_something_and_was_started_before_now() {
        let started_ms = ProcessUsage::started_ms();
        let usage = ProcessUsage::now(started_ms);
        let most = open_files().unwrap().current.unwrap();
        assert!(usage.resident > 1 << 20 && usage.most_files == most, "{usage:?}");
        assert!((1..most).contains(&usage.open_files), "{usage:?}");
        assert!(started_ms > 0 && started_ms <= wall_ms());
    }

    /// INV-LINK-09
    #[test]
    fn coarse_figures_of_the_process_count_no_packets_and_no_links() {
        let usage = ProcessUsage {
            started_ms: 1_764_000_000_250,
            busy: Duration::from_millis(5_999),
            resident: (41 << 20) + 4096,
            open_files: 1_999,
            most_files: 4_321,
        };
        let render = |grain| {
            let mut page = Page::default();
            usage.write(&mut page, grain);
            page.into_text()
        };
        let (coarse, exact) = (render(Grain::Coarse), render(Grain::Exact));
        for (name, stepped, plain) in [
            ("process_cpu_seconds_total", "5", "5.999"),
            ("process_resident_memory_bytes", "42991616", "42995712"),
            ("process_open_fds", "1000", "1999"),
            ("process_max_fds", "4321", "4321"),
            ("process_start_time_seconds", "1764000000.25", "1764000000.25"),
        ] {
            assert!(coarse.contains(&format!("\n{name} {stepped}\n")), "{name}: {coarse}");
            assert!(exact.contains(&format!("\n{name} {plain}\n")), "{name}: {exact}");
        }
    }
}
