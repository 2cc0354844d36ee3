"""Messages: round trips, hostile bytes, capacity, and results in pieces."""

from __future__ import annotations

import random

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
    Done,
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
from fog_compute.tasks.model import Fault, Limits
from fog_compute.tasks.result import BadResult, TaskResult, result_id
from fog_compute.tasks.wire import (
    WireError,
    encode,
    fit_statuses,
    limits_from_wire,
    limits_to_wire,
    parse_reply,
    parse_request,
)
from fog_compute.text import one_line

handles = st.binary(min_size=16, max_size=16)
refs = st.binary(min_size=32, max_size=32)
ORDER = Order(
    handle=bytes(16),
    kind="wasm",
    module=bytes(32),
    argv=("a",),
    stdin=bytes(32),
    inputs={"in": bytes(32)},
    limits=limits_to_wire(Limits()),
    seed=bytes(32),
)
SUBMIT = Submit(
    key=bytes(32),
    orders=(ORDER, msgspec.structs.replace(ORDER, handle=b"h" * 16)),
    attached={bytes(32): b"x"},
    hold_ms=5,
)
FILES = ("a", "b/ü", "b/c")
results = st.builds(
    TaskResult,
    exit_code=st.integers(-1, 255),
    stdout=st.binary(max_size=3000),
    stderr=st.binary(max_size=100),
    fuel_used=st.integers(0, 2**62),
    wall_ms=st.integers(0, 2**40 - 1),
    peak_memory=st.integers(0, 2**32),
    fault=st.none() | st.sampled_from(Fault),
    detail=st.text(max_size=50).map(one_line),
    files=st.dictionaries(st.sampled_from(FILES), st.binary(max_size=200), max_size=3).map(
        lambda files: dict(sorted(files.items(), key=lambda file: file[0].encode()))
    ),
)
requests = st.one_of(
    st.just(SUBMIT),
    st.builds(Module, ref=refs, data=st.binary()),
    st.builds(
        Poll,
        items=st.lists(st.builds(PollItem, handles, st.integers(0, 2**27)), max_size=5).map(tuple),
        acks=st.lists(handles, max_size=3).map(tuple),
    ),
    st.builds(Ack, handles=st.lists(handles, max_size=3).map(tuple)),
    st.builds(Cancel, handles=st.lists(handles, max_size=3).map(tuple)),
)
replies = st.one_of(
    st.builds(Accepted, status=st.builds(AttemptStatus, handle=handles, state=st.just(RUNNING))),
    st.builds(Busy, held=st.integers(0, 9), capacity=st.integers(0, 9)),
    st.builds(NeedModule, refs=st.lists(refs, max_size=3).map(tuple)),
    st.builds(Rejected, reason=st.text(max_size=50)),
    st.builds(
        Answers,
        items=st.lists(
            st.one_of(
                st.builds(Busy, held=st.integers(0, 9), capacity=st.integers(0, 9)),
                st.builds(Rejected, reason=st.text(max_size=50)),
                st.builds(NeedModule, refs=st.lists(refs, max_size=3).map(tuple)),
            ),
            max_size=9,
        ).map(tuple),
    ),
    st.just(Done()),
)


@given(requests)
def test_requests_survive_the_wire(message: Request) -> None:
    assert parse_request(encode(message)) == message


@given(replies)
def test_replies_survive_the_wire(message: Reply) -> None:
    assert parse_reply(encode(message)) == message


@given(results)
def test_results_survive_the_wire(result: TaskResult) -> None:
    read = TaskResult.parse(result.data)
    assert read == result
    assert read.head == result.head
    assert (read.stdout, read.stderr) == (result.stdout, result.stderr)
    for file in result.head.files:
        assert read.file(file.path) == result.file(file.path)


def test_limits_survive_the_wire() -> None:
    limits = Limits(memory_bytes=2**20, fuel=7, wall_s=1.5, output_bytes=9, scratch_bytes=0)
    assert limits_from_wire(limits_to_wire(limits)) == limits


@given(st.binary())
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    """INV-TASK-11."""
    for parse in (parse_request, parse_reply, TaskResult.parse):
        try:
            parse(data)
        except (WireError, BadResult):
            continue


@given(requests, st.data())
def test_a_damaged_request_is_parsed_or_refused(message: Request, data: st.DataObject) -> None:
    """INV-TASK-11."""
    wire = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        parse_request(bytes(wire))
    except WireError:
        return


