//! The one place that asks the operating system for the time.
//!
//! Dates in the network are *network time*: the machine's boot clock, which nobody sets and which
//! counts suspension, plus what it lags behind. The wall clock is looked at once for each boot of
//! the machine; setting it later moves nothing. Nodes take the authority's time, and clients that
//! of their edges, by [`NetworkClock::set`].

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use betanet_mix::text::rough;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::bounded::{read_at_most, there};
use crate::state::{StateError, read_json, unless_damaged, write_json};

/// File with the network time in a state folder.
pub const CLOCK_FILE: &str = "clock.json";

/// A wall clock that is no more than this away from network time is not worth a word.
const WORTH_A_WORD_MS: u64 = 5_000;

/// Milliseconds since the machine was started, with the time for which it was suspended. Never jumps.
#[must_use]
pub fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
}

/// What the machine's wall clock shows, in milliseconds since the Unix epoch. Anybody may set it at any time.
#[must_use]
pub fn wall_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "this is where it is looked at")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A peer's clock, as one question has shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The peer's time beyond [`boot_ms`].
    pub ahead_ms: i64,
    /// How far off that may be, by the way there and back.
    pub spread_ms: u64,
}

/// No clock shows a time beyond this, far from where times overflow: about the year 10,000.
const LATEST_MS: u64 = 1 << 48;

/// Clocks this close to each other need not be set.
const TOLERANCE_MS: u64 = 200;

impl Sample {
    /// What is known of a clock that showed `now_ms` some time between two looks at [`boot_ms`].
    #[must_use]
    pub fn new(now_ms: u64, asked_ms: u64, answered_ms: u64) -> Self {
        let way_ms = answered_ms.saturating_sub(asked_ms);
        let ahead = i128::from(now_ms.min(LATEST_MS)) - i128::from(asked_ms.saturating_add(way_ms / 2));
        Self { ahead_ms: i64::try_from(ahead).unwrap_or(i64::MAX), spread_ms: way_ms.div_ceil(2) }
    }

    /// Whether both may show the same time.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        let apart = self.ahead_ms.abs_diff(other.ahead_ms);
        apart <= TOLERANCE_MS.saturating_add(self.spread_ms).saturating_add(other.spread_ms)
    }
}

/// A boot clock that has fallen this far behind a peer's at once may be that of a machine which was set back to a former
/// state. No clock drifts as far between two questions.
const SET_BACK_MS: u64 = 2_000;

/// The time of the network, as far as this process knows it. Clones share it.
#[derive(Clone, Debug)]
pub struct NetworkClock(Arc<State>);

#[derive(Debug)]
struct State {
    /// Network time beyond [`boot_ms`].
    ahead_ms: AtomicI64,
    /// How often it was set.
    moves: AtomicU64,
    /// Whether a peer of this boot has said what it is.
    confirmed: AtomicBool,
    /// Whether this machine may have been set back to a former state of this boot since that was last asked.
    set_back: AtomicBool,
    /// Where it is kept.
    path: Option<PathBuf>,
}

/// What stands in the file: no date, but what the boot clock lags behind network time.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockFile {
    boot: String,
    ahead_ms: i64,
    confirmed: bool,
}

impl NetworkClock {
    /// Goes by the wall clock of this moment, and keeps nothing.
    #[must_use]
    pub fn from_wall() -> Self {
        Self::new(ahead(wall_ms()), false, None)
    }

