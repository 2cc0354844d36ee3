//! What a client knows of its network and itself.

use std::fmt::Write as _;

use betanet_node::client::{Client, ClientStatus};
use serde_json::{Value, json};

use super::arguments::ClientArguments;
use super::messages::with_client;
use super::output::{Failure, tell};

/// Loops are sent at these lengths, so many at each.
const LENGTHS: [u8; 3] = [3, 5, 7];
const LOOPS: usize = 3;

pub(super) async fn status(arguments: ClientArguments) -> Result<(), Failure> {
    let json = arguments.json;
    with_client(arguments, async |client| {
        measure(client).await;
        let status = client.status();
        tell(json, &as_json(&status), &as_text(&status), "the status").await
    })
    .await
}

/// What does not come back is counted by the client.
async fn measure(client: &Client) {
    for hops in LENGTHS {
        for _ in 0..LOOPS {
            if client.ping(hops).await.is_err() {
                break;
            }
        }
    }
}

fn as_json(status: &ClientStatus) -> Value {
    let paths = status.paths.iter().map(|path| {
        json!({"hops": path.hops, "tries": path.tries, "lost": path.lost, "round_trip_ms": path.round_trip_ms, "loop_ms": path.loop_ms})
    });
    let edges = status.edges.iter().map(|edge| {
        json!({"id": edge.id.to_string(), "current": edge.current, "attached": edge.attached, "reason": edge.reason})
    });
    let excluded = status.excluded.iter().map(|node| {
        json!({"id": node.id.to_string(), "tries": node.tries, "lost": node.lost, "expected": node.expected, "seconds_left": node.left.as_secs()})
    });
    json!({
        "network": status.network,
        "epoch": status.epoch,
        "nodes": {"entry": status.entry_nodes, "middle": status.middle_nodes, "exit": status.exit_nodes},
        "one_operator": status.one_operator,
        "shortages": status.shortages.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "paths": paths.collect::<Vec<_>>(),
        "edges": edges.collect::<Vec<_>>(),
        "excluded": excluded.collect::<Vec<_>>(),
        "trouble": status.trouble,
    })
}

fn as_text(status: &ClientStatus) -> String {
    let nodes = status.entry_nodes + status.middle_nodes + status.exit_nodes;
    let mut text = format!("network {}: {nodes} nodes, epoch {}", status.network, status.epoch);
    // Writing to a text does not fail.
    if status.one_operator {
        text.push_str("\none operator runs all of it: no anonymity");
    }
    for short in &status.shortages {
        let _ = write!(text, "\n{short}");
    }
    for path in &status.paths {
        let time = path.loop_ms.map_or_else(String::new, |ms| format!(", {ms} ms around a loop"));
        let _ = write!(text, "\n{} hops: {} of {} packets lost{time}", path.hops, path.lost, path.tries);
    }
    for edge in &status.edges {
        let name = if edge.current { "edge" } else { "former edge" };
        let state = if edge.attached { "attached" } else { edge.reason.as_deref().unwrap_or("not reached yet") };
        let _ = write!(text, "\n{name} {}: {state}", edge.id);
    }
    for node in &status.excluded {
        let _ = write!(
            text,
            "\nleft out {}: lost {} of {} packets, {} by chance; tried again in {} s",
            node.id,
            node.lost,
            node.tries,
            node.expected,
            node.left.as_secs()
        );
    }
    if let Some(trouble) = &status.trouble {
        let _ = write!(text, "\ntrouble: {trouble}");
    }
    text
}
