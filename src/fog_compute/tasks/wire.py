"""Messages between a coordinator and a worker: MessagePack, one tagged array each.

Every request may be lost, repeated or overtaken; the attempt handle makes each of them idempotent.
The layout is specified in docs/spec/task.md.  Nothing is encoded or parsed that is out of bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

import msgspec

from fog_compute.errors import InvalidTask
from fog_compute.tasks.bounds import (
    ERROR_LENGTH,
    OutOfBounds,
    check_reply,
    check_request,
)
from fog_compute.tasks.messages import (
    Accepted,
    Answer,
    Answers,
    AttemptStatus,
    Rejected,
    Reply,
    Request,
    Status,
    WireLimits,
)
from fog_compute.tasks.model import DETAIL_LENGTH, Limits
from fog_compute.text import one_line

__all__ = [
    "WireError",
    "encode",
    "fit_answers",
    "fit_statuses",
    "limits_from_wire",
    "limits_to_wire",
    "parse_reply",
    "parse_request",
    "rejected",
]

_request_decoder: Final = msgspec.msgpack.Decoder(Request)
_reply_decoder: Final = msgspec.msgpack.Decoder(Reply)
_encoder: Final = msgspec.msgpack.Encoder()
_EMPTY_BYTES: Final = 16  # an answer without items, whose count may take four bytes more

T = TypeVar("T")


class WireError(InvalidTask):
    """Bytes that are no message of this protocol."""


def encode(message: Request | Reply) -> bytes:
    """Return the bytes of one message, or raise `WireError` if it is out of bounds."""
    try:
        if isinstance(message, Request):
            check_request(message)
        else:
            check_reply(message)
    except OutOfBounds as err:
        raise WireError(f"this cannot be sent: {err}") from err
    return _encoder.encode(message)


def rejected(reason: str) -> Rejected:
    """Return a refusal with what fits of the reason."""
    return Rejected(one_line(reason, DETAIL_LENGTH))


def parse_request(data: bytes) -> Request:
    """Read what a coordinator sent, or raise `WireError`."""
    try:
        message: Request = _request_decoder.decode(data)
        check_request(message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as err:
        raise WireError(f"no request of this protocol: {_brief(err)}") from err
    return message


def parse_reply(data: bytes) -> Reply:
    """Read what a worker answered, or raise `WireError`."""
    try:
        message: Reply = _reply_decoder.decode(data)
        check_reply(message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as err:
        raise WireError(f"no reply of this protocol: {_brief(err)}") from err
    return message


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


def _brief(error: Exception) -> str:
    """What is wrong with foreign bytes; libraries quote them."""
    return one_line(str(error), ERROR_LENGTH)


def fit_statuses(
    statuses: Mapping[bytes, AttemptStatus], pieces: Mapping[bytes, bytes], capacity: int
) -> Status:
    """Return the answer to a poll within ``capacity`` bytes; see `fit_answers`."""
    room = capacity - _EMPTY_BYTES
    return Status(_fit(statuses.values(), pieces, room, lambda item: item, lambda _, new: new))


def fit_answers(answers: Iterable[Answer], pieces: Mapping[bytes, bytes], capacity: int) -> Answers:
    """Return the answer to a submission within ``capacity`` bytes.

    Every attempt's bare state goes first; what room is left is given to pieces of results, in the
    given order, so that one attempt after the other completes.  ``pieces`` holds, by handle, bytes
    of the result from the status's own offset on; as many as fit are sent.  What does not fit even
    bare is left out, with all that follows.
    """
    return Answers(
        _fit(
            answers,
            pieces,
            capacity - _EMPTY_BYTES,
            lambda item: item.status if isinstance(item, Accepted) else None,
            lambda item, new: Accepted(new) if isinstance(item, Accepted) else item,
        )
    )


def _fit(
    items: Iterable[T],
    pieces: Mapping[bytes, bytes],
    room: int,
    status_of: Callable[[T], AttemptStatus | None],
    with_status: Callable[[T, AttemptStatus], T],
) -> tuple[T, ...]:
    """Return as many of ``items`` as fit, and then as much as fits of their results."""
    fitting: list[T] = []
    for full in items:
        item, size = full, len(_encoder.encode(full))
        if size > room and (status := status_of(full)) is not None:
            item = with_status(full, msgspec.structs.replace(status, log_tail=b""))
            size = len(_encoder.encode(item))
        if size > room:
            break
        fitting.append(item)
        room -= size
    for i, item in enumerate(fitting):
        # 5: what the encoded length of a chunk can grow by.
        if (status := status_of(item)) is not None and status.handle in pieces and room > 5:
            chunk = pieces[status.handle][: room - 5]
            fitting[i] = with_status(item, msgspec.structs.replace(status, chunk=chunk))
            room -= len(chunk) + 5
    return tuple(fitting)
