//! Between asyncio and tokio.
//!
//! Operations run on tokio's own threads. Each ends in exactly one completion, finished, failed or cancelled, in a
//! bounded queue; where the event loop is behind, completions wait for room, and none is lost for want of it.
//! The first completion after the event loop has drained the queue wakes the loop, further ones find it awake.
//!
//! ```text
//! event loop ── start ──▶ tokio task ── completion ──▶ queue ──▶ take ──▶ future of the operation
//!      ▲                                                │
//!      └──────── call_soon_threadsafe ◀── waker thread ◀┘ (once per drain)
//! ```

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;

use pyo3::prelude::*;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use crate::errors::{Closed, IntoPy, OrRaise, named};
use crate::lock;
use crate::results::{Failure, Success};

/// Completions that may wait for the event loop.
const CAPACITY: usize = 1024;
/// Threads that drive all clients of the process.
const THREADS: usize = 2;

const CLOSED: Closed = Closed("client");

/// How an operation ended; `None` if it was cancelled.
type Completion = (u64, Option<Result<Success, Failure>>);

/// A completion in Python: number, value, and the error if there is no value.
type Taken = (u64, Option<Py<PyAny>>, Option<PyErr>);

/// The tokio runtime of this process, shared by all its bridges and joined when the last one closes.
struct Shared {
    runtime: Weak<Runtime>,
    process: u32,
}

static SHARED: Mutex<Option<Shared>> = Mutex::new(None);

fn shared_runtime() -> std::io::Result<Arc<Runtime>> {
    let process = std::process::id();
    let mut slot = lock(&SHARED);
    // A runtime made by another process has no threads here: a forked child makes its own.
    if let Some(runtime) = slot.as_ref().filter(|it| it.process == process).and_then(|it| it.runtime.upgrade()) {
        return Ok(runtime);
    }
    ask_for_threads()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("betanet")
        .enable_all()
        .build()
        .map(Arc::new)?;
    *slot = Some(Shared { runtime: Arc::downgrade(&runtime), process });
    Ok(runtime)
}

/// Whether the system gives as many threads as a bridge takes. Where it refuses one, tokio would panic.
fn ask_for_threads() -> std::io::Result<()> {
    let start = |_| std::thread::Builder::new().spawn(std::thread::park);
    let started: Vec<_> = (0..=THREADS).map(start).collect();
    let end = |thread: std::io::Result<JoinHandle<()>>| {
        thread.map(|thread| {
            thread.thread().unpark();
            let _ = thread.join();
        })
    };
    // Each of them ends, whichever was refused.
    started.into_iter().map(end).fold(Ok(()), std::io::Result::and)
}

/// Runs operations for one event loop.
#[pyclass(frozen, module = "betanet._core", name = "Bridge")]
pub(crate) struct Bridge {
    process: u32,
    core: Arc<Core>,
    parts: Mutex<Option<Parts>>,
}

/// What operations share with the bridge.
struct Core {
    completions: mpsc::Sender<Completion>,
    is_awake: AtomicBool,
    wake: Mutex<Option<SyncSender<()>>>,
    cancels: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    next: AtomicU64,
}

/// Held by what takes a folder and links for a bridge, until it holds them no more or has handed them over.
pub(crate) struct Alive(mpsc::Sender<()>);

/// As [`Alive`], of a bridge that may be closed: it waits for nobody that takes something afterwards.
pub(crate) struct MaybeAlive(mpsc::WeakSender<()>);

impl Alive {
    pub(crate) fn downgrade(&self) -> MaybeAlive {
        MaybeAlive(self.0.downgrade())
    }
}

impl MaybeAlive {
    pub(crate) fn upgrade(&self) -> Option<Alive> {
        self.0.upgrade().map(Alive)
    }
}

/// What `close` takes apart.
struct Parts {
    runtime: Arc<Runtime>,
    queue: mpsc::Receiver<Completion>,
    waker: JoinHandle<()>,
    /// Never brings anything, and ends with the last [`Alive`].
    alive: (mpsc::Sender<()>, mpsc::Receiver<()>),
}

