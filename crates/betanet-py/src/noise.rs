//! Noise sessions and seals, as Python sees them.

use std::sync::Mutex;

use betanet_noise::{
    FRAME_OVERHEAD, MAX_PLAINTEXT_LEN, MAX_SEALED_PLAINTEXT_LEN, NoiseError, NoisePublic, NoiseSecret as Secret,
    SEAL_OVERHEAD, Session, open, seal,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::bytes::{AtMost, Bytes, Fixed, to_python};
use crate::errors::OrRaise;
use crate::lock;
use crate::rng;

/// Bytes of the longest message of a handshake, and of the longest seal.
const LONGEST: usize = MAX_SEALED_PLAINTEXT_LEN + SEAL_OVERHEAD;

/// A person's secret key.
#[pyclass(frozen, module = "betanet", name = "NoiseSecret")]
pub(crate) struct NoiseSecret(Secret);

#[pymethods]
impl NoiseSecret {
    #[new]
    fn new(data: Fixed<32>) -> Self {
        Self(Secret::from_bytes(*data.0))
    }

    #[staticmethod]
    fn generate(py: Python<'_>) -> PyResult<Self> {
        Ok(Self(Secret::generate(&mut rng::fresh().or_raise(py)?)))
    }

    #[getter]
    fn public(&self, py: Python<'_>) -> Py<PyBytes> {
        to_python(py, py.detach(|| self.0.public()).as_bytes())
    }

    fn to_bytes(&self, py: Python<'_>) -> Py<PyBytes> {
        to_python(py, self.0.to_bytes().as_slice())
    }

    #[expect(clippy::unused_self, reason = "every instance shows the same: nothing")]
    fn __repr__(&self) -> &'static str {
        "NoiseSecret(..)"
    }
}

/// A secret key that is given as such, or as 32 bytes.
pub(crate) struct AnySecret(Secret);

impl<'py> FromPyObject<'_, 'py> for AnySecret {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(secret) = object.cast::<NoiseSecret>() {
            return Ok(Self(secret.get().0.clone()));
        }
        match object.extract::<Fixed<32>>() {
            Ok(Fixed(bytes)) => Ok(Self(Secret::from_bytes(*bytes))),
            Err(error) if error.is_instance_of::<PyTypeError>(object.py()) => {
                Err(PyTypeError::new_err("secret must be a NoiseSecret, or 32 bytes"))
            }
            Err(error) => Err(error),
        }
    }
}

/// A session by the pattern XX.
#[pyclass(frozen, module = "betanet", name = "NoiseSession")]
pub(crate) struct NoiseSession(Mutex<Session>);

#[pymethods]
impl NoiseSession {
    #[staticmethod]
    #[pyo3(signature = (secret, *, prologue = Bytes(Vec::new())), text_signature = "(secret, *, prologue=b'')")]
    fn initiator(py: Python<'_>, secret: AnySecret, prologue: Bytes) -> PyResult<Self> {
        let mut rng = rng::fresh().or_raise(py)?;
        let session = py.detach(|| Session::initiator(&secret.0, &prologue.0, &mut rng));
        Ok(Self(Mutex::new(session.or_raise(py)?)))
    }

    #[staticmethod]
    #[pyo3(signature = (secret, *, prologue = Bytes(Vec::new())), text_signature = "(secret, *, prologue=b'')")]
    fn responder(py: Python<'_>, secret: AnySecret, prologue: Bytes) -> PyResult<Self> {
        let mut rng = rng::fresh().or_raise(py)?;
        let session = py.detach(|| Session::responder(&secret.0, &prologue.0, &mut rng));
        Ok(Self(Mutex::new(session.or_raise(py)?)))
    }

