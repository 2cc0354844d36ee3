"""One attempt while it is in a worker's hands."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from dataclasses import dataclass, field

from fog_compute.errors import InvalidTask
from fog_compute.tasks.environment import check_env
from fog_compute.tasks.folder import check_guest_path, check_room, check_tree
from fog_compute.tasks.messages import QUEUED, Submit
from fog_compute.tasks.model import (
    Limits,
    TaskKind,
    check_argv,
)
from fog_compute.tasks.runtimes import script_name
from fog_compute.tasks.sealing import OVERHEAD, open_blob
from fog_compute.tasks.wire import limits_from_wire
from fog_compute.worker.cache import BlobCache
from fog_compute.worker.python import PythonRuntime, script_job
from fog_compute.worker.settings import WorkerSettings
from fog_compute.worker.slot import Job, LoadModule, RunnerSlot, largest_file
from fog_compute.worker.threads import beside


@dataclass(slots=True)
class Held:
    """An attempt that was accepted and whose result, if any, may not be shown yet."""

    submit: Submit = field(repr=False)
    limits: Limits
    accepted_at: float  # on the monotonic clock
    state: str = QUEUED
    slot: RunnerSlot | None = None
    running: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # it needs no slot any more
    news: asyncio.Event = field(default_factory=asyncio.Event)  # its end may be told

    @property
    def handle(self) -> bytes:
        """The only name that it has here."""
        return self.submit.handle


def refs_of(submit: Submit) -> list[bytes]:
    """Return every blob that an attempt needs, each once, the module first."""
    stdin = () if submit.stdin is None else (submit.stdin,)
    return list(dict.fromkeys((submit.module, *stdin, *submit.inputs.values())))


def check_submit(submit: Submit, settings: WorkerSettings) -> Limits:
    """Return the limits of an attempt that this worker may take.

    Raises:
        InvalidTask: it may not; the message says why.
    """
    if submit.kind not in settings.kinds:
        raise InvalidTask(f"this worker does not run the kind {submit.kind[:40]!r}")
    limits = limits_from_wire(submit.limits)
    if limits.memory_bytes > settings.memory_bytes:
        raise InvalidTask(f"this worker lends at most {settings.memory_bytes} bytes of memory")
    if limits.scratch_bytes > settings.scratch_bytes:
        raise InvalidTask(f"this worker lends at most {settings.scratch_bytes} bytes of scratch")
    if limits.output_bytes > settings.output_bytes:
        raise InvalidTask(f"this worker takes at most {settings.output_bytes} bytes of output")
    if largest_file(limits) > settings.file_bytes:
        raise InvalidTask(f"files may have at most {settings.file_bytes} bytes on this worker")
    if limits.wall_s > settings.wall_s:
        raise InvalidTask(f"this worker lends at most {settings.wall_s:g} s to a task")
    check_argv(submit.argv)
    check_env(submit.env)
    for path in submit.inputs:
        check_guest_path(path)
    check_tree(submit.inputs)
    if submit.kind == TaskKind.PYTHON:
        script_name(submit.module, submit.inputs)
    return limits


def check_inputs(submit: Submit, limits: Limits, cache: BlobCache) -> None:
    """Raise `InvalidTask` if the inputs, all of which are here, do not fit into the scratch."""
    files = dict(submit.inputs)
    if submit.kind == TaskKind.PYTHON:
        files[script_name(submit.module, submit.inputs)] = submit.module
    sizes = {path: cache.size(ref) - OVERHEAD for path, ref in files.items()}
    check_room(sizes, limits.scratch_bytes)


async def open_job(held: Held, cache: BlobCache, python: PythonRuntime | None = None) -> Job:
    """Decrypt an attempt's inputs, to which a script belongs; ``python`` runs it.

    Raises:
        BadBlob: one does not open.
        BlobGone: one is no longer here.
    """
    submit = held.submit
    plain: dict[bytes, bytes] = {}
    for ref in refs_of(submit)[1:]:
        plain[ref] = await _open(submit.key, ref, cache)
    job = Job(
        module_id=module_id(submit),
        argv=submit.argv,
        stdin=None if submit.stdin is None else await _plain(submit, submit.stdin, plain, cache),
        inputs={p: await _plain(submit, ref, plain, cache) for p, ref in submit.inputs.items()},
        limits=held.limits,
        seed=submit.seed,
        env=submit.env,
    )
    if submit.kind != TaskKind.PYTHON or python is None:
        return job
    name = script_name(submit.module, submit.inputs)
    script = await _plain(submit, submit.module, plain, cache)
    return script_job(python, dataclasses.replace(job, inputs={**job.inputs, name: script}), name)


def loader(submit: Submit, cache: BlobCache, python: PythonRuntime | None = None) -> LoadModule:
    """Return what brings the module: decrypted, or ``python`` for a script.

    It raises `BadBlob`, `BlobGone` or `PythonUnusable`.
    """
    if submit.kind == TaskKind.PYTHON and python is not None:
        return python.load
    return lambda: _open(submit.key, submit.module, cache)


def module_id(submit: Submit) -> str:
    """Name the compiled module.

    The key is part of it: one ciphertext may open to two modules under two keys, and a module
    compiled for one session must not answer, by its speed, questions about another.
    """
    return hashlib.sha256(submit.module + submit.key).hexdigest()


async def _plain(submit: Submit, ref: bytes, plain: dict[bytes, bytes], cache: BlobCache) -> bytes:
    """Return an input; one that is the module too was left out of ``plain``."""
    if ref not in plain:
        plain[ref] = await _open(submit.key, ref, cache)
    return plain[ref]


async def _open(key: bytes, ref: bytes, cache: BlobCache) -> bytes:
    ciphertext = await cache.get(ref)
    return await beside(len(ciphertext), open_blob, key, ref, ciphertext)