def test_deep_nesting_is_refused() -> None:
    """INV-TASK-11."""
    with pytest.raises(WireError):
        parse_request(b"\x91" * 100_000)


@pytest.mark.parametrize(
    "change",
    [
        {"handle": bytes(15)},
        {"module": bytes(31)},
        {"key": bytes(33)},
        {"stdin": b""},
        {"inputs": {"a": b"short"}},
        {"seed": b""},
        {"attached": {b"short": b""}},
    ],
)
def test_a_submission_with_a_wrong_length_is_refused(change: dict[str, object]) -> None:
    """INV-TASK-11."""
    of_order = {name: value for name, value in change.items() if name in Order.__struct_fields__}
    order = msgspec.structs.replace(ORDER, **of_order)
    rest = {name: value for name, value in change.items() if name not in of_order}
    wrong = msgspec.structs.replace(SUBMIT, orders=(ORDER, order), **rest)
    with pytest.raises(WireError, match="bytes instead of"):
        parse_request(encode(wrong))


@pytest.mark.parametrize(
    "status",
    [
        AttemptStatus(bytes(16), "asleep"),
        AttemptStatus(bytes(3), RUNNING),
        AttemptStatus(bytes(16), FINISHED, result_total=3, offset=2, chunk=b"xx"),
        AttemptStatus(bytes(16), FINISHED, result_total=3, offset=-1, chunk=b"x"),
        AttemptStatus(bytes(16), FINISHED, result_total=2**40),
    ],
)
def test_a_status_that_cannot_be_is_refused(status: AttemptStatus) -> None:
    """INV-TASK-11."""
    with pytest.raises(WireError):
        parse_reply(encode(Status(items=(status,))))


def test_fields_of_a_later_version_are_ignored() -> None:
    data = msgspec.msgpack.encode(["ack", [bytes(16)], "something new"])
    assert parse_request(data) == Ack(handles=(bytes(16),))


def test_polls_are_bounded() -> None:
    with pytest.raises(WireError, match="at most"):
        parse_request(encode(Poll(items=tuple(PollItem(bytes(16)) for _ in range(600)))))
    with pytest.raises(WireError, match="out of its bounds"):
        parse_request(encode(Poll(items=(PollItem(bytes(16), -1),))))


@given(
    st.lists(st.tuples(handles, results), min_size=1, max_size=4, unique_by=lambda pair: pair[0]),
    st.integers(256, 5000),
    st.integers(0, 2**32),
)
def test_results_arrive_whole_in_pieces_of_any_size(
    finished: list[tuple[bytes, TaskResult]], capacity: int, seed: int
) -> None:
    """INV-TASK-10."""
    rng = random.Random(seed)
    bodies = {handle: result.data for handle, result in finished}
    assemblers = {handle: ResultAssembler() for handle in bodies}
    got: dict[bytes, TaskResult] = {}
    while len(got) < len(bodies):
        open_handles = [h for h in bodies if h not in got]
        rng.shuffle(open_handles)
        statuses, pieces = {}, {}
        for handle in open_handles:
            offset = assemblers[handle].offset
            statuses[handle] = AttemptStatus(
                handle,
                FINISHED,
                result_id=result_id(bodies[handle]),
                result_total=len(bodies[handle]),
                offset=offset,
            )
            pieces[handle] = bodies[handle][offset:]
        data = encode(fit_statuses(statuses, pieces, capacity))
        assert len(data) <= capacity
        answer = parse_reply(data)
        assert isinstance(answer, Status)
        for status in answer.items * rng.choice((1, 2)):  # the network repeats
            if status.handle not in got:
                whole = assemblers[status.handle].add(status)
                if whole is not None:
                    got[status.handle] = whole
    assert got == dict(finished)


def test_statuses_that_do_not_fit_are_left_out_and_log_tails_go_first() -> None:
    """INV-TASK-10."""
    statuses = {
        bytes([i]) * 16: AttemptStatus(bytes([i]) * 16, RUNNING, log_tail=b"x" * 50)
        for i in range(100)
    }
    answer = fit_statuses(statuses, {}, 500)
    assert len(encode(answer)) <= 500
    assert 0 < len(answer.items) < 100
    assert answer.items[0].log_tail == b"x" * 50
    assert answer.items[-1].log_tail == b""


