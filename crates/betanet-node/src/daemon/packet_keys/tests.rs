#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use betanet_mix::replay::LOG_ENTRY_LEN;

use super::*;

const NOW: Epoch = Epoch(100);

fn tag(byte: u8) -> ReplayTag {
    ReplayTag::from([byte; 16])
}

impl PacketKeys {
    /// As where the disk is full: no tag finds its way into a log.
    pub(in crate::daemon) fn fill_disk(&self) {
        for log in lock(&self.logs).values_mut() {
            drop(log.exchange_file(OpenOptions::new().write(true).open("/dev/full").unwrap()));
        }
    }
}

/// INV-LINK-07
#[test]
fn a_restart_in_the_same_boot_keeps_keys_and_memory() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let first = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    let keys = first.public_keys();
    first.check_and_insert(NOW, &tag(1)).unwrap();
    first.write_logs().unwrap();
    drop(first);

    let second = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    assert_eq!(keys, second.public_keys());
    assert_eq!(Err(PacketError::Replay), second.check_and_insert(NOW, &tag(1)));
    assert_eq!(Ok(()), second.check_and_insert(NOW, &tag(2)));
}

#[test]
fn a_torn_log_entry_is_cut_off_and_the_rest_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let first = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    first.check_and_insert(NOW, &tag(1)).unwrap();
    first.write_logs().unwrap();
    let log = Paths::new(&first.dir, NOW).log;
    drop(first);
    let mut file = OpenOptions::new().append(true).open(&log).unwrap();
    file.write_all(&[1, 2, 3]).unwrap();

    let second = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    second.check_and_insert(NOW, &tag(2)).unwrap();
    second.write_logs().unwrap();
    drop(second);
    let third = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    for seen in [1, 2] {
        assert_eq!(Err(PacketError::Replay), third.check_and_insert(NOW, &tag(seen)));
    }
}

/// INV-LINK-07: a process that is killed while it writes leaves a log that is ahead of its tally, by a part of an entry, by
/// entries, or by all of them.
#[test]
fn a_log_that_a_killed_process_left_still_knows_every_packet_that_left_before() {
    const PACKETS: u8 = 5;
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let first = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    let Paths { log: path, tally } = Paths::new(&first.dir, NOW);
    let mut tallies = vec![std::fs::read(&tally).unwrap()];
    for number in 0..PACKETS {
        first.check_and_insert(NOW, &tag(number)).unwrap();
        first.write_logs().unwrap();
        tallies.push(std::fs::read(&tally).unwrap());
    }
    let keys = first.public_keys();
    drop(first);
    let log = std::fs::read(&path).unwrap();
    for cut in 0..=log.len() {
        let whole = cut / LOG_ENTRY_LEN;
        for counted in 0..=whole {
            std::fs::write(&path, &log[..cut]).unwrap();
            std::fs::write(&tally, &tallies[counted]).unwrap();
            let killed = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
            assert_eq!(keys, killed.public_keys(), "cut at {cut}, {counted} counted");
            for number in 0..PACKETS {
                let expected = if usize::from(number) < whole { Err(PacketError::Replay) } else { Ok(()) };
                assert_eq!(expected, killed.check_and_insert(NOW, &tag(number)), "cut at {cut}");
            }
            // What is written after a cut is whole again, and counted.
            killed.write_logs().unwrap();
            drop(killed);
            assert_eq!(tallies.last().unwrap(), &std::fs::read(&tally).unwrap());
            let again = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
            for number in 0..PACKETS {
                assert_eq!(Err(PacketError::Replay), again.check_and_insert(NOW, &tag(number)), "cut at {cut}");
            }
        }
    }
}

/// Does something to the files of a key.
type Loss = fn(&Paths);

