#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

#[test]
fn a_folder_has_one_owner_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = StateDir::open(dir.path()).unwrap();
    let refused = StateDir::open(dir.path()).unwrap_err();
    assert!(matches!(refused, StateError::Locked { by_this_process: true, .. }), "{refused}");
    drop(first);
    let elsewhere = File::open(dir.path().join("lock")).unwrap();
    rustix::fs::flock(&elsewhere, FlockOperation::NonBlockingLockExclusive).unwrap();
    let refused = StateDir::open(dir.path()).unwrap_err().to_string();
    assert!(refused.ends_with("is in use by another process; stop it or choose another folder"), "{refused}");
    drop(elsewhere);
    StateDir::open(dir.path()).unwrap();
}

#[test]
fn a_child_that_inherited_the_lock_does_not_keep_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("lock")).unwrap();
    let inherited = file.try_clone().unwrap();
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    drop(Lock::new(file).unwrap());
    StateDir::open(dir.path()).unwrap();
    drop(inherited);
}

#[test]
fn keys_are_private_and_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let key = state.secret("key").unwrap();
    assert_eq!(key, state.secret("key").unwrap());
    let mode = std::fs::metadata(state.join("key")).unwrap().permissions().mode();
    assert_eq!(0o600, mode & 0o777);
    std::fs::write(state.join("key"), b"short").unwrap();
    assert!(matches!(state.secret("key"), Err(StateError::Content { .. })));
}

/// INV-LINK-13
#[test]
fn a_secret_that_others_may_read_is_refused_and_the_message_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let path = state.join("key");
    write_private(&path, &[1; 32]).unwrap();
    for mode in [0o640, 0o604, 0o620] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let message = state.secret("key").unwrap_err().to_string();
        assert!(message.contains(&format!("chmod 600 {}", path.display())), "{message}");
        assert!(matches!(read_private_json::<u64>(&path, "number"), Err(StateError::Exposed { .. })));
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
    assert_eq!([1; 32], *state.secret("key").unwrap());
}

/// INV-LINK-13
#[test]
fn what_lies_where_a_file_is_prepared_neither_opens_nor_redirects_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (dir.path().join("key"), dir.path().join("elsewhere"));
    let temporary = dir.path().join("key.new");
    std::fs::write(&temporary, b"left behind").unwrap();
    std::fs::set_permissions(&temporary, PermissionsExt::from_mode(0o666)).unwrap();
    write_private(&path, b"secret").unwrap();
    assert_eq!(0o600, std::fs::metadata(&path).unwrap().permissions().mode() & 0o777);

    std::fs::write(&elsewhere, b"untouched").unwrap();
    symlink(&elsewhere, &temporary).unwrap();
    write_private(&path, b"another").unwrap();
    assert_eq!(b"untouched".as_slice(), std::fs::read(&elsewhere).unwrap());
    assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
    assert_eq!(b"another".as_slice(), std::fs::read(&path).unwrap());
}

#[test]
fn a_pipe_in_place_of_a_secret_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let path = state.join("key");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for message in [
        state.secret("key").unwrap_err().to_string(),
        read_private_json::<u64>(&path, "number").unwrap_err().to_string(),
    ] {
        assert!(message.contains("no regular file"), "{message}");
    }
}

#[test]
fn a_path_in_which_nothing_fits_is_refused_with_the_length_that_does() {
    let deep = |length: usize| PathBuf::from("/".to_owned() + &"a/".repeat(length / 2)[..length - 1]);
    check_place(&deep(3900), 64).unwrap();
    for (path, deeper, most) in [(deep(4000), 64, "3967 fit"), (deep(4094), 0, "4031 fit")] {
        assert!(check_place(&path, deeper).unwrap_err().to_string().contains(most));
    }
    let dir = tempfile::tempdir().unwrap();
    let message = StateDir::open(&dir.path().join("x").join("n".repeat(256))).unwrap_err().to_string();
    assert!(message.contains("256 bytes, and 255 fit"), "{message}");
    assert!(!dir.path().join("x").exists());
}

#[test]
fn a_file_where_a_folder_is_meant_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (file, nowhere) = (dir.path().join("file"), dir.path().join("nowhere"));
    std::fs::write(&file, b"").unwrap();
    symlink(dir.path().join("gone"), &nowhere).unwrap();
    for (path, obstacle) in [(file.clone(), &file), (file.join("a/b"), &file), (nowhere.clone(), &nowhere)] {
        let message = StateDir::open(&path).unwrap_err().to_string();
        assert_eq!(format!("{} is no folder; name one, or remove it", obstacle.display()), message);
    }
    StateDir::open(&dir.path().join("a/b")).unwrap();
}

#[test]
fn a_folder_without_a_name_is_not_the_current_one() {
    assert!(matches!(StateDir::open(Path::new("")), Err(StateError::Unnamed)));
}

#[test]
fn a_command_that_is_advised_can_be_run() {
    assert_eq!("/a/b-1.c", shell_word(Path::new("/a/b-1.c")));
    assert_eq!(r"'/it'\''s $HOME'", shell_word(Path::new("/it's $HOME")));
}

#[test]
fn unreadable_json_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.json");
    assert_eq!(None, read_json::<u64>(&path, "number").unwrap());
    write_json(&path, &7u64).unwrap();
    assert_eq!(Some(7), read_json::<u64>(&path, "number").unwrap());
    std::fs::write(&path, b"{").unwrap();
    let message = read_json::<u64>(&path, "number").unwrap_err().to_string();
    assert!(message.contains("net.json"), "{message}");
}
