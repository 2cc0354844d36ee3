"""Messages between a coordinator and a worker: MessagePack, one tagged array each.

Every request may be lost, repeated or overtaken; the attempt handle makes each of them idempotent.
The layout is specified in docs/spec/task.md.  Two alphabets meet nowhere: ``Request`` goes to the
worker, ``Reply`` comes back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from fog_compute.errors import InvalidTask
from fog_compute.tasks.model import Fault, Limits, TaskResult

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
MAX_POLL_ITEMS: Final = 4096
HANDLE_BYTES: Final = 16
REF_BYTES: Final = 32


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=False):
    """Arrays on the wire; a later version may append fields with defaults."""


class WireLimits(_Message, frozen=True):
    """`Limits` on the wire."""

    memory_bytes: int
    fuel: int
    wall_ms: int
    output_bytes: int
    scratch_bytes: int


class Submit(_Message, frozen=True, tag="submit"):
    """Run this once under this handle.  A repeat gets the answer of the first."""

    handle: bytes  # 16 random bytes
    kind: str
    module: bytes  # SHA-256 of the module's ciphertext
    key: bytes  # opens the module and all inputs of this session
    argv: tuple[str, ...]
    stdin: bytes | None  # SHA-256 of a ciphertext, as for the module
    inputs: dict[str, bytes]
    limits: WireLimits
    seed: bytes  # 32 bytes for the module's randomness, equal for all attempts of a task
    attached: dict[bytes, bytes] = {}  # ciphertexts by their hash, where small enough to come along
    hold_ms: int = 0  # answer only when it has finished, or after this long
    blob_bytes: int = 0  # all ciphertexts together, so that too many are refused before they leave


class Module(_Message, frozen=True, tag="module"):
    """A blob (module, standard input or input file) for the worker's cache."""

    ref: bytes  # SHA-256 of data
    data: bytes  # ciphertext


class PollItem(_Message, frozen=True):
    """One attempt to report on, and how many bytes of its result are here already."""

    handle: bytes
    offset: int = 0


class Poll(_Message, frozen=True, tag="poll"):
    """Report on these attempts.  Unknown handles are answered as ``unknown``."""

    items: tuple[PollItem, ...]
    acks: tuple[bytes, ...] = ()  # as `Ack`, to save a message
    hold_ms: int = 0  # answer at the first news, or after this long


class Ack(_Message, frozen=True, tag="ack"):
    """These results are stored with the requester; the worker forgets them."""

    handles: tuple[bytes, ...]


class Cancel(_Message, frozen=True, tag="cancel"):
    """Stop and forget these attempts."""

    handles: tuple[bytes, ...]


Request: TypeAlias = Submit | Module | Poll | Ack | Cancel

QUEUED: Final = "queued"
RUNNING: Final = "running"
FINISHED: Final = "finished"
LOST: Final = "lost"  # the runner died for no fault of the module
UNKNOWN: Final = "unknown"  # never seen, acknowledged, cancelled, or gone with a restart
RETURNED: Final = "returned"  # given back unfinished, because the worker was asked to stop
STATES: Final = frozenset((QUEUED, RUNNING, FINISHED, LOST, UNKNOWN, RETURNED))


class AttemptStatus(_Message, frozen=True):
    """Where one attempt stands, and as much of its result as fits."""

    handle: bytes
    state: str  # one of STATES
    log_tail: bytes = b""  # the last bytes of standard error, or output, while it runs
    result_id: bytes = b""  # changes if the attempt ran again and the result differs
    result_total: int = 0
    offset: int = 0
    chunk: bytes = b""


class Accepted(_Message, frozen=True, tag="accepted"):
    """The attempt is held here, now or already before."""

    status: AttemptStatus


class Busy(_Message, frozen=True, tag="busy"):
    """No room: nothing was kept.  Try another worker, or this one later."""

    held: int
    capacity: int


class NeedModule(_Message, frozen=True, tag="need"):
    """Nothing was kept: send these blobs, then submit again."""

    refs: tuple[bytes, ...]


class Rejected(_Message, frozen=True, tag="rejected"):
    """This can never be accepted here; ``reason`` is one line."""

    reason: str


