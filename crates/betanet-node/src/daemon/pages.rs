//! What a node says of itself over HTTP.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use betanet_mix::directory::Consensuses;
use tokio::sync::watch;

use super::NodeRecord;
use super::metrics::Metrics;
use crate::clock::NetworkClock;
use crate::http::{self, Response};
use crate::metrics::Exporter;
use crate::process::http_places;

/// Answers `/health` and `/metrics`.
pub(super) fn serve(
    listener: tokio::net::TcpListener,
    record: &NodeRecord,
    metrics: &Arc<Metrics>,
    consensuses: watch::Receiver<Arc<Consensuses>>,
    refusal: watch::Receiver<Option<String>>,
    time: NetworkClock,
) {
    let exporter = Exporter::new(metrics);
    let metrics = Arc::clone(metrics);
    let record = record.clone();
    let started = Instant::now();
    let crowded = {
        let metrics = Arc::clone(&metrics);
        move || metrics.drop_one("http_crowded")
    };
    let answer = move |path: &str| match path {
        "/health" => {
            let healthy = metrics.healthy.load(Ordering::Relaxed);
            let consensuses = consensuses.borrow();
            let now_ms = time.now_ms();
            let view = consensuses.at(now_ms);
            let consensus = view.map(|view| view.consensus());
            let refused = refusal.borrow().clone();
            let refused = refused.map(|reason| format!("the authority does not take this node: {reason}"));
            let troubles: Vec<_> = consensuses.complaint(now_ms).into_iter().chain(refused).collect();
            let body = serde_json::json!({
                "status": if healthy { "ok" } else { "not_ready" },
                "id": record.id.to_string(),
                "role": record.role.name(),
                "epoch": consensus.map(|consensus| consensus.epoch.0),
                "revision": consensus.map(|consensus| consensus.revision),
                "nodes": consensus.map(|consensus| consensus.nodes.len()),
                "listed": view.is_some_and(|view| record.is_listed_in(view)),
                "trouble": (!troubles.is_empty()).then(|| troubles.join("; ")),
                "uptime_seconds": started.elapsed().as_secs(),
                "version": env!("CARGO_PKG_VERSION"),
            });
            Some(Response::json(if healthy { 200 } else { 503 }, &body))
        }
        "/metrics" => Some(exporter.answer(Instant::now())),
        _ => None,
    };
    tokio::spawn(http::serve(listener, http_places(), answer, crowded));
}
