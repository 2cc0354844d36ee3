"""Bounds of messages: the same for who sends and for who receives."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.tasks.assembly import ResultAssembler
from fog_compute.tasks.messages import (
    FINISHED,
    RUNNING,
    Accepted,
    Ack,
    Answers,
    AttemptStatus,
    Busy,
    Cancel,
    Module,
    NeedModule,
    Order,
    Poll,
    PollItem,
    Rejected,
    Reply,
    Request,
    Status,
    Submit,
)
from fog_compute.tasks.model import Limits
from fog_compute.tasks.result import BadResult, TaskResult, result_id
from fog_compute.tasks.wire import (
    WireError,
    encode,
    limits_to_wire,
    parse_reply,
    parse_request,
    rejected,
)

HANDLE, REF = bytes(16), bytes(32)
HANDLES = tuple(i.to_bytes(16, "big") for i in range(5000))
ORDER = Order(
    handle=HANDLE,
    kind="wasm",
    module=REF,
    argv=(),
    stdin=None,
    inputs={},
    limits=limits_to_wire(Limits()),
    seed=REF,
)
SUBMIT = Submit(key=REF, orders=(ORDER,))
texts = st.text(st.characters(codec="utf-8"), max_size=900)
HEAD: dict[str, object] = {
    "exit_code": 0,
    "fuel_used": 1,
    "wall_ms": 2,
    "peak_memory": 3,
    "fault": None,
    "detail": "detail",
    "stdout_bytes": 0,
    "stderr_bytes": 0,
    "files": [],
}


def refs(count: int) -> tuple[bytes, ...]:
    return tuple(i.to_bytes(32, "big") for i in range(count))


def submit(**changes: object) -> Submit:
    of_order = {n: changes.pop(n) for n in tuple(changes) if n in Order.__struct_fields__}
    order = msgspec.structs.replace(ORDER, **of_order)
    return msgspec.structs.replace(SUBMIT, **{"orders": (ORDER, order), **changes})


def result(body: bytes = b"", **changes: object) -> bytes:
    """The bytes of a result as a worker might make them."""
    head = msgspec.msgpack.encode(list({**HEAD, **changes}.values()))
    return len(head).to_bytes(4, "big") + head + body


def status(**changes: object) -> AttemptStatus:
    return msgspec.structs.replace(AttemptStatus(HANDLE, RUNNING), **changes)


def limits(**changes: int) -> object:
    return msgspec.structs.replace(ORDER.limits, **changes)


REQUESTS_OUT_OF_BOUNDS = [
    submit(kind="k" * 65),
    submit(argv=("a" * 70_000,)),
    submit(argv=("",) * 5000),
    submit(orders=(ORDER,) * 70),
    submit(acks=HANDLES),
    Module(REF, b"", session=b"short"),
    submit(argv=("\U0001f600" * 17_000,)),
    submit(env={f"V{i}": "" for i in range(300)}),
    submit(env={"V": "\U0001f600" * 17_000}),
    submit(inputs={f"f{i}": REF for i in range(257)}),
    submit(inputs={"p" * 1100: REF}),
    submit(attached=dict.fromkeys(refs(1100), b"")),
    submit(hold_ms=-1),
    submit(hold_ms=2**40),
    submit(blob_bytes=-1),
    submit(limits=limits(wall_ms=-1)),
    submit(limits=limits(fuel=2**63)),
    Poll(items=tuple(map(PollItem, HANDLES))),
    Poll(items=(), acks=HANDLES),
    Poll(items=(PollItem(HANDLE, -1),)),
    Poll(items=(PollItem(HANDLE, 2**30),)),
    Ack(HANDLES),
    Cancel(HANDLES),
    Cancel((b"short",)),
]
REPLIES_OUT_OF_BOUNDS = [
    Accepted(status(log_tail=b"x" * 600)),
    Accepted(status(state="asleep")),
    Accepted(status(result_id=b"123456789")),
    Accepted(status(state=FINISHED, result_total=2**32)),
    Accepted(status(state=FINISHED, result_total=10, offset=8, chunk=b"abc")),
    Accepted(status(state=FINISHED, result_total=10, offset=-1)),
    Status(tuple(AttemptStatus(handle, RUNNING) for handle in HANDLES)),
    Busy(held=-1, capacity=1),
    Busy(held=1, capacity=2**40),
    NeedModule(refs(300)),
    NeedModule((b"short",)),
    Rejected("r" * 500),
    Answers((Busy(1, 1),) * 70),
    Answers((Busy(1, 1), Rejected("r" * 500))),
]


@pytest.mark.parametrize("message", REQUESTS_OUT_OF_BOUNDS)
def test_a_request_out_of_bounds_is_neither_sent_nor_read(message: Request) -> None:
    """INV-TASK-34."""
    with pytest.raises(WireError, match="cannot be sent") as sending:
        encode(message)
    with pytest.raises(WireError, match="no request") as reading:
        parse_request(msgspec.msgpack.encode(message))
    for error in (sending, reading):
        assert len(str(error.value)) < 400


@pytest.mark.parametrize("message", REPLIES_OUT_OF_BOUNDS)
def test_a_reply_out_of_bounds_is_neither_sent_nor_read(message: Reply) -> None:
    """INV-TASK-34."""
    with pytest.raises(WireError, match="cannot be sent"):
        encode(message)
    with pytest.raises(WireError, match="no reply"):
        parse_reply(msgspec.msgpack.encode(message))


@pytest.mark.parametrize(
    "changes",
    [
        {"detail": "d" * 500},
        {"detail": "d" * 40_000_000},
        {"exit_code": 2**31},
        {"fuel_used": -1},
        {"wall_ms": 2**41},
        {"peak_memory": 2**63},
        {"stdout_bytes": 1},
        {"stderr_bytes": -1},
        {"files": [["a", 0]] * 5000},
        {"files": [["a", 2**40]]},
        {"files": [["a", -1]]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_result_out_of_bounds_is_not_read(changes: dict[str, Any]) -> None:
    """INV-TASK-34."""
    assert TaskResult.parse(result()).detail == "detail"

    with pytest.raises(BadResult, match="no task result") as refused:
        TaskResult.parse(result(**changes))
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("items", [HANDLES, HANDLES * 20])
def test_lists_that_are_too_long_are_refused_before_their_elements_are_read(
    items: tuple[bytes, ...],
) -> None:
    """INV-TASK-71: what is wrong with the last element is never found."""
    for message in (["ack", [*items, 7]], ["poll", [[i, 0] for i in items] + [7]]):
        with pytest.raises(WireError, match=r"`Array`|array") as refused:
            parse_request(msgspec.msgpack.encode(message))
        assert "length <= 512" in str(refused.value)


@given(st.integers(0, 700), st.integers(0, 700))
def test_lists_of_handles_pass_up_to_one_bound_on_both_sides(items: int, acks: int) -> None:
    """INV-TASK-34."""
    poll = Poll(tuple(map(PollItem, HANDLES[:items])), HANDLES[:acks])
    if max(items, acks) <= 512:
        assert parse_request(encode(poll)) == poll
        return
    with pytest.raises(WireError):
        encode(poll)
    with pytest.raises(WireError):
        parse_request(msgspec.msgpack.encode(poll))


def test_a_foreign_tag_or_fault_is_not_repeated_at_length() -> None:
    """INV-TASK-34."""
    for parse, data in (
        (parse_request, msgspec.msgpack.encode(["t" * 1_000_000])),
        (parse_reply, msgspec.msgpack.encode(["\x1b[2J" + "t" * 1_000_000])),
        (TaskResult.parse, result(fault="\x1b[2J" + "f" * 1_000_000)),
    ):
        with pytest.raises((WireError, BadResult)) as refused:
            parse(data)
        assert len(str(refused.value)) < 300
        assert str(refused.value).isprintable()


@given(texts)
def test_a_reason_of_any_kind_becomes_one_that_can_be_sent(reason: str) -> None:
    """INV-TASK-33, INV-TASK-34."""
    message = rejected(reason)
    assert parse_reply(encode(message)) == message
    assert message.reason.isprintable()


@given(texts)
def test_a_detail_of_any_kind_is_kept_as_a_line(detail: str) -> None:
    """INV-TASK-33, INV-TASK-34."""
    sent = TaskResult.parse(TaskResult(0, b"", b"", 1, 2, 3, detail=detail).data)
    assert sent.detail.isprintable()
    assert len(sent.detail) <= 400
    try:
        read = TaskResult.parse(result(detail=detail))
    except BadResult:
        assert len(detail) > 400
    else:
        assert read.detail == sent.detail


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 2000))
def test_a_result_is_bounded_by_its_own_tasks_limits(
    out: int, err: int, files: int, limit: int
) -> None:
    """INV-TASK-34."""
    body = TaskResult(0, b"o" * out, b"e" * err, 1, 2, 3, files={"f" * 9: b"f" * files}).data
    whole = AttemptStatus(
        HANDLE, FINISHED, result_id=result_id(body), result_total=len(body), chunk=body
    )
    assembler = ResultAssembler(Limits(output_bytes=limit))
    if max(out, err, files + 25) <= limit:
        assert assembler.add(whole) == TaskResult.parse(body)
        return
    with pytest.raises(BadResult):
        assembler.add(whole)
    assert assembler.offset == 0


def test_nothing_of_a_result_that_is_too_long_is_kept() -> None:
    """INV-TASK-34."""
    assembler = ResultAssembler(Limits(output_bytes=1000))
    piece = AttemptStatus(
        HANDLE, FINISHED, result_id=b"12345678", result_total=30_000, chunk=b"x" * 2000
    )
    with pytest.raises(BadResult, match="over"):
        assembler.add(piece)
    assert assembler.offset == 0
