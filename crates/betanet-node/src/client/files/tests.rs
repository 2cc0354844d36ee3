#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn read_all(body: &Body) -> Vec<u8> {
    let mut bytes = vec![0; body.len()];
    body.read(0, &mut bytes).unwrap();
    bytes
}

fn snapshot_in(folder: &Path, path: &Path) -> Result<Body, ClientError> {
    snapshot(path, nameless_file(folder).unwrap())
}

fn why(outcome: Result<Body, ClientError>) -> (ErrorKind, String) {
    let error = outcome.unwrap_err();
    let text = error.to_string();
    let ClientError::File { source, .. } = error else { panic!("{text}") };
    (source.kind(), text)
}

#[test]
fn what_becomes_of_a_file_after_its_send_began_does_not_change_the_message() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("film");
    let content: Vec<u8> = (0..CHUNK * 2 + 77).map(|at| u8::try_from(at % 251).unwrap()).collect();
    std::fs::write(&path, &content).unwrap();
    let body = snapshot_in(dir.path(), &path).unwrap();
    assert_eq!((content.len(), 0), (body.len(), body.in_memory()));
    std::fs::write(&path, b"another").unwrap();
    assert!(read_all(&body) == content);
    std::fs::remove_file(&path).unwrap();
    assert!(read_all(&body) == content);
    assert_eq!(0, std::fs::read_dir(dir.path()).unwrap().count());
}

#[test]
fn a_file_that_cannot_be_a_message_is_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let missing = place("missing");
    let (kind, text) = why(snapshot_in(dir.path(), &missing));
    assert_eq!(ErrorKind::NotFound, kind);
    assert!(text.contains(missing.to_str().unwrap()), "{text}");

    let pipe = place("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    for odd in [dir.path(), &pipe, Path::new("/dev/zero")] {
        let (kind, text) = why(snapshot_in(dir.path(), odd));
        assert_eq!(ErrorKind::InvalidInput, kind, "{text}");
    }

    let long = place("long");
    let file = File::create(&long).unwrap();
    file.set_len(u64::try_from(MAX_MESSAGE_LEN).unwrap()).unwrap();
    assert_eq!(MAX_MESSAGE_LEN, snapshot_in(dir.path(), &long).unwrap().len());
    file.set_len(u64::try_from(MAX_MESSAGE_LEN).unwrap() + 1).unwrap();
    assert_eq!(ErrorKind::FileTooLarge, why(snapshot_in(dir.path(), &long)).0);
}

#[test]
fn a_file_that_was_written_to_is_told_from_one_that_was_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, b"one").unwrap();
    let state = || state_of(&std::fs::metadata(&path).unwrap());
    let before = state();
    assert_eq!(before, state());
    std::fs::write(&path, b"more").unwrap();
    assert_ne!(before, state());
    // Of the same length, at another time.
    let before = state();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(7);
    File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    assert_ne!(before, state());
}

#[test]
fn a_body_with_a_part_in_memory_is_as_long_as_a_message_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let copy = nameless_file(dir.path()).unwrap();
    copy_body(&[1; 300][..], &copy, MAX_MESSAGE_LEN - 300).unwrap();
    let outcome = copy_body(&[1; 300][..], &copy, MAX_MESSAGE_LEN - 299);
    assert!(matches!(outcome, Err(CopyError::Source(error)) if error.kind() == ErrorKind::FileTooLarge));
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(matches!(copy_body(&[1; 300][..], &full, 0), Err(CopyError::Copy(_))));
}

/// A body in memory, and the same one as a part of a file.
fn received(dir: &Path, content: &[u8]) -> [ReceivedBody; 2] {
    let spooled = dir.join("spooled");
    std::fs::write(&spooled, [b"head", content, b"tail"].concat()).unwrap();
    let file = Arc::new(File::open(&spooled).unwrap());
    std::fs::remove_file(&spooled).unwrap();
    let range = 4..4 + u64::try_from(content.len()).unwrap();
    [ReceivedBody::Bytes(content.to_vec()), ReceivedBody::File { file, range }]
}

#[test]
fn a_body_that_arrived_becomes_a_file_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("here");
    for content in [&b""[..], b"short", &vec![9; CHUNK + 1]] {
        for body in received(dir.path(), content) {
            body.save(&path).unwrap();
            assert!(std::fs::read(&path).unwrap() == content);
            assert_eq!(0o600, std::fs::metadata(&path).unwrap().permissions().mode() & 0o777);
        }
    }
    assert_eq!(1, std::fs::read_dir(dir.path()).unwrap().count(), "nothing else is left behind");
}

#[test]
fn a_body_that_cannot_become_a_file_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("here");
    std::fs::write(&path, b"old").unwrap();
    let [_, whole] = received(dir.path(), b"new");
    let ReceivedBody::File { file, .. } = whole else { panic!("not in a file") };
    // The file is shorter than it should be, as after a fault of the disk.
    assert!(ReceivedBody::File { file, range: 0..500 }.save(&path).is_err());
    assert_eq!(b"old", &std::fs::read(&path).unwrap()[..]);

    let folder = dir.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let body = ReceivedBody::Bytes(b"new".to_vec());
    assert_eq!(ErrorKind::InvalidInput, body.save(&folder).unwrap_err().kind());
    assert_eq!(ErrorKind::InvalidInput, body.save(Path::new("/dev/null")).unwrap_err().kind());
    assert_eq!(ErrorKind::NotFound, body.save(&dir.path().join("none/here")).unwrap_err().kind());
    assert_eq!(2, std::fs::read_dir(dir.path()).unwrap().count());
}
