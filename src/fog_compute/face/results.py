"""What a task brought: its output, its figures and its files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fog_compute.client.answers import Task
from fog_compute.client.asking import file_of
from fog_compute.client.folders import AlreadyThere, NotWritten, OutputFolder
from fog_compute.errors import FolderUnusable, NotFound
from fog_compute.face.failures import TaskCancelled, TaskFailed
from fog_compute.face.records import OutputFile, records
from fog_compute.face.words import PythonBackend
from fog_compute.tasks import TaskState
from fog_compute.text import as_named, printable

__all__ = ["Outcome", "Result", "fetch_result"]

TAIL_LENGTH: Final = 2000
"""Characters of a failed task's output that its exception shows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended, whole and on this machine.

    Attributes:
        id: of the task, 26 characters.
        input: of a map: what the input is called; else nothing.
        state: ``accepted``, ``failed`` or ``cancelled``.
        reason: what happened, in one line, or nothing.
        fault: what the program did wrong, such as ``timeout``; None if it ran to its end.
        exit_code: of the program, where it ran to its end.
        stdout: all that it wrote to standard output.
        stderr: all that it wrote to standard error.
        files: what it left below ``out/``; their bytes are still with the fog.
        wall_ms: milliseconds that it ran at the worker.
        compile_ms: milliseconds that it was compiled there before, unless that was kept.
        fuel_used: instructions; None where nobody knows, as of one killed at a limit.
        peak_memory: bytes of memory that it had at most; None likewise.
    """

    id: str
    input: str
    state: str
    reason: str
    fault: str | None
    exit_code: int | None
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)
    files: tuple[OutputFile, ...]
    wall_ms: int
    compile_ms: int
    fuel_used: int | None
    peak_memory: int | None

    @property
    def text(self) -> str:
        """Standard output as UTF-8; what is none becomes �."""
        return self.stdout.decode(errors="replace")

    @property
    def ok(self) -> bool:
        """Whether the program ran to its end and gave exit code 0."""
        return self.state == TaskState.ACCEPTED and self.exit_code == 0

    def check(self) -> None:
        """Return if the task went well.

        Raises:
            TaskFailed: it did not.
            TaskCancelled: it was cancelled.
        """
        if self.ok:
            return
        kind = TaskCancelled if self.state == TaskState.CANCELLED else TaskFailed
        what = self.state if self.state != TaskState.ACCEPTED else "ended"
        why = f": {self.reason}" if self.reason else ""
        if not why and self.exit_code is not None:
            why = f" with exit code {self.exit_code}"
        tail = (self.stderr or self.stdout)[-4 * TAIL_LENGTH :].decode(errors="replace")
        raise kind(
            self.id,
            f"{what}{why}",
            fault=self.fault,
            exit_code=self.exit_code,
            log_tail=printable(tail, 4 * TAIL_LENGTH)[-TAIL_LENGTH:].rstrip(),
        )


@dataclass(frozen=True, slots=True)
class Result(Outcome):
    """How a task ended, and the way to its files, as long as its fog is connected."""

    _backend: PythonBackend = field(repr=False)

    async def file(self, path: str) -> bytes:
        """Fetch one file that it left.

        Raises:
            NotFound: it left none of this path.
        """
        size = next((file.size for file in self.files if file.path == path), None)
        if size is None:
            names = ", ".join(as_named(file.path) for file in self.files[:10]) or "none at all"
            raise NotFound(f"task {self.id} left no file {as_named(path)}, but {names}")
        return await self._backend.whole(file_of(self.id, path), size)

    async def save(
        self, folder: str | os.PathLike[str], *, overwrite: bool = False
    ) -> tuple[Path, ...]:
        """Write all files that it left into a folder, which is made if need be.

        Each is written whole, and nowhere but in that folder. Cancelled, those that are written
        stay.

        Returns:
            Where they are.

        Raises:
            FolderUnusable: a file stands there already and ``overwrite`` is False, or the disk
                refuses; those before it are written.
        """
        root = Path(folder)
        written = []
        with OutputFolder(os.fspath(folder), force=overwrite) as into:
            for file in self.files:
                try:
                    with into.new(file.path) as put:
                        await self._backend.stream(file_of(self.id, file.path), put, file.size)
                except NotWritten as why:
                    advice = ": overwrite=True replaces it" if isinstance(why, AlreadyThere) else ""
                    raise FolderUnusable(
                        f"{as_named(str(root / file.path))} was not written: {why}{advice}"
                    ) from None
                written.append(root / file.path)
        return tuple(written)


async def fetch_result(backend: PythonBackend, task: Task, name: str = "") -> Result:
    """Fetch what a task that is over brought; ``name`` is that of a map's input."""
    result = task["result"]
    at = f"/api/v1/tasks/{task['id']}"
    return Result(
        id=task["id"],
        input=name,
        state=task["state"],
        reason=task["reason"],
        fault=None if result is None else result["fault"],
        exit_code=None if result is None else result["exit_code"],
        stdout=await backend.whole(f"{at}/stdout") if result and result["stdout_bytes"] else b"",
        stderr=await backend.whole(f"{at}/stderr") if result and result["stderr_bytes"] else b"",
        files=() if result is None else records(result["files"], OutputFile),
        wall_ms=0 if result is None else result["wall_ms"],
        compile_ms=0 if result is None else result["compile_ms"],
        fuel_used=None if result is None else result["fuel_used"],
        peak_memory=None if result is None else result["peak_memory"],
        _backend=backend,
    )
