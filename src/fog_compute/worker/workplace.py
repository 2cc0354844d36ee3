"""Where a slot's task works: a folder with what the task brings and leaves, and its output.

Standard output and error go to two files without a name in that folder. All of it is bounded by
the task's limits, as far as one can see from outside; what a guest may take at once is bounded by
its runner.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fog_compute.tasks.bounds import MAX_LOG_TAIL_BYTES
from fog_compute.tasks.folder import FOLDER_DEPTH, FOLDER_ENTRIES, OUT, PAGE_BYTES
from fog_compute.tasks.model import DETAIL_LENGTH, Limits
from fog_compute.text import one_line
from fog_compute.units import MIB, format_beyond
from fog_compute.worker.folders import (
    Excess,
    empty_folder,
    excess_of,
    free_bytes,
    is_empty,
    is_laid_out,
    lay_out,
    nameless_bytes,
    nameless_file,
    remove_tree,
    write_new,
)
from fog_compute.worker.job import Job
from fog_compute.worker.outputs import read_outputs
from fog_compute.worker.overruns import Overrun, of_out, of_output, of_scratch
from fog_compute.worker.process import RunnerLost
from fog_compute.worker.protocol import Run
from fog_compute.worker.threads import SMALL_BYTES, beside

__all__ = [
    "FREE_BYTES",
    "HEAVY",
    "NoRoom",
    "Workplace",
    "largest_file",
    "processor_s",
    "reason_of",
    "room_for",
]

FREE_BYTES: Final = MIB  # a disk with less is full: a guest that writes to it is told so
HEAVY: Final = SMALL_BYTES + 1
WORK: Final = "work"
STDIN: Final = "stdin"
PROBE: Final = "probe"

_STREAMS: Final = ("standard output", "standard error")


class NoRoom(RunnerLost):
    """This machine's disk has no room for a task, or refuses it: that is no try of the task's.

    Attributes:
        needed: bytes that must be free before there is room again.
    """

    def __init__(self, message: str, needed: int) -> None:
        super().__init__(message)
        self.needed = needed


class Workplace:
    """One folder, in which one task at a time works."""

    __slots__ = ("_outputs", "folder")

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, once it is renewed."""
        self.folder: Final = folder.absolute()  # the runner stands elsewhere
        self._outputs: tuple[int, int] | None = None

    async def renew(self) -> tuple[int, int]:
        """Have an empty folder, and return the files of standard output and error in it.

        Raises:
            OSError: the disk refuses something.
            RuntimeError: no thread can be had.
        """
        await beside(HEAVY, _renewed, self.folder)
        if self._outputs is None:
            self._outputs = (nameless_file(self.folder), nameless_file(self.folder))
        return self._outputs

    async def close(self) -> None:
        """Remove all of it."""
        if self._outputs is not None:
            for descriptor in self._outputs:
                os.close(descriptor)
            self._outputs = None
        try:
            await beside(HEAVY, remove_tree, self.folder)
        except OSError:
            remove_tree(self.folder)

    # Before a task

    def check_room(self, needed: int) -> None:
        """Raise `NoRoom` unless a file can be written here, and ``needed`` bytes are free."""
        probe = self.folder / PROBE
        try:
            probe.write_bytes(bytes(PAGE_BYTES))
            probe.unlink()
        except OSError as err:
            raise NoRoom(f"the worker's disk refuses a file: {reason_of(err)}", needed) from err
        self.check_free(needed)

    def check_free(self, needed: int) -> None:
        """Raise `NoRoom` unless ``needed`` bytes are free."""
        try:
            free = free_bytes(self.folder)
        except OSError as err:
            raise NoRoom(
                f"the worker's disk cannot be looked at: {reason_of(err)}", needed
            ) from err
        if free < needed:
            raise NoRoom(
                "the worker's disk has {1} free, and a task may need {0}: make room".format(
                    *format_beyond(needed, free)
                ),
                needed,
            )

    async def prepare(self, job: Job, file_bytes: int) -> Run:
        """Write what a task brings, and return what its runner must know.

        That there is no room for it is the machine's fault.

        Args:
            job: the task.
            file_bytes: what the guest may write to one file.

        Raises:
            NoRoom: there is no room for what it may need, or its files cannot be written.
        """
        self.check_free(room_for(job.limits))
        try:
            run = await beside(_weight(job), _prepare, self.folder, job, file_bytes)
            for descriptor in self._outputs or ():
                os.ftruncate(descriptor, 0)
        except (OSError, RuntimeError) as err:
            raise NoRoom(
                f"the task's files cannot be written: {reason_of(err)}", FREE_BYTES
            ) from err
        return run

    # While it runs

    def log_tail(self) -> bytes:
        """Return the last bytes that the guest wrote: errors if there are any, else output."""
        if self._outputs is None:
            return b""
        stdout, stderr = self._outputs
        return _tail(stderr) or _tail(stdout)

    def output_over(self, limits: Limits) -> Overrun | None:
        """Say if the guest wrote more than it may to standard output or error."""
        for stream, fd in zip(_STREAMS, self._outputs or (), strict=False):
            if os.fstat(fd).st_size > limits.output_bytes:
                return of_output(limits, stream)
        return None

    async def overfull_now(self, pid: int, limits: Limits) -> Overrun | None:
        """Say which limit the working directory of a running task is over.

        Raises:
            OSError: there is no thread to look in.
        """
        return await beside(HEAVY, _overfull_now, pid, str(self.folder / WORK), limits)

    # After it

    def overfull(self, limits: Limits, nameless: int) -> Overrun | None:
        """Say which limit it is over that a task left, with so many bytes in nameless files."""
        return _overfull(str(self.folder / WORK), limits, nameless)

    def written(self, limits: Limits) -> tuple[bytes, bytes]:
        """Return standard output and error, up to the limit."""
        if self._outputs is None:
            return b"", b""
        stdout, stderr = (
            os.pread(fd, min(os.fstat(fd).st_size, limits.output_bytes), 0) for fd in self._outputs
        )
        return stdout, stderr

    async def files(self, limits: Limits) -> dict[str, bytes]:
        """Read what the task left to come back.

        Raises:
            OutputRefused: it is more than it may be, or not of a kind that can come back.
            NoRoom: the disk is full, so that the task was told what is not its fault; or the disk
                refuses to read.
        """
        if free_bytes(self.folder) < FREE_BYTES:
            raise NoRoom(
                "the worker's disk is full: what the task was told is not its fault", FREE_BYTES
            )
        out = self.folder / WORK / OUT
        try:
            return await beside(
                0 if is_empty(out) else HEAVY, read_outputs, out, limits.output_bytes
            )
        except (OSError, RuntimeError) as err:
            raise NoRoom(f"the task's files cannot be read: {reason_of(err)}", FREE_BYTES) from err

    async def clean(self) -> bool:
        """Remove what a task brought and left; if that fails, all of the folder goes.

        Say whether the folder stands, which the runner is left with: it finds no other in its
        place.
        """
        try:
            # What a guest left may take long to remove.
            weight = 0 if is_laid_out(self.folder / WORK) else HEAVY
            return await beside(weight, _clean, self.folder)
        except OSError:
            return _clean(self.folder)


