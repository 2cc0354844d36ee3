//! INV-LINK-07: a node that is killed with SIGKILL at any moment accepts no packet twice and keeps its keys.
//!
//! A child process takes tags, logs them and reports each one whose packet could have left; it
//! rotates its keys all the time. It is killed at a random moment, and what it left is looked at.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write, stdout};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use betanet_mix::epoch::Epoch;
use betanet_node::daemon::packet_keys::PacketKeys;
use betanet_node::state::StateDir;
use betanet_sphinx::{PacketError, ReplayTag};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const FOLDER: &str = "REPLAY_KILL_FOLDER";
const START: &str = "REPLAY_KILL_START";
const CAPACITY: usize = 200;

/// Groups of 0 to 8 packets that the child takes before it rotates: in all more than fit, so that the cache is also full.
const GROUPS: u64 = 60;

fn tag(number: u64) -> ReplayTag {
    ReplayTag::from(u128::from(number).to_be_bytes())
}

fn open(folder: &Path, now: Epoch) -> PacketKeys {
    PacketKeys::open(&StateDir::open(folder).unwrap(), "boot", now, CAPACITY).unwrap()
}

/// What the child does until it is killed; the parent alone sets its folder.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let start = std::env::var(START).unwrap();
    let (mut number, mut now) =
        start.split_once(' ').map(|(n, e)| (n.parse().unwrap(), Epoch(e.parse().unwrap()))).unwrap();
    let packet_keys = open(Path::new(&folder), now);
    let mut out = stdout();
    loop {
        for (epoch, key) in packet_keys.public_keys() {
            writeln!(out, "key {} {}", epoch.0, hex::encode(key.as_bytes())).unwrap();
        }
        writeln!(out, "now {}", now.0).unwrap();
        for group in 0..GROUPS {
            let taken: Vec<u64> = (number..number + group % 9)
                .filter(|number| match packet_keys.check_and_insert(now, &tag(*number)) {
                    Ok(()) => true,
                    Err(err) => {
                        assert_eq!(PacketError::ReplayCacheFull, err);
                        false
                    }
                })
                .collect();
            number += group % 9;
            packet_keys.write_logs().unwrap();
            for released in taken {
                writeln!(out, "left {released}").unwrap();
            }
        }
        now = now.next();
        packet_keys.rotate(now).unwrap();
    }
}

/// What is known of the child after its death.
#[derive(Default)]
struct Seen {
    now: u64,
    keys: BTreeMap<u64, String>,
    left: BTreeMap<u64, BTreeSet<u64>>,
}

impl Seen {
    fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["key", epoch, key] => {
                self.keys.insert(epoch.parse().unwrap(), (*key).to_owned());
            }
            ["now", epoch] => self.now = epoch.parse().unwrap(),
            ["left", number] => {
                self.left.entry(self.now).or_default().insert(number.parse().unwrap());
            }
            // The test harness of the child speaks too.
            _ => {}
        }
    }

    fn next_number(&self) -> u64 {
        self.left.values().flatten().max().map_or(0, |last| last + 1_000)
    }
}

#[test]
fn a_killed_node_accepts_nothing_twice_and_keeps_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut seen = Seen { now: 100, ..Seen::default() };
    let (mut refused, mut rotated) = (0, 0);
    for _ in 0..60 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(START, format!("{} {}", seen.next_number(), seen.now))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let before = seen.now;
        for line in lines.by_ref().take(usize::try_from(rng.next_u32() % 1500).unwrap()) {
            seen.note(&line);
        }
        std::thread::sleep(Duration::from_micros(u64::from(rng.next_u32() % 3000)));
        child.kill().unwrap();
        child.wait().unwrap();
        // What the pipe still holds was said before the end.
        lines.for_each(|line| seen.note(&line));
        rotated += seen.now - before;

        let packet_keys = open(folder.path(), Epoch(seen.now));
        let kept: BTreeMap<u64, String> =
            packet_keys.public_keys().into_iter().map(|(epoch, key)| (epoch.0, hex::encode(key.as_bytes()))).collect();
        for epoch in seen.now.saturating_sub(1)..=seen.now + 1 {
            // The last rotation may have moved on beyond what was said.
            let Some(said) = seen.keys.get(&epoch) else { continue };
            match kept.get(&epoch) {
                Some(kept) => assert_eq!(said, kept, "the key of epoch {epoch} changed"),
                None => assert!(epoch < seen.now, "the key of epoch {epoch} is lost"),
            }
        }
        for epoch in [seen.now.saturating_sub(1), seen.now] {
            let expected = if kept.contains_key(&epoch) { PacketError::Replay } else { PacketError::NoKey };
            for number in seen.left.get(&epoch).into_iter().flatten() {
                assert_eq!(Err(expected), packet_keys.check_and_insert(Epoch(epoch), &tag(*number)));
                refused += 1;
            }
        }
    }
    assert!(refused > 1_000 && rotated > 10, "{refused} refused, {rotated} rotations");
}
