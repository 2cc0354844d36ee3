//! The client's operations, each started on tokio and awaited through the bridge.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use betanet_mix::message::MessageId;
use betanet_mix::view::{Address, WorkerLimits};
use betanet_node::client::{
    Body, Client as Core, ClientConfig, ClientError, Progress, ReceivedBody, ReplyHandle, SendOptions, WorkerOffer,
};
use pyo3::IntoPyObjectExt as _;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::bytes::{Body as Bytes, take_body};
use crate::consensus;
use crate::errors::{IntoPy as _, OrRaise};
use crate::lock;
use crate::results::{Failure, SpooledBody, Success};
use crate::runtime::{Alive, Bridge, MaybeAlive};
use crate::status;

/// An open client that closes itself when nobody holds it any more.
pub(crate) struct Opened {
    core: Arc<Core>,
    runtime: Handle,
    process: u32,
    bridge: MaybeAlive,
}

impl Opened {
    /// Opens a client. Dropping the future gives up the folder and the links at once; `alive` lasts until that is done.
    pub(crate) async fn open(config: ClientConfig, alive: Alive) -> Result<Success, Failure> {
        let runtime = Handle::current();
        let opening = runtime.clone();
        // Its other end goes with this future.
        let (_wanted, mut given_up) = oneshot::channel::<()>();
        let opened = runtime.spawn(async move {
            let started = tokio::select! {
                started = Core::start(&config) => started?,
                _ = &mut given_up => return Err(Failure(ClientError::Closed)),
            };
            let core = Arc::new(started);
            let usable = tokio::select! {
                usable = core.wait_until_usable() => usable,
                _ = &mut given_up => Err(ClientError::Closed),
            };
            if usable.is_err() {
                core.close().await;
            }
            let bridge = alive.downgrade();
            drop(alive);
            usable?;
            Ok(Self { core, runtime: opening, process: std::process::id(), bridge })
        });
        let opened = opened.await.map_err(|_| Failure(ClientError::Closed))??;
        Ok(Success::new(move |py| Ok(Py::new(py, Client { opened })?.into_any())))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let (core, alive) = (Arc::clone(&self.core), self.bridge.upgrade());
            self.runtime.spawn(async move {
                core.close().await;
                drop(alive);
            });
        }
    }
}

/// The client's engine: methods start operations and return their numbers.
#[pyclass(frozen, module = "betanet._core", name = "Client")]
pub(crate) struct Client {
    opened: Opened,
}

impl Client {
    fn start<F>(&self, py: Python<'_>, bridge: &Bound<'_, Bridge>, work: impl FnOnce(Arc<Core>) -> F) -> PyResult<u64>
    where
        F: Future<Output = Result<Success, Failure>> + Send + 'static,
    {
        bridge.get().start(py, work(Arc::clone(&self.opened.core)))
    }
}

/// Longer waits are cut to this.
const LONGEST: Duration = Duration::from_hours(24 * 365 * 10);

/// An address from its text.
fn parse(py: Python<'_>, address: &str) -> PyResult<Address> {
    address.parse::<Address>().or_raise(py)
}

fn message_id(text: &str) -> PyResult<MessageId> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| PyValueError::new_err("a message id is 32 hexadecimal digits"))?;
    Ok(MessageId(bytes))
}

fn seconds(value: f64, name: &str) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        // So that a sum with the time of day fits every clock.
        .map(|time| time.min(LONGEST))
        .map_err(|_| PyValueError::new_err(format!("{name} must be a number of seconds, 0 or more, not {value}")))
}

/// What a message is made of.
enum Source {
    Body(Body),
    /// The text of a path.
    File(PathBuf),
}

/// How far a send or a request is: given to it, and then asked for each change.
#[pyclass(frozen, module = "betanet._core")]
pub(crate) struct SendProgress {
    teller: Mutex<Option<watch::Sender<Progress>>>,
    told: Arc<tokio::sync::Mutex<watch::Receiver<Progress>>>,
}

#[pymethods]
impl SendProgress {
    #[new]
    fn new() -> Self {
        let (teller, told) = watch::channel(Progress::default());
        Self { teller: Mutex::new(Some(teller)), told: Arc::new(tokio::sync::Mutex::new(told)) }
    }

    /// The next change: bytes done, bytes in all, bytes per second; None when it has ended.
    fn next(&self, py: Python<'_>, bridge: &Bound<'_, Bridge>) -> PyResult<u64> {
        let told = Arc::clone(&self.told);
        bridge.get().start(py, async move {
            let mut told = told.lock().await;
            if told.changed().await.is_err() {
                return Ok(Success::nothing());
            }
            let Progress { done, total, bytes_per_s } = *told.borrow_and_update();
            Ok(Success::new(move |py| (done, total, bytes_per_s).into_py_any(py)))
        })
    }
}

