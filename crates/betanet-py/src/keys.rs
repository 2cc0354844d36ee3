//! Keys, hops and the geometry, as Python sees them.

use betanet_sphinx as sphinx;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::bytes::{AtMost, Fixed, to_python};
use crate::errors::OrRaise;
use crate::rng;
use crate::suite;

/// A node's secret for one epoch.
#[pyclass(frozen, module = "betanet", name = "SecretKey")]
pub(crate) struct SecretKey(pub(crate) sphinx::SecretKey);

#[pymethods]
impl SecretKey {
    #[new]
    fn new(data: Fixed<32>) -> Self {
        Self(sphinx::SecretKey::from_bytes(*data.0))
    }

    #[staticmethod]
    fn generate(py: Python<'_>) -> PyResult<Self> {
        Ok(Self(sphinx::SecretKey::generate(&mut rng::fresh().or_raise(py)?)))
    }

    #[getter]
    fn public(&self, py: Python<'_>) -> PublicKey {
        PublicKey(py.detach(|| self.0.public()))
    }

    fn to_bytes(&self, py: Python<'_>) -> Py<PyBytes> {
        to_python(py, self.0.to_bytes().as_slice())
    }

    #[expect(clippy::unused_self, reason = "every instance shows the same: nothing")]
    fn __repr__(&self) -> &'static str {
        "SecretKey(..)"
    }
}

/// A node's public key for one epoch, known to be canonical and of prime order.
#[pyclass(frozen, eq, hash, module = "betanet", name = "PublicKey")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct PublicKey(pub(crate) sphinx::PublicKey);

#[pymethods]
impl PublicKey {
    #[new]
    fn new(py: Python<'_>, data: AtMost<32>) -> PyResult<Self> {
        let wrong_length = |len| sphinx::KeyError::WrongLength { len };
        data.0.map_err(wrong_length).and_then(|data| sphinx::PublicKey::parse(&data)).map(Self).or_raise(py)
    }

    fn __bytes__(&self, py: Python<'_>) -> Py<PyBytes> {
        to_python(py, self.0.as_bytes())
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// One step of a path.
#[pyclass(frozen, eq, hash, module = "betanet", name = "Hop")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Hop {
    node: sphinx::NodeId,
    key: sphinx::PublicKey,
}

impl Hop {
    pub(crate) fn to_core(&self) -> sphinx::Hop {
        sphinx::Hop { node: self.node, key: self.key }
    }
}

#[pymethods]
impl Hop {
    #[new]
    fn new(node: Fixed<32>, key: &Bound<'_, PublicKey>) -> Self {
        Self { node: (*node.0).into(), key: key.get().0 }
    }

    #[getter]
    fn node(&self, py: Python<'_>) -> Py<PyBytes> {
        to_python(py, self.node.as_bytes())
    }

    #[getter]
    fn key(&self) -> PublicKey {
        PublicKey(self.key)
    }

    fn __repr__(&self) -> String {
        format!("Hop(node={}, key={:?})", self.node, self.key)
    }
}

/// A key that is given as such, as 32 bytes, or not at all: then a new one is drawn.
pub(crate) fn secret_or_new(py: Python<'_>, key: Option<&Bound<'_, PyAny>>) -> PyResult<sphinx::SecretKey> {
    let Some(key) = key else { return Ok(sphinx::SecretKey::generate(&mut rng::fresh().or_raise(py)?)) };
    if let Ok(key) = key.cast::<SecretKey>() {
        return Ok(key.get().0.clone());
    }
    match key.extract::<Fixed<32>>() {
        Ok(Fixed(bytes)) => Ok(sphinx::SecretKey::from_bytes(*bytes)),
        Err(error) if error.is_instance_of::<PyTypeError>(py) => {
            Err(PyTypeError::new_err("key must be a SecretKey, 32 bytes, or None"))
        }
        Err(error) => Err(error),
    }
}

/// All lengths of a packet, in bytes.
#[pyclass(frozen, eq, module = "betanet", name = "Geometry", get_all)]
#[derive(PartialEq, Eq)]
pub(crate) struct Geometry {
    max_hops: usize,
    prefix_len: usize,
    alpha_len: usize,
    beta_len: usize,
    gamma_len: usize,
    delta_len: usize,
    header_len: usize,
    packet_len: usize,
    surb_len: usize,
    user_payload_len: usize,
}

#[pymethods]
impl Geometry {
    #[staticmethod]
    fn native() -> Self {
        Self::of(&sphinx::Geometry::NATIVE)
    }

    #[staticmethod]
    fn of_suite(suite: &str) -> PyResult<Self> {
        suite::parse(suite).map(|suite| Self::of(suite.geometry()))
    }

    fn __repr__(&self) -> String {
        format!("Geometry(max_hops={}, packet_len={}, …)", self.max_hops, self.packet_len)
    }
}

impl Geometry {
    fn of(core: &sphinx::Geometry) -> Self {
        Self {
            max_hops: core.max_hops,
            prefix_len: core.prefix_len,
            alpha_len: core.alpha_len,
            beta_len: core.beta_len,
            gamma_len: core.gamma_len,
            delta_len: core.delta_len,
            header_len: core.header_len,
            packet_len: core.packet_len,
            surb_len: core.surb_len,
            user_payload_len: core.user_payload_len,
        }
    }
}
