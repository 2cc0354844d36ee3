//! Measures the figures of `benches/results/latest.json` and prints them.
//!
//! Each X25519 path is measured in a process of its own, which has no other way to force one. In it, ours and the peer
//! take turns.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use betanet_bench::bulk::{Bulk, Tags, Took};
use betanet_bench::window::{Rates, duel, median, microseconds, rates};
use betanet_bench::{Failure, Resized, agreement, ours, peer};
use betanet_sphinx::suite::hctr2::Hctr2;
use betanet_sphinx::suite::lioness::Lioness;
use betanet_sphinx::x25519::{PATH_VARIABLE, X25519Path, active_path};
use betanet_sphinx::{Geometry, MailboxId, Maker, Native};
use serde_json::{Map, Value, json};

/// Turns of a measurement and the length of each side of one.
const TURNS: usize = 7;
const WINDOW: Duration = Duration::from_millis(300);

/// Pairs of batches, on one worker and on two.
const PIPELINE_TURNS: usize = 301;

/// Where the figures go, below the root of the repository.
const RESULTS: &str = "benches/results/latest.json";

/// The argument with which this program starts itself for one path.
const ONE_PATH: &str = "--one-path";

fn main() -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if std::env::args().nth(1).as_deref() == Some(ONE_PATH) {
        writeln!(out, "{}", one_path()?)?;
        return Ok(());
    }
    let steal_before = steal();
    let mut summary = Map::new();
    let mut details = Map::new();
    for path in X25519Path::ALL.into_iter().filter(|path| path.is_available()) {
        let figures = start_for(path)?;
        for (name, figure) in &figures {
            writeln!(out, "{name:<36} {figure}")?;
        }
        details.insert(path.name().to_owned(), Value::Object(figures.clone()));
        summarise(path, &figures, &mut summary);
    }
    let primitives = primitives()?;
    for (name, figure) in &primitives {
        writeln!(out, "{name:<36} {figure}")?;
    }
    for path in X25519Path::ALL {
        let name = format!("x25519_us_{}", path.name());
        if let Some(figure) = primitives.get(&name) {
            summary.insert(name, figure.clone());
        }
    }
    details.insert("primitives".to_owned(), Value::Object(primitives));
    let bulk = bulk()?;
    for (name, figure) in &bulk {
        writeln!(out, "{name:<36} {figure}")?;
    }
    for name in
        ["pipeline_scaling_2", "pipeline_per_s_1", "pipeline_per_s_2", "replay_inserts_per_s", "replay_bits_per_tag"]
    {
        if let Some(figure) = bulk.get(name) {
            summary.insert(name.to_owned(), figure.clone());
        }
    }
    details.insert("bulk".to_owned(), Value::Object(bulk));

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join(RESULTS);
    let commit = commit(&root);
    writeln!(out)?;
    for (name, figure) in &summary {
        writeln!(out, "{name:<36} {figure}")?;
    }
    let report = json!({
        "machine": machine(),
        "commit": commit,
        "command": command(),
        "built": "with overflow checks and for no processor in particular; the peer alike",
        "x25519_path": active_path()?.name(),
        "steal_percent": steal_percent(steal_before, steal()),
        "windows": format!("{TURNS} turns of {} ms a side, processor time, medians", WINDOW.as_millis()),
        "details": details,
        "summary": summary,
    });
    std::fs::create_dir_all(file.parent().ok_or("the results have no folder")?)?;
    std::fs::write(&file, format!("{report:#}\n"))?;
    writeln!(out, "\nwritten to {RESULTS}")?;
    Ok(())
}

