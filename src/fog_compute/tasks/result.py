"""What an attempt brought: one byte string, made by the worker and kept as it is ever after.

A result is the length of its head (four bytes, big-endian), the head as MessagePack, and behind it
standard output, standard error and the files, in the head's order. Worker, journal, network and
store hold these bytes; `TaskResult` is a view of them, and what is stored is read in parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

import msgspec

from fog_compute.errors import InvalidTask, NotFound
from fog_compute.tasks.folder import check_output_paths
from fog_compute.tasks.model import DETAIL_LENGTH, MAX_OUTPUT_BYTES, Fault, Limits
from fog_compute.text import one_line
from fog_compute.units import KIB

__all__ = [
    "FILE_BYTES",
    "LENGTH_BYTES",
    "MAX_OUTPUT_FILES",
    "MAX_RESULT_BYTES",
    "BadResult",
    "OutputFile",
    "ResultHead",
    "TaskResult",
    "parse_head",
    "result_bytes",
    "result_id",
]

LENGTH_BYTES: Final = 4
MAX_OUTPUT_FILES: Final = 4096
FILE_BYTES: Final = 16
"""What a file counts beside its bytes and those of its path: about its entry in the head."""

_FRAME_BYTES: Final = 4 * KIB  # a detail in UTF-8, all numbers, and how long each part is
_INT63: Final = 2**63 - 1
_NO_FILES: Final[Mapping[str, bytes]] = MappingProxyType({})


class BadResult(InvalidTask):
    """Bytes that are no result, or none that the task's limits allow."""


def result_bytes(output_bytes: int) -> int:
    """Return how long a result is at most, whose task may write so much to each of its outputs.

    They are standard output, standard error, and all files together with their paths.
    """
    return 3 * output_bytes + _FRAME_BYTES


MAX_RESULT_BYTES: Final = result_bytes(MAX_OUTPUT_BYTES)


class OutputFile(msgspec.Struct, frozen=True, array_like=True):
    """A file that the task left: its path below the folder for output, and its size in bytes."""

    path: str
    size: Annotated[int, msgspec.Meta(ge=0, le=_INT63)]

    @property
    def counts(self) -> int:
        """Bytes of the task's output limit that it takes."""
        return self.size + len(self.path.encode("utf-8", "surrogatepass")) + FILE_BYTES


class ResultHead(msgspec.Struct, frozen=True, array_like=True):
    """What there is to know of a result without its outputs.

    ``fault`` names the fault, if the module is at fault; else None.
    """

    exit_code: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]  # −1 beside a fault
    fuel_used: Annotated[int, msgspec.Meta(ge=0, le=_INT63)]
    wall_ms: Annotated[int, msgspec.Meta(ge=0, le=2**40 - 1)]
    peak_memory: Annotated[int, msgspec.Meta(ge=0, le=_INT63)]  # bytes of linear memory
    fault: Fault | None
    detail: Annotated[str, msgspec.Meta(max_length=DETAIL_LENGTH)]  # the fault, for people
    stdout_bytes: Annotated[int, msgspec.Meta(ge=0, le=_INT63)]
    stderr_bytes: Annotated[int, msgspec.Meta(ge=0, le=_INT63)]
    files: Annotated[tuple[OutputFile, ...], msgspec.Meta(max_length=MAX_OUTPUT_FILES)] = ()
    compile_ms: Annotated[int, msgspec.Meta(ge=0, le=2**40 - 1)] = 0  # before the ``wall_ms``

    @property
    def measured(self) -> bool:
        """Whether fuel and memory are known; nobody saw them of a module that was killed."""
        return self.fault not in _KILLED or self.fuel_used > 0

    @property
    def stdout_at(self) -> range:
        """Where standard output lies behind the head."""
        return range(self.stdout_bytes)

    @property
    def stderr_at(self) -> range:
        """Where standard error lies behind the head."""
        return range(self.stdout_bytes, self.stdout_bytes + self.stderr_bytes)

    def file_at(self, path: str) -> range:
        """Where a file lies behind the head, or raise `NotFound`."""
        start = self.stdout_bytes + self.stderr_bytes
        for file in self.files:
            if file.path == path:
                return range(start, start + file.size)
            start += file.size
        raise NotFound(f"the task left no file {one_line(path)!r}")

    @property
    def body_bytes(self) -> int:
        """How much follows the head."""
        return self.stdout_bytes + self.stderr_bytes + sum(file.size for file in self.files)


