#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap fails the test")]

use super::*;

fn key(number: u8) -> SpoolKey {
    SpoolKey { id: MessageId([number; 16]), context: [number ^ 0xff; 32] }
}

fn head(total: u16) -> SpoolHead {
    SpoolHead { hops: 3, total, expiry_ms: 1_234_567 }
}

fn piece(number: u8, total: u16, index: u16, len: usize) -> Job {
    let data = vec![u8::try_from(index).unwrap() + 1; len].into();
    Job::Piece { key: key(number), head: head(total), index, data }
}

/// INV-MSG-62: what the index names is in the file, in whatever order it came, and is there again after a restart.
#[test]
fn pieces_are_found_again_at_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let (mut folder, restored) = SpoolFolder::open(&path).unwrap();
    assert!(restored.is_empty());
    let written = folder.work(vec![piece(1, 3, 2, 10), piece(2, 9, 4, BULK_DATA_LEN), piece(1, 3, 0, BULK_DATA_LEN)]);
    assert!(written.len() == 2 && written.iter().all(|one| one.outcome.is_ok()));
    drop(folder);

    let (mut folder, mut restored) = SpoolFolder::open(&path).unwrap();
    restored.sort_by_key(|one| one.key);
    let [one, two] = &restored[..] else { panic!("{restored:?}") };
    assert_eq!((one.key, one.head, one.pieces.count(), one.last_len), (key(1), head(3), 2, Some(10)));
    assert_eq!((two.key, two.head, two.pieces.contains(4), two.last_len), (key(2), head(9), true, None));
    assert!(folder.work(vec![piece(1, 3, 1, BULK_DATA_LEN)])[0].outcome.is_ok());
    let mut stream = vec![0; 2 * BULK_DATA_LEN + 10];
    let file = open_stream(&path, key(1)).unwrap();
    file.read_exact_at(&mut stream, 0).unwrap();
    assert_eq!(file.metadata().unwrap().len(), u64::try_from(stream.len()).unwrap());
    let expected = [vec![1; BULK_DATA_LEN], vec![2; BULK_DATA_LEN], vec![3; 10]].concat();
    assert!(stream == expected);
}

/// INV-MSG-62: a number that was written in part, and a file without its other half, are not believed.
#[test]
fn torn_files_are_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let (mut folder, _) = SpoolFolder::open(&path).unwrap();
    folder.work(vec![piece(1, 300, 7, BULK_DATA_LEN), piece(2, 300, 7, BULK_DATA_LEN)]);
    drop(folder);
    let index = file_of(&path, key(1), "index");
    let mut bytes = std::fs::read(&index).unwrap();
    bytes.push(1);
    std::fs::write(&index, &bytes).unwrap();
    std::fs::remove_file(file_of(&path, key(2), "data")).unwrap();
    std::fs::write(file_of(&path, key(3), "data"), b"no index").unwrap();
    std::fs::write(file_of(&path, key(4), "index"), b"short").unwrap();

    let (mut folder, restored) = SpoolFolder::open(&path).unwrap();
    let [one] = &restored[..] else { panic!("{restored:?}") };
    assert_eq!((one.key, one.pieces.count()), (key(1), 1));
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 2, "the others are gone");
    // The next number takes the place of the torn one.
    assert!(folder.work(vec![piece(1, 300, 200, BULK_DATA_LEN)])[0].outcome.is_ok());
    drop(folder);
    let (_, restored) = SpoolFolder::open(&path).unwrap();
    let pieces = &restored[0].pieces;
    assert_eq!((pieces.count(), pieces.contains(7), pieces.contains(200)), (2, true, true));
}

#[test]
fn a_discarded_message_leaves_nothing_and_may_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let (mut folder, _) = SpoolFolder::open(&path).unwrap();
    let written = folder.work(vec![piece(1, 5, 0, BULK_DATA_LEN), Job::Discard { key: key(1) }]);
    assert!(written[0].outcome.is_err(), "nobody is told of what was discarded");
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    assert!(folder.work(vec![piece(1, 5, 1, BULK_DATA_LEN)])[0].outcome.is_ok());
    let (_, restored) = SpoolFolder::open(&path).unwrap();
    assert_eq!((restored[0].pieces.count(), restored[0].pieces.contains(1)), (1, true));
}

#[test]
fn a_folder_that_takes_nothing_says_so_for_each_message() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let (mut folder, _) = SpoolFolder::open(&path).unwrap();
    std::fs::remove_dir(&path).unwrap();
    let written = folder.work(vec![piece(1, 5, 0, BULK_DATA_LEN), piece(2, 5, 3, BULK_DATA_LEN)]);
    assert!(written.len() == 2 && written.iter().all(|one| one.outcome.is_err() && one.indexes.len() == 1));
}
