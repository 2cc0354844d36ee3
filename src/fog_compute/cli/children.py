"""One child process that is kept running: started again with growing pauses when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fog_compute import spawn
from fog_compute.backoff import Backoff
from fog_compute.cli.common import CommandError, note
from fog_compute.cli.log_files import open_log
from fog_compute.errors import is_exhaustion
from fog_compute.lifetime import EXIT_UNUSABLE
from fog_compute.reading import read_tail

__all__ = [
    "LINE_BYTES",
    "Again",
    "Child",
    "Ended",
    "Event",
    "Hopeless",
    "Over",
    "Wish",
    "after_end",
    "event_of",
    "reason_of",
]

Event = dict[str, object]

PAUSES: Final = Backoff(0.2, 10)
HEALTHY_S: Final = 10.0
START_TRIES: Final = 6
LINE_BYTES: Final = 1024 * 1024
TAIL_BYTES: Final = 4096


class Wish(enum.IntEnum):
    """What is wanted of a child; it only ever grows."""

    RUN = 0
    """Run, and be started again after each end."""
    LAST = 1
    """Go on, but be started no more."""
    STOP = 2
    """End in order."""
    END = 3
    """End now."""


_SIGNALS: Final[Mapping[Wish, signal.Signals]] = {
    Wish.STOP: signal.SIGTERM,
    Wish.END: signal.SIGKILL,
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child's process ended.

    Attributes:
        code: its exit code.
        ran_s: how long it ran.
        was_ready: whether it, or one before it, was ever ready.
        tries: how many have been started.
        failures: ends before this one, since it last ran well for some time.
    """

    code: int
    ran_s: float
    was_ready: bool
    tries: int
    failures: int


@dataclass(frozen=True, slots=True)
class Over:
    """It is not started again."""


@dataclass(frozen=True, slots=True)
class Hopeless:
    """Starting it again would change nothing."""


@dataclass(frozen=True, slots=True)
class Again:
    """It is started again, after the pause that follows so many ``failures``."""

    failures: int


def after_end(wish: Wish, ended: Ended) -> Over | Hopeless | Again:
    """What follows an end, by what is wanted: an end that was asked for is no failure."""
    if wish is not Wish.RUN:
        return Over()
    if ended.code == EXIT_UNUSABLE or (not ended.was_ready and ended.tries >= START_TRIES):
        return Hopeless()
    return Again(0 if ended.ran_s > HEALTHY_S else ended.failures)


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
        self._wish = Wish.RUN
        self._last: Final = asyncio.Event()
        self._error = ""
        self._unlogged = False
        self._refused = False

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
        failures = 0
        tries = 0
        while self._wish is Wish.RUN:
            began = time.monotonic()
            code = await self._run_once()
            tries += 1
            ended = Ended(code, time.monotonic() - began, self.ready.is_set(), tries, failures)
            match after_end(self._wish, ended):
                case Over():
                    return
                case Hopeless():
                    raise CommandError(self._last_word(code))
                case Again(failures):
                    pause = PAUSES.after(failures)
                    self.restarts += 1
                    ended_as = {"code": code, "reason": self._reason(code), "pause_s": pause}
                    self._on_event(self, {"event": "ended", **ended_as})
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await self._last.wait()
                    failures += 1

    def start_no_more(self) -> None:
        """Let it go on until its end, whatever brings that about; it is not started again."""
        self._want(Wish.LAST)

    def ask_to_stop(self) -> None:
        """Let it finish what it does; it is not started again."""
        self._want(Wish.STOP)

    def kill(self) -> None:
        """End it now."""
        self._want(Wish.END)

    def _want(self, wish: Wish) -> None:
        if wish > self._wish:
            self._wish = wish
            self._last.set()
            self._signal()

    def _signal(self) -> None:
        """Tell the process what is wanted; one that is being started hears of it then."""
        process, number = self._process, _SIGNALS.get(self._wish)
        if process is not None and process.returncode is None and number is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _run_once(self) -> int:
        self._error = ""
        log = self._open_log()
        try:
            process = await spawn.start(
                self._command(), self._environment, stderr=log, line_bytes=LINE_BYTES
            )
        except (OSError, RuntimeError) as error:
            if not (isinstance(error, OSError) or is_exhaustion(error)):
                raise
            return self._not_started(error)
        finally:
            os.close(log)
        self._refused = False
        self._process = process
        self._signal()
        await self._listen(process)
        code = await process.wait()
        if process.stdin is not None:
            process.stdin.close()
        return code

    def _not_started(self, error: OSError | RuntimeError) -> int:
        """Take a refused start for an end: what has run before can be had again later."""
        if not self.ready.is_set():
            raise CommandError(f"{self.name} cannot be started: {error}") from error
        if not self._refused:
            note(f"{self.name} cannot be started now, and is tried again: {error}")
        self._refused = True
        return os.EX_OSERR

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
        if code == -signal.SIGKILL:
            last = "it was killed, as happens when memory runs out: give it more memory"
        else:
            last = self._last_line() or f"it ended with {code} and said nothing"
        return f"{self.name} cannot run: {last} (log: {self._log})"

    def _reason(self, code: int) -> str:
        """Why it ended, for whoever reads later that it was started again."""
        return self._error or reason_of(code, "" if code <= 0 else self._last_line())

    def _last_line(self) -> str:
        """The last line of the log; who was killed said nothing, and it is about before."""
        text = b""
        with contextlib.suppress(OSError):
            text = read_tail(self._log, TAIL_BYTES)
        lines = [line.strip() for line in text.decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")


def reason_of(code: int, said: str) -> str:
    """How a process ended, in words, with what it ``said`` last."""
    if code == -signal.SIGKILL:
        return "it was killed, as happens when memory runs out"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with {code}" + (f": {said}" if said else "")


def event_of(line: bytes) -> Event | None:
    """What a line of a child's output tells; None if it is something else.

    A library, or whatever a person put in front of one, may print there too.
    """
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
