//! What an authority says of itself over HTTP.

use std::sync::Arc;
use std::time::Instant;

use betanet_mix::view::node_id_of;
use tokio::net::TcpListener;

use super::Shared;
use super::metrics::Refused;
use crate::http::{self, Response};
use crate::metrics::Exporter;
use crate::process::http_places;

/// Answers `/health` and `/metrics`.
pub(super) fn serve(listener: TcpListener, shared: &Arc<Shared>) {
    let exporter = Exporter::new(shared);
    let started = Instant::now();
    let crowded = {
        let shared = Arc::clone(shared);
        move || shared.counts.refuse(Refused::HttpCrowded)
    };
    let shared = Arc::clone(shared);
    let answer = move |path: &str| match path {
        "/health" => Some(health(&shared, started)),
        "/metrics" => Some(exporter.answer(Instant::now())),
        _ => None,
    };
    tokio::spawn(http::serve(listener, http_places(), answer, crowded));
}

/// It is well as long as it answers, also while it signs nothing: it waits for nodes then, and what starts them may wait for
/// its health. Where it cannot keep its word it ends.
fn health(shared: &Shared, started: Instant) -> Response {
    let standing = shared.standing();
    let consensuses = shared.consensuses.borrow();
    let consensus = consensuses.newest().map(|view| view.consensus());
    let trouble = match consensus {
        _ if standing.signs() => None,
        None => Some("the first consensus waits for nodes"),
        Some(_) => Some("it has signed no consensus since the last one was to be replaced: it waits for nodes"),
    };
    let body = serde_json::json!({
        "status": "ok",
        "id": node_id_of(&shared.key).to_string(),
        "role": "authority",
        "epoch": consensus.map(|consensus| consensus.epoch.0),
        "revision": consensus.map(|consensus| consensus.revision),
        "nodes": consensus.map(|consensus| consensus.nodes.len()),
        "trouble": trouble,
        "uptime_seconds": started.elapsed().as_secs(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    Response::json(200, &body)
}