class Status(_Message, frozen=True, tag="status"):
    """Answer to a poll.  Items that did not fit are left out: ask again."""

    items: tuple[AttemptStatus, ...]


class Done(_Message, frozen=True, tag="done"):
    """A blob was stored, or handles were forgotten."""


Reply: TypeAlias = Accepted | Busy | NeedModule | Rejected | Status | Done


class ResultBody(_Message, frozen=True):
    """`TaskResult` on the wire; polled in chunks."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    fuel_used: int
    wall_ms: int
    peak_memory: int
    trap: str | None
    detail: str


_request_decoder: Final = msgspec.msgpack.Decoder(Request)
_reply_decoder: Final = msgspec.msgpack.Decoder(Reply)
_result_decoder: Final = msgspec.msgpack.Decoder(ResultBody)
_encoder: Final = msgspec.msgpack.Encoder()


class WireError(InvalidTask):
    """Bytes that are no message of this protocol."""


def encode(message: Request | Reply) -> bytes:
    """Return the bytes of one message."""
    return _encoder.encode(message)


def parse_request(data: bytes) -> Request:
    """Read what a coordinator sent, or raise `WireError`; every length is checked here."""
    try:
        message: Request = _request_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as err:
        raise WireError(f"no request of this protocol: {err}") from err
    for handle in _handles_of(message):
        _check_length("handle", handle, HANDLE_BYTES)
    for ref in _refs_of(message):
        _check_length("reference", ref, REF_BYTES)
    if isinstance(message, Submit):
        _check_length("key", message.key, 32)
        _check_length("seed", message.seed, 32)
    if isinstance(message, Poll):
        if len(message.items) > MAX_POLL_ITEMS:
            raise WireError(f"a poll names at most {MAX_POLL_ITEMS} attempts")
        if any(item.offset < 0 for item in message.items):
            raise WireError("an offset is below zero")
    return message


def parse_reply(data: bytes) -> Reply:
    """Read what a worker answered, or raise `WireError`."""
    try:
        message: Reply = _reply_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as err:
        raise WireError(f"no reply of this protocol: {err}") from err
    statuses: tuple[AttemptStatus, ...] = ()
    if isinstance(message, Accepted):
        statuses = (message.status,)
    elif isinstance(message, Status):
        statuses = message.items
    for status in statuses:
        _check_length("handle", status.handle, HANDLE_BYTES)
        if status.state not in STATES:
            raise WireError("an attempt's state is none of this protocol's")
        if not 0 <= status.offset <= status.offset + len(status.chunk) <= status.result_total:
            raise WireError("a piece of a result lies outside of the result")
        if status.result_total > MAX_MESSAGE_BYTES * 4:
            raise WireError("a result is larger than any task may bring")
    return message


def encode_result(result: TaskResult) -> bytes:
    """Return the bytes that a worker keeps for polls."""
    return _encoder.encode(
        ResultBody(
            exit_code=result.exit_code,
            stdout=result.stdout,
            stderr=result.stderr,
            fuel_used=result.fuel_used,
            wall_ms=result.wall_ms,
            peak_memory=result.peak_memory,
            trap=result.trap,
            detail=result.detail,
        )
    )


def parse_result(data: bytes) -> TaskResult:
    """Read a whole result, or raise `WireError`."""
    try:
        body = _result_decoder.decode(data)
        trap = None if body.trap is None else Fault(body.trap)
    except (msgspec.MsgspecError, ValueError, RecursionError) as err:
        raise WireError(f"no task result: {err}") from err
    for name, value, low, high in (
        ("exit_code", body.exit_code, -(2**31), 2**31 - 1),
        ("fuel_used", body.fuel_used, 0, 2**63 - 1),
        ("wall_ms", body.wall_ms, 0, 2**40 - 1),
        ("peak_memory", body.peak_memory, 0, 2**63 - 1),
    ):
        if not low <= value <= high:
            raise WireError(f"no task result: {name} is out of its bounds")
    return TaskResult(
        exit_code=body.exit_code,
        stdout=body.stdout,
        stderr=body.stderr,
        fuel_used=body.fuel_used,
        wall_ms=body.wall_ms,
        peak_memory=body.peak_memory,
        trap=trap,
        detail=body.detail,
    )


def result_id(body: bytes) -> bytes:
    """Return the 8 bytes that tell one result's bytes from another's."""
    return hashlib.sha256(b"fog-compute result\0" + body).digest()[:8]


def limits_to_wire(limits: Limits) -> WireLimits:
    """Return the limits as they travel."""
    return WireLimits(
        memory_bytes=limits.memory_bytes,
        fuel=limits.fuel,
        wall_ms=max(1, round(limits.wall_s * 1000)),
        output_bytes=limits.output_bytes,
        scratch_bytes=limits.scratch_bytes,
    )


def limits_from_wire(limits: WireLimits) -> Limits:
    """Return checked limits, or raise `InvalidTask`."""
    return Limits(
        memory_bytes=limits.memory_bytes,
        fuel=limits.fuel,
        wall_s=limits.wall_ms / 1000,
        output_bytes=limits.output_bytes,
        scratch_bytes=limits.scratch_bytes,
    )


class ResultAssembler:
    """Puts the pieces of one attempt's result together, in whatever order polls bring them.

    Pieces of another result (another ``result_id``) start it over, so two results never mix.
    """

    __slots__ = ("_data", "_id", "_limit")

    def __init__(self, limit: int = MAX_MESSAGE_BYTES * 4) -> None:
        """Hold at most ``limit`` bytes."""
        self._data = bytearray()
        self._id = b""
        self._limit = limit

    @property
    def offset(self) -> int:
        """How many bytes are here: the offset to poll from."""
        return len(self._data)

    def add(self, status: AttemptStatus) -> TaskResult | None:
        """Take one status; return the result once it is whole.

        Raises:
            WireError: the whole does not have the promised id, or is too large.
        """
        if status.state != FINISHED or not status.result_id:
            return None
        if status.result_total > self._limit:
            raise WireError(f"the result has {status.result_total} bytes, over {self._limit}")
        if status.result_id != self._id:
            self._id = status.result_id
            self._data.clear()
        have = len(self._data)
        if status.offset <= have < status.offset + len(status.chunk):
            self._data += status.chunk[have - status.offset :]
        if len(self._data) < status.result_total:
            return None
        body = bytes(self._data)
        self._data.clear()
        if result_id(body) != self._id:
            self._id = b""
            raise WireError("the pieces of a result do not make the promised whole")
        return parse_result(body)


def _check_length(name: str, value: bytes, length: int) -> None:
    if len(value) != length:
        raise WireError(f"a {name} has {len(value)} bytes instead of {length}")


def _handles_of(message: Request) -> tuple[bytes, ...]:
    match message:
        case Submit():
            return (message.handle,)
        case Poll():
            return (*(item.handle for item in message.items), *message.acks)
        case Ack() | Cancel():
            return message.handles
        case Module():
            return ()


def _refs_of(message: Request) -> tuple[bytes, ...]:
    match message:
        case Submit():
            stdin = () if message.stdin is None else (message.stdin,)
            return (message.module, *stdin, *message.inputs.values(), *message.attached)
        case Module():
            return (message.ref,)
        case Poll() | Ack() | Cancel():
            return ()


def fit_statuses(
    statuses: Mapping[bytes, AttemptStatus], pieces: Mapping[bytes, bytes], capacity: int
) -> Status:
    """Return the answer to a poll within ``capacity`` bytes.

    Every attempt's bare state goes first; what room is left is given to pieces of results, in the
    given order, so that one attempt after the other completes.  ``pieces`` holds, by handle, bytes
    of the result from the status's own offset on; as many as fit are sent.  Statuses that do not
    fit even bare are left out.
    """
    room = capacity - len(_encoder.encode(Status(items=()))) - 4
    items: list[AttemptStatus] = []
    for full in statuses.values():
        status = full
        if len(_encoder.encode(full)) > room:
            status = msgspec.structs.replace(full, log_tail=b"")
        size = len(_encoder.encode(status))
        if size > room:
            break
        items.append(status)
        room -= size
    for i, status in enumerate(items):
        # 5: what the encoded length of a chunk can grow by.
        if status.handle in pieces and room > 5:
            chunk = pieces[status.handle][: room - 5]
            items[i] = msgspec.structs.replace(status, chunk=chunk)
            room -= len(chunk) + 5
    return Status(items=tuple(items))
