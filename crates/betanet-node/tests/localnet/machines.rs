//! Odd machines: names that are no text, a program that was replaced, a hangup, needs that are not met.

use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::harness::{Net, betanet, eventually, runs, signal};

const SMALL: [&str; 6] = ["--entry", "1", "--middle", "1", "--exit", "0"];

/// The program behind `prefix`, a command that runs another.
fn behind(prefix: &[&str]) -> Command {
    let (first, rest) = prefix.split_first().unwrap();
    let mut command = Command::new(first);
    command.args(rest).arg(betanet().get_program());
    command
}

/// The one line that a failed command said.
fn failed(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((Some(1), 1), (output.status.code(), text.lines().count()), "{text}");
    text
}

/// Processes whose parent is `pid`, ended or not.
fn children_of(pid: u32) -> usize {
    let parent = |stat: String| stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter_map(parent).filter(|parent: &u32| *parent == pid).count()
}

/// Kills a child; the owner starts another.
async fn comes_back(net: &Net, child: &str) {
    let before = net.state().children[child];
    signal(before, "-KILL");
    eventually("the child is back", async || {
        net.state().children.get(child).is_some_and(|now| *now != before && runs(*now))
    })
    .await;
}

#[tokio::test]
async fn processes_that_it_was_given_and_that_end_leave_nothing_behind() {
    if !Path::new("/proc/thread-self/children").exists() {
        eprintln!("skipped: this kernel lists no children");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // A shell that becomes the net leaves it a process that ends with the pipe, as the first process of a container
    // inherits them.
    let mut command = Command::new("sh");
    command.args(["-c", r#"cat <"$0" & exec "$@""#]).arg(&pipe).arg(betanet().get_program());
    let net = Net::start_as(command, &dir.path().join("net"), &SMALL, Stdio::null());
    let started = net.state().children.len();
    assert_eq!(started + 1, children_of(net.id()));
    drop(File::options().write(true).open(&pipe).unwrap());
    eventually("the stranger is gone", async || children_of(net.id()) == started).await;
    assert_eq!(Some(0), net.terminate());
}

/// INV-LINK-33
#[test]
fn a_folder_keeps_the_name_that_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(OsStr::from_bytes(b"n\xff?%41 '\n"));
    let net = Net::start(&folder, &SMALL);
    let status = betanet().args(["localnet", "status", "--dir"]).arg(&folder).output().unwrap();
    assert_eq!(Some(0), status.status.code());
    let second = betanet().args(["localnet", "run", "--dir"]).arg(&folder).output().unwrap();
    assert!(failed(&second).contains("in use by another process"));
    assert_eq!(Some(0), net.terminate());
    let made: Vec<PathBuf> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(vec![folder], made);

    let deep = dir.path().join("a/".repeat(2030));
    for arguments in [&["localnet", "run"][..], &["authority", "run", "--network", "n"]] {
        let output = betanet().args(arguments).arg("--dir").arg(&deep).output().unwrap();
        assert!(failed(&output).contains("the path of the folder is too long"));
    }
    assert!(!dir.path().join("a").exists());
}

/// INV-LINK-34
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_ends_a_network_in_order_unless_it_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("net");
    // Whoever runs the tests may ignore it, and so would all that they start.
    let listening = behind(&["env", "--default-signal=HUP"]);
    let net = Net::start_as(listening, &folder, &SMALL, Stdio::null());
    let children: Vec<_> = net.state().children.into_values().collect();
    signal(net.id(), "-HUP");
    assert_eq!(Some(0), net.wait());
    assert!(!folder.join("localnet.json").exists());
    assert!(!children.into_iter().any(runs));

    let ignoring = behind(&["sh", "-c", r#"trap "" HUP; exec "$@""#, "sh"]);
    let net = Net::start_as(ignoring, &folder, &SMALL, Stdio::null());
    signal(net.id(), "-HUP");
    comes_back(&net, "middle-0").await;
    assert_eq!(Some(0), net.terminate());
}

/// INV-LINK-34
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_goes_on_when_its_program_was_replaced_and_its_folder_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (program, place) = (dir.path().join("betanet"), dir.path().join("place"));
    std::fs::copy(betanet().get_program(), &program).unwrap();
    std::fs::create_dir(&place).unwrap();
    let mut command = Command::new(&program);
    command.current_dir(&place).env("LD_AUDIT", "").env("LD_LIBRARY_PATH", ".:");
    let net = Net::start_as(command, &dir.path().join("net"), &SMALL, Stdio::null());
    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, "not a program").unwrap();
    std::fs::remove_dir(&place).unwrap();
    comes_back(&net, "middle-0").await;
    let child = net.state().children["middle-0"];
    let proc = |name: &str| std::fs::read(format!("/proc/{child}/{name}")).unwrap();
    eventually("the child is named as the program", async || proc("comm") == b"betanet\n").await;
    let environment = proc("environ");
    assert!(!environment.windows(3).any(|three| three == b"LD_"), "the loader's variables went through");
    assert_eq!(Path::new("/"), std::fs::read_link(format!("/proc/{child}/cwd")).unwrap());
    assert_eq!(Some(0), net.terminate());
}

#[test]
fn a_current_folder_that_is_gone_is_named_as_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"mkdir gone && cd gone && rmdir ../gone && exec "$@""#;
    for arguments in [&["localnet", "run"][..], &["localnet", "status"], &["address", "--net", "net.json"]] {
        let mut command = behind(&["sh", "-c", script, "sh"]);
        let output = command.args(arguments).args(["--dir", "x"]).current_dir(dir.path()).output().unwrap();
        let line = failed(&output);
        assert!(line.contains("where x is: the current folder was removed"), "{line}");
    }
}