impl Bridge {
    /// Starts `work` and returns the number under which its completion will come.
    pub(crate) fn start<F>(&self, py: Python<'_>, work: F) -> PyResult<u64>
    where
        F: Future<Output = Result<Success, Failure>> + Send + 'static,
    {
        let runtime = self.with_parts(py, |parts| parts.runtime.handle().clone())?;
        let id = self.core.next.fetch_add(1, Ordering::Relaxed);
        let (cancel, cancelled) = oneshot::channel();
        lock(&self.core.cancels).insert(id, cancel);
        let core = Arc::clone(&self.core);
        runtime.spawn(async move {
            // A task of its own: should it panic, its completion comes all the same.
            let mut work = tokio::spawn(work);
            let outcome = tokio::select! {
                biased;
                _ = cancelled => {
                    work.abort();
                    // A result that was there already goes with the task.
                    drop(work.await);
                    None
                }
                ended = &mut work => ended.ok(),
            };
            lock(&core.cancels).remove(&id);
            // An error means that the bridge was closed: nobody waits.
            if core.completions.send((id, outcome)).await.is_ok() {
                core.wake();
            }
        });
        Ok(id)
    }

    /// Lets [`Bridge::close`] wait for what is to be given up.
    pub(crate) fn alive(&self, py: Python<'_>) -> PyResult<Alive> {
        self.with_parts(py, |parts| Alive(parts.alive.0.clone()))
    }

    /// Where operations run, for as long as it is held.
    pub(crate) fn runtime(&self, py: Python<'_>) -> PyResult<Arc<Runtime>> {
        self.with_parts(py, |parts| Arc::clone(&parts.runtime))
    }

    fn with_parts<T>(&self, py: Python<'_>, read: impl FnOnce(&mut Parts) -> T) -> PyResult<T> {
        if self.process != std::process::id() {
            return Err(CLOSED).or_raise(py);
        }
        lock(&self.parts).as_mut().map(read).ok_or(CLOSED).or_raise(py)
    }
}

impl Core {
    fn wake(&self) {
        if !self.is_awake.swap(true, Ordering::AcqRel)
            && let Some(wake) = lock(&self.wake).as_ref()
        {
            // A full channel holds a wake-up that has yet to be delivered: it serves for this one too.
            let _ = wake.try_send(());
        }
    }
}

#[pymethods]
impl Bridge {
    #[new]
    fn new(py: Python<'_>, wake: Py<PyAny>) -> PyResult<Self> {
        let failed =
            |error| named(py, "BetanetError", format!("cannot start the threads of the mixnet client: {error}"));
        let runtime = py.detach(shared_runtime).map_err(failed)?;
        let (completions, queue) = mpsc::channel(CAPACITY);
        let (sender, signals) = sync_channel::<()>(1);
        let waker = std::thread::Builder::new()
            .name("betanet-wake".to_owned())
            .spawn(move || {
                while signals.recv().is_ok() {
                    // An error means that the event loop is gone, `None` that the interpreter is: nobody waits then.
                    if !Python::try_attach(|py| wake.call0(py).is_ok()).unwrap_or(false) {
                        break;
                    }
                }
            })
            .map_err(failed)?;
        let core = Core {
            completions,
            is_awake: AtomicBool::new(false),
            wake: Mutex::new(Some(sender)),
            cancels: Mutex::default(),
            next: AtomicU64::new(1),
        };
        let parts = Mutex::new(Some(Parts { runtime, queue, waker, alive: mpsc::channel(1) }));
        Ok(Self { process: std::process::id(), core: Arc::new(core), parts })
    }

    /// Up to `limit` completions: number, value, and the error if there is no value.
    fn take(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<Taken>> {
        self.core.is_awake.store(false, Ordering::Release);
        let taken = self.with_parts(py, |parts| {
            std::iter::from_fn(|| parts.queue.try_recv().ok()).take(limit).collect::<Vec<Completion>>()
        })?;
        let ended = |outcome| match outcome {
            Some(Ok(value)) => Success::into_py(value, py),
            Some(Err(failure)) => Err(Failure::into_py(failure, py)),
            None => Err(CLOSED.into_py(py)),
        };
        // A value for which there is no memory is the failure of its own operation alone.
        let in_python = |(id, outcome)| match ended(outcome) {
            Ok(value) => (id, Some(value), None),
            Err(error) => (id, None, Some(error)),
        };
        Ok(taken.into_iter().map(in_python).collect())
    }

    /// Cancels an operation; its completion comes all the same.
    fn cancel(&self, id: u64) {
        if let Some(cancel) = lock(&self.core.cancels).remove(&id) {
            let _ = cancel.send(());
        }
    }

    /// Cancels what runs and joins the threads that only this bridge uses. Safe to call again.
    fn close(&self, py: Python<'_>) {
        if self.process != std::process::id() {
            return;
        }
        py.detach(|| {
            let Some(parts) = lock(&self.parts).take() else { return };
            lock(&self.core.cancels).clear();
            drop(lock(&self.core.wake).take());
            let _ = parts.waker.join();
            drop(parts.queue);
            // A client that was given up while it opened gives up its folder first.
            let (alive, mut ended) = parts.alive;
            drop(alive);
            while ended.blocking_recv().is_some() {}
            // The last bridge joins the runtime's threads, unless a client of its own still runs there.
            drop(parts.runtime);
        });
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let parts = lock(&self.parts).take();
        if self.process != std::process::id() {
            // The threads stayed behind in the parent: joining them would wait for ever.
            std::mem::forget(parts);
        } else if let Some(parts) = parts {
            // Nobody closed it: stop the threads, and wait for the one that calls Python. If the interpreter ended
            // meanwhile, it would end that thread in the middle of its call, and with it the process.
            drop(lock(&self.core.wake).take());
            lock(&self.core.cancels).clear();
            // The garbage may have been collected by that thread itself.
            if parts.waker.thread().id() != std::thread::current().id() {
                let _ = Python::try_attach(|py| py.detach(|| parts.waker.join()));
            }
            if let Some(runtime) = Arc::into_inner(parts.runtime) {
                runtime.shutdown_background();
            }
        }
    }
}
