"""The runner process: one per slot, warm, with compiled modules in memory.

``python -m fog_compute.worker.runner PARENT STDOUT STDERR CODE FOLDER CACHE MEMORY`` reads `Run`
frames from standard input and answers on standard output.  It ends with its parent: the kernel
kills it when the parent dies, and it leaves at the end of its input.  Guests write to the files
STDOUT and STDERR, find their files below FOLDER, and may have MEMORY bytes at most.  Compiled
modules are read from the folder CACHE; those that it compiles it leaves in the file CODE.  The
three files are descriptors inherited from the parent.

Before there is a second thread it raises the walls of `fog_compute.worker.wall` around itself.

Before it says that it is ready it tries all that a task needs, under the limits that this machine
has: what is refused then, or later, is the machine's fault and said so.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import msgspec
from wasmtime import WasmtimeError

from fog_compute.descriptors import run_program
from fog_compute.kernel import be_killed_with_parent, limits_of, set_limits
from fog_compute.layout import RUNNER_DESCRIPTORS
from fog_compute.tasks.model import DETAIL_LENGTH
from fog_compute.text import one_line
from fog_compute.units import MIB
from fog_compute.worker.engine import PROFILES, Sandbox
from fog_compute.worker.faults import MachineFault, ModuleFault, line_of
from fog_compute.worker.footprint import Footprint, left_behind
from fog_compute.worker.protocol import (
    FRAME_LIMIT,
    LENGTH_BYTES,
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
    ToRunner,
    Wall,
    frame,
    parse_to_runner,
)
from fog_compute.worker.wall import Rooms, of_python, raise_walls

STACK_BYTES: Final = 8 * MIB  # of the thread that compiles and runs, whatever `ulimit -s` says
PARENT_CHECK_S: Final = 0.5
UNLIMITED: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Settings:
    """The arguments of the command line."""

    parent: int
    stdout: int
    stderr: int
    code: int
    folder: Path
    cache: Path
    memory_bytes: int

    @classmethod
    def parse(cls, arguments: list[str]) -> Self:
        parent, stdout, stderr, code, folder, cache, memory = arguments
        files = (int(stdout), int(stderr), int(code))
        return cls(int(parent), *files, Path(folder), Path(cache), int(memory))


class _Pipe:
    """Frames on two file descriptors, blocking."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing

    def read(self) -> ToRunner | None:
        """Return the next message, or None at the end of the input."""
        head = self._exactly(LENGTH_BYTES)
        if head is None:
            return None
        length = int.from_bytes(head, "big")
        if length > FRAME_LIMIT:
            return None
        body = self._exactly(length)
        return None if body is None else parse_to_runner(body)

    def write(self, message: FromRunner) -> None:
        """Write one message whole."""
        data = memoryview(frame(message))
        while data:
            data = data[os.write(self._writing, data) :]

    def _exactly(self, length: int) -> bytes | None:
        data = bytearray()
        while len(data) < length:
            piece = os.read(self._reading, min(length - len(data), 1 << 20))
            if not piece:
                return None
            data += piece
        return bytes(data)


def _confine(rooms: Rooms) -> tuple[Wall, ...]:
    """Give up what no task needs; a limit per task follows with each `Run`."""
    os.umask(0o077)  # not the worker's, under which a guest might not open again what it made
    _bound(resource.RLIMIT_CORE, 0, 0)
    # If the machine runs out of memory, a runner goes first: its attempt is tried again elsewhere.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    _, hard = _bounds(resource.RLIMIT_NOFILE)
    if hard < RUNNER_DESCRIPTORS:
        raise MachineFault(
            f"a process may open {hard} files: a runner needs {RUNNER_DESCRIPTORS}{_RAISE}"
        )
    _bound(resource.RLIMIT_NOFILE, RUNNER_DESCRIPTORS, RUNNER_DESCRIPTORS)
    return raise_walls(rooms)


def _bounds(limit: int) -> tuple[int, int]:
    try:
        return limits_of(limit)
    except OSError as err:
        raise MachineFault(f"{_UNBOUND}: {err.strerror}") from err


def _bound(limit: int, soft: int, hard: int) -> None:
    try:
        set_limits(limit, soft, hard)
    except OSError as err:
        raise MachineFault(f"{_UNBOUND}: {err.strerror}") from err


_UNBOUND: Final = "nothing can bound what a task uses here"

_RAISE: Final = " (raise the hard limit: ulimit -H)"


def _set_soft(limit: int, name: str, value: int) -> None:
    """Set the limit of a task; one that the machine makes smaller would be blamed on the task."""
    _, hard = _bounds(limit)
    if hard not in (resource.RLIM_INFINITY, value) and hard < value:
        raise MachineFault(f"{name} are limited to {hard} here: the task may have {value}{_RAISE}")
    _bound(limit, value, hard)


