//! The verifiable random function and the exponential quantile of verifiable delays.

use std::time::Duration;

use betanet_mix::delay;
use betanet_mix::vrf::{PROOF_LEN, Proof, VrfError, VrfPublicKey, VrfSecretKey};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arguments;
use crate::bytes::{AtMost, Bytes, Fixed, to_python};
use crate::errors::OrRaise;

/// The bytes of a proof. One that is too long is refused for its length, as an empty one is; so is a key.
type ProofBytes = AtMost<PROOF_LEN>;

/// The public key of a seed.
#[pyfunction]
pub(crate) fn vrf_public_key(py: Python<'_>, seed: Fixed<32>) -> Py<PyBytes> {
    let public = py.detach(|| VrfSecretKey::from_seed(&seed.0).public());
    to_python(py, public.as_bytes())
}

/// The proof of the output for an input.
#[pyfunction]
pub(crate) fn vrf_prove(py: Python<'_>, seed: Fixed<32>, input: Bytes) -> Py<PyBytes> {
    let (_, proof) = py.detach(|| VrfSecretKey::from_seed(&seed.0).prove(&input.0));
    to_python(py, proof.as_bytes())
}

/// The output, if the proof proves it.
#[pyfunction]
pub(crate) fn vrf_verify(
    py: Python<'_>,
    public_key: AtMost<32>,
    input: Bytes,
    proof: ProofBytes,
) -> PyResult<Py<PyBytes>> {
    let public_key = public_key.0.unwrap_or_default();
    let output = py.detach(|| VrfPublicKey::parse(&public_key)?.verify(&input.0, &parse(proof)?));
    Ok(to_python(py, output.or_raise(py)?.as_bytes()))
}

/// The output that a proof would prove.
#[pyfunction]
pub(crate) fn vrf_hash(py: Python<'_>, proof: ProofBytes) -> PyResult<Py<PyBytes>> {
    let output = py.detach(|| parse(proof)?.to_output_unverified());
    Ok(to_python(py, output.or_raise(py)?.as_bytes()))
}

/// The delay that a share of all delays do not exceed, in nanoseconds.
#[pyfunction]
pub(crate) fn delay_quantile(
    #[pyo3(from_py_with = arguments::mean_ns)] mean_ns: u64,
    #[pyo3(from_py_with = arguments::x)] x: u64,
) -> u64 {
    // A capped delay of more than 580 years has no place in 64 bits.
    u64::try_from(delay::quantile(Duration::from_nanos(mean_ns), x).as_nanos()).unwrap_or(u64::MAX)
}

fn parse(bytes: ProofBytes) -> Result<Proof, VrfError> {
    <[u8; PROOF_LEN]>::try_from(bytes.0.unwrap_or_default().as_slice()).map(Proof::from).map_err(|_| VrfError::BadProof)
}