/// INV-LINK-55: within one boot, and INV-LINK-07: after another one, whatever the tally says.
#[test]
fn a_key_whose_log_lost_an_entry_is_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let first = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    let paths = Paths::new(&first.dir, NOW);
    let former = |packet_keys: &PacketKeys, keys: &BTreeMap<Epoch, PublicKey>| {
        packet_keys.public_keys().get(&NOW) == keys.get(&NOW)
    };
    let mut packet_keys = first;
    let losses: [(Loss, &str); 6] = [
        (|paths| truncate(&paths.log, 8), "one entry"),
        (|paths| truncate(&paths.log, 17), "a part of an entry"),
        (|paths| std::fs::write(&paths.log, [7; 24]).unwrap(), "other entries"),
        (|paths| std::fs::write(&paths.log, []).unwrap(), "all of them"),
        (|paths| std::fs::remove_file(&paths.tally).unwrap(), "the tally"),
        (|paths| truncate(&paths.tally, 9), "a part of the tally"),
    ];
    for (lose, what) in losses {
        let keys = packet_keys.public_keys();
        for number in 0..3 {
            packet_keys.check_and_insert(NOW, &tag(number)).unwrap();
        }
        packet_keys.write_logs().unwrap();
        drop(packet_keys);
        packet_keys = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
        assert!(former(&packet_keys, &keys), "before the loss of {what}");
        drop(packet_keys);
        lose(&paths);
        packet_keys = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
        assert!(!former(&packet_keys, &keys), "after the loss of {what}");
        // The keys that lost nothing stay.
        assert_eq!(keys.get(&NOW.next()), packet_keys.public_keys().get(&NOW.next()));
    }
    let keys = packet_keys.public_keys();
    drop(packet_keys);
    let rebooted = PacketKeys::open(&state, "another boot", NOW, 100).unwrap();
    assert!(rebooted.public_keys().values().all(|key| keys.values().all(|former| former != key)));
}

fn truncate(path: &Path, length: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// INV-LINK-56
#[test]
fn a_machine_that_was_set_back_has_other_keys_that_last_in_its_new_state() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let packet_keys = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    let before = packet_keys.public_keys();
    packet_keys.check_and_insert(NOW, &tag(1)).unwrap();
    let forgotten = packet_keys.forget(Some("boot 2".to_owned()));
    assert_eq!(before.keys().copied().collect::<Vec<_>>(), forgotten.epochs());
    assert_eq!(Err(PacketError::NoKey), packet_keys.check_and_insert(NOW, &tag(2)));
    assert!(packet_keys.public_keys().is_empty());
    forgotten.erase();
    packet_keys.rotate(NOW).unwrap();
    let after = packet_keys.public_keys();
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert!(after.values().all(|key| before.values().all(|former| former != key)));
    assert_eq!((0, 100), packet_keys.replay_load());
    drop(packet_keys);
    let kept = PacketKeys::open(&state, "boot 2", NOW, 100).unwrap();
    assert_eq!(after, kept.public_keys());
    drop(kept);
    assert_ne!(after, PacketKeys::open(&state, "boot", NOW, 100).unwrap().public_keys());
}

#[test]
fn all_keys_share_the_room_for_tags() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let packet_keys = PacketKeys::open(&state, "boot", NOW, 7).unwrap();
    for number in 0..4 {
        packet_keys.check_and_insert(NOW.previous(), &tag(number)).unwrap();
    }
    for number in 0..3 {
        packet_keys.check_and_insert(NOW, &tag(number)).unwrap();
    }
    assert_eq!((7, 7), packet_keys.replay_load());
    assert_eq!(Err(PacketError::ReplayCacheFull), packet_keys.check_and_insert(NOW, &tag(9)));
    assert_eq!(Err(PacketError::Replay), packet_keys.check_and_insert(NOW, &tag(1)));
    packet_keys.rotate(NOW.next()).unwrap();
    assert_eq!(Ok(()), packet_keys.check_and_insert(NOW, &tag(9)));
}

/// INV-LINK-07: a tag is accepted once, and is in the log when the thread that took it goes on.
#[test]
fn many_threads_take_a_tag_once_and_none_goes_on_before_its_tags_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let packet_keys = PacketKeys::open(&state, "boot", NOW, 10_000).unwrap();
    let path = Paths::new(&packet_keys.dir, NOW).log;
    let work = || {
        let mut taken = 0;
        for number in 0..500_u128 {
            taken += u64::from(packet_keys.check_and_insert(NOW, &ReplayTag::from(number.to_be_bytes())).is_ok());
            packet_keys.write_logs().unwrap();
            // Each tag up to this one was taken by some thread, and this thread's are in the log.
            let length = std::fs::metadata(&path).unwrap().len();
            assert!(length >= taken * u64::try_from(LOG_ENTRY_LEN).unwrap());
        }
        taken
    };
    let taken: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((500, (500, 10_000)), (taken, packet_keys.replay_load()));
}

