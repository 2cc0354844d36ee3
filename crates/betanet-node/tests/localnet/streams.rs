//! Standard streams that are closed, full or at their end: nothing is lost and the exit code is true.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::harness::{Net, betanet, eventually, signal};

/// What standard output is lost in.
#[derive(Clone, Copy, Debug)]
enum Lost {
    Closed,
    Full,
    Unread,
}

const LOST: [Lost; 3] = [Lost::Closed, Lost::Full, Lost::Unread];

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// The program with some of its streams closed, as the shell says it: `<&-`, `>&-`, `2>&-`.
fn closed(streams: &str, arguments: &[&str]) -> Command {
    let program = betanet();
    let mut command = Command::new("sh");
    command.args(["-c", &format!(r#"exec "$@" {streams}"#), "sh"]).arg(program.get_program()).args(arguments);
    command.stdin(Stdio::null());
    command
}

fn losing(lost: Lost, arguments: &[&str]) -> Output {
    let mut command = closed(if matches!(lost, Lost::Closed) { ">&-" } else { "" }, arguments);
    match lost {
        Lost::Closed => {}
        Lost::Full => drop(command.stdout(full())),
        Lost::Unread => drop(command.stdout(io::pipe().unwrap().1)),
    }
    command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

/// The last line, and how many there are besides what the program always says of a local net.
fn complaint(output: &Output) -> (String, usize) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| !line.contains("no anonymity")).collect();
    ((*lines.last().unwrap_or(&"")).to_owned(), lines.len())
}

/// INV-LINK-31
#[test]
fn what_was_asked_for_and_cannot_be_written_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::start(&dir.path().join("net"), &["--middle", "1", "--mean-delay", "1ms"]);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (bootstrap, folder, alice, bob) = (path("net/net.json"), path("net"), path("alice"), path("bob"));
    let client = |command: &'static str, dir| [command, "--net", &*bootstrap, "--dir", dir].map(str::to_owned);
    let run = |arguments: &[&str]| closed("", arguments).output().unwrap();

    let address = client("address", &bob);
    let address: Vec<_> = address.iter().map(String::as_str).collect();
    let to = String::from_utf8(run(&address).stdout).unwrap().trim_end().to_owned();
    let send = client("send", &alice);
    let send = [&send.each_ref().map(String::as_str)[..], &["--to", &to]].concat();
    let recv = client("recv", &bob);
    let recv = [&recv.each_ref().map(String::as_str)[..], &["--count", "1", "--timeout", "60s"]].concat();
    let ping = client("ping", &alice);
    let ping: Vec<_> = ping.iter().map(String::as_str).collect();
    let status = ["localnet", "status", "--dir", &folder];

    // Closed before anything is done; full or unread after it was done, which the message says.
    let message = [&send[..], &["kept"]].concat();
    assert_eq!(Some(0), run(&message).status.code());
    for lost in LOST {
        for (arguments, words) in [
            (&["--version"][..], "what was asked for"),
            (&["--help"], "what was asked for"),
            (&["send", "--help"], "what was asked for"),
            (&address, "the address"),
            (&message, "was sent"),
            (&recv, "stays in the mailbox"),
            (&ping, "the time"),
            (&status, "the status"),
        ] {
            let output = losing(lost, arguments);
            let (line, lines) = complaint(&output);
            assert_eq!((Some(1), 1), (output.status.code(), lines), "{lost:?} {arguments:?}: {line}");
            let words = match lost {
                Lost::Closed => "standard output: it is closed",
                _ => words,
            };
            assert!(line.starts_with("betanet: cannot write ") && line.contains(words), "{arguments:?}: {line}");
        }
    }

    // Nothing was lost: what was sent once is there once, with what the full and the unread output did not name.
    for _ in 0..3 {
        let output = run(&recv);
        assert_eq!((Some(0), "kept\n"), (output.status.code(), std::str::from_utf8(&output.stdout).unwrap()));
    }
    let none = [&recv[..recv.len() - 1], &["500ms"]].concat();
    assert_eq!(Some(1), run(&none).status.code());

    // A closed or full standard error changes nothing, nor does a standard input that nobody reads.
    for streams in ["2>&-", "<&-", "<&- 2>&-", "2>/dev/full"] {
        for arguments in [&address[..], &ping, &status, &["--version"]] {
            let output = closed(streams, arguments).output().unwrap();
            assert_eq!(Some(0), output.status.code(), "{streams} {arguments:?}");
            assert!(!output.stdout.is_empty());
        }
        assert_eq!(Some(2), closed(streams, &["send", "--hops", "9"]).output().unwrap().status.code());
        assert_eq!(Some(1), closed(streams, &none).output().unwrap().status.code());
    }

    // A program that asked for JSON is told the reason in JSON.
    let output = run(&[&none[..], &["--json"]].concat());
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        ("error", "no message came in time"),
        (told["event"].as_str().unwrap(), told["message"].as_str().unwrap())
    );
    drop(net);
}

