"""Compiling the interpreter before the first task needs it, and trying it with a script."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock
from fog_compute.kernel import let_others_go_first
from fog_compute.locking import try_lock
from fog_compute.observability import get_logger
from fog_compute.tasks.model import Fault, Limits
from fog_compute.tasks.runtimes import SCRIPT
from fog_compute.units import MIB
from fog_compute.worker.job import Job
from fog_compute.worker.process import RunnerLost
from fog_compute.worker.python.runtime import PythonRuntime, PythonUnusable
from fog_compute.worker.python.script import script_job
from fog_compute.worker.slot import RunnerSlot
from fog_compute.worker.threads import beside
from fog_compute.writing import write_private

__all__ = ["Preparation"]

MEMORY_BYTES: Final = 64 * MIB
"""For the script that tries it: several times what the interpreter starts with."""

LIMITS: Final = Limits(memory_bytes=MEMORY_BYTES, wall_s=300.0)
"""A slow or busy machine compiles for minutes."""

AGAIN: Final = Backoff(1, 60)
LOOK_S: Final = 0.2  # between two looks whether another worker has compiled it

_SCRIPT: Final = b"import sys; print(*sys.version_info[:2])"

_log = get_logger("fog_compute.worker")


class Preparation:
    """Makes the interpreter ready in a slot of its own, beside those that run tasks.

    Attributes:
        runtime: the interpreter, once it works.
        lacking: why there is none yet, in one line.
    """

    def __init__(self, home: Path, shared: Path | None, clock: Clock) -> None:
        """Leave the compiled interpreter where all slots below ``home`` find it.

        Workers of one owner that have the folder ``shared`` in common compile it once.
        """
        self.runtime: PythonRuntime | None = None
        self.lacking = "the interpreter is being compiled"
        self._own: Final = home / "compiled"
        self._shared: Final = self._own if shared is None else shared
        self._slot: Final = RunnerSlot(home / "slots" / "python", self._shared, MEMORY_BYTES)
        self._clock: Final = clock

    async def done(self) -> bool:
        """Return once it is known whether scripts can run here; try again what may pass."""
        failures = 0
        began = self._clock.monotonic()
        while self.runtime is None:
            try:
                self.runtime = await self._tried(PythonRuntime.found(), behind=failures == 0)
            except PythonUnusable as err:
                self.lacking = err.message
                _log.warning("python.not_offered", reason=err.message)
                return False
            except RunnerLost as err:
                self.lacking = err.message
                _log.warning("python.not_ready", reason=err.message)
                await self._clock.sleep(AGAIN.after(failures))
                failures += 1
            finally:
                await self.close()
        _log.info("python.ready", seconds=round(self._clock.monotonic() - began, 1))
        return True

    async def close(self) -> None:
        """End what is being tried."""
        await self._slot.close()

    async def _tried(self, runtime: PythonRuntime, *, behind: bool) -> PythonRuntime:
        """Compile it, ``behind`` all other work, and return it if a script runs.

        Raises:
            PythonUnusable: it does not work here.
            RunnerLost: it may another time.
        """
        name = runtime.interpreter.name
        _log.info("python.preparing", interpreter=name)  # compiling takes some seconds, once
        job = Job("", (), None, {SCRIPT: _SCRIPT}, LIMITS, seed=bytes(32))
        async with self._turn():
            await self._slot.start()
            if behind and (pid := self._slot.pid) is not None:
                let_others_go_first(pid)  # tasks that came need no interpreter
            result = await self._slot.run(script_job(runtime, job, SCRIPT), runtime.load)
        if result.fault == Fault.TIMEOUT:  # says something of the machine's other work alone
            raise RunnerLost(f"{name} was not compiled within {LIMITS.wall_s:g} s")
        version = " ".join(map(str, runtime.interpreter.version)).encode()
        if result.fault is not None or result.stdout.strip() != version:
            reason = result.detail or f"it printed {result.stdout[:80]!r}"
            raise PythonUnusable(f"{name} does not work here: {reason}")
        if self._shared != self._own:
            await beside(runtime.interpreter.size, _take, self._shared, self._own)
        return runtime

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until no other worker compiles into the shared folder, where that can be known."""
        lock = -1
        try:
            with contextlib.suppress(OSError):
                self._shared.mkdir(parents=True, exist_ok=True, mode=0o700)
                lock = os.open(self._shared / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                while not try_lock(lock):
                    await self._clock.sleep(LOOK_S)
            yield
        finally:
            if lock >= 0:
                os.close(lock)


def _take(shared: Path, own: Path) -> None:
    """Have what was compiled in the shared folder in the own one too, at no cost where it can be.

    A file that cannot be taken is compiled again by the first slot that needs it.
    """
    with contextlib.suppress(OSError):
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file in shared.glob("*.cwasm"):
            if not (own / file.name).exists():
                try:
                    (own / file.name).hardlink_to(file)
                except OSError:
                    write_private(own / file.name, file.read_bytes(), lasting=False)
