//! Bytes from Python, copied once into the buffer that Rust then owns.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Any bytes-like object. The copy is the only one: a packet is then unwrapped in place, without the interpreter lock,
/// and nobody can change a `bytearray` meanwhile.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl<'py> FromPyObject<'_, 'py> for Bytes {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        with_buffer(object, |buffer, py| buffer.to_vec(py)).map(Self)
    }
}

/// A bytes-like object that may be a native packet.
pub(crate) struct Packet(pub(crate) Vec<u8>);

impl<'py> FromPyObject<'_, 'py> for Packet {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        packet(object, betanet_sphinx::PACKET_LEN).map(Self)
    }
}

/// A bytes-like object that may be a packet of `len` bytes. One of another length is not copied: it comes out empty,
/// which the packet code refuses by its length just the same.
pub(crate) fn packet(object: Borrowed<'_, '_, PyAny>, len: usize) -> PyResult<Vec<u8>> {
    with_buffer(object, |buffer, py| if buffer.len_bytes() == len { buffer.to_vec(py) } else { Ok(Vec::new()) })
}

/// Exactly `N` bytes.
pub(crate) struct Fixed<const N: usize>(pub(crate) [u8; N]);

impl<'py, const N: usize> FromPyObject<'_, 'py> for Fixed<N> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let Bytes(bytes) = object.extract()?;
        let len = bytes.len();
        let bytes = bytes.try_into().map_err(|_| PyValueError::new_err(format!("expected {N} bytes, got {len}")))?;
        Ok(Self(bytes))
    }
}

fn with_buffer<'py, T>(
    object: Borrowed<'_, 'py, PyAny>,
    read: impl FnOnce(&PyBuffer<u8>, Python<'py>) -> PyResult<T>,
) -> PyResult<T> {
    let buffer = PyBuffer::<u8>::get(&object).map_err(|_| {
        let kind = object.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
        PyTypeError::new_err(format!("expected a bytes-like object, got {kind}"))
    })?;
    read(&buffer, object.py())
}

/// Hands bytes to Python.
pub(crate) fn to_python(py: Python<'_>, bytes: &[u8]) -> Py<PyBytes> {
    PyBytes::new(py, bytes).unbind()
}