/// The figures of one path, measured by this program in another process.
fn start_for(path: X25519Path) -> Result<Map<String, Value>, Failure> {
    let mut child = Command::new(std::env::current_exe()?);
    child.arg(ONE_PATH).env(PATH_VARIABLE, path.name()).stderr(Stdio::inherit());
    let output = child.output()?;
    if !output.status.success() {
        return Err(format!("measuring path {} ended with {}", path.name(), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What depends on the path: packets, beside the peer.
fn one_path() -> Result<Value, Failure> {
    let path = active_path()?.name();
    let mut figures = Map::new();
    packets::<Native>(path, &mut figures)?;
    packets::<Resized<Native, 1024>>(path, &mut figures)?;
    Ok(Value::Object(figures))
}

fn packets<S: Maker>(path: &str, figures: &mut Map<String, Value>) -> Result<(), Failure>
where
    S::Recipient: From<MailboxId>,
{
    let len = S::GEOMETRY.user_payload_len;
    let mut put = |what: &str, rates: &[Rates; 2]| {
        let [ours, theirs] = rates;
        figures.insert(format!("{what}_ratio_{len}_{path}"), round(ours.ratio_to(theirs)));
        figures.insert(format!("{what}_per_s_{len}_{path}"), round(ours.median()));
        figures.insert(format!("{what}_per_s_best_{len}_{path}"), round(ours.best()));
        figures.insert(format!("{what}_us_{len}_{path}"), round(microseconds(ours.median())));
        figures.insert(format!("{what}_peer_us_{len}_{path}"), round(microseconds(theirs.median())));
    };
    let (mut ours, theirs) = (ours::Unwrap::<S>::new()?, peer::Unwrap::new(len)?);
    if ours.run() != theirs.run() {
        return Err("packets were refused".into());
    }
    put("unwrap", &duel(TURNS, WINDOW, || Ok::<_, Failure>(ours.run()), || Ok(theirs.run()))?);
    let (mut ours, theirs) = (ours::Create::<S>::new(), peer::Create::new(len));
    put("create", &duel(TURNS, WINDOW, || Ok::<_, Failure>(ours.run()?), || Ok(theirs.run()?))?);
    Ok(())
}

/// What does not: X25519 per path and beside others, payload ciphers, the unwrapping of single packets.
fn primitives() -> Result<Map<String, Value>, Failure> {
    let mut figures = Map::new();
    let mut put = |name: &str, work: &mut dyn FnMut() -> Result<usize, Failure>| -> Result<(), Failure> {
        let rates = rates(TURNS, WINDOW / 3, work)?;
        figures.insert(name.to_owned(), round(microseconds(rates.median())));
        Ok(())
    };
    for path in X25519Path::ALL.into_iter().filter(|path| path.is_available()) {
        let mut lanes = agreement::Lanes::new(path);
        put(&format!("x25519_us_{}", path.name()), &mut || Ok(lanes.run()?))?;
    }
    let mut point = agreement::point();
    put("x25519_us_single", &mut || {
        agreement::ours(&mut point);
        Ok(1)
    })?;
    put("x25519_us_dalek", &mut || {
        agreement::dalek(&mut point);
        Ok(1)
    })?;
    let aws_lc = agreement::AwsLc::new()?;
    put("x25519_us_aws_lc", &mut || aws_lc.run(&mut point).map(|()| 1))?;
    #[cfg(feature = "openssl")]
    {
        let openssl = agreement::OpenSsl::new()?;
        put("x25519_us_openssl", &mut || openssl.run(&mut point).map(|()| 1))?;
    }
    let mut delta = vec![7; Geometry::NATIVE.delta_len];
    put("payload_us_hctr2", &mut || {
        Hctr2::new(&[9; 32]).decrypt(&[], &mut delta);
        Ok(1)
    })?;
    put("payload_us_lioness", &mut || {
        Lioness::new(&[9; Lioness::KEY_LEN]).decrypt(&mut delta);
        Ok(1)
    })?;
    put("payload_us_lioness_peer", &mut || Ok(usize::from(peer::lioness(&[9; Lioness::KEY_LEN], &delta))))?;
    let mut single = ours::Unwrap::<Native>::new()?;
    put("unwrap_us_one_by_one", &mut || Ok(single.run_one_by_one()))?;
    Ok(figures)
}

/// The pipeline on one worker and on two, in turns and in real time, and the replay cache.
fn bulk() -> Result<Map<String, Value>, Failure> {
    let mut bulk = Bulk::new()?;
    bulk.run(2)?;
    let turns = (0..PIPELINE_TURNS).map(|_| Ok([bulk.run(1)?, bulk.run(2)?])).collect::<Result<Vec<_>, Failure>>()?;
    let mut figures = Map::new();
    let scaling: Vec<_> = turns.iter().map(|[one, two]| two.rate() / one.rate()).collect();
    let room: Vec<_> = turns.iter().map(|[one, two]| 2.0 * one.microseconds() / two.microseconds()).collect();
    // Another program on the machine takes from two workers first: the best turns had the processors to themselves.
    let best = |worker: usize| turns.iter().filter_map(|turn| turn.get(worker)).map(Took::rate).fold(0.0, f64::max);
    figures.insert("pipeline_scaling_2".to_owned(), round(best(1) / best(0)));
    figures.insert("pipeline_scaling_2_median".to_owned(), round(median(scaling)));
    figures.insert("pipeline_scaling_2_by_processor_time".to_owned(), round(median(room)));
    for worker in 0..2 {
        let each =
            |read: fn(&Took) -> f64| median(turns.iter().filter_map(|turn| turn.get(worker)).map(read).collect());
        let name = worker + 1;
        figures.insert(format!("pipeline_per_s_{name}"), round(best(worker)));
        figures.insert(format!("pipeline_per_s_{name}_median"), round(each(Took::rate)));
        figures.insert(format!("pipeline_processor_us_{name}"), round(each(Took::microseconds)));
    }
    let mut tags = Tags::new();
    let inserts = rates(TURNS, WINDOW, || tags.run())?;
    figures.insert("replay_inserts_per_s".to_owned(), round(inserts.median()));
    figures.insert("replay_bits_per_tag".to_owned(), round(Tags::bits()?));
    Ok(figures)
}

/// The figures that others look for, by their short names: those of 2 KiB packets.
fn summarise(path: X25519Path, figures: &Map<String, Value>, summary: &mut Map<String, Value>) {
    let path = path.name();
    for what in ["unwrap_ratio", "unwrap_per_s", "create_ratio", "create_per_s"] {
        if let Some(figure) = figures.get(&format!("{what}_2048_{path}")) {
            summary.insert(format!("{what}_{path}"), figure.clone());
        }
    }
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {threads} threads, {}", std::env::consts::ARCH)
}

/// The commit, marked where files behind the figures differ from it.
fn commit(root: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(root).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "HEAD"]) else { return "unknown".to_owned() };
    let measured = [
        "status",
        "--porcelain",
        "--",
        "crates/betanet-sphinx",
        "crates/betanet-mix",
        "crates/betanet-node",
        "crates/betanet-bench",
        "Cargo.lock",
    ];
    let is_clean = git(&measured).is_some_and(|changes| changes.is_empty());
    if is_clean { commit } else { format!("{commit} with changes") }
}

fn command() -> &'static str {
    if cfg!(feature = "openssl") {
        "cargo run --release -p betanet-bench --features openssl --bin report"
    } else {
        "cargo run --release -p betanet-bench --bin report"
    }
}

/// Ticks of all processors: those the hypervisor took away, and all.
fn steal() -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is in user time already.
    Some((*ticks.get(7)?, ticks.iter().take(8).sum()))
}

fn steal_percent(before: Option<(u64, u64)>, after: Option<(u64, u64)>) -> Value {
    let (Some(before), Some(after)) = (before, after) else { return Value::Null };
    let [stolen, all] = [after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)]
        .map(|ticks| f64::from(u32::try_from(ticks).unwrap_or(u32::MAX)));
    round(100.0 * stolen / all)
}

/// Three digits behind the point are more than these figures are worth.
fn round(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}
