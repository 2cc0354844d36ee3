//! Packets in bulk, on worker threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use betanet_mix::delay::Keyed;
use betanet_mix::replay::ReplayCache;
use betanet_node::pipeline::{self as node, PipelineError, ProcessResult};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use rand_core::Rng as _;
use zeroize::Zeroizing;

use crate::arguments;
use crate::bytes::{List, Packet, reserve};
use crate::errors::{Closed, IntoPy, OrRaise, named};
use crate::keys::{PublicKey, secret_or_new};
use crate::processor::{MEAN_DELAY, ProcessedPacket, RejectedPacket};
use crate::rng;
use crate::suite::Found;

const CLOSED: Closed = Closed("PacketPipeline");

/// Bytes that the memory of replays may take for a packet.
const TAG_LEN: usize = 256;

/// How often who waits for results looks whether there was a signal.
const LOOK: Duration = Duration::from_millis(50);

/// Counters of a pipeline.
#[pyclass(frozen, eq, module = "betanet", name = "PipelineStats", get_all)]
#[derive(PartialEq)]
pub(crate) struct PipelineStats {
    packets_processed: u64,
    packets_dropped: u64,
    throughput_pps: f64,
    average_latency_ms: f64,
}

#[pymethods]
impl PipelineStats {
    fn __repr__(&self) -> String {
        format!(
            "PipelineStats(packets_processed={}, packets_dropped={}, throughput_pps={:.0}, average_latency_ms={:.4})",
            self.packets_processed, self.packets_dropped, self.throughput_pps, self.average_latency_ms
        )
    }
}

/// Unwraps many packets at a time.
#[pyclass(frozen, module = "betanet", name = "PacketPipeline")]
pub(crate) struct PacketPipeline {
    public: betanet_sphinx::PublicKey,
    process: u32,
    is_closed: AtomicBool,
    /// Taken out only while dropping.
    core: Option<node::PacketPipeline>,
}

impl PacketPipeline {
    /// The pipeline, unless it was closed or this process is a forked child: the threads stayed in the parent.
    fn open(&self, py: Python<'_>) -> PyResult<&node::PacketPipeline> {
        let is_open = self.process == std::process::id() && !self.is_closed.load(Ordering::Acquire);
        self.core.as_ref().filter(|_| is_open).ok_or(CLOSED).or_raise(py)
    }
}

impl IntoPy for PipelineError {
    fn into_py(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Closed => CLOSED.into_py(py),
            Self::Full => named(py, "QueueFull", self.to_string()),
            Self::BadSize => PyValueError::new_err(self.to_string()),
            Self::Memory(_) => PyMemoryError::new_err(self.to_string()),
            _ => named(py, "BetanetError", self.to_string()),
        }
    }
}