    /// Goes on with the time in the state folder `dir` if it is of this boot of the machine, and
    /// otherwise from what the wall clock shows. The folder's owner calls it.
    ///
    /// # Errors
    /// The file, or the name of this boot, cannot be read.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(CLOCK_FILE);
        let kept = unless_damaged(read_json::<ClockFile>(&path, "network time"))?;
        let (named, boot) = (!boot_id()?.is_empty(), boot()?);
        if let Some(file) = kept.filter(|file| named && file.boot == boot) {
            return Ok(Self::new(file.ahead_ms, file.confirmed, Some(path)));
        }
        let clock = Self::new(ahead(wall_ms()), false, Some(path));
        clock.save();
        Ok(clock)
    }

    fn new(ahead_ms: i64, confirmed: bool, path: Option<PathBuf>) -> Self {
        Self(Arc::new(State {
            ahead_ms: AtomicI64::new(ahead_ms),
            moves: AtomicU64::new(0),
            confirmed: AtomicBool::new(confirmed),
            set_back: AtomicBool::new(false),
            path,
        }))
    }

    /// Network time, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        boot_ms().saturating_add_signed(self.0.ahead_ms.load(Ordering::Relaxed))
    }

    /// What this clock shows, in the form of a question's answer.
    #[must_use]
    pub fn sample(&self) -> Sample {
        Sample { ahead_ms: self.0.ahead_ms.load(Ordering::Relaxed), spread_ms: 0 }
    }

    /// Takes over a peer's time, also for later processes of this boot. Says whether that changed anything.
    pub fn follow(&self, peer: &Sample) -> bool {
        let own = self.sample();
        let was_confirmed = self.0.confirmed.swap(true, Ordering::Relaxed);
        if own.agrees(peer) {
            if !was_confirmed {
                self.save();
            }
            return false;
        }
        // Time has passed in the network that has not passed here.
        if was_confirmed && peer.ahead_ms.saturating_sub(own.ahead_ms) > allowed(peer.spread_ms) {
            self.0.set_back.store(true, Ordering::Relaxed);
        }
        self.0.ahead_ms.store(peer.ahead_ms, Ordering::Relaxed);
        self.0.moves.fetch_add(1, Ordering::Relaxed);
        self.save();
        let said = self.complaint().unwrap_or_else(|| "this process' time was not the network's".to_owned());
        tracing::warn!(reason = %said, "clock.set");
        true
    }

    /// Takes `now_ms` for the present.
    pub fn set(&self, now_ms: u64) {
        let now = boot_ms();
        self.follow(&Sample::new(now_ms, now, now));
    }

    /// Whether, since the last question, this machine was set back to a former state of this boot, as a snapshot of a
    /// virtual machine is taken up again: its boot clock fell behind the network's.
    #[must_use]
    pub fn was_set_back(&self) -> bool {
        self.0.set_back.swap(false, Ordering::Relaxed)
    }

    /// How often the time was set. What was made before the last time may bear a wrong date.
    #[must_use]
    pub fn moves(&self) -> u64 {
        self.0.moves.load(Ordering::Relaxed)
    }

    /// One line if the machine's wall clock shows something else.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        complaint(wall_ms(), self.now_ms())
    }

    /// What cannot be written down holds for this process; a later one asks again.
    fn save(&self) {
        if let Some(path) = &self.0.path {
            let file = |boot| ClockFile {
                boot,
                ahead_ms: self.0.ahead_ms.load(Ordering::Relaxed),
                confirmed: self.0.confirmed.load(Ordering::Relaxed),
            };
            if let Err(error) = boot().and_then(|boot| write_json(path, &file(boot))) {
                tracing::warn!(%error, "clock.not_saved");
            }
        }
    }
}

/// How far a peer's clock may run away between two questions, in milliseconds.
fn allowed(spread_ms: u64) -> i64 {
    i64::try_from(SET_BACK_MS.saturating_add(spread_ms)).unwrap_or(i64::MAX)
}

/// What the boot clock lags behind `now_ms`.
fn ahead(now_ms: u64) -> i64 {
    let ahead = i128::from(now_ms) - i128::from(boot_ms());
    i64::try_from(ahead).unwrap_or(i64::MAX)
}

/// What a wall clock that differs from network time is to be told about.
fn complaint(wall_ms: u64, network_ms: u64) -> Option<String> {
    let off_ms = wall_ms.abs_diff(network_ms);
    if off_ms <= WORTH_A_WORD_MS {
        return None;
    }
    let side = if wall_ms > network_ms { "ahead of" } else { "behind" };
    Some(format!("this machine's clock is {} {side} the network's: set it", rough(Duration::from_millis(off_ms))))
}

/// The identity of this boot of the machine: what was written to files before a restart of a
/// process in the same boot is still there, synced or not. On a virtual machine that can tell, it is
/// another one after a snapshot was taken up. Empty where the kernel does not tell.
///
/// # Errors
/// It cannot be read now, which makes it no other one.
pub fn boot_id() -> Result<String, StateError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let failed = |source| StateError::Io { action: "read", path: path.to_owned(), source };
    let id = there(File::open(path).and_then(|file| read_at_most(file, 128))).map_err(failed)?.unwrap_or_default();
    let id = String::from_utf8_lossy(&id).trim().to_owned();
    Ok(if id.is_empty() { id } else { id + &generation(Path::new("/"))? })
}

/// Where a hypervisor's generation of a virtual machine can be read, and at which bytes: QEMU's `vmgenid`, and the
/// disruption marker of a `vmclock`. The kernel keeps that of other hypervisors to itself.
const GENERATIONS: [(&str, std::ops::Range<usize>); 2] =
    [("sys/firmware/qemu_fw_cfg/by_name/etc/vmgenid_guid/raw", 0..4096), ("dev/vmclock0", 16..24)];

/// The generation of this virtual machine, nothing where there is none to be read.
fn generation(root: &Path) -> Result<String, StateError> {
    let mut generation = String::new();
    for (path, bytes) in &GENERATIONS {
        let path = root.join(path);
        let head = there(File::open(&path).and_then(|file| read_at_most(file.take(4096), 4096)));
        let head = head.map_err(|source| StateError::Io { action: "read", path, source })?;
        if let Some(id) = head.as_deref().and_then(|head| head.get(bytes.start..bytes.end.min(head.len()))) {
            generation.push(' ');
            generation.push_str(&hex::encode(id));
        }
    }
    Ok(generation)
}

