"""One slot of a worker: the parent's side of one runner process.

The slot owns the runner, the two memory files that guests write their output to, and the folder of
the task in hand.  It alone decides when time is up, and it kills rather than asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from fog_compute import spawn
from fog_compute.errors import FogError
from fog_compute.observability import get_logger
from fog_compute.tasks.bounds import MAX_LOG_TAIL_BYTES
from fog_compute.tasks.folder import FOLDER_DEPTH, FOLDER_ENTRIES, OUT, PAGE_BYTES
from fog_compute.tasks.model import DETAIL_LENGTH, Fault, Limits
from fog_compute.tasks.result import TaskResult
from fog_compute.text import one_line
from fog_compute.units import GIB, MIB
from fog_compute.worker.child import ChildHandle
from fog_compute.worker.compiled import CompiledCache
from fog_compute.worker.folders import (
    empty_folder,
    exceeds,
    free_bytes,
    is_empty,
    is_laid_out,
    lay_out,
    nameless_bytes,
    nameless_file,
    remove_tree,
    write_new,
)
from fog_compute.worker.footprint import own_bytes
from fog_compute.worker.outputs import OutputRefused, read_outputs
from fog_compute.worker.protocol import (
    FRAME_LIMIT,
    LENGTH_BYTES,
    NEVER_EXITED,
    Compiled,
    FromRunner,
    Kept,
    ModuleBytes,
    NeedBytes,
    Ran,
    Ready,
    Refused,
    Run,
    ToRunner,
    frame,
    parse_from_runner,
)
from fog_compute.worker.threads import SMALL_BYTES, beside

START_TIMEOUT_S: Final = 60.0
DEATH_TIMEOUT_S: Final = 2.0
WATCH_INTERVAL_S: Final = 0.05
WATCH_SHARE: Final = 9  # pauses are so many times as long as looking took
RUNNER_BYTES: Final = GIB  # for a runner beside its guest's memory, above all to compile
FREE_BYTES: Final = MIB  # a disk with less is full: a guest that writes to it is told so
HEAVY: Final = SMALL_BYTES + 1
WORK: Final = "work"
STDIN: Final = "stdin"
PROBE: Final = "probe"

LoadModule = Callable[[], Awaitable[bytes]]

_log = get_logger("fog_compute.worker")


class RunnerLost(FogError):
    """The runner process ended, or the machine refused something: the module is not at fault."""


class NoRoom(RunnerLost):
    """This machine's disk has no room for a task, or refuses it: that is no try of the task's.

    Attributes:
        needed: bytes that must be free before there is room again.
    """

    def __init__(self, message: str, needed: int) -> None:
        super().__init__(message)
        self.needed = needed


@dataclass(frozen=True, slots=True)
class Job:
    """One task as a slot runs it."""

    module_id: str  # the name under which the compiled module is cached
    argv: tuple[str, ...]  # without ``program``
    stdin: bytes | None
    inputs: Mapping[str, bytes]
    limits: Limits
    seed: bytes = field(repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    program: tuple[str, ...] = ("main.wasm",)  # what the guest finds before its arguments
    shared: bool = False  # the module is the worker's own, and other tasks run it too


class RunnerSlot:
    """Runs one job at a time in a warm subprocess, and replaces the process when it must die."""

    def __init__(self, folder: Path, cache: Path, memory_bytes: int = GIB) -> None:
        """Keep task folders in ``folder``; runners keep compiled modules in ``cache``.

        A task may have up to ``memory_bytes`` of memory.
        """
        self._folder = folder.absolute()  # the runner stands elsewhere
        self._cache = cache.absolute()
        self._memory_bytes = memory_bytes
        self._process: Process | None = None
        self._child: ChildHandle | None = None
        self._lends: Ready | None = None
        self._outputs: tuple[int, int] | None = None
        self._code: int | None = None  # the file in which a runner leaves what it compiled
        self._compiled: CompiledCache | None = None
        self._used = False  # a module has run in this runner
        self._compiling = False
        self._collecting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The runner's process id, if one is alive."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def lends(self) -> Ready | None:
        """What the machine lets a task have, as the last runner found it; None before the first."""
        return self._lends

    async def start(self) -> None:
        """Make sure that a runner is ready.  Cancelled: none is left half started.

        Raises:
            RunnerLost: it could not be started.
        """
        if self.pid is not None:
            return
        await self._discard()
        try:
            await self._spawn()
        except BaseException as err:
            await self._discard()
            # A thread that cannot be started is a RuntimeError.
            if isinstance(
                err, OSError | EOFError | TimeoutError | RuntimeError | msgspec.MsgspecError
            ):
                raise RunnerLost(
                    f"this machine cannot run tasks: no runner can be started: {_why(err)}"
                ) from err
            raise

    async def _spawn(self) -> None:
        await beside(HEAVY, _renewed, self._folder)
        self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._outputs is None:
            self._outputs = (nameless_file(self._folder), nameless_file(self._folder))
        # Another one for each runner: what the last one left may still be copied.
        self._close_code()
        self._code = nameless_file(self._folder)
        files = (*self._outputs, self._code)
        self._used = False
        self._process = await spawn.start(
            spawn.python_command(
                "fog_compute.worker.runner",
                *(str(os.getpid()), *map(str, files), str(self._folder)),
                *(str(self._cache), str(self._memory_bytes)),
            ),
            spawn.loader_environment(),
            pass_fds=files,
            line_bytes=1 << 20,
        )
        self._child = ChildHandle(self._process.pid)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                ready = await self._read()
        except EOFError as err:
            # Libraries end the process where the machine refuses what they cannot do without.
            end = _end_of(await self._exit_code())
            raise RunnerLost(
                f"this machine cannot run tasks: the runner {end} before it was ready"
                " (few processes or little memory? its last words are in the log)"
            ) from err
        if isinstance(ready, Refused):
            raise RunnerLost(f"this machine cannot run tasks: {ready.reason}")
        if not isinstance(ready, Ready):
            raise RunnerLost("the runner did not say that it is ready")
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
        try:
            if job.shared:
                await self._unused_unless_compiled(job.module_id)
            run = await self._prepared(job)
            exchange = asyncio.create_task(self._exchange(run, load))
            watch = asyncio.create_task(self._watch(job.limits))
            try:
                left = job.limits.wall_s - (time.monotonic() - began)
                await asyncio.wait(
                    {exchange, watch}, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                if exchange.done():
                    return await self._ended(exchange.result(), job.limits)
                fault = watch.result() if watch.done() else Fault.TIMEOUT
                return await self._stopped(fault, job, began)
            finally:
                exchange.cancel()
                watch.cancel()
                await asyncio.gather(exchange, watch, return_exceptions=True)
        except (OSError, EOFError, msgspec.MsgspecError) as err:
            return await self._died(job, began, err)
        except FogError:
            # It refused something, or it waits for a module that cannot be had.
            await self._kill("unfinished")
            raise
        except asyncio.CancelledError:
            await self._kill("cancelled")
            raise
        finally:
            # What a guest left may take long to remove.
            try:
                weight = 0 if is_laid_out(self._folder / WORK) else HEAVY
                stands = await beside(weight, _clean, self._folder)
            except OSError:
                stands = _clean(self._folder)
            if not stands:
                await self._kill("folder")

    @property
    def compiling(self) -> bool:
        """Whether the runner compiles the module of its job, which does not run yet."""
        return self._compiling

    def check_room(self, needed: int) -> None:
        """Raise `NoRoom` unless a file can be written here, and ``needed`` bytes are free."""
        probe = self._folder / PROBE
        try:
            probe.write_bytes(bytes(PAGE_BYTES))
            probe.unlink()
        except OSError as err:
            raise NoRoom(f"the worker's disk refuses a file: {_why(err)}", needed) from err
        self.check_free(needed)

    def check_free(self, needed: int) -> None:
        """Raise `NoRoom` unless ``needed`` bytes are free."""
        try:
            free = free_bytes(self._folder)
        except OSError as err:
            raise NoRoom(f"the worker's disk cannot be looked at: {_why(err)}", needed) from err
        if free < needed:
            raise NoRoom(_too_little(free, needed), needed)

    def log_tail(self) -> bytes:
        """Return the last bytes that the guest wrote: errors if there are any, else output."""
        if self._outputs is None:
            return b""
        stdout, stderr = self._outputs
        return _tail(stderr) or _tail(stdout)

    async def close(self) -> None:
        """End the runner and let go of everything."""
        await self._discard()
        if self._outputs is not None:
            for descriptor in self._outputs:
                os.close(descriptor)
            self._outputs = None
        self._close_code()
        try:
            await beside(HEAVY, remove_tree, self._folder)
        except OSError:
            remove_tree(self._folder)

    def _close_code(self) -> None:
        if self._code is not None:
            os.close(self._code)
            self._code = None

    async def _prepared(self, job: Job) -> Run:
        """Write what the task brings; that there is no room for it is the machine's fault."""
        self.check_free(room_for(job.limits))
        try:
            most = self._largest_file(job.limits)
            run = await beside(_weight(job), _prepare, self._folder, job, most)
            for descriptor in self._outputs or ():
                os.ftruncate(descriptor, 0)
        except (OSError, RuntimeError) as err:
            raise NoRoom(f"the task's files cannot be written: {_why(err)}", FREE_BYTES) from err
        return run

    def _largest_file(self, limits: Limits) -> int:
        """Return what a guest may write to one file here, which may be less than its limits."""
        most = largest_file(limits)
        return most if self._lends is None else min(most, self._lends.file_bytes)

    async def _unused_unless_compiled(self, module_id: str) -> None:
        """Have what other tasks will run compiled by a runner in which nothing has run."""
        if self._used and self._compiled is not None and self._compiled.find(module_id) is None:
            await self._discard()
            await self.start()

    async def _exchange(self, run: Run, load: LoadModule) -> Ran:
        try:
            await self._write(run)
            answer = await self._read()
            if isinstance(answer, NeedBytes):
                self._compiling = True
                await self._write(ModuleBytes(await load()))
                answer = await self._read()
            elif self._compiled is not None:
                self._compiled.note_use(run.module_id)
            if isinstance(answer, Compiled):
                await self._keep(run.module_id, answer.size)
                self._compiling = False
                await self._write(Kept())
                answer = await self._read()
        finally:
            self._compiling = False
            self._used = True
        if isinstance(answer, Refused):
            raise RunnerLost(answer.reason)
        if not isinstance(answer, Ran):
            raise EOFError("the runner answered out of turn")
        return answer

    async def _keep(self, module_id: str, size: int) -> None:
        if self._compiled is not None and self._code is not None:
            # A descriptor of its own, because this can be cut short, and the copying cannot.
            await beside(size, _keep, self._compiled, module_id, os.dup(self._code), size)

    async def _watch(self, limits: Limits) -> Fault:
        """Return once the guest took more than it may; RLIMIT_FSIZE bounds files in between."""
        work = str(self._folder / WORK)
        pause_s = WATCH_INTERVAL_S
        while True:
            await asyncio.sleep(pause_s)
            if self._output_exceeded(limits):
                return Fault.OUTPUT_LIMIT
            pid = self.pid
            if pid is None:
                continue
            with contextlib.suppress(OSError):  # it has just ended
                if own_bytes(pid) > limits.memory_bytes + RUNNER_BYTES:
                    return Fault.OUT_OF_MEMORY
            began = time.monotonic()
            if (fault := await beside(HEAVY, _overfull_now, pid, work, limits)) is not None:
                return fault
            # To count thousands of files must not take the time that the guest could have.
            pause_s = max(WATCH_INTERVAL_S, WATCH_SHARE * (time.monotonic() - began))

    def _output_exceeded(self, limits: Limits) -> bool:
        return any(os.fstat(fd).st_size > limits.output_bytes for fd in self._outputs or ())

    async def _ended(self, ran: Ran, limits: Limits) -> TaskResult:
        """Take the runner's answer; a runner that is no longer as it was is not used again."""
        trap = None if ran.trap is None else Fault(ran.trap)
        detail = ran.detail
        if self._output_exceeded(limits):
            trap, detail = Fault.OUTPUT_LIMIT, _DETAILS[Fault.OUTPUT_LIMIT](limits)
        elif (over := _overfull(str(self._folder / WORK), limits, ran.nameless_bytes)) is not None:
            trap, detail = over, _DETAILS[over](limits)
        files: dict[str, bytes] = {}
        if trap is None:
            if free_bytes(self._folder) < FREE_BYTES:
                raise NoRoom(
                    "the worker's disk is full: what the task was told is not its fault", FREE_BYTES
                )
            try:
                files = await self._files(limits)
            except OutputRefused as err:
                trap, detail = Fault.OUTPUT_LIMIT, err.message
        if ran.left:
            _log.info("runner.replaced", left=ran.left)
            await self._discard()
        stdout, stderr = self._written(limits)
        return TaskResult(
            exit_code=ran.exit_code if trap is None else NEVER_EXITED,
            stdout=stdout,
            stderr=stderr,
            fuel_used=ran.fuel_used,
            wall_ms=ran.wall_ms,
            peak_memory=ran.peak_memory,
            trap=trap,
            detail=detail,
            files=files,
        )

    async def _files(self, limits: Limits) -> dict[str, bytes]:
        """Read what the task left to come back, or raise `OutputRefused` or `RunnerLost`."""
        out = self._folder / WORK / OUT
        try:
            return await beside(
                0 if is_empty(out) else HEAVY, read_outputs, out, limits.output_bytes
            )
        except (OSError, RuntimeError) as err:
            raise NoRoom(f"the task's files cannot be read: {_why(err)}", FREE_BYTES) from err

    async def _stopped(self, fault: Fault, job: Job, began: float) -> TaskResult:
        """Kill the runner for what the module did; what it wrote until then is kept."""
        await self._kill(fault.value)
        if self._output_exceeded(job.limits):
            fault = Fault.OUTPUT_LIMIT
        stdout, stderr = self._written(job.limits)
        return TaskResult(
            exit_code=NEVER_EXITED,
            stdout=stdout,
            stderr=stderr,
            fuel_used=0,
            wall_ms=round((time.monotonic() - began) * 1000),
            peak_memory=0,
            trap=fault,
            detail=_DETAILS[fault](job.limits),
        )

    async def _died(self, job: Job, began: float, err: Exception) -> TaskResult:
        """Judge a runner that ended by itself: out of processor time, or lost."""
        code = await self._exit_code()
        if code == -signal.SIGXCPU:
            return await self._stopped(Fault.TIMEOUT, job, began)
        if code == -signal.SIGXFSZ:
            if self._largest_file(job.limits) < largest_file(job.limits):
                await self._kill("file_size")
                raise RunnerLost(
                    f"this machine lets no file grow beyond {self._largest_file(job.limits)} bytes,"
                    " and a task may write more: raise the hard limit (ulimit -f)"
                ) from err
            # Of its output, if that is over its limit too; else of a file in the scratch.
            return await self._stopped(Fault.SCRATCH_LIMIT, job, began)
        await self._kill("lost")
        raise RunnerLost(f"the runner {_end_of(code)}: {_why(err)}") from err

    async def _exit_code(self) -> int | None:
        """Return how a runner that no longer answers ended; None if it has not."""
        process = self._process
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEATH_TIMEOUT_S):
                return None if process is None else await process.wait()
        return None

    def _written(self, limits: Limits) -> tuple[bytes, bytes]:
        if self._outputs is None:
            return b"", b""
        stdout, stderr = (
            os.pread(fd, min(os.fstat(fd).st_size, limits.output_bytes), 0) for fd in self._outputs
        )
        return stdout, stderr

    async def _write(self, message: ToRunner) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise EOFError("the runner is gone")
        process.stdin.write(frame(message))
        await process.stdin.drain()

    async def _read(self) -> FromRunner:
        process = self._process
        if process is None or process.stdout is None:
            raise EOFError("the runner is gone")
        length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
        if length > FRAME_LIMIT:
            raise EOFError("the runner answered with too much")
        return parse_from_runner(await process.stdout.readexactly(length))

    async def _kill(self, reason: str) -> None:
        _log.info("runner.killed", reason=reason)
        await self._discard()

    async def _discard(self) -> None:
        """Kill the runner, if there is one, and collect it; or the one whose end was cut short."""
        process, self._process = self._process, None
        child, self._child = self._child, None
        # Process.kill would reap the child behind asyncio's back (Popen polls first).
        if child is not None:
            child.kill()
        if process is not None:
            self._collecting = asyncio.create_task(_collect(process), name="collect")
        if self._collecting is not None:
            await asyncio.shield(self._collecting)


