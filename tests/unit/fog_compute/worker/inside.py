"""A runner's loop in the process of the test, without walls and limits, behind the same slot.

What a runner does can be looked into here: it is in no other process, and nothing ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

from fog_compute import spawn
from fog_compute.worker import runner
from fog_compute.worker.slot import RunnerSlot

__all__ = ["InsideSlots"]


class _Process:
    """What a slot needs of a runner's process: its pipes lead to a thread.

    The process that has its number only waits, so that a slot can look at it and kill it.
    """

    def __init__(self, outer: asyncio.subprocess.Process) -> None:
        self._outer = outer
        self.stdin: asyncio.StreamWriter
        self.stdout: asyncio.StreamReader
        self._thread: threading.Thread

    @property
    def pid(self) -> int:
        return self._outer.pid

    @property
    def returncode(self) -> int | None:
        return self._outer.returncode

    async def wait(self) -> int:
        status = await self._outer.wait()
        self.stdin.close()
        await asyncio.to_thread(self._thread.join)
        return status

    async def begin(self, arguments: Sequence[str], line_bytes: int) -> None:
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()
        loop = asyncio.get_running_loop()
        self.stdout = asyncio.StreamReader(limit=line_bytes)
        reading = asyncio.StreamReaderProtocol(self.stdout)
        await loop.connect_read_pipe(lambda: reading, os.fdopen(from_read, "rb"))
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()),
            os.fdopen(to_write, "wb"),
        )
        self.stdin = asyncio.StreamWriter(transport, protocol, None, loop)

        def work() -> None:
            try:
                runner._work(
                    runner._Pipe(to_read, from_write), runner._Settings.parse(list(arguments)), ()
                )
            finally:
                os.close(to_read)
                os.close(from_write)

        stack = threading.stack_size(runner.STACK_BYTES)
        self._thread = threading.Thread(target=work)
        self._thread.start()
        threading.stack_size(stack)


class InsideSlots:
    """Makes slots whose runners are threads of this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start = spawn.start

    def slot(self) -> RunnerSlot:
        return RunnerSlot(self._folder / "slot", self._folder / "compiled")

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Bound nothing of this process, and take no change of it for what a task left."""
        with (
            patch.object(spawn, "start", self._begin),
            patch.object(runner, "set_limits", lambda *_: None),
            patch.object(runner, "left_behind", lambda _: ""),
        ):
            yield

    async def _begin(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        stderr: int | None = None,
        pass_fds: Sequence[int] = (),
        line_bytes: int = 64 * 1024,
    ) -> asyncio.subprocess.Process:
        if str(self._folder / "slot") not in command:
            return await self._start(
                command, environment, stderr=stderr, pass_fds=pass_fds, line_bytes=line_bytes
            )
        waits = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        process = _Process(await self._start(waits, environment))
        await process.begin(command[4:], line_bytes)
        return process  # type: ignore[return-value]  # all of it that a slot uses