    #[pyo3(signature = (payload = AtMost(Ok(Vec::new()))), text_signature = "($self, payload=b'')")]
    fn write_handshake(&self, py: Python<'_>, payload: AtMost<LONGEST>) -> PyResult<Py<PyBytes>> {
        let payload = within(py, payload, 0, LONGEST)?;
        let message = py.detach(|| lock(&self.0).write_handshake(&payload));
        Ok(to_python(py, &message.or_raise(py)?))
    }

    fn read_handshake(&self, py: Python<'_>, message: AtMost<LONGEST>) -> PyResult<Py<PyBytes>> {
        let message = within(py, message, 0, LONGEST)?;
        let payload = py.detach(|| lock(&self.0).read_handshake(&message));
        Ok(to_python(py, &payload.or_raise(py)?))
    }

    #[getter]
    fn is_initiator(&self) -> bool {
        lock(&self.0).is_initiator()
    }

    #[getter]
    fn is_open(&self) -> bool {
        lock(&self.0).is_open()
    }

    #[getter]
    fn remote_static(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        lock(&self.0).remote_static().map(|key| to_python(py, key.as_bytes()))
    }

    #[getter]
    fn handshake_hash(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        lock(&self.0).handshake_hash().map(|hash| to_python(py, &hash))
    }

    fn encrypt(&self, py: Python<'_>, plaintext: AtMost<MAX_PLAINTEXT_LEN>) -> PyResult<Py<PyBytes>> {
        let plaintext = within(py, plaintext, 0, MAX_PLAINTEXT_LEN)?;
        let frame = py.detach(|| lock(&self.0).encrypt(&plaintext));
        Ok(to_python(py, &frame.or_raise(py)?))
    }

    fn decrypt(&self, py: Python<'_>, frame: AtMost<{ MAX_PLAINTEXT_LEN + FRAME_OVERHEAD }>) -> PyResult<Py<PyBytes>> {
        let frame = within(py, frame, FRAME_OVERHEAD, MAX_PLAINTEXT_LEN + FRAME_OVERHEAD)?;
        let plaintext = py.detach(|| lock(&self.0).decrypt(&frame));
        Ok(to_python(py, &plaintext.or_raise(py)?))
    }

    fn __repr__(&self) -> String {
        let session = lock(&self.0);
        let role = if session.is_initiator() { "initiator" } else { "responder" };
        format!("NoiseSession({role}, {})", if session.is_open() { "open" } else { "handshake" })
    }
}

/// Seals a text for somebody who is not there.
#[pyfunction]
pub(crate) fn noise_x_seal(
    py: Python<'_>,
    recipient_static: Fixed<32>,
    prologue: Bytes,
    plaintext: AtMost<MAX_SEALED_PLAINTEXT_LEN>,
    secret: AnySecret,
) -> PyResult<Py<PyBytes>> {
    let plaintext = within(py, plaintext, 0, MAX_SEALED_PLAINTEXT_LEN)?;
    let recipient = NoisePublic::from(*recipient_static.0);
    let mut rng = rng::fresh().or_raise(py)?;
    let sealed = py.detach(|| seal(&recipient, &prologue.0, &plaintext, &secret.0, &mut rng));
    Ok(to_python(py, &sealed.or_raise(py)?))
}

/// The sender and the text of a seal.
#[pyfunction]
pub(crate) fn noise_x_open(
    py: Python<'_>,
    prologue: Bytes,
    sealed: AtMost<LONGEST>,
    secret: AnySecret,
) -> PyResult<(Py<PyBytes>, Py<PyBytes>)> {
    let sealed = within(py, sealed, SEAL_OVERHEAD, LONGEST)?;
    let (sender, plaintext) = py.detach(|| open(&secret.0, &prologue.0, &sealed)).or_raise(py)?;
    Ok((to_python(py, sender.as_bytes()), to_python(py, &plaintext)))
}

fn within<const MAX: usize>(py: Python<'_>, bytes: AtMost<MAX>, least: usize, most: usize) -> PyResult<Vec<u8>> {
    bytes.0.map_err(|len| NoiseError::WrongLength { len, least, most }).or_raise(py)
}