#[pymethods]
impl PacketPipeline {
    #[new]
    #[pyo3(
        signature = (
            num_workers = 2, key = None, *,
            mean_delay_ms = MEAN_DELAY, queue_depth = 16_384, replay_capacity = 16_777_216
        ),
        text_signature = "(num_workers=2, key=None, *, mean_delay_ms=15.0, queue_depth=16384, replay_capacity=16777216)"
    )]
    fn new(
        py: Python<'_>,
        #[pyo3(from_py_with = arguments::num_workers)] num_workers: usize,
        key: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = arguments::mean_delay_ms)] mean_delay_ms: Duration,
        #[pyo3(from_py_with = arguments::queue_depth)] queue_depth: usize,
        #[pyo3(from_py_with = arguments::replay_capacity)] replay_capacity: usize,
    ) -> PyResult<Self> {
        let secret = secret_or_new(py, key)?;
        let public = secret.public();
        let mut rng = rng::fresh().or_raise(py)?;
        let replay = ReplayCache::volatile(&mut rng, replay_capacity);
        let mut delay_key = Zeroizing::new([0; 32]);
        rng.fill_bytes(delay_key.as_mut_slice());
        let delays = Keyed::new(mean_delay_ms, &delay_key);
        let core = node::PacketPipeline::new(num_workers, queue_depth, &secret, replay, &delays).or_raise(py)?;
        Ok(Self { public, process: std::process::id(), is_closed: AtomicBool::new(false), core: Some(core) })
    }

    #[getter]
    fn public_key(&self) -> PublicKey {
        PublicKey(self.public)
    }

    fn submit_packet(&self, py: Python<'_>, packet: Packet) -> PyResult<()> {
        self.open(py)?.submit(packet.0).or_raise(py)
    }

    #[pyo3(
        signature = (max_packets = 128, timeout = Duration::ZERO),
        text_signature = "($self, max_packets=128, timeout=0.0)"
    )]
    fn recv_batch(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = arguments::max_packets)] max_packets: usize,
        #[pyo3(from_py_with = arguments::timeout)] timeout: Duration,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let core = self.open(py)?;
        let deadline = Instant::now() + timeout;
        let outcomes = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let outcomes = py.detach(|| core.recv_batch(max_packets, left.min(LOOK)));
            if !outcomes.is_empty() {
                break outcomes;
            }
            py.check_signals()?;
            // Perhaps closed in the meantime, or this is a copy of the process now.
            self.open(py)?;
            if left.is_zero() || max_packets == 0 || core.stats().inside == 0 {
                break outcomes;
            }
        };
        to_list(py, outcomes)
    }

    fn process_batch(&self, py: Python<'_>, packets: List<Packet>) -> PyResult<Vec<Py<PyAny>>> {
        let core = self.open(py)?;
        // What the memory of replays will need, asked for where a refusal is an error and not the end.
        drop(reserve::<[u8; TAG_LEN]>(py, packets.0.len())?);
        let packets = packets.0.into_iter().map(|Packet(packet)| packet).collect();
        let mut signalled = Ok(());
        let goes_on = || {
            Python::attach(|py| {
                signalled = py.check_signals();
                signalled.is_ok()
            })
        };
        let outcomes = py.detach(|| core.process_batch(packets, goes_on));
        signalled?;
        to_list(py, outcomes.or_raise(py)?)
    }

    fn get_stats(&self, py: Python<'_>) -> PyResult<PipelineStats> {
        // Counters outlive a close, but not a fork, in which a thread of the parent may have held their lock.
        let core = self.core.as_ref().filter(|_| self.process == std::process::id()).ok_or(CLOSED).or_raise(py)?;
        let (stats, workers) = py.detach(|| (core.stats(), core.workers()));
        // Counters stay far below 2^53, where a double would start to round.
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counters below 2^53")]
        let (processed, workers) = (stats.processed as f64, workers as f64);
        let busy = stats.busy.as_secs_f64();
        Ok(PipelineStats {
            packets_processed: stats.processed,
            packets_dropped: stats.dropped,
            throughput_pps: if busy > 0.0 { processed * workers / busy } else { 0.0 },
            average_latency_ms: if processed > 0.0 { busy / processed * 1e3 } else { 0.0 },
        })
    }

    fn close(&self, py: Python<'_>) {
        if self.process == std::process::id()
            && let Some(core) = &self.core
        {
            self.is_closed.store(true, Ordering::Release);
            py.detach(|| core.close());
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let py = slf.py();
        slf.get().open(py)?;
        Ok(slf)
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

impl Drop for PacketPipeline {
    fn drop(&mut self) {
        // In a forked child there is no thread to join: waiting for one would never end.
        if self.process != std::process::id() {
            std::mem::forget(self.core.take());
        }
    }
}

fn to_list(py: Python<'_>, outcomes: Vec<ProcessResult>) -> PyResult<Vec<Py<PyAny>>> {
    let mut list = reserve(py, outcomes.len())?;
    for outcome in outcomes {
        list.push(to_python(py, outcome)?);
    }
    Ok(list)
}

fn to_python(py: Python<'_>, outcome: ProcessResult) -> PyResult<Py<PyAny>> {
    match outcome {
        Ok(processed) => {
            let packet =
                ProcessedPacket::new(py, &Found::native(processed.action), processed.delay, &processed.packet)?;
            Ok(Py::new(py, packet)?.into_any())
        }
        Err(error) => Ok(Py::new(py, RejectedPacket::new(error))?.into_any()),
    }
}
