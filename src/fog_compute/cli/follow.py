"""Following one task to its end, and printing what it brought."""

from __future__ import annotations

import base64
import contextlib
import sys
import time
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from fog_compute.cli.client import Backend
from fog_compute.cli.codes import FAILED, INTERRUPTED, TIMED_OUT
from fog_compute.cli.common import LINE_LENGTH, CommandError, in_flags, note, print_json
from fog_compute.cli.lent import lacking_scripts
from fog_compute.cli.losses import not_lost, spooled
from fog_compute.cli.output import write, write_bytes, write_error_bytes
from fog_compute.cli.outputs import tell_unwritten, write_files
from fog_compute.cli.patience import OutOfTime, Patience
from fog_compute.cli.state import read_fog_state, troubles_of
from fog_compute.cli.transfer import Meter
from fog_compute.client.answers import Result, Task
from fog_compute.client.asking import NO_ANSWER, WAIT_S
from fog_compute.client.folders import OutputFolder
from fog_compute.client.places import Home
from fog_compute.errors import NotFound, NotRunning
from fog_compute.tasks import TaskKind
from fog_compute.text import counted, one_line
from fog_compute.units import MIB, format_bytes, format_duration

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Follower"]

SHORT_S: Final = 1.0
LOOK_S: Final = 0.5
PAUSE_S: Final = 0.2
MAX_EXIT_CODE: Final = 255
SPOOL_BYTES: Final = 4 * MIB

Spool: TypeAlias = SpooledTemporaryFile[bytes]


