//! A node's side, one packet at a time, and what comes out of a packet.

use std::sync::Mutex;
use std::time::Duration;

use betanet_mix::delay::{DelaySource as _, Exponential};
use betanet_mix::replay::ReplayCache;
use betanet_sphinx::{Action, PacketError, SecretKey, Unwrapped};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rand_chacha::ChaCha20Rng;

use crate::bytes::{Packet, to_python};
use crate::errors::{Closed, OrRaise};
use crate::keys::{PublicKey, secret_or_new};
use crate::lock;
use crate::rng;

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
    pub(crate) fn new(py: Python<'_>, action: &Action, delay: Duration, packet: &[u8]) -> Self {
        let part = |range: &std::ops::Range<usize>| to_python(py, packet.get(range.clone()).unwrap_or_default());
        let delay_ms = delay.as_secs_f64() * 1e3;
        match action {
            Action::Forward { next } => Self {
                kind: "forward",
                next_hop: Some(to_python(py, next.as_bytes())),
                mailbox: None,
                surb_id: None,
                payload: to_python(py, packet),
                delay_ms,
            },
            Action::Deliver { mailbox, payload } => Self {
                kind: "deliver",
                next_hop: None,
                mailbox: Some(to_python(py, mailbox.as_bytes())),
                surb_id: None,
                payload: part(payload),
                delay_ms,
            },
            Action::Reply { mailbox, surb_id, delta } => Self {
                kind: "reply",
                next_hop: None,
                mailbox: Some(to_python(py, mailbox.as_bytes())),
                surb_id: Some(to_python(py, surb_id.as_bytes())),
                payload: part(delta),
                delay_ms,
            },
        }
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
    node: Mutex<Option<Node>>,
}

struct Node {
    secret: SecretKey,
    replay: ReplayCache,
    delays: Exponential<ChaCha20Rng>,
}

impl Node {
    fn unwrap(&mut self, packet: &mut [u8]) -> Result<(Unwrapped, Duration), PacketError> {
        let unwrapped = betanet_sphinx::unwrap(&self.secret, packet, &mut self.replay)?;
        let delay = self.delays.delay(&unwrapped.delay);
        Ok((unwrapped, delay))
    }
}

const CLOSED: Closed = Closed("SphinxProcessor");

#[pymethods]
impl SphinxProcessor {
    #[new]
    #[pyo3(signature = (key = None, *, mean_delay_ms = 15.0, replay_capacity = 1_048_576))]
    fn new(
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        mean_delay_ms: f64,
        replay_capacity: usize,
    ) -> PyResult<Self> {
        let secret = secret_or_new(py, key)?;
        let replay = ReplayCache::volatile(&mut rng::fresh().or_raise(py)?, replay_capacity);
        let delays = Exponential::new(mean_delay(mean_delay_ms)?, rng::fresh().or_raise(py)?);
        Ok(Self { public: secret.public(), node: Mutex::new(Some(Node { secret, replay, delays })) })
    }

    #[getter]
    fn public_key(&self) -> PublicKey {
        PublicKey(self.public)
    }

    fn process_packet(&self, py: Python<'_>, packet: Packet) -> PyResult<ProcessedPacket> {
        let mut packet = packet.0;
        let result = py.detach(|| lock(&self.node).as_mut().map(|node| node.unwrap(&mut packet)));
        let (unwrapped, delay) = result.ok_or(CLOSED).or_raise(py)?.or_raise(py)?;
        Ok(ProcessedPacket::new(py, &unwrapped.action, delay, &packet))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(lock(&self.node).take()));
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let py = slf.py();
        let is_open = py.detach({
            let node = &slf.get().node;
            || lock(node).is_some()
        });
        if is_open { Ok(slf) } else { Err(CLOSED).or_raise(py) }
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

/// A mean delay from Python's milliseconds.
pub(crate) fn mean_delay(milliseconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(milliseconds / 1e3)
        .ok()
        .filter(|mean| *mean <= Duration::from_hours(1))
        .ok_or_else(|| PyValueError::new_err("mean_delay_ms must be between 0 and 3600000"))
}
