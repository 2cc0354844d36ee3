//! The program's words: exit codes, one clear line, JSON.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Output, Stdio};

use betanet_node::state::StateDir;

use crate::harness::{Net, betanet};

fn run(arguments: &[&str]) -> Output {
    betanet().args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The command fails with exit code 1 and one line that contains `words`.
fn fails_with(arguments: &[&str], words: &[&str]) {
    ends_with(1, arguments, words);
}

/// The command is one that cannot be: exit code 2 and one line that contains `words`.
fn is_refused_with(arguments: &[&str], words: &[&str]) {
    ends_with(2, arguments, words);
}

fn ends_with(code: i32, arguments: &[&str], words: &[&str]) {
    let output = run(arguments);
    let line = text(&output.stderr);
    assert_eq!(Some(code), output.status.code(), "{line}");
    let complaint = line.lines().last().unwrap_or_default();
    assert!(complaint.starts_with("betanet: "), "{line}");
    for word in words {
        assert!(complaint.contains(word), "{word:?} is missing in {complaint:?}");
    }
}

#[test]
fn help_and_version_teach() {
    let help = run(&["--help"]);
    assert_eq!(Some(0), help.status.code());
    let help = text(&help.stdout);
    for word in ["localnet run", "betanet send", "Exit codes"] {
        assert!(help.contains(word), "{word:?} is missing in {help}");
    }
    let version = text(&run(&["--version"]).stdout);
    assert_eq!(format!("betanet {}\n", env!("CARGO_PKG_VERSION")), version);
    assert_eq!(Some(2), run(&["send", "--hops", "9"]).status.code());
    assert_eq!(Some(2), run(&[]).status.code());
}

#[test]
fn a_process_that_is_not_well_is_told_from_one_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let answers = |status: &str, body: &str| {
        let (mut asking, _) = listener.accept().unwrap();
        // All that was asked is read: what is left would have the connection reset.
        let mut asked = BufReader::new(&asking).lines();
        while asked.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        write!(asking, "HTTP/1.1 {status}\r\n\r\n{body}").unwrap();
    };
    for (status, body, words) in [
        (
            "503 Service Unavailable",
            r#"{"status":"not_ready","role":"middle","trouble":null}"#,
            ["middle", "not ready"],
        ),
        (
            "503 Service Unavailable",
            r#"{"status":"not_ready","role":"entry","trouble":"no network"}"#,
            ["entry", "no network"],
        ),
        ("200 OK", "welcome", ["no node", &port]),
    ] {
        std::thread::scope(|scope| {
            scope.spawn(|| answers(status, body));
            fails_with(&["health", "--port", &port], &words);
        });
    }
    drop(listener);
    fails_with(&["health", "--port", &port], &["nothing answers", &port]);
}

#[test]
fn what_stands_in_the_way_is_named_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let bootstrap = at("net.json");
    let folder = at("node");
    fails_with(&["node", "--dir", &folder, "--bootstrap", &bootstrap], &["net.json"]);
    std::fs::write(&bootstrap, "{").unwrap();
    fails_with(&["node", "--dir", &folder, "--bootstrap", &bootstrap], &["net.json", "not a valid network file"]);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let authority = ["authority", "run", "--network", "n", "--dir"];
    let folder = at("authority");
    fails_with(&[&authority[..], &[&folder, "--listen", &taken]].concat(), &[&taken, "in use", "--listen"]);
    let _owner = StateDir::open(&dir.path().join("authority")).unwrap();
    fails_with(&[&authority[..], &[&folder]].concat(), &["authority", "in use by another process"]);
    is_refused_with(&[&authority[..], &[&at("long"), "--epoch", "4294967295h"]].concat(), &["epoch", "at most a week"]);
    let node = ["node", "--dir", &folder, "--bootstrap", &bootstrap];
    is_refused_with(&[&node[..], &["--http-port", "64536"]].concat(), &["64536", "--listen"]);
    let output = betanet().args(node).env("RUST_LOG", "betanet=loud").output().unwrap();
    assert!(text(&output.stderr).contains("RUST_LOG=betanet=loud is not understood"), "{output:?}");
    fails_with(&["localnet", "run", "--epoch", "0s", "--dir", &at("net")], &["authority does not stay up", "epoch"]);
    fails_with(&["localnet", "status", "--dir", &folder], &["localnet run"]);
    let send = ["send", "--net", &bootstrap, "--dir", &at("a"), "--to", "fog1x", "hi"];
    is_refused_with(&send, &["--to is no address"]);
    let told = text(&run(&[&send[..], &["--json"]].concat()).stdout);
    assert!(told.contains(r#""event":"error""#) && told.contains("--to is no address"), "{told}");
}

#[test]
fn what_would_do_nothing_or_cannot_be_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (net, file) = (at("net.json"), at("file"));
    std::fs::write(&file, "").unwrap();
    for arguments in [
        &["ping", "--net", &net, "--dir", &at("a"), "--count", "0"][..],
        &["recv", "--net", &net, "--dir", &at("a"), "--count", "0"],
        &["recv", "--net", &net, "--dir", &at("a"), "--timeout", "5"],
        &["authority", "run", "--network", "n", "--dir", &at("a"), "--expect", "0"],
        &["node", "--dir", &at("a"), "--listen", "example.org:9000"],
        &["node", "--dir", &at("a"), "--announce", "[fe80::1%eth0]:9000"],
    ] {
        let output = run(arguments);
        assert_eq!(Some(2), output.status.code(), "{arguments:?}: {}", text(&output.stderr));
        assert!(!dir.path().join("a").exists(), "{arguments:?} made a folder");
    }
    let authority = ["authority", "run", "--network", "n", "--dir", &at("a")];
    for (options, words) in [
        (&["--listen", "0.0.0.0:0"][..], "--announce HOST:PORT"),
        (&["--announce", "mix.example:9000"], "--listen 127.0.0.1:PORT"),
        (&["--listen", "127.0.0.1:1", "--announce", "mix.example:0"], "port 0"),
    ] {
        let output = run(&[&authority[..], options].concat());
        let line = text(&output.stderr);
        assert!(output.status.code() == Some(2) && line.contains(words), "{options:?}: {line}");
    }
    is_refused_with(&["localnet", "run", "--dir", &at("n"), "--entry", "0", "--exit", "0"], &["entry or exit"]);
    let no_folder = format!("{file} is no folder");
    for arguments in [
        &["authority", "run", "--network", "n", "--dir", &file][..],
        &["node", "--bootstrap", &net, "--dir", &file],
        &["localnet", "run", "--dir", &file],
    ] {
        fails_with(arguments, &[&no_folder]);
    }
}