#[pymethods]
impl Client {
    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "the arguments of Python's method")]
    fn open(
        py: Python<'_>,
        bridge: &Bound<'_, Bridge>,
        dir: PathBuf,
        bootstrap: PathBuf,
        edges: usize,
        hops: u8,
        level: Option<u8>,
        bulk: bool,
    ) -> PyResult<u64> {
        let config = ClientConfig { dir, bootstrap, edges, hops_default: hops, level, bulk };
        let alive = bridge.get().alive(py)?;
        bridge.get().start(py, Opened::open(config, alive))
    }

    #[getter]
    fn address(&self) -> String {
        self.opened.core.address().to_string()
    }

    #[expect(clippy::too_many_arguments, reason = "the arguments of Python's method")]
    fn send(
        &self,
        py: Python<'_>,
        bridge: &Bound<'_, Bridge>,
        to: &str,
        body: &Bound<'_, PyAny>,
        hops: u8,
        id: Option<&str>,
        delivered: bool,
        waits: bool,
        progress: Option<&Bound<'_, SendProgress>>,
    ) -> PyResult<u64> {
        let to = parse(py, to)?;
        let id = id.map(message_id).transpose()?;
        let options = SendOptions { id, delivered, ..SendOptions::hops(hops) };
        let teller = progress.and_then(|progress| lock(&progress.get().teller).take());
        let body = match body.cast::<PyString>() {
            Ok(path) => Source::File(path.extract()?),
            Err(_) => Source::Body(take_body(body, || {
                self.opened.core.body_file().map_err(|error| Failure(error).into_py(py))
            })?),
        };
        self.start(py, bridge, move |core| async move {
            let body = match body {
                Source::Body(body) => body,
                Source::File(path) => core.body_of_file(path).await?,
            };
            let id = if waits {
                core.send_watched(&to, body, options, teller).await?
            } else {
                core.try_send(&to, body, options, teller).await?
            };
            Ok(Success::text(id.to_string()))
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the arguments of Python's method")]
    fn request(
        &self,
        py: Python<'_>,
        bridge: &Bound<'_, Bridge>,
        to: &str,
        body: Bytes,
        hops: u8,
        reply_packets: u8,
        timeout: f64,
        progress: Option<&Bound<'_, SendProgress>>,
    ) -> PyResult<u64> {
        let to = parse(py, to)?;
        let timeout = seconds(timeout, "timeout")?;
        let teller = progress.and_then(|progress| lock(&progress.get().teller).take());
        self.start(py, bridge, move |core| async move {
            Ok(Success::bytes(core.request_watched(&to, body.0, hops, reply_packets, timeout, teller).await?))
        })
    }

    fn receive(&self, py: Python<'_>, bridge: &Bound<'_, Bridge>) -> PyResult<u64> {
        self.start(py, bridge, |core| async move { Ok(Success::incoming(core.receive().await?)) })
    }

    /// A message that is there already and that no operation waits for.
    fn try_receive(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.opened.core.try_receive().map(|message| Success::incoming(message).into_py(py)).transpose()
    }

    fn reply(&self, py: Python<'_>, bridge: &Bound<'_, Bridge>, handle: u64, body: Bytes) -> PyResult<u64> {
        self.start(py, bridge, |core| async move {
            core.reply(ReplyHandle(handle), body.0).await?;
            Ok(Success::nothing())
        })
    }

    fn commit(&self, py: Python<'_>, bridge: &Bound<'_, Bridge>, id: &str) -> PyResult<u64> {
        let id = message_id(id)?;
        self.start(py, bridge, move |core| async move {
            core.commit(id).await?;
            Ok(Success::nothing())
        })
    }

    fn ping(&self, py: Python<'_>, bridge: &Bound<'_, Bridge>, hops: u8) -> PyResult<u64> {
        self.start(py, bridge, |core| async move { Ok(Success::seconds(core.ping(hops).await?.as_secs_f64())) })
    }

    #[expect(clippy::too_many_arguments, reason = "the arguments of Python's method")]
    fn publish_worker(
        &self,
        py: Python<'_>,
        bridge: &Bound<'_, Bridge>,
        name: String,
        kinds: Vec<String>,
        slots: u32,
        memory_bytes: u64,
        limits: Option<(u64, u64, u64)>,
        groups: Vec<String>,
        lifetime: f64,
    ) -> PyResult<u64> {
        let lifetime = seconds(lifetime, "lifetime")?;
        let limits =
            limits.map(|(wall_ms, scratch_bytes, output_bytes)| WorkerLimits { wall_ms, scratch_bytes, output_bytes });
        let offer = WorkerOffer { name, kinds, slots, memory_bytes, limits, groups, lifetime };
        self.start(py, bridge, |core| async move {
            core.publish_worker(offer).await?;
            Ok(Success::nothing())
        })
    }

    fn workers(&self, py: Python<'_>, bridge: &Bound<'_, Bridge>) -> PyResult<u64> {
        self.start(py, bridge, |core| async move { Ok(Success::workers(core.workers().await?)) })
    }

    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        status::fields(py, self.opened.core.status())
    }

    /// The consensus that the client goes by; None before there is one.
    fn consensus<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let view = self.opened.core.view();
        view.map(|(view, in_force)| consensus::fields(py, view.consensus(), in_force)).transpose()
    }

    fn close(&self, py: Python<'_>, bridge: &Bound<'_, Bridge>) {
        // A bridge that is closed, or belongs to another process, has no runtime to close links in.
        if let Ok(runtime) = bridge.get().runtime(py) {
            py.detach(|| {
                runtime.block_on(self.opened.core.close());
                drop(runtime);
            });
        }
    }
}

/// Saves a body, bytes or a [`SpooledBody`], as the file at `path`.
#[pyfunction]
pub(crate) fn save_body(
    py: Python<'_>,
    bridge: &Bound<'_, Bridge>,
    body: &Bound<'_, PyAny>,
    path: PathBuf,
) -> PyResult<u64> {
    let body = match body.cast::<SpooledBody>() {
        Ok(spooled) => spooled.get().0.clone(),
        Err(_) => ReceivedBody::Bytes(body.extract()?),
    };
    bridge.get().start(py, async move {
        let named = path.clone();
        let saved = tokio::task::spawn_blocking(move || body.save(&path)).await;
        let failed = |source| Failure(ClientError::File { action: "save", path: named, source });
        saved.map_err(std::io::Error::from).flatten().map_err(failed)?;
        Ok(Success::nothing())
    })
}
