//! What a client knows, as tuples in the order of the fields of Python's records.

use betanet_mix::path::PathError;
use betanet_node::client::{ClientStatus, ExcludedNode, OwnEdgeStatus, PathFigures};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

pub(crate) fn fields(py: Python<'_>, status: ClientStatus) -> PyResult<Bound<'_, PyTuple>> {
    let ClientStatus {
        network,
        epoch,
        entry_nodes,
        middle_nodes,
        exit_nodes,
        edges_attached,
        edges_wanted,
        one_operator,
        shortages,
        mean_delay_ms,
        in_flight,
        outgoing_messages,
        open_requests,
        fragments_resent,
        uncommitted,
        trouble,
        paths,
        edges,
        excluded,
    } = status;
    let nodes = PyDict::new(py);
    nodes.set_item("entry", entry_nodes)?;
    nodes.set_item("middle", middle_nodes)?;
    nodes.set_item("exit", exit_nodes)?;
    let paths = paths.into_iter().map(|path| {
        let PathFigures { hops, tries, lost, round_trip_ms, loop_ms } = path;
        (hops, tries, lost, round_trip_ms, loop_ms)
    });
    let shortages = shortages.into_iter().filter_map(|short| match &short {
        PathError::NotEnoughNodes { hops, needed, available, .. } => {
            Some((*hops, *needed, *available, short.to_string()))
        }
        _ => None,
    });
    let edges = edges.into_iter().map(|edge| {
        let OwnEdgeStatus { id, current, attached, reason } = edge;
        (id.to_string(), current, attached, reason)
    });
    let excluded = excluded.into_iter().map(|node| {
        let ExcludedNode { id, tries, lost, expected, left } = node;
        (id.to_string(), tries, lost, expected, left.as_secs_f64())
    });
    // In groups, because a tuple of Rust's has twelve fields at most.
    let network = (network, epoch, nodes, edges_attached, edges_wanted, one_operator, mean_delay_ms);
    let traffic = (in_flight, outgoing_messages, open_requests, fragments_resent, uncommitted, trouble);
    let seen = (
        PyTuple::new(py, shortages.collect::<Vec<_>>())?,
        PyTuple::new(py, paths)?,
        PyTuple::new(py, edges)?,
        PyTuple::new(py, excluded)?,
    );
    (network, traffic, seen).into_pyobject(py)
}
