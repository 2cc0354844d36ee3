"""One slot of a worker: the parent's side of one runner.

The slot has a runner's process and a place where the task in hand works.  It alone decides when
time is up, and it kills rather than asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

import msgspec

from fog_compute.errors import FogError
from fog_compute.observability import get_logger
from fog_compute.tasks.model import Fault, Limits
from fog_compute.tasks.result import TaskResult
from fog_compute.units import GIB
from fog_compute.worker.compiled import CompiledCache
from fog_compute.worker.folders import Excess, nameless_file
from fog_compute.worker.footprint import own_bytes
from fog_compute.worker.job import Job, LoadModule
from fog_compute.worker.outputs import OutputRefused
from fog_compute.worker.overruns import (
    RUNNER_BYTES,
    Overrun,
    of_memory,
    of_scratch,
    of_time,
)
from fog_compute.worker.process import RunnerLost, RunnerProcess, end_of
from fog_compute.worker.protocol import (
    NEVER_EXITED,
    Compiled,
    FromRunner,
    Kept,
    ModuleBytes,
    NeedBytes,
    Prepare,
    Prepared,
    Ran,
    Ready,
    Refused,
    Run,
)
from fog_compute.worker.threads import beside
from fog_compute.worker.watcher import Nobody, Watcher
from fog_compute.worker.workplace import (
    Workplace,
    largest_file,
    processor_s,
    reason_of,
)

__all__ = ["RunnerSlot"]

WATCH_INTERVAL_S: Final = 0.05
WATCH_SHARE: Final = 9  # pauses are so many times as long as looking took

_log = get_logger("fog_compute.worker")


class RunnerSlot:
    """Runs one job at a time in a warm subprocess, and replaces the process when it must die.

    Attributes:
        place: where its tasks work.
    """

    def __init__(
        self, folder: Path, cache: Path, memory_bytes: int = GIB, watcher: Watcher | None = None
    ) -> None:
        """Let tasks work in ``folder``; runners keep compiled modules in ``cache``.

        A task may have up to ``memory_bytes`` of memory; ``watcher`` is told of runners that are
        killed.
        """
        self._watcher: Final[Watcher] = Nobody() if watcher is None else watcher
        self.place: Final = Workplace(folder)
        self._cache: Final = cache.absolute()
        self._memory_bytes: Final = memory_bytes
        self._runner: Final = RunnerProcess()
        self._lends: Ready | None = None
        self._code: int | None = None  # the file in which a runner leaves what it compiled
        self._compiled: CompiledCache | None = None
        self._used = False  # a module has run in this runner
        self._compiling = False
        self._compile_began: float | None = None  # of the job in hand, where it is compiled
        self._compile_s = 0.0

    @property
    def pid(self) -> int | None:
        """The runner's process id, if one is alive."""
        return self._runner.pid

    @property
    def lends(self) -> Ready | None:
        """What the machine lets a task have, as the last runner found it; None before the first."""
        return self._lends

    @property
    def compiling(self) -> bool:
        """Whether the runner compiles the module of its job, which does not run yet."""
        return self._compiling

    async def start(self) -> None:
        """Make sure that a runner is ready.  Cancelled: none is left half started.

        Raises:
            RunnerLost: it could not be started.
        """
        if self.pid is not None:
            return
        await self._runner.end()
        try:
            await self._start()
        except BaseException as err:
            await self._runner.end()
            # A thread that cannot be started is a RuntimeError.
            if isinstance(
                err, OSError | EOFError | TimeoutError | RuntimeError | msgspec.MsgspecError
            ):
                raise RunnerLost(
                    f"this machine cannot run tasks: no runner can be started: {reason_of(err)}"
                ) from err
            raise

    async def _start(self) -> None:
        outputs = await self.place.renew()
        self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Another one for each runner: what the last one left may still be copied.
        self._close_code()
        self._code = nameless_file(self.place.folder)
        self._used = False
        files = (*outputs, self._code)
        names = (str(self.place.folder), str(self._cache), str(self._memory_bytes))
        ready = await self._runner.start((*map(str, files), *names), files)
        if ready.notes and (self._lends is None or self._lends.notes != ready.notes):
            _log.warning("runner.works_without", notes=ready.notes)
        self._lends = ready
        self._compiled = CompiledCache(self._cache, ready.profile)

    async def run(self, job: Job, load: LoadModule) -> TaskResult:
        """Run one job and return its result, the module's faults included.

        ``load`` returns the module's bytes if no cache has it compiled.  Cancelled: the runner is
        killed; the next job gets a new one.

        Raises:
            RunnerLost: the runner died for no fault of the module.
        """
        await self.start()
        began = time.monotonic()
        self._compile_began, self._compile_s = None, 0.0
        try:
            if job.shared:
                await self._unused_unless_compiled(job.module_id)
            run = await self.place.prepare(job, self._largest_file(job.limits))
            exchange = asyncio.create_task(self._exchange(run, load))
            watch = asyncio.create_task(self._watch(job.limits))
            try:
                left = job.limits.wall_s - (time.monotonic() - began)
                await asyncio.wait(
                    {exchange, watch}, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                if exchange.done():
                    return await self._ended(_ran(exchange.result()), job.limits)
                over = watch.result() if watch.done() else of_time(job.limits)
                return await self._stopped(over, job, began)
            finally:
                exchange.cancel()
                watch.cancel()
                await asyncio.gather(exchange, watch, return_exceptions=True)
        except (OSError, EOFError, msgspec.MsgspecError) as err:
            return await self._died(job, began, err)
        except FogError:
            # It refused something, or it waits for a module that cannot be had.
            await self.kill("unfinished")
            raise
        except asyncio.CancelledError:
            await self.kill("cancelled")
            raise
        finally:
            if not await self.place.clean():
                await self.kill("folder")

    async def compile(self, module_id: str, load: LoadModule, limits: Limits) -> None:
        """Have a module compiled before the task that will run it, within that task's limits.

        What is wrong with it, or with the machine, the task will meet again: nothing is told here.
        Cancelled: the runner is killed.

        Raises:
            RunnerLost: no runner can be started.
        """
        await self.start()
        exchange = asyncio.create_task(
            self._exchange(Prepare(module_id, processor_s(limits)), load)
        )
        watch = asyncio.create_task(self._watch_memory(limits))
        try:
            await asyncio.wait(
                {exchange, watch}, timeout=limits.wall_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not (exchange.done() and isinstance(exchange.result(), Prepared)):
                await self.kill("not_compiled")
        except (OSError, EOFError, msgspec.MsgspecError, FogError):
            await self.kill("not_compiled")
        except asyncio.CancelledError:
            await self.kill("cancelled")
            raise
        finally:
            exchange.cancel()
            watch.cancel()
            await asyncio.gather(exchange, watch, return_exceptions=True)

    async def kill(self, reason: str) -> None:
        """End the runner, for a reason that the log tells; the next job gets a new one."""
        _log.info("runner.killed", reason=reason)
        self._watcher.killed(reason)
        await self._runner.end()

    async def close(self) -> None:
        """End the runner and let go of everything."""
        await self._runner.end()
        self._close_code()
        await self.place.close()

    def _close_code(self) -> None:
        if self._code is not None:
            os.close(self._code)
            self._code = None

    def _largest_file(self, limits: Limits) -> int:
        """Return what a guest may write to one file here, which may be less than its limits."""
        most = largest_file(limits)
        return most if self._lends is None else min(most, self._lends.file_bytes)

    async def _unused_unless_compiled(self, module_id: str) -> None:
        """Have what other tasks will run compiled by a runner in which nothing has run."""
        if self._used and self._compiled is not None and self._compiled.find(module_id) is None:
            await self._runner.end()
            await self.start()

    async def _exchange(self, order: Run | Prepare, load: LoadModule) -> FromRunner:
        runner = self._runner
        try:
            await runner.send(order)
            answer = await runner.receive()
            if isinstance(answer, NeedBytes):
                self._compiling, self._compile_began = True, time.monotonic()
                await runner.send(ModuleBytes(await load()))
                answer = await runner.receive()
            elif self._compiled is not None:
                self._compiled.note_use(order.module_id)
            if isinstance(answer, Compiled):
                await self._keep(order.module_id, answer.size)
                self._end_compiling()
                await runner.send(Kept())
                answer = await runner.receive()
        finally:
            self._end_compiling()
            self._used |= isinstance(order, Run)
        if isinstance(answer, Refused):
            raise RunnerLost(answer.reason)
        return answer

    def _end_compiling(self) -> None:
        self._compiling = False
        if self._compile_began is not None:
            self._compile_s = time.monotonic() - self._compile_began
            self._compile_began = None

    async def _keep(self, module_id: str, size: int) -> None:
        if self._compiled is not None and self._code is not None:
            # A descriptor of its own, because this can be cut short, and the copying cannot.
            await beside(size, _keep, self._compiled, module_id, os.dup(self._code), size)

    async def _watch(self, limits: Limits) -> Overrun:
        """Return once the guest took more than it may; RLIMIT_FSIZE bounds files in between."""
        pause_s = WATCH_INTERVAL_S
        while True:
            await asyncio.sleep(pause_s)
            if (over := self.place.output_over(limits)) is not None:
                return over
            pid = self.pid
            if pid is None:
                continue
            if _takes_too_much(pid, limits):
                return of_memory(limits)
            began = time.monotonic()
            if (over := await self.place.overfull_now(pid, limits)) is not None:
                return over
            # To count thousands of files must not take the time that the guest could have.
            pause_s = max(WATCH_INTERVAL_S, WATCH_SHARE * (time.monotonic() - began))

    async def _watch_memory(self, limits: Limits) -> None:
        """Return once the runner took more than a task and its compilation may."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            if (pid := self.pid) is not None and _takes_too_much(pid, limits):
                return

    async def _ended(self, ran: Ran, limits: Limits) -> TaskResult:
        """Take the runner's answer; a runner that is no longer as it was is not used again."""
        fault = None if ran.fault is None else Fault(ran.fault)
        detail = ran.detail
        over = self.place.output_over(limits) or self.place.overfull(limits, ran.nameless_bytes)
        if over is not None:
            fault, detail = over.fault, over.detail
        files: dict[str, bytes] = {}
        if fault is None:
            try:
                files = await self.place.files(limits)
            except OutputRefused as err:
                fault, detail = Fault.OUTPUT_LIMIT, err.message
        if ran.left:
            _log.info("runner.replaced", left=ran.left)
            await self._runner.end()
        stdout, stderr = self.place.written(limits)
        return TaskResult(
            exit_code=ran.exit_code if fault is None else NEVER_EXITED,
            stdout=stdout,
            stderr=stderr,
            fuel_used=ran.fuel_used,
            wall_ms=ran.wall_ms,
            peak_memory=ran.peak_memory,
            fault=fault,
            detail=detail,
            files=files,
            compile_ms=round(self._compile_s * 1000),
        )

    async def _stopped(self, over: Overrun, job: Job, began: float) -> TaskResult:
        """Kill the runner for what the module did; what it wrote until then is kept."""
        ended = time.monotonic()
        self._end_compiling()
        over = self.place.output_over(job.limits) or over
        await self.kill(over.fault.value)
        over = self.place.output_over(job.limits) or over  # it may have written until its end
        stdout, stderr = self.place.written(job.limits)
        return TaskResult(
            exit_code=NEVER_EXITED,
            stdout=stdout,
            stderr=stderr,
            fuel_used=0,
            wall_ms=max(0, round((ended - began - self._compile_s) * 1000)),
            peak_memory=0,
            fault=over.fault,
            detail=over.detail,
            compile_ms=round(self._compile_s * 1000),
        )

    async def _died(self, job: Job, began: float, err: Exception) -> TaskResult:
        """Judge a runner that ended by itself: out of processor time, or lost."""
        code = await self._runner.exit_code()
        if code == -signal.SIGXCPU:
            return await self._stopped(of_time(job.limits), job, began)
        if code == -signal.SIGXFSZ:
            if self._largest_file(job.limits) < largest_file(job.limits):
                await self.kill("file_size")
                raise RunnerLost(
                    f"this machine lets no file grow beyond {self._largest_file(job.limits)} bytes,"
                    " and a task may write more: raise the hard limit (ulimit -f)"
                ) from err
            # Of its output, if that is over its limit too; else of a file in the scratch.
            return await self._stopped(of_scratch(job.limits, Excess.BYTES), job, began)
        await self.kill("lost")
        raise RunnerLost(f"the runner {end_of(code)}: {reason_of(err)}") from err


def _ran(answer: FromRunner) -> Ran:
    if not isinstance(answer, Ran):
        raise EOFError("the runner answered out of turn")
    return answer


def _takes_too_much(pid: int, limits: Limits) -> bool:
    with contextlib.suppress(OSError):  # it has just ended
        return own_bytes(pid) > limits.memory_bytes + RUNNER_BYTES
    return False


def _keep(cache: CompiledCache, module_id: str, source: int, size: int) -> None:
    try:
        cache.keep(module_id, source, size)
        os.ftruncate(source, 0)
    finally:
        os.close(source)
