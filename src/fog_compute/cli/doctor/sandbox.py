"""What stands around a task on this machine: a runner is started as a worker does, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from fog_compute.cli.doctor.findings import Finding, Verdict, of_problem
from fog_compute.config import Settings
from fog_compute.units import MIB, format_bytes
from fog_compute.worker.process import RunnerLost
from fog_compute.worker.protocol import Ready
from fog_compute.worker.python import PythonRuntime, PythonUnusable
from fog_compute.worker.slot import RunnerSlot

__all__ = ["judge_walls", "sandbox", "scripts"]

_MENDS: Final[Mapping[str, str]] = {
    "namespaces": "allow user namespaces: `sysctl kernel.unprivileged_userns_clone=1`, or on Ubuntu"
    " `sysctl kernel.apparmor_restrict_unprivileged_userns=0`; in a container, give it a"
    " seccomp profile that permits unshare, mount, umount2, pivot_root and mount_setattr as well",
    "landlock": "use Linux 5.13 or newer, with `landlock` among its `lsm=` modules",
    "seccomp": "use a kernel with CONFIG_SECCOMP_FILTER, on x86-64 or arm64",
    "capabilities": "do not start it in a sandbox that forbids to give powers up",
    "no_new_privs": "do not start it in a sandbox that forbids to give privileges up",
}
_MEANS: Final = "who breaks out of WebAssembly meets one wall less; the others stand"


def sandbox(settings: Settings) -> Iterator[Finding]:
    """Start a runner, and see which walls stand around it and what a task can have."""
    if not settings.workers:
        yield Finding("sandbox", Verdict.SKIPPED, "this fog has no workers of its own")
        return
    means = "workers of this machine can run no task"
    # In a container there may be no other place for files than the home.
    place = settings.home if settings.home.is_dir() else None
    try:
        with tempfile.TemporaryDirectory(
            dir=place, prefix="fog-doctor-", ignore_cleanup_errors=True
        ) as folder:
            ready = asyncio.run(_ready(Path(folder), settings.memory_mib * MIB))
    except RunnerLost as error:
        yield of_problem("sandbox", str(error), means)
        return
    except OSError as error:
        do = "let files be made in FOG_HOME, or in a folder that TMPDIR names"
        found = f"there is no place for a runner to work in: {error.strerror}"
        yield Finding("sandbox", Verdict.PROBLEM, found, means, do)
        return
    yield from judge_walls(ready, settings.memory_mib * MIB)


async def _ready(folder: Path, memory_bytes: int) -> Ready:
    slot = RunnerSlot(folder / "slot", folder / "cache", memory_bytes)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(slot.close)
        await slot.start()
        if slot.lends is None:
            raise RunnerLost("a runner did not say what it lends")
        return slot.lends


def judge_walls(ready: Ready, memory_bytes: int) -> Iterator[Finding]:
    """What a runner said of its walls and of what the machine lets a task have."""
    for wall in ready.walls:
        name = f"wall: {wall.name}"
        if wall.stands:
            yield Finding(name, Verdict.OK, wall.says)
        else:
            mend = _MENDS.get(wall.name, "")
            yield Finding(name, Verdict.WARNING, wall.says, _MEANS, mend)
    has = format_bytes(ready.memory_bytes)
    if ready.memory_bytes < memory_bytes:
        found = f"a task can have {has} of memory, not {format_bytes(memory_bytes)}"
        means = "tasks that ask for more go elsewhere"
        yield Finding("sandbox", Verdict.WARNING, found, means, "raise `ulimit -v`")
    else:
        yield Finding("sandbox", Verdict.OK, f"a task can have {has} of memory")


def scripts(settings: Settings) -> Iterator[Finding]:
    """The interpreter for tasks in Python, whole and the one that is known."""
    if not settings.workers or "python" not in settings.kinds.split(","):
        yield Finding("scripts", Verdict.SKIPPED, "this fog's workers are not to run any")
        return
    try:
        runtime = PythonRuntime.found()
        runtime.read()
    except PythonUnusable as error:
        means = "workers of this machine run no tasks in Python"
        yield of_problem("scripts", str(error), means, Verdict.WARNING)
        return
    version = ".".join(map(str, runtime.interpreter.version))
    yield Finding("scripts", Verdict.OK, f"CPython {version} for WebAssembly")