#[test]
fn tags_that_a_full_disk_refused_are_not_taken_for_written() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let first = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let log = lock(&first.logs).get_mut(&NOW).unwrap().exchange_file(full);
    first.check_and_insert(NOW, &tag(1)).unwrap();
    assert!(first.write_logs().is_err());
    // Another thread's turn, whose packets wait for the same log.
    assert!(first.write_logs().is_err());
    lock(&first.logs).get_mut(&NOW).unwrap().exchange_file(log);
    first.check_and_insert(NOW, &tag(2)).unwrap();
    first.write_logs().unwrap();
    drop(first);
    let second = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    for seen in [1, 2] {
        assert_eq!(Err(PacketError::Replay), second.check_and_insert(NOW, &tag(seen)));
    }
}

/// INV-LINK-81: what a damaged file says of keys is not believed. All are new, and what belonged to the former ones goes.
#[test]
fn a_damaged_key_file_costs_the_keys_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let file = state.join(KEYS_FILE);
    for damage in ["", "{", r#"{"boot_id":"boot","ring":"00","filters":{}}"#] {
        let first = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
        let keys = first.public_keys();
        let log = Paths::new(&first.dir, NOW).log;
        drop(first);
        let left = Paths::new(dir.path(), Epoch(NOW.0 + 7)).log;
        std::fs::copy(&log, &left).unwrap();
        std::fs::write(&file, damage).unwrap();
        let second = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
        let fresh = second.public_keys();
        assert_eq!(
            (keys.len(), true),
            (fresh.len(), keys.iter().all(|(epoch, key)| fresh.get(epoch) != Some(key))),
            "{damage}"
        );
        assert!(!left.exists(), "{damage}");
    }
}

/// INV-LINK-07
#[test]
fn a_reboot_or_a_lost_log_retires_the_keys() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let first = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    let keys = first.public_keys();
    let log = Paths::new(&first.dir, NOW).log;
    drop(first);

    std::fs::remove_file(log).unwrap();
    let second = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    assert_ne!(keys.get(&NOW), second.public_keys().get(&NOW));
    assert_eq!(keys.get(&NOW.next()), second.public_keys().get(&NOW.next()));
    drop(second);

    let third = PacketKeys::open(&state, "another boot", NOW, 100).unwrap();
    assert_ne!(keys.get(&NOW.next()), third.public_keys().get(&NOW.next()));
}

/// INV-LINK-07
#[test]
fn rotation_erases_key_and_log_together() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let packet_keys = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    let log = Paths::new(&packet_keys.dir, NOW).log;
    assert!(log.exists());
    packet_keys.rotate(NOW.next()).unwrap();
    let keys = packet_keys.public_keys();
    packet_keys.rotate(NOW.next()).unwrap();
    assert_eq!(keys, packet_keys.public_keys());
    assert!(log.exists());
    assert!(packet_keys.accept(NOW.parity()).is_some());
    packet_keys.rotate(NOW.next().next()).unwrap();
    assert!(!log.exists());
    assert_eq!(Err(PacketError::NoKey), packet_keys.check_and_insert(NOW, &tag(1)));
}

/// INV-LINK-07
#[test]
fn a_key_ends_before_the_slow_work_and_another_begins_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let packet_keys = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    let (log, file) = (Paths::new(&packet_keys.dir, NOW).log, state.join(KEYS_FILE));
    let before = std::fs::read(&file).unwrap();
    assert!(packet_keys.renewal().is_none());
    let now = NOW.next().next();
    let retired = packet_keys.retire(now);
    assert_eq!([NOW.previous(), NOW], retired.epochs());
    // Nothing was removed or written yet; packets of other keys go on.
    assert!(log.exists());
    assert_eq!(Err(PacketError::NoKey), packet_keys.check_and_insert(NOW, &tag(1)));
    assert_eq!(Ok(()), packet_keys.check_and_insert(NOW.next(), &tag(1)));
    let renewal = packet_keys.renewal().unwrap();
    retired.erase();
    assert!(!log.exists());
    let renewed = renewal.write().unwrap();
    assert_ne!(before, std::fs::read(&file).unwrap());
    assert!(!packet_keys.public_keys().contains_key(&now));
    packet_keys.adopt(renewed);
    assert_eq!(Err(PacketError::Replay), packet_keys.check_and_insert(NOW.next(), &tag(1)));
    assert_eq!(Ok(()), packet_keys.check_and_insert(now, &tag(1)));
    let keys = packet_keys.public_keys();
    packet_keys.write_logs().unwrap();
    drop(packet_keys);
    let again = PacketKeys::open(&state, "boot", now, 100).unwrap();
    assert_eq!(keys, again.public_keys());
    assert_eq!(Err(PacketError::Replay), again.check_and_insert(now, &tag(1)));
}

