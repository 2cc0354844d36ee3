"""The runner process: one per slot, warm, with compiled modules in memory.

``python -m fog_compute.worker.runner PARENT STDOUT STDERR CACHE`` reads `Run` frames from standard
input and answers on standard output.  It ends with its parent: the kernel kills it when the parent
dies, and it leaves at the end of its input.  Guests write to the files STDOUT and STDERR, which are
descriptors inherited from the parent.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fog_compute.descriptors import run_program
from fog_compute.kernel import be_killed_with_parent, give_up_privileges
from fog_compute.worker.engine import ModuleFault, Sandbox
from fog_compute.worker.protocol import (
    FRAME_LIMIT,
    LENGTH_BYTES,
    NEVER_EXITED,
    FromRunner,
    ModuleBytes,
    NeedBytes,
    Ran,
    Ready,
    Run,
    ToRunner,
    frame,
    parse_to_runner,
)

OPEN_FILES: Final = 256


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


def _confine() -> None:
    """Give up what no task needs; a limit per task follows with each `Run`."""
    give_up_privileges()
    os.umask(0o077)  # not the worker's, under which a guest might not open again what it made
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # If the machine runs out of memory, a runner goes first: its attempt is tried again elsewhere.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), min(OPEN_FILES, hard)))


def _set_soft(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (soft, hard))


def _limit_cpu(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _set_soft(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds)


@contextlib.contextmanager
def _limited_files(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes; the cache of compiled modules is written outside."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    _set_soft(resource.RLIMIT_FSIZE, size)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def _serve(pipe: _Pipe, sandbox: Sandbox) -> None:
    while isinstance(run := pipe.read(), Run):
        _limit_cpu(run.cpu_s)
        try:
            if not sandbox.known(run.module_id):
                pipe.write(NeedBytes())
                answer = pipe.read()
                if not isinstance(answer, ModuleBytes):
                    return
                sandbox.compile(run.module_id, answer.data)
            with _limited_files(run.file_bytes):
                ran = sandbox.run(run)
        except ModuleFault as fault:
            ran = Ran(NEVER_EXITED, fault.fault, fault.detail, 0, 0, 0)
        pipe.write(ran)


def main(arguments: list[str]) -> int:
    """Serve until the parent closes the pipe."""
    parent, stdout, stderr, cache = arguments
    be_killed_with_parent()
    if os.getppid() != int(parent):
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when a runner ends
    _confine()
    # The answers get a descriptor of their own: nothing that prints can come between frames.
    pipe = _Pipe(os.dup(0), os.dup(1))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    sandbox = Sandbox(Path(cache), int(stdout), int(stderr))
    pipe.write(Ready())
    _serve(pipe, sandbox)
    return 0


if __name__ == "__main__":
    sys.exit(run_program("runner", lambda: main(sys.argv[1:])))
