//! Commands that act as a client.

use std::future::Future;
use std::io::{ErrorKind, IsTerminal};

use betanet_mix::message::MAX_MESSAGE_LEN;
use betanet_mix::view::Address;
use betanet_node::client::{Client, ClientConfig};
use serde_json::json;

use super::arguments::{ClientArguments, PingArguments, RecvArguments, SendArguments};
use super::output::{Failure, OneLine, complain, hand_over, line, tell};
use super::services::absolute;
use super::streams::read_input;

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
    let body = if arguments.message == "-" {
        if std::io::stdin().is_terminal() {
            complain("type the message, then Ctrl-D");
        }
        read_message()?
    } else {
        arguments.message.into_bytes()
    };
    let json = arguments.client.json;
    with_client_in(arguments.client, arguments.bulk, async |client| {
        warn_one_operator(client, json);
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
    with_client(arguments.client, async |client| {
        let mut left = arguments.count;
        while left != Some(0) {
            let message = match arguments.timeout {
                None => client.receive().await?,
                Some(patience) => tokio::time::timeout(patience, client.receive())
                    .await
                    .map_err(|_| Failure::Error("no message came in time".to_owned()))??,
            };
            let received = message.body.into_bytes();
            let bytes =
                received.map_err(|err| Failure::Error(format!("cannot read the message from its file: {err}")))?;
            let (name, body) = std::str::from_utf8(&bytes)
                .map_or_else(|_| ("body_hex", hex::encode(&bytes)), |text| ("body", text.to_owned()));
            let event = json!({
                "event": "message",
                "id": message.id.to_string(),
                "bytes": bytes.len(),
                "wants_reply": message.reply.is_some(),
                (name): body,
            });
            let told = hand_over(line(json, &event, &OneLine(&bytes))?).await;
            told.map_err(|err| Failure::Error(format!("cannot write the message, so it stays in the mailbox: {err}")))?;
            client.commit(message.id).await?;
            left = left.map(|left| left - 1);
        }
        Ok(())
    })
    .await
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

/// The message on standard input, whole.
fn read_message() -> Result<Vec<u8>, Failure> {
    read_input(MAX_MESSAGE_LEN).map_err(|err| {
        let message = format!("cannot read the message from standard input: {err}");
        match err.kind() {
            ErrorKind::FileTooLarge => Failure::Usage(message),
            _ => Failure::Error(message),
        }
    })
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