/// INV-LINK-14
#[test]
fn keys_that_cannot_be_saved_are_neither_published_nor_used_and_are_made_once_they_can() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let packet_keys = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    let held = packet_keys.public_keys();
    // A folder in the place of the new file refuses as a full disk does.
    let blocked = dir.path().join("epochs.json.new");
    std::fs::create_dir(&blocked).unwrap();
    let now = NOW.next().next();
    assert!(packet_keys.rotate(now).is_err());
    assert!(packet_keys.rotate(now).is_err());
    assert!(packet_keys.accept(now.parity()).is_none());
    assert_eq!(Err(PacketError::NoKey), packet_keys.check_and_insert(now, &tag(1)));
    // The old key went all the same, and the one between stays.
    let between = BTreeMap::from([(NOW.next(), held[&NOW.next()])]);
    assert_eq!(between, packet_keys.public_keys());
    std::fs::remove_dir(&blocked).unwrap();
    packet_keys.rotate(now).unwrap();
    assert_eq!(3, packet_keys.public_keys().len());
    assert_eq!(Ok(()), packet_keys.check_and_insert(now, &tag(1)));
}

#[test]
fn a_pipe_in_place_of_a_log_retires_its_key_and_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let first = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    let (keys, log) = (first.public_keys(), Paths::new(&first.dir, NOW).log);
    drop(first);
    std::fs::remove_file(&log).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &log, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let second = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    assert_ne!(keys.get(&NOW), second.public_keys().get(&NOW));
    assert_eq!(keys.get(&NOW.next()), second.public_keys().get(&NOW.next()));
}

/// INV-LINK-26
#[test]
fn a_clock_that_is_set_back_costs_keys_but_lets_nothing_pass_twice() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let packet_keys = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    packet_keys.rotate(NOW.next()).unwrap();
    packet_keys.check_and_insert(NOW.next(), &tag(1)).unwrap();
    packet_keys.write_logs().unwrap();
    let before = packet_keys.public_keys();
    let far = Epoch(NOW.0 + 1000);
    let future = Paths::new(&packet_keys.dir, far).log;

    // One epoch back: the key that let packets in is still held, and so is its memory.
    packet_keys.rotate(NOW).unwrap();
    assert_eq!(Err(PacketError::Replay), packet_keys.check_and_insert(NOW.next(), &tag(1)));
    assert_eq!(before[&NOW.next()], packet_keys.public_keys()[&NOW.next()]);
    assert!(!Paths::new(&packet_keys.dir, NOW.next().next()).log.exists());
    // Far ahead and back again: every key is another.
    packet_keys.rotate(far).unwrap();
    assert!(future.exists());
    drop(packet_keys);
    let packet_keys = PacketKeys::open(&state, "boot", NOW, 100).unwrap();
    assert_eq!(NOW, packet_keys.current());
    assert!(!future.exists());
    let after = packet_keys.public_keys();
    assert!(after.contains_key(&NOW) && after.values().all(|key| !before.values().any(|former| former == key)));
}

/// INV-LINK-26: also where the key file cannot be written meanwhile.
#[test]
fn a_key_that_went_with_its_log_does_not_come_back_with_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let packet_keys = PacketKeys::open(&state, "boot", NOW.next(), 100).unwrap();
    let ahead = NOW.next().next();
    let before = packet_keys.public_keys();
    packet_keys.check_and_insert(ahead, &tag(1)).unwrap();
    packet_keys.write_logs().unwrap();
    let blocked = dir.path().join("epochs.json.new");
    std::fs::create_dir(&blocked).unwrap();
    assert!(packet_keys.rotate(NOW).is_err());
    assert!(packet_keys.rotate(NOW.next()).is_err());
    drop(packet_keys);
    std::fs::remove_dir(&blocked).unwrap();
    let packet_keys = PacketKeys::open(&state, "boot", NOW.next(), 100).unwrap();
    assert_ne!(before[&ahead], packet_keys.public_keys()[&ahead]);
    assert_eq!(before[&NOW.next()], packet_keys.public_keys()[&NOW.next()]);
}