def _keep(cache: CompiledCache, module_id: str, source: int, size: int) -> None:
    try:
        cache.keep(module_id, source, size)
        os.ftruncate(source, 0)
    finally:
        os.close(source)


def room_for(limits: Limits) -> int:
    """Return what must be free on the disk before a task is begun."""
    return limits.scratch_bytes + FREE_BYTES


def _too_little(free: int, needed: int) -> str:
    return f"the worker's disk has {free} bytes free, and a task may need {needed}: make room"


def largest_file(limits: Limits) -> int:
    """Return what a guest may write to one file: a byte too many, so that it can be seen."""
    return max(limits.output_bytes, limits.scratch_bytes) + 1


def _weight(job: Job) -> int:
    """Return how much there is to write for a job; each file counts as a page."""
    files = (job.stdin or b"", *job.inputs.values())
    return sum(map(len, files)) + 4096 * len(files)


def _prepare(folder: Path, job: Job, file_bytes: int) -> Run:
    """Fill the slot's folder for one task and return what the runner must know.

    The folders stay from task to task, because making and removing them costs more than a small
    task does.
    """
    work = folder / WORK
    lay_out(work)
    for name, data in job.inputs.items():
        write_new(work / name, data)
    stdin = folder / STDIN
    stdin.write_bytes(job.stdin or b"")
    limits = job.limits
    return Run(
        module_id=job.module_id,
        argv=(*job.program, *job.argv),
        stdin=os.fsencode(stdin),
        work=os.fsencode(work),
        memory_bytes=limits.memory_bytes,
        fuel=limits.fuel,
        cpu_s=int(limits.wall_s * (os.cpu_count() or 1)) + 1,
        file_bytes=file_bytes,
        seed=job.seed,
        env=tuple(sorted(job.env.items())),
    )