def _piece(body: bytes, start: int, end: int) -> AttemptStatus:
    return AttemptStatus(
        bytes(16),
        FINISHED,
        result_id=result_id(body),
        result_total=len(body),
        offset=start,
        chunk=body[start:end],
    )


def test_pieces_of_two_results_never_mix() -> None:
    """INV-TASK-10."""
    first = TaskResult(0, b"a" * 100, b"", 1, 2, 3).data
    second = TaskResult(0, b"b" * 100, b"", 1, 2, 3).data
    assembler = ResultAssembler()
    assert assembler.add(_piece(first, 0, 60)) is None
    assert assembler.add(_piece(second, 60, len(second))) is None
    assert assembler.offset == 0
    assert assembler.here == len(second) - 60
    got = assembler.add(_piece(second, 0, 60))
    assert got is not None
    assert got.stdout == b"b" * 100


@given(st.integers(1, 5000), st.integers(1, 700), st.integers(0, 2**32), st.integers(1, 9))
def test_pieces_in_any_order_and_overlapping_make_the_whole(
    size: int, stride: int, seed: int, most: int
) -> None:
    """INV-TASK-10, INV-TASK-76."""
    rng = random.Random(seed)
    result = TaskResult(0, rng.randbytes(size), b"", 1, 2, 3)
    assembler, got = ResultAssembler(), None
    assembler.add(_piece(result.data, 0, 0))
    rounds = 0
    while got is None:
        rounds += 1
        assert rounds < 20_000
        offsets = assembler.gaps(stride, most)
        assert 0 < len(offsets) <= most
        rng.shuffle(offsets)
        for offset in offsets:
            if got is None and rng.random() < 0.8:  # others are lost
                got = assembler.add(
                    _piece(result.data, offset, min(offset + stride + 5, len(result.data)))
                )
            assert assembler.here <= 2 * len(result.data)
    assert got == result


def test_a_result_that_is_not_what_its_id_says_is_refused() -> None:
    """INV-TASK-10."""
    body = TaskResult(0, b"a" * 10, b"", 1, 2, 3).data
    status = msgspec.structs.replace(_piece(body, 0, len(body)), result_id=b"12345678")
    assembler = ResultAssembler()
    with pytest.raises(BadResult, match="promised whole"):
        assembler.add(status)
    assert assembler.offset == 0


def test_a_result_over_the_limit_is_refused() -> None:
    body = TaskResult(0, b"a" * 100, b"", 1, 2, 3).data
    small = Limits(output_bytes=50)
    with pytest.raises(BadResult, match="standard output"):
        ResultAssembler(small).add(_piece(body, 0, len(body)))
    large = TaskResult(0, b"a" * 500_000, b"", 1, 2, 3).data
    with pytest.raises(BadResult, match="over"):  # before anything of it is kept
        ResultAssembler(small).add(_piece(large, 0, 10))
    assert ResultAssembler(Limits(output_bytes=100)).add(_piece(body, 0, len(body))) is not None


@pytest.mark.parametrize(
    "result",
    [
        TaskResult(2**31, b"", b"", 1, 2, 3),
        TaskResult(-(2**31) - 1, b"", b"", 1, 2, 3),
        TaskResult(0, b"", b"", -1, 2, 3),
        TaskResult(0, b"", b"", 2**63, 2, 3),
        TaskResult(0, b"", b"", 1, -1, 3),
        TaskResult(0, b"", b"", 1, 2**64 - 1, 3),
        TaskResult(0, b"", b"", 1, 2, 2**63),
    ],
)
def test_numbers_that_no_run_brings_are_refused(result: TaskResult) -> None:
    """INV-TASK-11."""
    with pytest.raises(BadResult, match="no task result"):
        TaskResult.parse(result.data)


@pytest.mark.parametrize("paths", [("../x",), ("/x",), ("a\nb",), ("b", "a"), ("a", "a/b"), ("",)])
def test_files_that_could_be_written_elsewhere_or_over_each_other_are_refused(
    paths: tuple[str, ...],
) -> None:
    """INV-TASK-93."""
    result = TaskResult(0, b"", b"", 1, 2, 3, files=dict.fromkeys(paths, b""))
    with pytest.raises(BadResult, match="the output path"):
        TaskResult.parse(result.data)


def test_a_status_without_a_result_adds_nothing() -> None:
    assert ResultAssembler().add(AttemptStatus(bytes(16), RUNNING)) is None