/// What the boot clock counts from: this boot, as seen from this process' time namespace.
fn boot() -> Result<String, StateError> {
    let namespace = std::fs::read_link("/proc/self/ns/time").unwrap_or_default();
    Ok(format!("{} {}", boot_id()?, namespace.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    /// INV-LINK-23
    #[test]
    fn a_later_process_of_the_same_boot_goes_on_with_the_time_that_was_set() {
        let dir = tempfile::tempdir().unwrap();
        let first = NetworkClock::open(dir.path()).unwrap();
        first.set(first.now_ms() + 30 * 24 * HOUR_MS);
        let before = first.now_ms();
        let second = NetworkClock::open(dir.path()).unwrap();
        let now = second.now_ms();
        assert!((before..before + HOUR_MS).contains(&now), "{now}");
        assert!(second.complaint().unwrap().contains("behind"));
        // What another boot has left counts no more, and neither does what cannot be read.
        for left in [r#"{"boot": "another", "ahead_ms": 5}"#, "{"] {
            std::fs::write(dir.path().join(CLOCK_FILE), left).unwrap();
            let third = NetworkClock::open(dir.path()).unwrap();
            assert_eq!(None, third.complaint());
        }
    }

    /// INV-LINK-23
    #[test]
    fn who_is_wrong_about_the_time_is_said_in_one_line() {
        let now = 400 * 24 * HOUR_MS;
        assert_eq!(None, complaint(now + WORTH_A_WORD_MS, now));
        let said = |wall| complaint(wall, now).unwrap();
        assert_eq!("this machine's clock is 60 min behind the network's: set it", said(now - HOUR_MS));
        assert_eq!("this machine's clock is 30 d ahead of the network's: set it", said(now + 30 * 24 * HOUR_MS));
        assert!(said(now - 10_000).contains("10 s behind") && said(0).contains("400 d behind"));
        // What the way of a question there and back adds or takes away changes nothing that is said.
        for (off_ms, text) in [(10_000, "10 s"), (HOUR_MS, "60 min"), (5 * HOUR_MS, "5 h"), (30 * 24 * HOUR_MS, "30 d")]
        {
            for wall in [now - off_ms - 150, now - off_ms + 150, now + off_ms - 150, now + off_ms + 150] {
                assert!(said(wall).contains(&format!("clock is {text} ")), "{}", said(wall));
            }
        }
    }

    fn after(clock: &NetworkClock, ahead_ms: i64) -> Sample {
        Sample { ahead_ms: clock.sample().ahead_ms + ahead_ms, spread_ms: 30 }
    }

    /// INV-LINK-56
    #[test]
    fn a_machine_that_lost_time_which_the_network_did_not_was_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let clock = NetworkClock::open(dir.path()).unwrap();
        // At first the wall clock may be wrong by any time.
        assert!(clock.follow(&after(&clock, 90_000)) && !clock.was_set_back());
        for (ahead_ms, expected) in [(1_900, false), (-60_000, false), (4_000, true), (50, false), (-5, false)] {
            clock.follow(&after(&clock, ahead_ms));
            assert_eq!(expected, clock.was_set_back(), "{ahead_ms} ms");
            assert!(!clock.was_set_back());
        }
        // Also where the process was not there meanwhile, or only heard that its clock is right.
        let later = NetworkClock::open(dir.path()).unwrap();
        later.follow(&after(&later, 5_000));
        assert!(later.was_set_back());
        let dir = tempfile::tempdir().unwrap();
        let right = NetworkClock::open(dir.path()).unwrap();
        right.follow(&right.sample());
        let later = NetworkClock::open(dir.path()).unwrap();
        later.follow(&after(&later, 5_000));
        assert!(later.was_set_back());
    }

    /// INV-LINK-56
    #[test]
    fn another_generation_of_a_virtual_machine_is_another_boot() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!("", generation(root.path()).unwrap());
        let [guid, clock] = GENERATIONS.map(|(path, _)| root.path().join(path));
        std::fs::create_dir_all(guid.parent().unwrap()).unwrap();
        std::fs::create_dir_all(clock.parent().unwrap()).unwrap();
        let mut page = [0; 5000];
        let mut seen = std::collections::BTreeSet::new();
        for marker in [1, 2] {
            page[20] = marker;
            std::fs::write(&clock, page).unwrap();
            assert!(seen.insert(generation(root.path()).unwrap()));
        }
        // What runs with the time is no part of it.
        page[40] = 1;
        std::fs::write(&clock, page).unwrap();
        assert!(!seen.insert(generation(root.path()).unwrap()));
        std::fs::write(&guid, [7; 16]).unwrap();
        assert!(seen.insert(generation(root.path()).unwrap()));
    }
}