class _Status(Protocol):
    def update(self, status: Text) -> None: ...


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
        self._meter = Meter()
        backend.on_lost = self._show

    def follow(self, patience: Patience, folder: OutputFolder | None = None) -> int:
        """Wait for the end, write files into ``folder``, print; return the exit code."""
        with _spool() as stdout, _spool() as stderr:
            return self._follow(patience, folder, stdout, stderr)

    def _follow(
        self, patience: Patience, folder: OutputFolder | None, stdout: Spool, stderr: Spool
    ) -> int:
        unwritten: dict[str, str] = {}
        try:
            with self._progress():
                task = self._wait()
                self._output(task, "stdout", stdout)
                self._output(task, "stderr", stderr)
                if folder is not None and task["result"] is not None:
                    unwritten = write_files(
                        self._backend, self._id, task["result"]["files"], folder
                    )
            patience.end()
        except OutOfTime:
            raise CommandError(
                f"task {self._id} is not over after {format_duration(patience.seconds or 0)} and"
                f" goes on: see it with `fog task show {self._id} --wait`",
                TIMED_OUT,
                beside={"id": self._id},
            ) from None
        except KeyboardInterrupt:
            raise CommandError(
                f"interrupted; task {self._id} goes on: see it with `fog task show {self._id}"
                f" --wait`, stop it with `fog task cancel {self._id}`",
                INTERRUPTED,
                beside={"id": self._id},
            ) from None
        except NotRunning:
            raise NotRunning(
                f"the fog was stopped; task {self._id} goes on with the next `fog up`: then see it"
                f" with `fog task show {self._id} --wait`"
            ) from None
        except NO_ANSWER as error:
            raise CommandError(
                f"{error}; task {self._id} goes on: see it with `fog task show {self._id} --wait`",
                kind=error.problem,
                beside={"id": self._id},
            ) from None
        told = self._told(task, stdout, stderr, unwritten) if self._json else {}
        with self._not_lost():
            if not self._json:
                _print(stdout, stderr)
        if folder is None:
            self._tell_of_files(task)
        tell_unwritten(unwritten)
        if task["state"] != "accepted":
            message = f"task {self._id} {task['state']}: {in_flags(task['reason'])}"
            raise CommandError(message, kind="task-failed", beside=told)
        code = _exit_code(task)
        if unwritten and not code:
            message = (
                f"not written: {counted(len(unwritten), 'file')} of the task's, which are kept:"
                f" {self._files_kept()}"
            )
            raise CommandError(message, kind="not-written", beside=told)
        if self._json:
            with self._not_lost():
                print_json(told)
        if code:
            note(
                f"the module exited with {task['result']['exit_code'] if task['result'] else code}"
            )
        return code

    def print_id(self) -> None:
        """Print the task's id alone."""
        if self._json:
            print_json({"id": self._id})
        else:
            write(one_line(self._id) + "\n")

    def _wait(self) -> Task:
        path, version = f"/api/v1/tasks/{self._id}", 0
        # A short task is over before anybody could read what it came through.
        task = self._backend.get(path, Task, wait=SHORT_S, until="end")
        while True:
            if task["final"]:
                return task
            self._show(self._describe(task))
            if task["version"] == version:
                time.sleep(PAUSE_S)  # a backend would have waited for news
            version = task["version"]
            # What moves between two states is looked at more often, if somebody sees it.
            wait = LOOK_S if self._status is not None else WAIT_S
            task = self._backend.get(path, Task, wait=wait, since=version)

    def _told(
        self, task: Task, stdout: Spool, stderr: Spool, unwritten: dict[str, str]
    ) -> dict[str, object]:
        """All there is to a task, for programs."""
        result = task["result"]
        return {
            **task,
            "exit_code": None if result is None else result["exit_code"],
            "seconds": round(time.monotonic() - self._began, 3),
            **_text("stdout", stdout.read()),
            **_text("stderr", stderr.read()),
            "not_written": unwritten,
        }

    def _output(self, task: Task, stream: Literal["stdout", "stderr"], spool: Spool) -> None:
        if task["result"] is not None and _size(task["result"], stream):
            kept = spooled("the task's output", self._kept(), beside={"id": self._id})
            with kept, contextlib.suppress(NotFound):
                self._backend.stream(f"/api/v1/tasks/{self._id}/{stream}", spool.write)
            spool.seek(0)

    def _kept(self) -> str:
        return (
            f"the result of task {self._id} is kept: `fog task show {self._id} --wait` prints it"
            f" again, {self._files_kept()}"
        )

    def _not_lost(self) -> contextlib.AbstractContextManager[None]:
        return not_lost(self._kept(), beside={"id": self._id})

    def _tell_of_files(self, task: Task) -> None:
        files = [] if task["result"] is None else task["result"]["files"]
        if files and not self._json:
            total = format_bytes(sum(file["size"] for file in files))
            note(f"the task left {counted(len(files), 'file')} ({total}): {self._files_kept()}")

    def _files_kept(self) -> str:
        return f"`fog task get {self._id} --output-dir FOLDER` writes what it left"

    # Progress

    def _describe(self, task: Task) -> str:
        text = f"task {task['id']}: {task['state']}"
        if self._status is not None and (stage := task["stage"]) is not None:
            text = f"task {task['id']}: {self._meter.line(stage, time.monotonic())}"
        if task["attempts"] and task["state"] in ("leased", "running"):
            text += f" at {task['attempts'][-1]['worker']}"
        if self._status is not None and (last := task["log_tail"].rstrip().rpartition("\n")[2]):
            return f"{text}: {last}"
        if task["state"] in ("queued", "retry") and task["reason"]:
            text += f" ({'; '.join([in_flags(task['reason']), *self._own(task)])})"
        elif task["reason"].startswith("waiting: "):
            text += f" ({task['reason']})"
        return f"{text}, {counted(task['hops'], 'hop')}"

    def _own(self, task: Task) -> list[str]:
        """What keeps the workers of this home from a task: perhaps there are no others."""
        if not isinstance(self._backend.place, Home):
            return []
        layout = self._backend.layout
        scripts = lacking_scripts(layout) if task["kind"] == TaskKind.PYTHON else []
        return [*troubles_of(read_fog_state(layout)), *scripts]

    def _show(self, text: str) -> None:
        text = one_line(text, LINE_LENGTH)
        if text == self._shown:
            return
        self._shown = text
        if self._status is not None:
            from rich.text import Text  # slow; loaded already where there is a terminal

            self._status.update(Text(text))  # never as markup: the words may be anybody's
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


def _size(result: Result, stream: Literal["stdout", "stderr"]) -> int:
    return result["stdout_bytes"] if stream == "stdout" else result["stderr_bytes"]


def _spool() -> Spool:
    """Hold an output until it is whole: a large one on the disk."""
    return SpooledTemporaryFile(SPOOL_BYTES)


def _print(stdout: Spool, stderr: Spool) -> None:
    for spool, put in ((stdout, write_bytes), (stderr, write_error_bytes)):
        while piece := spool.read(SPOOL_BYTES):
            put(piece)


def _exit_code(task: Task) -> int:
    if task["result"] is None:
        return FAILED
    code = task["result"]["exit_code"]
    return code if code is not None and 0 <= code <= MAX_EXIT_CODE else FAILED


def _text(name: str, data: bytes) -> dict[str, str]:
    """Bytes for JSON: as text, and where that loses something also in base 64."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {
            name: data.decode(errors="replace"),
            f"{name}_base64": base64.b64encode(data).decode(),
        }
