"""One child process that is kept running: started again with growing pauses when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from fog_compute import spawn
from fog_compute.cli.common import CommandError, note
from fog_compute.cli.logs import open_log
from fog_compute.lifetime import EXIT_UNUSABLE
from fog_compute.reading import read_tail

__all__ = ["LINE_BYTES", "Child", "Event", "event_of"]

Event = dict[str, object]

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
HEALTHY_S: Final = 10.0
START_TRIES: Final = 6
LINE_BYTES: Final = 1024 * 1024
TAIL_BYTES: Final = 4096


class Child:
    """A process that tells on standard output when it is ready, one JSON object a line.

    It dies with this process: its standard input is a pipe that only this process holds, and it
    asks the kernel for a signal at this process's death. It runs in a session of its own, so that
    a Ctrl-C in the terminal reaches this process alone, which then decides.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        log: Path,
        environment: dict[str, str],
        on_event: Callable[[Child, Event], None],
    ) -> None:
        """Start nothing yet; ``command`` is asked before each start."""
        self.name: Final = name
        self.ready: Final = asyncio.Event()
        self.over: Final = asyncio.Event()
        self.restarts = 0
        self._command: Final = command
        self._log: Final = log
        self._environment: Final = environment
        self._on_event: Final = on_event
        self._process: asyncio.subprocess.Process | None = None
        self._asked: Final = asyncio.Event()
        self._error = ""
        self._unlogged = False

    @property
    def pid(self) -> int | None:
        """The running process, or None between two."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    async def keep(self) -> None:
        """Keep it running until it is stopped.

        Cancelled, it kills the process and waits until it is gone.

        Raises:
            CommandError: it cannot run at all; the text has its own last word.
        """
        try:
            await self._keep()
        finally:
            self.kill()
            if self._process is not None:
                await self._process.wait()
            self.over.set()

    async def _keep(self) -> None:
        pause = FIRST_PAUSE_S
        tries = 0
        while not self._asked.is_set():
            began = time.monotonic()
            code = await self._run_once()
            if self._asked.is_set():
                return
            tries += 1
            if code == EXIT_UNUSABLE or (not self.ready.is_set() and tries >= START_TRIES):
                raise CommandError(self._last_word(code))
            if time.monotonic() - began > HEALTHY_S:
                pause = FIRST_PAUSE_S
            self.restarts += 1
            self._on_event(self, {"event": "ended", "code": code, "pause_s": pause})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._asked.wait()
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def ask_to_stop(self) -> None:
        """Let it finish what it does; it is not started again."""
        self._asked.set()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now."""
        self._asked.set()
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _run_once(self) -> int:
        self._error = ""
        log = self._open_log()
        try:
            process = await spawn.start(
                self._command(), self._environment, stderr=log, line_bytes=LINE_BYTES
            )
        except OSError as error:
            raise CommandError(f"{self.name} cannot be started: {error}") from error
        finally:
            os.close(log)
        self._process = process
        if self._asked.is_set():
            self._signal(signal.SIGTERM)
        await self._listen(process)
        code = await process.wait()
        if process.stdin is not None:
            process.stdin.close()
        return code

    def _open_log(self) -> int:
        """Open the log; where that cannot be, the child still runs."""
        try:
            return open_log(self._log)
        except OSError as error:
            if not self._unlogged:
                note(f"{self._log} cannot be written ({error.strerror}): its lines are lost")
            self._unlogged = True
            return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Take events until the process closes its output."""
        if process.stdout is None:
            return
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                continue  # longer than any event
            if not line:
                return
            event = event_of(line)
            if event is None:
                continue
            if event.get("event") == "ready":
                self.ready.set()
            elif event.get("event") == "error":
                self._error = str(event.get("message", ""))
            self._on_event(self, event)

    def _last_word(self, code: int) -> str:
        """Why it cannot run: what it announced, or the last line of its log."""
        if self._error:
            return self._error
        text = b""
        with contextlib.suppress(OSError):
            text = read_tail(self._log, TAIL_BYTES)
        lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1].strip() if lines else f"it ended with {code} and said nothing"
        return f"{self.name} cannot run: {last} (log: {self._log})"


def event_of(line: bytes) -> Event | None:
    """What a line of a child's output tells; None if it is something else.

    A library, or whatever a person put in front of one, may print there too.
    """
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
