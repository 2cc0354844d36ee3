//! Commands for whoever watches processes.

use std::net::SocketAddr;

use betanet_node::daemon::metrics::Metrics;
use betanet_node::metrics::blank;
use betanet_node::{authority, http};
use serde_json::{Value, json};

use super::arguments::{HealthArguments, MetricsArguments, Of};
use super::output::{Failure, tell};
use super::streams::write_output;

/// Prints every metric of a kind of process, at zero.
pub(super) fn metrics(arguments: &MetricsArguments) -> Result<(), Failure> {
    let page = match arguments.of {
        Of::Node => blank(&Metrics::new(false)),
        Of::Authority => authority::blank_page(),
    };
    write_output(page.as_bytes())
        .map_err(|err| Failure::Error(format!("cannot write the metrics to standard output: {err}")))
}

/// Asks a process whether it is well.
pub(super) async fn health(arguments: HealthArguments) -> Result<(), Failure> {
    let address = SocketAddr::new(arguments.host, arguments.port);
    let answer = http::get(address, "/health").await;
    let (status, body) = answer.map_err(|err| Failure::Error(format!("nothing answers at {address}: {err}")))?;
    let said: Value = serde_json::from_str(&body).unwrap_or_default();
    if said.get("status").is_none() {
        return Err(Failure::Error(format!("what answers at {address} is no node and no authority")));
    }
    let trouble = said.get("trouble").and_then(Value::as_str);
    if status != 200 {
        let role = said.get("role").and_then(Value::as_str).unwrap_or("process");
        let why = trouble.unwrap_or("it does not do its work yet");
        return Err(Failure::Error(format!("the {role} at {address} is not ready: {why}")));
    }
    let text = trouble.map_or_else(|| "ok".to_owned(), |trouble| format!("ok; {trouble}"));
    tell(arguments.json, &json!({"healthy": true, "said": said}), &text, "the health").await
}
