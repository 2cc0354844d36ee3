//! Commands that act as a client.

use std::future::Future;
use std::io::{ErrorKind, IsTerminal, Read as _, Write as _};
use std::path::PathBuf;

use betanet_mix::view::Address;
use betanet_node::client::{Body, Client, ClientConfig, ClientError, CopyError, Incoming, body_from_file, copy_body};
use serde_json::json;

use super::arguments::{ClientArguments, PingArguments, RecvArguments, SendArguments};
use super::output::{Failure, OneLine, complain, hand_over, line, tell};
use super::services::absolute;
use super::streams::input;

/// Bytes of standard input that are held in memory; a longer message goes through a file.
const IN_MEMORY: u64 = 1024 * 1024;

pub(super) async fn address(arguments: ClientArguments) -> Result<(), Failure> {
    let json = arguments.json;
    with_client(arguments, async |client| {
        let address = client.address().to_string();
        tell(json, &json!({"address": address}), &address, "the address").await
    })
    .await
}

pub(super) async fn send(arguments: SendArguments) -> Result<(), Failure> {
    let to: Address = arguments.to.parse().map_err(|err| Failure::Usage(format!("--to is no address: {err}")))?;
    let source = match arguments.file {
        Some(path) => Source::File(path),
        None if arguments.message == "-" => {
            if std::io::stdin().is_terminal() {
                complain("type the message, then Ctrl-D");
            }
            read_message()?
        }
        None => Source::Memory(arguments.message.into_bytes()),
    };
    let json = arguments.client.json;
    with_client_in(arguments.client, arguments.bulk, async |client| {
        warn_one_operator(client, json);
        let body = source.into_body(client).await?;
        let start = std::time::Instant::now();
        let id = client.send(&to, body, arguments.hops).await?;
        let seconds = start.elapsed().as_secs_f64();
        tell(
            json,
            &json!({"event": "sent", "id": id.to_string(), "hops": arguments.hops, "seconds": seconds}),
            &format!("sent {id} over {} hops in {seconds:.3} s", arguments.hops),
            format_args!("that message {id} was sent"),
        )
        .await
    })
    .await
}

pub(super) async fn recv(arguments: RecvArguments) -> Result<(), Failure> {
    let json = arguments.client.json;
    let into = arguments.into.as_deref();
    if let Some(folder) = into.filter(|folder| !folder.is_dir()) {
        return Err(Failure::Usage(format!("--into: {} is no folder", folder.display())));
    }
    with_client(arguments.client, async |client| {
        let mut left = arguments.count;
        while left != Some(0) {
            let message = match arguments.timeout {
                None => client.receive().await?,
                Some(patience) => tokio::time::timeout(patience, client.receive())
                    .await
                    .map_err(|_| Failure::Error("no message came in time".to_owned()))??,
            };
            let id = message.id;
            let line = match into {
                Some(folder) => save(json, message, folder.join(id.to_string())).await?,
                None => show(json, message)?,
            };
            let told = hand_over(line).await;
            told.map_err(|err| Failure::Error(format!("cannot write the message, so it stays in the mailbox: {err}")))?;
            client.commit(id).await?;
            left = left.map(|left| left - 1);
        }
        Ok(())
    })
    .await
}

/// A message as a line.
fn show(json: bool, message: Incoming) -> Result<Vec<u8>, Failure> {
    let received = message.body.into_bytes();
    let bytes = received.map_err(|err| Failure::Error(format!("cannot read the message from its file: {err}")))?;
    let (name, body) = std::str::from_utf8(&bytes)
        .map_or_else(|_| ("body_hex", hex::encode(&bytes)), |text| ("body", text.to_owned()));
    let event = json!({
        "event": "message",
        "id": message.id.to_string(),
        "bytes": bytes.len(),
        "wants_reply": message.reply.is_some(),
        (name): body,
    });
    Ok(line(json, &event, &OneLine(&bytes))?)
}

