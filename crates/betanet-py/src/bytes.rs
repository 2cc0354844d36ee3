//! Bytes from Python, copied once into the buffer that Rust then owns.

use std::fs::File;
use std::io::Write as _;

use betanet_mix::message::{MAX_MESSAGE_LEN, StreamError};
use pyo3::buffer::PyBuffer;
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PySlice};
use zeroize::Zeroizing;

use crate::arguments::refuse_bool;
use crate::errors::named;

/// Any bytes-like object. The copy is the only one: a packet is then unwrapped in place, without the interpreter lock,
/// and nobody can change a `bytearray` meanwhile.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl<'py> FromPyObject<'_, 'py> for Bytes {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        AtMost::<{ usize::MAX }>::extract(object).map(|AtMost(bytes)| Self(bytes.unwrap_or_default()))
    }
}

/// A bytes-like object that is of use up to `MAX` bytes. A longer one is not copied: its length comes out.
pub(crate) struct AtMost<const MAX: usize>(pub(crate) Result<Vec<u8>, usize>);

impl<'py, const MAX: usize> FromPyObject<'_, 'py> for AtMost<MAX> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        with_buffer(object, MAX, |buffer, py| buffer.map_or_else(|len| Ok(Err(len)), |it| copy(it, py).map(Ok)))
            .map(Self)
    }
}

/// The body of a message.
pub(crate) struct Body(pub(crate) Vec<u8>);

impl<'py> FromPyObject<'_, 'py> for Body {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let too_long = |len| named(object.py(), "NetworkError", StreamError::TooLong { len }.to_string());
        AtMost::<MAX_MESSAGE_LEN>::extract(object)?.0.map(Self).map_err(too_long)
    }
}

/// Bodies from this length on are sent from a file: Python holds them in memory already.
const LARGE: usize = 1024 * 1024;
/// Bytes that are copied into it at a time.
const CHUNK: usize = 256 * 1024;

/// The body of a message to be sent; a large one is copied into the file that `open` gives.
pub(crate) fn take_body(
    object: &Bound<'_, PyAny>,
    open: impl FnOnce() -> PyResult<File>,
) -> PyResult<betanet_node::client::Body> {
    with_buffer(object.as_borrowed(), MAX_MESSAGE_LEN, |buffer, py| {
        let too_long = |len| named(py, "NetworkError", StreamError::TooLong { len }.to_string());
        let buffer = buffer.map_err(too_long)?;
        let len = buffer.len_bytes();
        let view = if len < LARGE { None } else { PyMemoryView::from(object)?.call_method1("cast", ("B",)).ok() };
        let Some(view) = view else { return Ok(copy(buffer, py)?.into()) };
        let unwritten = |error: std::io::Error| {
            named(py, "NetworkError", format!("cannot write a large message to the client's folder: {error}"))
        };
        let mut file = open()?;
        for start in (0..len).step_by(CHUNK) {
            let part = view.get_item(PySlice::new(py, index(start)?, index(start.saturating_add(CHUNK))?, 1))?;
            file.write_all(part.call_method0("tobytes")?.cast::<PyBytes>()?.as_bytes()).map_err(unwritten)?;
        }
        betanet_node::client::body_from_file(file).map_err(unwritten)
    })
}

fn index(place: usize) -> PyResult<isize> {
    isize::try_from(place).map_err(|_| PyOverflowError::new_err("the message is too long"))
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
    with_buffer(object, len, |buffer, py| match buffer {
        Ok(buffer) if buffer.len_bytes() == len => copy(buffer, py),
        _ => Ok(Vec::new()),
    })
}

/// Exactly `N` bytes, erased when dropped: keys come this way.
pub(crate) struct Fixed<const N: usize>(pub(crate) Zeroizing<[u8; N]>);