/// A process that `localnet status` names says the same of itself to `betanet health` and at `/metrics`.
fn is_shown_by(process: &serde_json::Value) {
    let http: SocketAddr = process["http"].as_str().unwrap().parse().unwrap();
    let port = http.port().to_string();
    let health = run(&["health", "--port", &port, "--json"]);
    assert_eq!(Some(0), health.status.code(), "{process}: {}", text(&health.stderr));
    let health: serde_json::Value = serde_json::from_slice(&health.stdout).unwrap();
    assert_eq!((&process["role"], true), (&health["said"]["role"], process["health"]["healthy"] == true));
    assert_eq!("ok\n", text(&run(&["health", "--port", &port]).stdout));
    let is_authority = process["role"] == "authority";
    let (of, up) =
        if is_authority { ("authority", "betanet_authority_up 1") } else { ("node", "betanet_health_status 1") };
    let mut stream = TcpStream::connect(http).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert!(page.contains(&format!("\n{up}\n")), "{page}");
    // What the command lists is what there is, in the same order.
    let series = |page: &str| -> Vec<String> {
        page.lines()
            .map(|line| {
                line.rsplit_once(' ').filter(|_| !line.starts_with('#')).map_or(line, |(series, _)| series).to_owned()
            })
            .collect()
    };
    assert_eq!(series(&text(&run(&["metrics", of]).stdout)), series(page));
}

#[test]
fn the_commands_of_the_help_text_work() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::start(&dir.path().join("net"), &["--middle", "1", "--mean-delay", "1ms"]);
    let bootstrap = net.bootstrap().to_string_lossy().into_owned();
    let folder = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (alice, bob) = (folder("alice"), folder("bob"));

    let output = run(&["address", "--net", &bootstrap, "--dir", &bob, "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let address = answer["address"].as_str().unwrap().to_owned();
    assert!(address.starts_with("fog1"));

    let arguments = ["--net", &bootstrap, "--dir", &alice, "--to", &address, "--json", "hello"];
    let output = run(&[&["send"][..], &arguments].concat());
    assert_eq!(Some(0), output.status.code(), "{}", text(&output.stderr));
    let sent: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();

    // What cannot be written stays in the mailbox.
    let arguments = ["--net", &bootstrap, "--dir", &bob, "--count", "1", "--json"];
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = betanet().arg("recv").args(arguments).stdin(Stdio::null()).stdout(full).output().unwrap();
    assert_eq!(Some(1), output.status.code());
    assert!(text(&output.stderr).contains("stays in the mailbox"));

    let output = run(&[&["recv"][..], &arguments, &["--timeout", "60s"]].concat());
    let message: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(("hello", &sent["id"]), (message["body"].as_str().unwrap(), &message["id"]));

    let output = run(&["ping", "--net", &bootstrap, "--dir", &alice, "--count", "1"]);
    assert!(text(&output.stdout).starts_with("3 hops: "));
    let status = run(&["localnet", "status", "--dir", &folder("net"), "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let processes = status["nodes"].as_array().unwrap();
    assert_eq!(6, processes.len());
    for process in processes {
        is_shown_by(process);
    }

    // A second net in the same folder is refused, and so is a second owner of a client's folder.
    fails_with(&["localnet", "run", "--dir", &folder("net")], &["in use by another process"]);
}