/// Saves a message as the file `path`, however large it is, and tells so in a line.
async fn save(json: bool, message: Incoming, path: PathBuf) -> Result<Vec<u8>, Failure> {
    let Incoming { id, body, reply, .. } = message;
    let (bytes, shown) = (body.len(), path.display().to_string());
    let saved = tokio::task::spawn_blocking(move || body.save(&path)).await.map_err(std::io::Error::from)?;
    saved.map_err(|err| {
        Failure::Error(format!("cannot save the message as {shown}, so it stays in the mailbox: {err}"))
    })?;
    let event = json!({
        "event": "message",
        "id": id.to_string(),
        "bytes": bytes,
        "wants_reply": reply.is_some(),
        "file": shown,
    });
    Ok(line(json, &event, &OneLine(shown.as_bytes()))?)
}

pub(super) async fn ping(arguments: PingArguments) -> Result<(), Failure> {
    let json = arguments.client.json;
    let hops = arguments.hops;
    with_client(arguments.client, async |client| {
        for _ in 0..arguments.count {
            let time = client.ping(hops).await?;
            let milliseconds = time.as_secs_f64() * 1000.0;
            tell(
                json,
                &json!({"event": "pong", "hops": hops, "milliseconds": milliseconds}),
                &format!("{hops} hops: {milliseconds:.0} ms"),
                "the time",
            )
            .await?;
        }
        Ok(())
    })
    .await
}

/// Where a message comes from.
enum Source {
    Memory(Vec<u8>),
    File(PathBuf),
    /// Standard input, of which this much is read.
    Input(Vec<u8>),
}

impl Source {
    /// The body of the message; what is large is not in memory.
    async fn into_body(self, client: &Client) -> Result<Body, Failure> {
        match self {
            Self::Memory(bytes) => Ok(bytes.into()),
            Self::File(path) => Ok(client.body_of_file(path).await?),
            Self::Input(start) => {
                let mut file = client.body_file()?;
                let copied = tokio::task::spawn_blocking(move || {
                    file.write_all(&start).map_err(CopyError::Copy)?;
                    copy_body(input(), &file, start.len())?;
                    body_from_file(file).map_err(CopyError::Copy)
                });
                copied.await.map_err(std::io::Error::from)?.map_err(|err| match err {
                    CopyError::Source(err) => unreadable(&err),
                    CopyError::Copy(err) => Failure::from(ClientError::Storage(err)),
                })
            }
        }
    }
}

/// The message on standard input: whole, or the beginning of a large one.
fn read_message() -> Result<Source, Failure> {
    let mut start = Vec::new();
    #[expect(clippy::disallowed_methods, reason = "it ends after a megabyte")]
    input().take(IN_MEMORY).read_to_end(&mut start).map_err(|err| unreadable(&err))?;
    Ok(if start.len() < usize::try_from(IN_MEMORY).unwrap_or(usize::MAX) {
        Source::Memory(start)
    } else {
        Source::Input(start)
    })
}

fn unreadable(err: &std::io::Error) -> Failure {
    let message = format!("cannot read the message from standard input: {err}");
    match err.kind() {
        ErrorKind::FileTooLarge => Failure::Usage(message),
        _ => Failure::Error(message),
    }
}

fn warn_one_operator(client: &Client, json: bool) {
    if client.status().one_operator && !json {
        complain("one operator runs this whole network: no anonymity");
    }
}

/// Opens the client, does the work unless it is interrupted, and closes the client either way.
pub(super) async fn with_client<W>(arguments: ClientArguments, work: W) -> Result<(), Failure>
where
    W: AsyncFnOnce(&Client) -> Result<(), Failure>,
{
    with_client_in(arguments, false, work).await
}

/// As [`with_client`], of a client that may send large messages in bulk.
async fn with_client_in<W>(arguments: ClientArguments, bulk: bool, work: W) -> Result<(), Failure>
where
    W: AsyncFnOnce(&Client) -> Result<(), Failure>,
{
    let mut config = ClientConfig::new(absolute(&arguments.dir)?, absolute(&arguments.net)?);
    config.bulk = bulk;
    let client = interruptible(async { Ok(Client::open(config).await?) }).await?;
    let worked = interruptible(work(&client)).await;
    client.close().await;
    worked
}

async fn interruptible<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
    }
}