def _limit_cpu(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    budget = int(used.ru_utime + used.ru_stime) + 1 + seconds
    _set_soft(resource.RLIMIT_CPU, "seconds of processor time", budget)


@contextlib.contextmanager
def _limited_files(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes; the cache of compiled modules is written outside."""
    _, hard = _bounds(resource.RLIMIT_FSIZE)
    _set_soft(resource.RLIMIT_FSIZE, "bytes of a file", size)
    try:
        yield
    finally:
        _bound(resource.RLIMIT_FSIZE, hard, hard)


def _leave(code: bytearray, descriptor: int) -> int:
    """Leave compiled code to the parent and return its size, or 0 where that is refused."""
    os.ftruncate(descriptor, 0)
    largest, _ = _bounds(resource.RLIMIT_FSIZE)
    if 0 <= largest < len(code):  # beyond it, the kernel ends who writes
        return 0
    try:
        written = 0
        while written < len(code):
            written += os.pwrite(descriptor, memoryview(code)[written:], written)
    except OSError:
        return 0
    return written


def _serve(pipe: _Pipe, sandbox: Sandbox, code: int) -> None:
    before = Footprint.measured()
    left = ""
    while not left and isinstance(order := pipe.read(), Run | Prepare):
        _limit_cpu(order.cpu_s)
        ran = None
        try:
            if not sandbox.known(order.module_id):
                pipe.write(NeedBytes())
                answer = pipe.read()
                if not isinstance(answer, ModuleBytes):
                    return
                module = sandbox.compile(order.module_id, answer.data)
                pipe.write(Compiled(_leave(module.serialize(), code)))
                if not isinstance(pipe.read(), Kept):
                    return
            if isinstance(order, Run):
                with _limited_files(order.file_bytes):
                    ran = sandbox.run(order)
        except ModuleFault as fault:
            ran = Ran(NEVER_EXITED, fault.fault, fault.detail, 0, 0, 0)
        if ran is None or isinstance(order, Prepare):
            pipe.write(Prepared())
            continue
        left = left_behind(before)
        pipe.write(msgspec.structs.replace(ran, left=left))


def _sandbox(settings: _Settings) -> tuple[Sandbox, Ready]:
    """Return a sandbox in the best way that this machine allows, tried."""
    refusals: list[str] = []
    for profile in PROFILES:
        try:
            sandbox = Sandbox(settings.cache, settings.stdout, settings.stderr, profile)
            lent = sandbox.probe(os.devnull, str(settings.folder), settings.memory_bytes)
        except (MachineFault, WasmtimeError) as err:
            refusals.append(one_line(line_of(err), DETAIL_LENGTH))
            continue
        _, largest = _bounds(resource.RLIMIT_FSIZE)
        file_bytes = UNLIMITED if largest == resource.RLIM_INFINITY else largest
        notes = tuple(dict.fromkeys(refusals))
        return sandbox, Ready(lent, file_bytes, notes, profile=profile.name)
    raise MachineFault(refusals[-1])


def _work(pipe: _Pipe, settings: _Settings, walls: tuple[Wall, ...]) -> None:
    """Serve until the parent closes the pipe, or until the machine refuses something."""
    try:
        sandbox, ready = _sandbox(settings)
        missing = tuple(f"{wall.name}: {wall.says}" for wall in walls if not wall.stands)
        pipe.write(msgspec.structs.replace(ready, notes=missing + ready.notes, walls=walls))
        _serve(pipe, sandbox, settings.code)
    except MachineFault as fault:
        _refuse(pipe, fault.detail)
    except (OSError, MemoryError, RuntimeError) as err:
        _refuse(pipe, f"{type(err).__name__}: {err}")


def _refuse(pipe: _Pipe, reason: str) -> None:
    with contextlib.suppress(OSError):
        pipe.write(Refused(one_line(reason, DETAIL_LENGTH)))


def _end_after(parent: int) -> None:
    """End soon after the parent, also in the middle of a task, where the kernel does not see to it.

    The end of the pipe is seen only between two tasks.
    """
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


def main(arguments: list[str]) -> int:
    """Serve until the parent closes the pipe."""
    settings = _Settings.parse(arguments)
    tied = be_killed_with_parent()
    if os.getppid() != settings.parent:
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when a runner ends
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # who writes beyond a limit is ended, not told
    # The answers get a descriptor of their own: nothing that prints can come between frames.
    pipe = _Pipe(os.dup(0), os.dup(1))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    try:
        # Before there is a second thread, which would keep what this one gives up.
        walls = _confine(Rooms(changed=(settings.folder,), read=(settings.cache, *of_python())))
    except MachineFault as fault:
        _refuse(pipe, fault.detail)
        return 1
    threading.stack_size(STACK_BYTES)
    working = threading.Thread(target=_work, args=(pipe, settings, walls))
    try:
        if not tied:
            threading.Thread(target=_end_after, args=(settings.parent,), daemon=True).start()
        working.start()
    except RuntimeError as err:
        _refuse(pipe, f"no thread with a stack of {STACK_BYTES // MIB} MiB can be had: {err}")
        return 1
    working.join()
    return 0


if __name__ == "__main__":
    sys.exit(run_program("runner", lambda: main(sys.argv[1:])))