/// INV-LINK-35
#[test]
fn all_that_a_network_misses_is_said_at_once_with_what_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("my net");
    assert_eq!(Some(0), Net::start(&folder, &SMALL).terminate());
    let mut opened = 0;
    for child in ["authority", "entry-0", "middle-0"] {
        for file in std::fs::read_dir(folder.join(child)).unwrap() {
            std::fs::set_permissions(file.unwrap().path(), PermissionsExt::from_mode(0o644)).unwrap();
            opened += 1;
        }
    }
    assert!(opened > 6);
    let run =
        |mut command: Command| command.args(["localnet", "run", "--dir"]).arg(&folder).args(SMALL).output().unwrap();
    let line = failed(&run(behind(&["sh", "-c", r#"ulimit -n 60; exec "$@""#, "sh"])));
    for words in ["(and 6 more) holds a secret that others may read", "60 files open", "ulimit -n 88"] {
        assert!(line.contains(words), "{words:?} is missing in {line:?}");
    }
    let alone = |script: &str| behind(&["unshare", "-rn", "sh", "-c", &format!(r#"{script}; exec "$@""#), "sh"]);
    if Command::new("unshare").args(["-rn", "true"]).status().is_ok_and(|status| status.success()) {
        let line = failed(&run(alone(":")));
        for words in ["127.0.0.1", "ip link set lo up", "chmod -R go-rwx "] {
            assert!(line.contains(words), "{words:?} is missing in {line:?}");
        }
    } else {
        eprintln!("skipped in part: no network namespaces here");
    }
    // The command that is advised is all that it takes.
    let advice = line.split("; ").find_map(|part| part.split_once("others may read: ")).unwrap().1;
    assert!(Command::new("sh").args(["-c", advice]).status().unwrap().success());
    assert_eq!(Some(0), Net::start(&folder, &SMALL).terminate());

    let barred = dir.path().join("barred");
    std::fs::create_dir(&barred).unwrap();
    std::fs::set_permissions(&barred, PermissionsExt::from_mode(0o600)).unwrap();
    if std::fs::metadata(barred.join("x")).is_err_and(|err| err.kind() == ErrorKind::PermissionDenied) {
        let line = failed(&betanet().args(["localnet", "run", "--dir"]).arg(barred.join("x")).output().unwrap());
        assert!(line.contains(&format!("{} may not be entered", barred.display())), "{line}");
        assert!(!line.contains("chmod"), "{line}");
    } else {
        eprintln!("skipped in part: no folder is closed to this user");
    }

    let elsewhere = ["--ip", "192.0.2.1"];
    let output =
        betanet().args(["localnet", "run", "--dir"]).arg(dir.path().join("x")).args(elsewhere).output().unwrap();
    assert_eq!(Some(2), output.status.code());
    assert!(String::from_utf8_lossy(&output.stderr).contains("for this machine alone"));
    assert!(!dir.path().join("x").exists());
}
