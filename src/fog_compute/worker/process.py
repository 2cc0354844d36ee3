"""A runner's process as its slot sees it: started, spoken with in frames, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from asyncio.subprocess import Process
from collections.abc import Sequence
from typing import Final

from fog_compute import spawn
from fog_compute.errors import FogError
from fog_compute.kernel import limits_of
from fog_compute.worker.child import ChildHandle
from fog_compute.worker.protocol import (
    FRAME_LIMIT,
    LENGTH_BYTES,
    FromRunner,
    Ready,
    Refused,
    ToRunner,
    frame,
    parse_from_runner,
)

__all__ = ["RunnerLost", "RunnerProcess", "end_of"]

START_TIMEOUT_S: Final = 60.0
DEATH_TIMEOUT_S: Final = 2.0
PIPE_BYTES: Final = 1 << 20


class RunnerLost(FogError):
    """The runner process ended, or the machine refused something: the module is not at fault."""


class RunnerProcess:
    """At most one process at a time; who ends one may start the next."""

    __slots__ = ("_child", "_collecting", "_process")

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: Process | None = None
        self._child: ChildHandle | None = None
        self._collecting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id, if one is alive."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self, arguments: Sequence[str], files: Sequence[int]) -> Ready:
        """Start a runner, to which ``files`` are left open, and return what it says of itself.

        Raises:
            RunnerLost: it says that the machine refuses something, or ends before it is ready.
            OSError, TimeoutError, RuntimeError, msgspec.MsgspecError: it could not be started, or
                does not answer as runners do.
        """
        self._process = await spawn.start(
            spawn.python_command("fog_compute.worker.runner", str(os.getpid()), *arguments),
            _environment(),
            pass_fds=files,
            line_bytes=PIPE_BYTES,
        )
        self._child = ChildHandle(self._process.pid)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                ready = await self.receive()
        except EOFError as err:
            # Libraries end the process where the machine refuses what they cannot do without.
            end = end_of(await self.exit_code())
            raise RunnerLost(
                f"this machine cannot run tasks: the runner {end} before it was ready"
                " (few processes or little memory? its last words are in the log)"
            ) from err
        if isinstance(ready, Refused):
            raise RunnerLost(f"this machine cannot run tasks: {ready.reason}")
        if not isinstance(ready, Ready):
            raise RunnerLost("the runner did not say that it is ready")
        return ready

    async def send(self, message: ToRunner) -> None:
        """Send one message.

        Raises:
            EOFError, OSError: the runner is gone.
        """
        process = self._process
        if process is None or process.stdin is None:
            raise EOFError("the runner is gone")
        process.stdin.write(frame(message))
        await process.stdin.drain()

    async def receive(self) -> FromRunner:
        """Wait for one message.

        Raises:
            EOFError, OSError: the runner is gone, or answers with too much.
            msgspec.MsgspecError: it cannot be read.
        """
        process = self._process
        if process is None or process.stdout is None:
            raise EOFError("the runner is gone")
        length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
        if length > FRAME_LIMIT:
            raise EOFError("the runner answered with too much")
        return parse_from_runner(await process.stdout.readexactly(length))

    async def exit_code(self) -> int | None:
        """Return how a runner that no longer answers ended; None if it has not."""
        process = self._process
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEATH_TIMEOUT_S):
                return None if process is None else await process.wait()
        return None

    async def end(self) -> None:
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


def _environment() -> dict[str, str]:
    """A runner's variables.

    glibc reserves 64 MiB of addresses for each thread's arena, and a runner's six would take 384 of
    those that a limit (`ulimit -v`) leaves; how many there are, and what is refused for them, would
    depend on which thread comes first.
    """
    unbounded = False
    with contextlib.suppress(OSError):  # a sandbox that does not tell may bound it
        unbounded = limits_of(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    few = {} if unbounded else {"MALLOC_ARENA_MAX": "1"}
    return spawn.loader_environment() | few


def end_of(code: int | None) -> str:
    """Say how a process ended; None stands for one that has not."""
    if code is None:
        return "does not answer"
    if code >= 0:
        return f"ended with {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


async def _collect(process: Process) -> None:
    await process.wait()
    if process.stdin is not None:
        process.stdin.close()
        with contextlib.suppress(OSError):
            await process.stdin.wait_closed()
