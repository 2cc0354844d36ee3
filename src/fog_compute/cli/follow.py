"""Following one task to its end, and printing what it brought."""

from __future__ import annotations

import base64
import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Final, Protocol

from fog_compute.cli.answers import Task
from fog_compute.cli.client import WAITING, Backend
from fog_compute.cli.codes import FAILED, INTERRUPTED, TIMED_OUT
from fog_compute.cli.common import LINE_LENGTH, NotRunningError, note, print_json
from fog_compute.cli.output import write, write_bytes, write_error_bytes
from fog_compute.cli.patience import OutOfTime, Patience
from fog_compute.cli.state import read_fog_state, troubles_of
from fog_compute.errors import NotFound
from fog_compute.text import one_line
from fog_compute.units import format_duration

__all__ = ["Follower"]

WAIT_S: Final = 20.0
PAUSE_S: Final = 0.2
MAX_EXIT_CODE: Final = 255


class _Status(Protocol):
    def update(self, status: str) -> None: ...


class Follower:
    """Shows a task's states on standard error and its output on standard output."""

    def __init__(
        self, backend: Backend, task_id: str, *, as_json: bool, began: float | None = None
    ) -> None:
        """Follow a task of ``backend``; times count from ``began``, by default from now."""
        self._backend = backend
        self._id = task_id
        self._json = as_json
        self._began = time.monotonic() if began is None else began
        self._shown = ""
        self._status: _Status | None = None
        backend.on_lost = self._lost

    def follow(self, patience: Patience) -> int:
        """Wait for the end and print it; return the exit code."""
        try:
            with self._progress():
                task = self._wait()
                stdout, stderr = self._output("stdout"), self._output("stderr")
            patience.end()
        except OutOfTime:
            note(
                f"task {self._id} is not over after {format_duration(patience.seconds or 0)} and"
                f" goes on: see it with `fog task show {self._id} --wait`"
            )
            return TIMED_OUT
        except KeyboardInterrupt:
            note(
                f"interrupted; task {self._id} goes on: see it with `fog task show {self._id}"
                f" --wait`, stop it with `fog task cancel {self._id}`"
            )
            return INTERRUPTED
        except NotRunningError:
            raise NotRunningError(
                f"the fog was stopped; task {self._id} goes on with the next `fog up`: then see it"
                f" with `fog task show {self._id} --wait`"
            ) from None
        return self._finish(task, stdout, stderr)

    def print_id(self) -> None:
        """Print the task's id alone."""
        if self._json:
            print_json({"id": self._id})
        else:
            write(one_line(self._id) + "\n")

    def _wait(self) -> Task:
        version = 0
        while True:
            task = self._backend.get(f"/api/v1/tasks/{self._id}", Task, wait=WAIT_S, since=version)
            if task["final"]:
                return task
            self._show(self._describe(task))
            if task["version"] == version:
                time.sleep(PAUSE_S)  # a backend would have waited for news
            version = task["version"]

    def _finish(self, task: Task, stdout: bytes, stderr: bytes) -> int:
        result = task["result"]
        code = _exit_code(task)
        if self._json:
            more = {
                "exit_code": None if result is None else result["exit_code"],
                "seconds": round(time.monotonic() - self._began, 3),
            }
            print_json({**task, **more, **_text("stdout", stdout), **_text("stderr", stderr)})
        else:
            write_bytes(stdout)
            write_error_bytes(stderr)
        if task["state"] != "accepted":
            note(f"task {self._id} {task['state']}: {task['reason']}")
        elif code:
            note(f"the module exited with {result['exit_code'] if result else code}")
        return code

    def _output(self, stream: str) -> bytes:
        try:
            return self._backend.read(f"/api/v1/tasks/{self._id}/{stream}")
        except NotFound:
            return b""

    # Progress

    def _lost(self) -> None:
        self._show(WAITING)

    def _describe(self, task: Task) -> str:
        text = f"task {task['id']}: {task['state']}"
        if task["attempts"] and task["state"] in ("leased", "running"):
            text += f" at {task['attempts'][-1]['worker']}"
        if task["state"] in ("queued", "retry") and task["reason"]:
            # Perhaps because the only worker around is this fog's own, and cannot.
            own = troubles_of(read_fog_state(self._backend.layout))
            text += f" ({'; '.join([task['reason'], *own])})"
        elif task["reason"].startswith("waiting: "):
            text += f" ({task['reason']})"
        return text + f", {task['hops']} hop{'s' if task['hops'] > 1 else ''}"

    def _show(self, text: str) -> None:
        text = one_line(text, LINE_LENGTH)
        if text == self._shown:
            return
        self._shown = text
        if self._status is not None:
            from rich.markup import escape  # slow; loaded already where there is a terminal

            self._status.update(escape(text))
        elif not self._json:
            note(text)

    @contextlib.contextmanager
    def _progress(self) -> Iterator[None]:
        """A line that moves, where standard error is a terminal."""
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console  # slow; not needed in scripts

        with Console(stderr=True, highlight=False).status(f"task {self._id}: queued") as status:
            self._status = status
            try:
                yield
            finally:
                self._status = None


def _exit_code(task: Task) -> int:
    if task["state"] != "accepted" or task["result"] is None:
        return FAILED
    code = task["result"]["exit_code"]
    return code if 0 <= code <= MAX_EXIT_CODE else FAILED


def _text(name: str, data: bytes) -> dict[str, str]:
    """Bytes for JSON: as text, and where that loses something also in base 64."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {
            name: data.decode(errors="replace"),
            f"{name}_base64": base64.b64encode(data).decode(),
        }
