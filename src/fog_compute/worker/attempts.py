"""One attempt while it is in a worker's hands."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from dataclasses import dataclass, field

from fog_compute.errors import InvalidTask
from fog_compute.tasks.environment import check_env
from fog_compute.tasks.folder import check_guest_path, check_room, check_tree
from fog_compute.tasks.messages import QUEUED, Order
from fog_compute.tasks.model import (
    Limits,
    TaskKind,
    check_argv,
)
from fog_compute.tasks.runtimes import script_name
from fog_compute.tasks.sealing import OVERHEAD, WrongName, open_blob
from fog_compute.tasks.wire import limits_from_wire
from fog_compute.units import format_bytes
from fog_compute.worker.cache import BlobCache, BlobGone
from fog_compute.worker.job import Job, LoadModule
from fog_compute.worker.python import PythonRuntime, script_job
from fog_compute.worker.settings import WorkerSettings
from fog_compute.worker.shares import Owner
from fog_compute.worker.slot import RunnerSlot
from fog_compute.worker.threads import beside


@dataclass(slots=True)
class Held:
    """An attempt that was accepted and whose result, if any, may not be shown yet."""

    order: Order = field(repr=False)
    key: bytes = field(repr=False)  # opens its blobs
    owner: Owner
    limits: Limits
    accepted_at: float  # on the monotonic clock
    state: str = QUEUED
    slot: RunnerSlot | None = None
    running: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # it needs no slot any more
    began_at: float = 0.0  # when it got its slot
    told: bool = False  # its end may be told
    listeners: set[asyncio.Future[None]] = field(default_factory=set)  # who waits for that

    @property
    def handle(self) -> bytes:
        """The only name that it has here."""
        return self.order.handle

    def tell(self) -> None:
        """Let its end be told, to those first who wait for it."""
        self.told = True
        for listener in self.listeners:
            if not listener.done():
                listener.set_result(None)


@dataclass(frozen=True, slots=True)
class Early:
    """A module that is here before the inputs of the attempt that wants it."""

    module: bytes  # its reference
    key: bytes = field(repr=False)
    owner: Owner
    limits: Limits

    @property
    def module_id(self) -> str:
        """The name under which it is compiled."""
        return _compiled_name(self.module, self.key)


def refs_of(order: Order) -> list[bytes]:
    """Return every blob that an attempt needs, each once, the module first."""
    stdin = () if order.stdin is None else (order.stdin,)
    return list(dict.fromkeys((order.module, *stdin, *order.inputs.values())))


def check_order(order: Order, settings: WorkerSettings) -> Limits:
    """Return the limits of an attempt that this worker may take.

    Raises:
        InvalidTask: it may not; the message says why.
    """
    if order.kind not in settings.kinds:
        raise InvalidTask(f"this worker does not run the kind {order.kind[:40]!r}")
    limits = limits_from_wire(order.limits)
    for what, wanted, most in (
        ("memory", limits.memory_bytes, settings.memory_bytes),
        ("scratch", limits.scratch_bytes, settings.scratch_bytes),
        ("output", limits.output_bytes, settings.output_bytes),
    ):
        if wanted > most:
            raise InvalidTask(f"this worker lends at most {format_bytes(most)} of {what}")
    if limits.wall_s > settings.wall_s:
        raise InvalidTask(f"this worker lends at most {settings.wall_s:g} s to a task")
    check_argv(order.argv)
    check_env(order.env)
    for path in order.inputs:
        check_guest_path(path)
    check_tree(order.inputs)
    if order.kind == TaskKind.PYTHON:
        script_name(order.module, order.inputs)
    return limits


def check_inputs(order: Order, limits: Limits, cache: BlobCache) -> None:
    """Raise `InvalidTask` if the inputs, all of which are here, do not fit into the scratch."""
    files = dict(order.inputs)
    if order.kind == TaskKind.PYTHON:
        files[script_name(order.module, order.inputs)] = order.module
    sizes = {path: cache.size(ref) - OVERHEAD for path, ref in files.items()}
    check_room(sizes, limits.scratch_bytes)


async def open_job(held: Held, cache: BlobCache, python: PythonRuntime | None = None) -> Job:
    """Decrypt an attempt's inputs, to which a script belongs; ``python`` runs it.

    Raises:
        BadBlob: one does not open.
        BlobGone: one is no longer here.
    """
    order = held.order
    stdin = () if order.stdin is None else (order.stdin,)
    wanted = dict.fromkeys((*stdin, *order.inputs.values()))
    plain = {ref: await _open(held.key, ref, cache) for ref in wanted}
    job = Job(
        module_id=module_id(held),
        argv=order.argv,
        stdin=None if order.stdin is None else plain[order.stdin],
        inputs={path: plain[ref] for path, ref in order.inputs.items()},
        limits=held.limits,
        seed=order.seed,
        env=order.env,
    )
    if order.kind != TaskKind.PYTHON or python is None:
        return job
    name = script_name(order.module, order.inputs)
    script = plain.get(order.module) or await _open(held.key, order.module, cache)
    return script_job(python, dataclasses.replace(job, inputs={**job.inputs, name: script}), name)


def loader(held: Held | Early, cache: BlobCache, python: PythonRuntime | None = None) -> LoadModule:
    """Return what brings the module: decrypted, or ``python`` for a script.

    It raises `BadBlob`, `BlobGone` or `PythonUnusable`.
    """
    if isinstance(held, Early):
        return lambda: _open(held.key, held.module, cache)
    if held.order.kind == TaskKind.PYTHON and python is not None:
        return python.load
    return lambda: _open(held.key, held.order.module, cache)


def module_id(held: Held) -> str:
    """Name the compiled module.

    The key is part of it: one ciphertext may open to two modules under two keys, and a module
    compiled for one session must not answer, by its speed, questions about another.
    """
    return _compiled_name(held.order.module, held.key)


def _compiled_name(module: bytes, key: bytes) -> str:
    return hashlib.sha256(module + key).hexdigest()


async def _open(key: bytes, ref: bytes, cache: BlobCache) -> bytes:
    ciphertext = await cache.get(ref)
    try:
        return await beside(len(ciphertext), open_blob, key, ref, ciphertext)
    except WrongName:
        # It had its name when it came: this disk changed it.
        cache.discard(ref)
        raise BlobGone("a blob was damaged on the worker's disk") from None
