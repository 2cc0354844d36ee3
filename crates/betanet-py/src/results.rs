//! What the client's operations bring back, and how that becomes Python.

use betanet_mix::courier::FailReason;
use betanet_mix::path::PathError;
use betanet_mix::view::{AddressError, WorkerDescriptor};
use betanet_node::client::{ClientError, Incoming, ReceivedBody};
use pyo3::IntoPyObjectExt as _;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::bytes::try_to_python;
use crate::errors::{IntoPy, class, named};

/// The value of an operation that succeeded, which becomes Python's where the interpreter lock is held.
pub(crate) struct Success(Box<IntoPython>);

type IntoPython = dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send;

/// Why an operation failed.
pub(crate) struct Failure(pub(crate) ClientError);

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self(error)
    }
}

impl Success {
    pub(crate) fn new(into_py: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send + 'static) -> Self {
        Self(Box::new(into_py))
    }

    pub(crate) fn nothing() -> Self {
        Self::new(|py| Ok(py.None()))
    }

    pub(crate) fn bytes(bytes: Vec<u8>) -> Self {
        Self::new(move |py| Ok(try_to_python(py, &bytes)?.into_any()))
    }

    pub(crate) fn incoming(message: Incoming) -> Self {
        Self::new(move |py| {
            let handle = message.reply.map(|handle| handle.0);
            let body = received(py, message.body)?;
            let fields = (message.id.to_string(), body, handle, message.reply_capacity);
            fields.into_py_any(py)
        })
    }

    pub(crate) fn seconds(seconds: f64) -> Self {
        Self::new(move |py| seconds.into_py_any(py))
    }

    pub(crate) fn text(text: String) -> Self {
        Self::new(move |py| text.into_py_any(py))
    }

    pub(crate) fn workers(workers: Vec<WorkerDescriptor>) -> Self {
        Self::new(move |py| {
            let workers = workers.into_iter().map(|worker| worker_fields(py, worker));
            workers.collect::<PyResult<Vec<_>>>()?.into_py_any(py)
        })
    }

    /// The value in Python; records as tuples in the order of their fields.
    pub(crate) fn into_py(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        (self.0)(py)
    }
}

/// The body of a message: its bytes, or what reads them from their file.
fn received(py: Python<'_>, body: ReceivedBody) -> PyResult<Py<PyAny>> {
    match body {
        ReceivedBody::Bytes(bytes) => Ok(try_to_python(py, &bytes)?.into_any()),
        file @ ReceivedBody::File { .. } => Ok(Py::new(py, SpooledBody(file))?.into_any()),
    }
}

/// A large body that lies in a file of the client's folder.
#[pyclass(frozen, module = "betanet._core")]
pub(crate) struct SpooledBody(pub(crate) ReceivedBody);

#[pymethods]
impl SpooledBody {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// All of it, read straight into Python's memory.
    fn read(&self, py: Python<'_>) -> PyResult<Py<PyBytes>> {
        PyBytes::new_with(py, self.0.len(), |room| Ok(self.0.read(0, room)?)).map(Bound::unbind)
    }
}

fn worker_fields(py: Python<'_>, worker: WorkerDescriptor) -> PyResult<Bound<'_, PyTuple>> {
    let fields = (
        hex::encode(worker.id.0),
        worker.name,
        PyTuple::new(py, worker.kinds)?,
        worker.slots,
        worker.memory_bytes,
        worker.limits.map(|limits| (limits.wall_ms, limits.scratch_bytes, limits.output_bytes)),
        PyTuple::new(py, worker.groups)?,
        worker.address.to_string(),
        worker.level,
        worker.issued_ms,
        worker.expires_ms,
    );
    fields.into_pyobject(py)
}

impl IntoPy for Failure {
    fn into_py(self, py: Python<'_>) -> PyErr {
        let message = self.0.to_string();
        match self.0 {
            ClientError::NotEnoughNodes(PathError::NotEnoughNodes { needed, available, .. }) => {
                match class(py, "NotEnoughNodes") {
                    Ok(class) => PyErr::from_type(class, (message, needed, available)),
                    Err(error) => error,
                }
            }
            ClientError::Unanswered => named(py, "Unanswered", message),
            ClientError::Timeout
            | ClientError::Failed(
                FailReason::NoAck { .. } | FailReason::NoProgress { .. } | FailReason::Interrupted { .. },
            ) => named(py, "Timeout", message),
            ClientError::Busy => named(py, "Busy", message),
            ClientError::Closed => named(py, "Closed", message),
            ClientError::NoBootstrap { .. } => named(py, "NoNetworkFile", message),
            // As Python says it of a file that it opens.
            ClientError::File { path, source, .. } => match source.raw_os_error() {
                Some(number) => {
                    let text = source.to_string();
                    let text = text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text).to_owned();
                    PyOSError::new_err((number, text, path.into_os_string()))
                }
                None => named(py, "NetworkError", message),
            },
            ClientError::BadEdges { .. } | ClientError::IdUsed { .. } => PyValueError::new_err(message),
            ClientError::Offline(_) | ClientError::NoEdges => named(py, "Offline", message),
            _ => named(py, "NetworkError", message),
        }
    }
}

impl IntoPy for AddressError {
    fn into_py(self, py: Python<'_>) -> PyErr {
        named(py, "InvalidAddress", self.to_string())
    }
}