def room_for(limits: Limits) -> int:
    """Return what must be free on the disk before a task is begun."""
    return limits.scratch_bytes + FREE_BYTES


def processor_s(limits: Limits) -> int:
    """Return the processor time of all cores within a task's wall time, in seconds."""
    return int(limits.wall_s * (os.cpu_count() or 1)) + 1


def largest_file(limits: Limits) -> int:
    """Return what a guest may write to one file: a byte too many, so that it can be seen."""
    return max(limits.output_bytes, limits.scratch_bytes) + 1


def reason_of(error: BaseException) -> str:
    """Say in one line of bounded length what an error says."""
    return one_line(str(error) or type(error).__name__, DETAIL_LENGTH)


def _weight(job: Job) -> int:
    """Return how much there is to write for a job; each file counts as a page."""
    files = (job.stdin or b"", *job.inputs.values())
    return sum(map(len, files)) + PAGE_BYTES * len(files)


def _prepare(folder: Path, job: Job, file_bytes: int) -> Run:
    """Fill the folder for one task.

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
        cpu_s=processor_s(limits),
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
    try:
        if not is_laid_out(folder / WORK):
            empty_folder(folder / WORK)
        os.truncate(folder / STDIN, 0)
    except OSError:
        remove_tree(folder)
        return False
    return True


def _overfull_now(pid: int, work: str, limits: Limits) -> Overrun | None:
    return _overfull(work, limits, nameless_bytes(pid, work))


def _overfull(work: str, limits: Limits, nameless: int) -> Overrun | None:
    """Say which limit the working directory is over; what comes back is counted exactly later."""
    left = limits.scratch_bytes - nameless
    if left < 0:
        return of_scratch(limits, Excess.BYTES)
    if (excess := excess_of(work, left, FOLDER_ENTRIES, FOLDER_DEPTH)) is not None:
        return of_scratch(limits, excess)
    if limits.output_bytes < left:
        out = f"{work}/{OUT}"
        if excess := excess_of(out, limits.output_bytes, FOLDER_ENTRIES, FOLDER_DEPTH):
            return of_out(limits, excess)
    return None


def _tail(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, MAX_LOG_TAIL_BYTES, max(0, size - MAX_LOG_TAIL_BYTES))