/// INV-LINK-31 INV-LINK-32
#[test]
fn a_message_is_read_whole_or_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::start(&dir.path().join("net"), &["--middle", "1", "--mean-delay", "1ms"]);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (bootstrap, alice, bob) = (path("net/net.json"), path("alice"), path("bob"));
    let address = closed("", &["address", "--net", &bootstrap, "--dir", &bob]).output().unwrap();
    let to = String::from_utf8(address.stdout).unwrap().trim_end().to_owned();
    let send = ["send", "--net", &bootstrap, "--dir", &alice, "--to", &to, "-"];

    for (streams, code, words) in [
        ("<&-", 1, "standard input: it is closed"),
        ("</", 1, "standard input: Is a directory"),
        ("</dev/zero", 2, "standard input: it is larger than 64 MiB"),
    ] {
        let output = closed(streams, &send).output().unwrap();
        let (line, lines) = complaint(&output);
        assert_eq!((Some(code), 1), (output.status.code(), lines), "{streams}: {line}");
        assert!(line.contains(words), "{line}");
    }
    // What ends is a message, from a file, from a pipe, and with nothing in it.
    let output = closed("", &send).output().unwrap();
    assert_eq!(Some(0), output.status.code());
    let mut process = closed("", &send).stdin(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(b"through a pipe").unwrap();
    assert!(process.wait().unwrap().success());
    let out = path("messages");
    let recv = ["recv", "--net", &bootstrap, "--dir", &bob, "--count", "2", "--timeout", "60s"];
    let output = closed("", &recv).stdout(File::create(&out).unwrap()).output().unwrap();
    assert_eq!(Some(0), output.status.code());
    let mut lines: Vec<_> = std::fs::read_to_string(&out).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(["", "through a pipe"], lines[..]);

    // The network's file may come from a pipe as well, and ends in time.
    let ping = ["ping", "--count", "1", "--dir", &alice, "--net"];
    let piped = [&ping[..], &["/dev/stdin"]].concat();
    let mut process = closed("", &piped).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let content = std::fs::read(net.bootstrap()).unwrap();
    process.stdin.take().unwrap().write_all(&content).unwrap();
    assert!(process.wait().unwrap().success());
    for program in [&ping[..], &["node", "--dir", &alice, "--bootstrap"]] {
        let output = closed("", &[program, &["/dev/zero"]].concat()).output().unwrap();
        let (line, lines) = complaint(&output);
        assert_eq!((Some(2), 1), (output.status.code(), lines), "{line}");
        assert!(line.contains("/dev/zero is larger than 1 MiB"), "{line}");
    }
}

#[tokio::test]
async fn a_pipe_without_a_network_file_holds_up_nobody_who_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (pipe, folder) = (path("pipe"), path("folder"));
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let never_wait = OFlags::NONBLOCK.bits().cast_signed();
    for (arguments, told, code) in [
        (["ping", "--net", &pipe, "--dir", &folder], "-INT", 130),
        (["node", "--bootstrap", &pipe, "--dir", &folder], "-TERM", 0),
    ] {
        let mut process = betanet().args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        // No writer finds the pipe open before somebody reads it.
        let mut writer = None;
        eventually("the pipe is waited for", async || {
            writer = OpenOptions::new().write(true).custom_flags(never_wait).open(&pipe).ok();
            writer.is_some()
        })
        .await;
        signal(process.id(), told);
        let mut ended = None;
        eventually("the process ends", async || {
            ended = process.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        let ended = ended.unwrap();
        assert_eq!(Some(code), ended.code().or(ended.signal().map(|number| 128 + number)), "{arguments:?}");
        drop(writer);
    }
}

/// INV-LINK-31
#[test]
fn a_network_whose_owner_does_not_hear_of_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("net");
    let run = ["localnet", "run", "--entry", "1", "--middle", "0", "--exit", "0", "--json", "--dir"];
    let run = [&run[..], &[folder.to_str().unwrap()]].concat();
    let output = losing(Lost::Closed, &run);
    assert_eq!((Some(1), false), (output.status.code(), folder.exists()));
    for lost in [Lost::Full, Lost::Unread] {
        let output = losing(lost, &run);
        let (line, _) = complaint(&output);
        assert_eq!(Some(1), output.status.code());
        assert!(line.contains("standard output") && line.contains("the network was stopped"), "{line}");
        assert!(!folder.join("localnet.json").exists());
    }
}