_KILLED: Final = frozenset(
    (Fault.TIMEOUT, Fault.OUT_OF_MEMORY, Fault.OUTPUT_LIMIT, Fault.SCRATCH_LIMIT)
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(ResultHead)


class TaskResult:
    """A whole result.

    Attributes:
        data: its bytes.
        head: what they begin with.
    """

    __slots__ = ("_body_at", "data", "head")

    def __init__(
        self,
        exit_code: int,
        stdout: bytes,
        stderr: bytes,
        fuel_used: int,
        wall_ms: int,
        peak_memory: int,
        fault: Fault | None = None,
        detail: str = "",
        files: Mapping[str, bytes] = _NO_FILES,
        compile_ms: int = 0,
    ) -> None:
        """Make the bytes of a result; ``files`` maps paths to contents."""
        self.head: Final = ResultHead(
            exit_code=exit_code,
            fuel_used=fuel_used,
            wall_ms=wall_ms,
            peak_memory=peak_memory,
            fault=fault,
            detail=one_line(detail, DETAIL_LENGTH),
            stdout_bytes=len(stdout),
            stderr_bytes=len(stderr),
            files=tuple(OutputFile(path, len(content)) for path, content in files.items()),
            compile_ms=compile_ms,
        )
        head = _encoder.encode(self.head)
        length = len(head).to_bytes(LENGTH_BYTES, "big")
        self.data: Final = b"".join((length, head, stdout, stderr, *files.values()))
        self._body_at: Final = LENGTH_BYTES + len(head)

    @classmethod
    def parse(cls, data: bytes, limits: Limits | None = None) -> TaskResult:
        """Look at the bytes of a result of a task with ``limits``; they are kept, not copied.

        Raises:
            BadResult: they are none.
        """
        head, body_at = parse_head(data)
        if len(data) - body_at != head.body_bytes:
            raise BadResult("no task result: it is not as long as its parts")
        output = MAX_OUTPUT_BYTES if limits is None else limits.output_bytes
        for name, size in (
            ("standard output", head.stdout_bytes),
            ("standard error", head.stderr_bytes),
            ("files", sum(file.counts for file in head.files)),
        ):
            if size > output:
                raise BadResult(f"no task result: {size} bytes of {name}, and {output} are allowed")
        result = cls.__new__(cls)
        # They are set once, here or by the constructor.
        object.__setattr__(result, "head", head)
        object.__setattr__(result, "data", data)
        object.__setattr__(result, "_body_at", body_at)
        return result

    @property
    def exit_code(self) -> int:
        """As in the head."""
        return self.head.exit_code

    @property
    def fuel_used(self) -> int:
        """As in the head."""
        return self.head.fuel_used

    @property
    def wall_ms(self) -> int:
        """As in the head."""
        return self.head.wall_ms

    @property
    def peak_memory(self) -> int:
        """As in the head."""
        return self.head.peak_memory

    @property
    def fault(self) -> Fault | None:
        """As in the head."""
        return self.head.fault

    @property
    def detail(self) -> str:
        """As in the head."""
        return self.head.detail

    @property
    def stdout(self) -> bytes:
        """What the task wrote to standard output."""
        return self._part(self.head.stdout_at)

    @property
    def stderr(self) -> bytes:
        """What the task wrote to standard error."""
        return self._part(self.head.stderr_at)

    def file(self, path: str) -> bytes:
        """Return the content of a file, or raise `NotFound`."""
        return self._part(self.head.file_at(path))

    @property
    def head_data(self) -> bytes:
        """The bytes that `parse_head` needs."""
        return self.data[: self._body_at]

    def _part(self, at: range) -> bytes:
        return self.data[self._body_at + at.start : self._body_at + at.stop]

    def __eq__(self, other: object) -> bool:
        """Whether both are the same bytes."""
        return self.data == other.data if isinstance(other, TaskResult) else NotImplemented

    def __hash__(self) -> int:
        """Of its bytes."""
        return hash(self.data)

    def __repr__(self) -> str:
        """Without the outputs."""
        return f"TaskResult({self.head!r})"


def parse_head(data: bytes) -> tuple[ResultHead, int]:
    """Return the head that a result begins with, and where its body begins.

    Raises:
        BadResult: these bytes begin no result.
    """
    body_at = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big")
    if len(data) < LENGTH_BYTES or body_at > len(data):
        raise BadResult("no task result: it ends within its head")
    try:
        head = _decoder.decode(memoryview(data)[LENGTH_BYTES:body_at])
    except (msgspec.MsgspecError, ValueError, RecursionError) as err:
        raise BadResult(f"no task result: {one_line(str(err), 200)}") from err
    try:
        check_output_paths(file.path for file in head.files)
    except InvalidTask as err:
        raise BadResult(f"no task result: {err.message}") from err
    return msgspec.structs.replace(head, detail=one_line(head.detail, DETAIL_LENGTH)), body_at


def result_id(data: bytes) -> bytes:
    """Return the 8 bytes that tell one result's bytes from another's."""
    return hashlib.sha256(b"fog-compute result\0" + data).digest()[:8]