impl<'py, const N: usize> FromPyObject<'_, 'py> for Fixed<N> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        with_buffer(object, N, |buffer, py| {
            let mut bytes = Zeroizing::new([0; N]);
            let wrong_length = |len| PyValueError::new_err(format!("expected {N} bytes, got {len}"));
            let buffer = buffer.map_err(wrong_length)?;
            if buffer.len_bytes() != N {
                return Err(wrong_length(buffer.len_bytes()));
            }
            buffer.copy_to_slice(py, bytes.as_mut_slice())?;
            Ok(Self(bytes))
        })
    }
}

/// The elements of an iterable, taken one by one: its own word about its length is not relied on.
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<'py, T: FromPyObjectOwned<'py>> FromPyObject<'_, 'py> for List<T> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let mut elements = Vec::new();
        for element in object.try_iter()? {
            if elements.len() == elements.capacity() {
                let more = elements.len().max(64);
                elements.try_reserve_exact(more).map_err(|error| no_memory(py, &error))?;
            }
            elements.push(element?.extract().map_err(Into::into)?);
        }
        Ok(Self(elements))
    }
}

/// The lowest bit of an epoch. What is no byte is no bit either, and the core says so.
pub(crate) struct Parity(pub(crate) u8);

impl<'py> FromPyObject<'_, 'py> for Parity {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        refuse_bool(&object, "parity", "0 or 1")?;
        match object.extract::<u8>() {
            Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => Ok(Self(u8::MAX)),
            parity => parity.map(Self),
        }
    }
}

/// Reads the buffer of a bytes-like object, or its length if that is more than `max`.
fn with_buffer<'py, T>(
    object: Borrowed<'_, 'py, PyAny>,
    max: usize,
    read: impl FnOnce(Result<&PyBuffer<u8>, usize>, Python<'py>) -> PyResult<T>,
) -> PyResult<T> {
    let py = object.py();
    if let Ok(buffer) = PyBuffer::<u8>::get(&object) {
        let len = buffer.len_bytes();
        return read(if len <= max { Ok(&buffer) } else { Err(len) }, py);
    }
    // Elements of another kind than bytes: Python lays them out.
    let view = PyMemoryView::from(&object).map_err(|error| {
        if !error.is_instance_of::<PyTypeError>(py) {
            return error;
        }
        let kind = object.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
        PyTypeError::new_err(format!("expected a bytes-like object, got {kind}"))
    })?;
    let len: usize = view.getattr("nbytes")?.extract()?;
    if len > max {
        return read(Err(len), py);
    }
    read(Ok(&PyBuffer::get(&view.call_method0("tobytes")?)?), py)
}

/// A copy of a buffer, or Python's error where there is no memory for it.
fn copy(buffer: &PyBuffer<u8>, py: Python<'_>) -> PyResult<Vec<u8>> {
    let mut bytes = reserve(py, buffer.len_bytes())?;
    bytes.resize(buffer.len_bytes(), 0);
    buffer.copy_to_slice(py, &mut bytes)?;
    Ok(bytes)
}

/// An empty vector with room for `len`, or Python's error where there is no memory for it.
pub(crate) fn reserve<T>(py: Python<'_>, len: usize) -> PyResult<Vec<T>> {
    let mut room = Vec::new();
    room.try_reserve_exact(len).map_err(|error| no_memory(py, &error))?;
    Ok(room)
}

fn no_memory(_: Python<'_>, error: &std::collections::TryReserveError) -> PyErr {
    PyMemoryError::new_err(format!("not enough memory for these packets: {error}"))
}

/// Hands bytes to Python, or Python's error where there is no memory for them.
pub(crate) fn try_to_python(py: Python<'_>, bytes: &[u8]) -> PyResult<Py<PyBytes>> {
    let copy = |room: &mut [u8]| {
        room.copy_from_slice(bytes);
        Ok(())
    };
    PyBytes::new_with(py, bytes.len(), copy).map(Bound::unbind)
}

/// Hands bytes to Python.
pub(crate) fn to_python(py: Python<'_>, bytes: &[u8]) -> Py<PyBytes> {
    PyBytes::new(py, bytes).unbind()
}