def _renewed(folder: Path) -> None:
    """Have an empty folder; the same one, if there is one: files without a name lie in it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        empty_folder(folder)
    except OSError:
        remove_tree(folder)
        folder.mkdir(mode=0o700, exist_ok=True)


def _clean(folder: Path) -> bool:
    """Remove what a task brought and left; if that fails, all of the folder goes.

    Say whether the folder stands, which the runner is left with: it finds no other in its place.
    """
    try:
        if not is_laid_out(folder / WORK):
            empty_folder(folder / WORK)
        os.truncate(folder / STDIN, 0)
    except OSError:
        remove_tree(folder)
        return False
    return True


_DETAILS: Final[Mapping[Fault, Callable[[Limits], str]]] = {
    Fault.OUT_OF_MEMORY: lambda limits: (
        f"the module took more than its limit of {limits.memory_bytes} bytes of memory and"
        f" {RUNNER_BYTES} to compile it"
    ),
    Fault.TIMEOUT: lambda limits: (
        f"the module took longer than its limit of {limits.wall_s:g} s to compile and run"
    ),
    Fault.OUTPUT_LIMIT: lambda limits: (
        f"the module wrote more output, or more below out/, than its limit of"
        f" {limits.output_bytes} bytes: allow more with --output"
    ),
    Fault.SCRATCH_LIMIT: lambda limits: (
        f"the module kept more in its working directory than its limit of {limits.scratch_bytes}"
        f" bytes, inputs included, or {FOLDER_ENTRIES} files: allow more bytes with --scratch"
    ),
}


def _why(error: BaseException) -> str:
    return one_line(str(error) or type(error).__name__, DETAIL_LENGTH)


def _end_of(code: int | None) -> str:
    """Say how a process ended."""
    if code is None:
        return "does not answer"
    if code >= 0:
        return f"ended with {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _overfull_now(pid: int, work: str, limits: Limits) -> Fault | None:
    return _overfull(work, limits, nameless_bytes(pid, work))


def _overfull(work: str, limits: Limits, nameless: int) -> Fault | None:
    """Say which limit the working directory is over; what comes back is counted exactly later."""
    left = limits.scratch_bytes - nameless
    if left < 0 or exceeds(work, left, FOLDER_ENTRIES, FOLDER_DEPTH):
        return Fault.SCRATCH_LIMIT
    if limits.output_bytes < left and exceeds(
        f"{work}/{OUT}", limits.output_bytes, FOLDER_ENTRIES, FOLDER_DEPTH
    ):
        return Fault.OUTPUT_LIMIT
    return None


async def _collect(process: Process) -> None:
    await process.wait()
    if process.stdin is not None:
        process.stdin.close()
        with contextlib.suppress(OSError):
            await process.stdin.wait_closed()


def _tail(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, MAX_LOG_TAIL_BYTES, max(0, size - MAX_LOG_TAIL_BYTES))
