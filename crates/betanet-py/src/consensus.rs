//! A consensus, as tuples in the order of the fields of Python's records.

use betanet_mix::view::{Consensus, Member};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

pub(crate) fn fields<'py>(py: Python<'py>, consensus: &Consensus, in_force: bool) -> PyResult<Bound<'py, PyTuple>> {
    let nodes = consensus.nodes.iter().map(|member| node(py, member)).collect::<PyResult<Vec<_>>>()?;
    let head = (
        consensus.network.as_str(),
        consensus.epoch.0,
        consensus.revision,
        consensus.valid_after_ms,
        consensus.fresh_until_ms,
        consensus.valid_until_ms,
        in_force,
    );
    (head, PyList::new(py, nodes)?).into_pyobject(py)
}

fn node<'py>(py: Python<'py>, member: &Member) -> PyResult<Bound<'py, PyTuple>> {
    let fields = (
        member.id.to_string(),
        member.role.name(),
        member.operator.as_str(),
        member.prefix.to_string(),
        member.link_address.to_string(),
        PyTuple::new(py, member.keys.keys().map(|epoch| epoch.0))?,
        member.expires_ms,
    );
    fields.into_pyobject(py)
}
