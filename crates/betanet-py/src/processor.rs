//! A node's side, one packet at a time, and what comes out of a packet.

use std::sync::Mutex;
use std::time::Duration;

use betanet_mix::delay::Exponential;
use betanet_mix::replay::ReplayCache;
use betanet_sphinx::PacketError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arguments;
use crate::bytes::{self, to_python, try_to_python};
use crate::errors::{Closed, OrRaise};
use crate::keys::{PublicKey, secret_or_new};
use crate::lock;
use crate::rng;
use crate::suite::{self, Found, Node, Suite};

/// A packet that was accepted: what to do with it, when, and what to pass on.
#[pyclass(frozen, module = "betanet", name = "ProcessedPacket")]
pub(crate) struct ProcessedPacket {
    #[pyo3(get)]
    kind: &'static str,
    #[pyo3(get)]
    next_hop: Option<Py<PyBytes>>,
    #[pyo3(get)]
    mailbox: Option<Py<PyBytes>>,
    #[pyo3(get)]
    surb_id: Option<Py<PyBytes>>,
    #[pyo3(get)]
    payload: Py<PyBytes>,
    #[pyo3(get)]
    delay_ms: f64,
}

impl ProcessedPacket {
    /// Copies what matters out of the buffer that was unwrapped.
    pub(crate) fn new(py: Python<'_>, found: &Found, delay: Duration, packet: &[u8]) -> PyResult<Self> {
        Ok(Self {
            kind: found.kind,
            next_hop: found.next_hop.map(|next| to_python(py, &next)),
            mailbox: found.mailbox.as_ref().map(|mailbox| to_python(py, mailbox)),
            surb_id: found.surb_id.map(|id| to_python(py, &id)),
            payload: try_to_python(py, packet.get(found.payload.clone()).unwrap_or_default())?,
            delay_ms: delay.as_secs_f64() * 1e3,
        })
    }
}

#[pymethods]
impl ProcessedPacket {
    fn __repr__(&self, py: Python<'_>) -> String {
        format!(
            "ProcessedPacket(kind='{}', payload={} bytes, delay_ms={:.3})",
            self.kind,
            self.payload.bind(py).as_bytes().len(),
            self.delay_ms
        )
    }
}

/// A packet that was refused: the fields of a processed one, empty, and the reason.
#[pyclass(frozen, module = "betanet", name = "RejectedPacket")]
pub(crate) struct RejectedPacket {
    #[pyo3(get)]
    reason: &'static str,
}

impl RejectedPacket {
    pub(crate) fn new(error: PacketError) -> Self {
        Self { reason: error.reason() }
    }
}

#[pymethods]
#[expect(clippy::unused_self, reason = "empty fields are empty in every instance")]
impl RejectedPacket {
    #[getter]
    fn kind(&self) -> &'static str {
        "rejected"
    }

    #[getter]
    fn next_hop(&self) -> Option<Py<PyBytes>> {
        None
    }

    #[getter]
    fn mailbox(&self) -> Option<Py<PyBytes>> {
        None
    }

    #[getter]
    fn surb_id(&self) -> Option<Py<PyBytes>> {
        None
    }

    #[getter]
    fn payload(&self, py: Python<'_>) -> Py<PyBytes> {
        to_python(py, &[])
    }

    #[getter]
    fn delay_ms(&self) -> f64 {
        0.0
    }

    fn __repr__(&self) -> String {
        format!("RejectedPacket(reason='{}')", self.reason)
    }
}

/// Unwraps packets with one key, one at a time.
#[pyclass(frozen, module = "betanet", name = "SphinxProcessor")]
pub(crate) struct SphinxProcessor {
    public: betanet_sphinx::PublicKey,
    suite: Suite,
    process: u32,
    /// In a box, which erases the key where it stands; moving it out would leave a copy.
    node: Mutex<Option<Box<Node>>>,
}

const CLOSED: Closed = Closed("SphinxProcessor");

/// Where nobody names one.
pub(crate) const MEAN_DELAY: Duration = Duration::from_millis(15);

impl SphinxProcessor {
    /// Works on the node, unless it was closed or this process is a forked child: a thread of the parent may have held
    /// the lock, and what the child draws would repeat what the parent draws.
    fn with_node<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Option<Box<Node>>) -> T + Send) -> PyResult<T> {
        if self.process != std::process::id() {
            return Err(CLOSED).or_raise(py);
        }
        Ok(py.detach(|| work(&mut lock(&self.node))))
    }
}

#[pymethods]
impl SphinxProcessor {
    #[new]
    #[pyo3(
        signature = (key = None, suite = "native", *, mean_delay_ms = MEAN_DELAY, replay_capacity = 1_048_576),
        text_signature = "(key=None, suite='native', *, mean_delay_ms=15.0, replay_capacity=1048576)"
    )]
    fn new(
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        suite: &str,
        #[pyo3(from_py_with = arguments::mean_delay_ms)] mean_delay_ms: Duration,
        #[pyo3(from_py_with = arguments::replay_capacity)] replay_capacity: usize,
    ) -> PyResult<Self> {
        let suite = suite::parse(suite)?;
        let secret = secret_or_new(py, key)?;
        let replay = ReplayCache::volatile(&mut rng::fresh().or_raise(py)?, replay_capacity);
        let delays = Exponential::new(mean_delay_ms, rng::fresh().or_raise(py)?);
        let public = secret.public();
        let node = Mutex::new(Some(Box::new(Node { secret, replay, delays })));
        Ok(Self { public, suite, process: std::process::id(), node })
    }

    #[getter]
    fn public_key(&self) -> PublicKey {
        PublicKey(self.public)
    }

    #[getter]
    fn suite(&self) -> &'static str {
        self.suite.name()
    }

    fn process_packet(&self, py: Python<'_>, packet: &Bound<'_, PyAny>) -> PyResult<ProcessedPacket> {
        let mut packet = bytes::packet(packet.as_borrowed(), self.suite.geometry().packet_len)?;
        let result = self.with_node(py, |node| node.as_mut().map(|node| node.unwrap(self.suite, &mut packet)))?;
        let (found, delay) = result.ok_or(CLOSED).or_raise(py)?.or_raise(py)?;
        ProcessedPacket::new(py, &found, delay, &packet)
    }

    fn close(&self, py: Python<'_>) {
        // A forked child has nothing to close.
        let _ = self.with_node(py, |node| drop(node.take()));
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let py = slf.py();
        if slf.get().with_node(py, |node| node.is_some())? { Ok(slf) } else { Err(CLOSED).or_raise(py) }
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        trace: Option<&Bound<'_, PyAny>>,
    ) {
        let _ = (kind, error, trace);
        self.close(py);
    }
}
