//! Sends one large message through a network whose links lose frames and prints one JSON object for each loss.
//!
//! Sender and recipient are processes of their own, whose memory is looked at. Fails where the message does not come, or not
//! as it was, or where one of them takes too much memory.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use betanet_bench::Failure;
use betanet_bench::child::{betanet, peak_mib};
use betanet_bench::net::Lossy;
use betanet_node::client::{Client, ClientConfig, body_from_file};
use clap::{Parser, Subcommand};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

/// Bytes that are read at a time.
const PART: usize = 64 * 1024;

/// Sends one large message over links that lose frames.
#[derive(Debug, Parser)]
struct Arguments {
    /// Of a thousand frames so many are lost, on each link; one network after the other.
    #[arg(long, value_delimiter = ',', default_value = "0,10,100")]
    per_mille: Vec<u32>,
    /// Bytes of the message.
    #[arg(long, default_value_t = 64 * 1024 * 1024)]
    bytes: usize,
    /// Hops of its packets.
    #[arg(long, default_value_t = 3)]
    hops: u8,
    /// Memory that each of the two may have, in MiB.
    #[arg(long, default_value_t = 100.0)]
    most_mib: f64,
    /// The program betanet, if it is not beside this one.
    #[arg(long)]
    betanet: Option<PathBuf>,
    /// Sender and recipient are run by this Python, from the folder of the repository.
    #[arg(long)]
    python: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program does when it has started itself.
#[derive(Debug, Subcommand)]
enum Role {
    /// Sends a file.
    Send { net: PathBuf, dir: PathBuf, to: String, file: PathBuf, hops: u8 },
    /// Receives a message and compares it with a file.
    Receive { net: PathBuf, dir: PathBuf, file: PathBuf },
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match arguments.role {
        Some(Role::Send { net, dir, to, file, hops }) => runtime.block_on(send(net, dir, &to, &file, hops)),
        Some(Role::Receive { net, dir, file }) => runtime.block_on(receive(net, dir, &file)),
        None => runtime.block_on(async {
            for per_mille in &arguments.per_mille {
                let figures = one(&arguments, *per_mille).await?;
                say(&figures)?;
                check(&figures, arguments.most_mib)?;
            }
            Ok(())
        }),
    }
}

fn say(figures: &Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{figures}")?;
    Ok(out.flush()?)
}

fn check(figures: &Value, most_mib: f64) -> Result<(), Failure> {
    for name in ["sender_peak_mib", "recipient_peak_mib"] {
        let mib = figures.get(name).and_then(Value::as_f64).ok_or("a client said nothing of its memory")?;
        if mib >= most_mib {
            return Err(format!("{name} is {mib}, which is not below {most_mib}").into());
        }
    }
    Ok(())
}

async fn one(arguments: &Arguments, per_mille: u32) -> Result<Value, Failure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("message");
    write_any(&file, arguments.bytes)?;
    let program = arguments.betanet.clone().map_or_else(betanet, Ok)?;
    let net = Lossy::start(&program, folder.path(), per_mille).await?;
    let (from, to) = (net.client("from").await?, net.client("to").await?);
    let bootstrap = net.bootstrap();
    let python = arguments.python.as_deref();
    let recipient = Own::start(python, &["receive".as_ref(), &bootstrap, &to, &file])?;
    let (recipient, address) = recipient.line().await?;
    let address = address.get("address").and_then(Value::as_str).ok_or("the recipient has no address")?.to_owned();
    let start = Instant::now();
    let hops = arguments.hops.to_string();
    let sender = Own::start(python, &["send".as_ref(), &bootstrap, &from, address.as_ref(), &file, hops.as_ref()])?;
    let (_recipient, received) = recipient.line().await?;
    let took = start.elapsed().as_secs_f64();
    let (_sender, sent) = sender.line().await?;
    let (carried, lost) = net.frames();
    Ok(json!({
        "clients": if python.is_some() { "python" } else { "rust" },
        "per_mille": per_mille,
        "bytes": arguments.bytes,
        "hops": arguments.hops,
        "seconds": (took * 10.0).round() / 10.0,
        "frames_carried": carried,
        "frames_lost": lost,
        "resent": sent.get("resent"),
        "sender_peak_mib": sent.get("peak_mib"),
        "recipient_peak_mib": received.get("peak_mib"),
    }))
}

/// A program that says one JSON object a line; killed with this.
struct Own {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Own {
    fn start(python: Option<&Path>, arguments: &[&Path]) -> Result<Self, Failure> {
        let mut command = match python {
            Some(python) => {
                let mut command = Command::new(python);
                command.args(["-m", "benches.large_message"]);
                command
            }
            None => Command::new(std::env::current_exe()?),
        };
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        Ok(Self { child, lines })
    }

    /// Its next line; meanwhile the relays of this process go on.
    async fn line(mut self) -> Result<(Self, Value), Failure> {
        let read = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            self.lines.read_line(&mut line).map(|_| (self, line))
        });
        let (own, line) = read.await??;
        Ok((own, serde_json::from_str(&line).map_err(|_| "a client ended before it had done its part")?))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn open(net: PathBuf, dir: PathBuf) -> Result<Client, Failure> {
    Ok(Client::open(ClientConfig { bulk: true, ..ClientConfig::new(dir, net) }).await?)
}

async fn send(net: PathBuf, dir: PathBuf, to: &str, file: &Path, hops: u8) -> Result<(), Failure> {
    let client = open(net, dir).await?;
    client.send(&to.parse()?, body_from_file(File::open(file)?)?, hops).await?;
    let resent = client.status().fragments_resent;
    client.close().await;
    say(&json!({ "peak_mib": peak()?, "resent": resent }))
}

async fn receive(net: PathBuf, dir: PathBuf, file: &Path) -> Result<(), Failure> {
    let client = open(net, dir).await?;
    say(&json!({ "address": client.address().to_string() }))?;
    let message = client.receive().await?;
    let mut expected = File::open(file)?;
    if usize::try_from(expected.metadata()?.len())? != message.body.len() {
        return Err("the message has another length".into());
    }
    let [mut wanted, mut found] = [(); 2].map(|()| vec![0; PART]);
    for start in (0..message.body.len()).step_by(PART) {
        let length = PART.min(message.body.len() - start);
        let (wanted, found) = (wanted.get_mut(..length), found.get_mut(..length));
        let (wanted, found) = wanted.zip(found).ok_or("a part is longer than a part")?;
        expected.read_exact(wanted)?;
        message.body.read(start, found)?;
        if wanted != found {
            return Err(format!("the message is another from byte {start} on").into());
        }
    }
    client.commit(message.id).await?;
    say(&json!({ "peak_mib": peak()? }))?;
    // The sender may still ask whether all of it came.
    std::future::pending().await
}

fn peak() -> Result<f64, Failure> {
    Ok((peak_mib(std::process::id())? * 10.0).round() / 10.0)
}

fn write_any(path: &Path, bytes: usize) -> Result<(), Failure> {
    let mut file = File::create(path)?;
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut part = vec![0; PART];
    let mut left = bytes;
    while left > 0 {
        rng.fill_bytes(&mut part);
        let now = part.get(..left.min(PART)).unwrap_or_default();
        file.write_all(now)?;
        left -= now.len();
    }
    Ok(())
}
