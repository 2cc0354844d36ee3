"""What a message may hold, checked before it is sent and when it has come.

Every text, list and number of a stranger has its bound here, so that nothing of one message makes
memory or time grow further than its own length, and nothing of it is kept beyond need.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from fog_compute.tasks.environment import MAX_ENV, MAX_ENV_BYTES, env_bytes
from fog_compute.tasks.folder import MAX_INPUTS, MAX_PATH_BYTES
from fog_compute.tasks.messages import (
    MAX_ATTACHED,
    MAX_ATTEMPTS,
    MAX_ORDERS,
    MAX_REFS,
    STATES,
    Accepted,
    Ack,
    Answer,
    Answers,
    AttemptStatus,
    Busy,
    Cancel,
    Done,
    Module,
    NeedModule,
    Order,
    Poll,
    Rejected,
    Reply,
    Request,
    Status,
    Submit,
)
from fog_compute.tasks.model import (
    DETAIL_LENGTH,
    MAX_ARGUMENTS,
    MAX_ARGV_BYTES,
    argv_bytes,
)
from fog_compute.tasks.receipt import RECEIPT_BYTES
from fog_compute.tasks.result import MAX_RESULT_BYTES

__all__ = [
    "ERROR_LENGTH",
    "HANDLE_BYTES",
    "MAX_LOG_TAIL_BYTES",
    "OutOfBounds",
    "check_reply",
    "check_request",
]

HANDLE_BYTES: Final = 16
REF_BYTES: Final = 32
KEY_BYTES: Final = 32
RESULT_ID_BYTES: Final = 8
MAX_KIND_LENGTH: Final = 64
SESSION_BYTES: Final = 16
MAX_LOG_TAIL_BYTES: Final = 512
MAX_HOLD_MS: Final = 86_400_000
ERROR_LENGTH: Final = 200
_INT32: Final = 2**31 - 1
_INT63: Final = 2**63 - 1


class OutOfBounds(ValueError):
    """A message holds more than it may; the text says what, and repeats nothing of it."""


def check_request(message: Request) -> None:
    """Raise `OutOfBounds` for what no worker would take."""
    match message:
        case Submit():
            _check_submit(message)
        case Module():
            _length("reference", message.ref, REF_BYTES)
            if message.session:
                _length("session's name", message.session, SESSION_BYTES)
        case Poll():
            _count("attempts in a poll", message.items, MAX_ATTEMPTS)
            for item in message.items:
                _length("handle", item.handle, HANDLE_BYTES)
                _within("offset", item.offset, 0, MAX_RESULT_BYTES)
            _handles(message.acks)
        case Ack() | Cancel():
            _handles(message.handles)


def check_reply(message: Reply) -> None:
    """Raise `OutOfBounds` for what no coordinator would take."""
    match message:
        case Answers():
            _count("answers", message.items, MAX_ORDERS)
            for answer in message.items:
                _check_answer(answer)
        case Status():
            _count("statuses", message.items, MAX_ATTEMPTS)
            for status in message.items:
                _check_status(status)
        case Done():
            pass
        case _:
            _check_answer(message)


def _check_answer(answer: Answer) -> None:
    match answer:
        case Accepted():
            _check_status(answer.status)
        case Busy():
            _within("held", answer.held, 0, _INT32)
            _within("capacity", answer.capacity, 0, _INT32)
        case NeedModule():
            _count("references", answer.refs, MAX_REFS)
            for ref in answer.refs:
                _length("reference", ref, REF_BYTES)
        case Rejected():
            _count("characters in a reason", answer.reason, DETAIL_LENGTH)


def _check_submit(submit: Submit) -> None:
    _length("key", submit.key, KEY_BYTES)
    _count("orders", submit.orders, MAX_ORDERS)
    _count("attached blobs", submit.attached, MAX_ATTACHED)
    for ref in submit.attached:
        _length("reference", ref, REF_BYTES)
    _handles(submit.acks)
    _within("hold_ms", submit.hold_ms, 0, MAX_HOLD_MS)
    for order in submit.orders:
        _check_order(order)


def _check_order(order: Order) -> None:
    _length("handle", order.handle, HANDLE_BYTES)
    _count("characters in a kind", order.kind, MAX_KIND_LENGTH)
    _length("seed", order.seed, KEY_BYTES)
    _count("inputs", order.inputs, MAX_INPUTS)
    stdin = () if order.stdin is None else (order.stdin,)
    for ref in (order.module, *stdin, *order.inputs.values()):
        _length("reference", ref, REF_BYTES)
    _count("arguments", order.argv, MAX_ARGUMENTS)
    _within("the length of all arguments", argv_bytes(order.argv), 0, MAX_ARGV_BYTES)
    _count("variables", order.env, MAX_ENV)
    _within("the length of all variables", env_bytes(order.env), 0, MAX_ENV_BYTES)
    for path in order.inputs:
        _count("characters in a path", path, MAX_PATH_BYTES)
    limits = order.limits
    for value in (
        *(limits.memory_bytes, limits.fuel, limits.wall_ms, limits.output_bytes),
        *(limits.scratch_bytes, order.blob_bytes),
    ):
        _within("a limit", value, 0, _INT63)


def _check_status(status: AttemptStatus) -> None:
    _length("handle", status.handle, HANDLE_BYTES)
    if status.state not in STATES:
        raise OutOfBounds("an attempt's state is none of this protocol's")
    _count("bytes in a log's tail", status.log_tail, MAX_LOG_TAIL_BYTES)
    if status.result_id:
        _length("result's id", status.result_id, RESULT_ID_BYTES)
    _count("bytes of a receipt", status.receipt, RECEIPT_BYTES)
    _within("a result's length", status.result_total, 0, MAX_RESULT_BYTES)
    if not 0 <= status.offset <= status.offset + len(status.chunk) <= status.result_total:
        raise OutOfBounds("a piece of a result lies outside of the result")


def _handles(handles: Collection[bytes]) -> None:
    _count("handles", handles, MAX_ATTEMPTS)
    for handle in handles:
        _length("handle", handle, HANDLE_BYTES)


def _length(name: str, value: bytes, length: int) -> None:
    if len(value) != length:
        raise OutOfBounds(f"a {name} has {len(value)} bytes instead of {length}")


def _count(name: str, value: Collection[object], most: int) -> None:
    if len(value) > most:
        raise OutOfBounds(f"{len(value)} {name}: at most {most}")


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise OutOfBounds(f"{name} is out of its bounds, {low} to {high}")
