"""The agent over a channel that loses and repeats, with real runners behind it."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import random
import signal
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from fog_compute.levels import PrivacyLevel
from fog_compute.tasks import Fault, Limits, new_handle, next_edge
from fog_compute.tasks.messages import (
    FINISHED,
    LOST,
    QUEUED,
    RETURNED,
    RUNNING,
    UNKNOWN,
    Accepted,
    Ack,
    Busy,
    Cancel,
    Done,
    Module,
    NeedModule,
    Poll,
    PollItem,
    Rejected,
    Status,
    Submit,
)
from fog_compute.tasks.sealing import seal_blob
from fog_compute.tasks.wire import encode, parse_reply
from fog_compute.testing import ManualClock, MemoryNetwork
from fog_compute.units import MIB
from fog_compute.vpn.channel import Received
from fog_compute.worker.agent import WorkerAgent
from fog_compute.worker.attempts import Held
from fog_compute.worker.publishing import Served
from fog_compute.worker.slot import RunnerSlot
from tests.members import MEMBERS

from . import guests
from .conftest import DEADLINE_S, Requester, Running, Start, altered, handle_of


@pytest.mark.asyncio
async def test_a_task_is_run_and_its_result_pulled(worker: Running, requester: Requester) -> None:
    result = await requester.run(requester.submission(guests.ECHO, stdin=b"hello"))
    assert (result.exit_code, result.stdout, result.fault) == (0, b"hello", None)


@pytest.mark.asyncio
async def test_blobs_are_asked_for_and_kept(worker: Running, requester: Requester) -> None:
    first = requester.submission(guests.ECHO, stdin=b"one", attach=False)
    reply = await requester.ask(first)
    assert isinstance(reply, NeedModule)
    assert set(reply.refs) == {first.orders[0].module, first.orders[0].stdin}
    assert isinstance(await requester.submit(first, guests.ECHO, b"one"), Accepted)
    assert (await requester.result(handle_of(first))).stdout == b"one"
    second = requester.submission(guests.ECHO, stdin=b"two", attach=False)
    reply = await requester.ask(second)
    assert isinstance(reply, NeedModule)
    assert set(reply.refs) == {second.orders[0].stdin}


@pytest.mark.asyncio
async def test_inputs_reach_the_guest(worker: Running, requester: Requester) -> None:
    submit = requester.submission(guests.opens("a/b"), inputs={"a/b": b"x", "c": b"x"})
    assert (await requester.run(submit)).exit_code == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("packets", [1, 2, 8])
async def test_a_large_result_comes_in_pieces(
    worker: Running, requester: Requester, packets: int
) -> None:
    """INV-TASK-10."""
    data = random.Random(1).randbytes(60_000)
    submit = requester.submission(guests.ECHO, stdin=data)
    assert isinstance(await requester.submit(submit), Accepted)
    assert (await requester.result(handle_of(submit), packets=packets)).stdout == data


@pytest.mark.asyncio
async def test_one_poll_covers_many_attempts(worker: Running, requester: Requester) -> None:
    """INV-TASK-10."""
    submissions = [requester.submission(guests.ECHO, stdin=bytes([i]) * 300) for i in range(30)]
    for submit in submissions:
        assert isinstance(await requester.submit(submit), Accepted)
    for submit in submissions:
        await requester.until(handle_of(submit), lambda status: status.state == FINISHED)
    items = tuple(PollItem(handle_of(submit)) for submit in submissions)
    reply = await requester.ask(Poll(items=items), reply_packets=4)
    assert isinstance(reply, Status)
    assert len(encode(reply)) <= 4 * 2042
    assert [item.handle for item in reply.items] == [handle_of(one) for one in submissions]
    assert reply.items[0].chunk


@pytest.mark.asyncio
async def test_everything_arrives_once_over_a_bad_network(
    start: Start, network: MemoryNetwork, requester: Requester
) -> None:
    """INV-TASK-09."""
    network.loss = 0.2
    network.duplication = 0.3
    async with start(slots=2):
        submissions = [
            requester.submission(guests.ECHO, stdin=f"task {i}".encode()) for i in range(12)
        ]
        results = await asyncio.gather(*map(requester.run, submissions))
        assert [r.stdout for r in results] == [f"task {i}".encode() for i in range(12)]
        for submit in submissions:
            await requester.ask(Ack(handles=(handle_of(submit),)))
        for submit in submissions:
            assert (await requester.status(handle_of(submit))).state == UNKNOWN


@pytest.mark.asyncio
async def test_a_repeated_submission_runs_once(worker: Running, requester: Requester) -> None:
    """INV-TASK-09."""
    submit = requester.submission(guests.SAYS_AND_LOOPS)
    assert isinstance(await requester.submit(submit), Accepted)
    await requester.until(handle_of(submit), lambda status: status.log_tail == b"error")
    again = await requester.submit(submit)
    assert isinstance(again, Accepted)
    assert again.status.state == RUNNING
    other = requester.submission(guests.HELLO)
    held = await requester.submit(other)
    assert isinstance(held, Accepted)
    assert held.status.state == QUEUED


@pytest.mark.asyncio
async def test_after_an_acknowledgement_nothing_is_left_and_nothing_runs_again(
    worker: Running, requester: Requester
) -> None:
    """INV-TASK-09."""
    submit = requester.submission(guests.HELLO)
    await requester.run(submit)
    for _ in range(2):
        assert await requester.ask(Ack(handles=(handle_of(submit),))) == Done()
        assert (await requester.status(handle_of(submit))).state == UNKNOWN
        reply = await requester.ask(submit)
        assert isinstance(reply, Rejected)
        assert "over" in reply.reason


@pytest.mark.asyncio
async def test_a_poll_may_acknowledge_on_its_way(worker: Running, requester: Requester) -> None:
    done, other = requester.submission(guests.HELLO), requester.submission(guests.HELLO)
    await requester.run(done)
    await requester.run(other)
    reply = await requester.ask(Poll(items=(PollItem(handle_of(other)),), acks=(handle_of(done),)))
    assert isinstance(reply, Status)
    assert [item.state for item in reply.items] == [FINISHED]
    assert (await requester.status(handle_of(done))).state == UNKNOWN


@pytest.mark.asyncio
async def test_cancelling_stops_a_running_and_a_waiting_attempt(
    worker: Running, requester: Requester
) -> None:
    """INV-TASK-09."""
    running, waiting = (requester.submission(guests.SAYS_AND_LOOPS) for _ in range(2))
    await requester.submit(running)
    await requester.submit(waiting)
    await requester.until(handle_of(running), lambda status: status.log_tail == b"error")
    assert await requester.ask(Cancel(handles=(handle_of(running), handle_of(waiting)))) == Done()
    for submit in (running, waiting):
        assert (await requester.status(handle_of(submit))).state == UNKNOWN
        assert isinstance(await requester.ask(submit), Rejected)
    assert (await requester.run(requester.submission(guests.HELLO))).stdout == b"hello\n"
    assert await requester.ask(Cancel(handles=(bytes(16),))) == Done()


@pytest.mark.asyncio
async def test_an_attempt_that_was_cancelled_before_it_came_does_not_run(
    start: Start, requester: Requester
) -> None:
    """INV-TASK-09."""
    late = requester.submission(guests.HELLO)
    async with start():
        assert await requester.ask(Cancel(handles=(handle_of(late),))) == Done()
        assert isinstance(await requester.ask(late), Rejected)
    async with start():
        assert isinstance(await requester.ask(late), Rejected)
        # An acknowledgement of something unknown says nothing of what will come.
        other = requester.submission(guests.HELLO)
        assert await requester.ask(Ack(handles=(handle_of(other),))) == Done()
        assert (await requester.run(other)).stdout == b"hello\n"


@pytest.mark.asyncio
async def test_an_attempt_that_is_cancelled_while_its_blobs_are_written_does_not_run(
    worker: Running, requester: Requester
) -> None:
    """INV-TASK-09."""
    submit = requester.submission(guests.ECHO, stdin=bytes(8 * MIB))
    submitting = asyncio.create_task(requester.ask(submit))
    async with asyncio.timeout(DEADLINE_S):
        while not worker.agent._reception._cache._pins:
            await asyncio.sleep(0)
    assert await requester.ask(Cancel(handles=(handle_of(submit),))) == Done()
    assert isinstance(await submitting, Rejected)
    assert (await requester.status(handle_of(submit))).state == UNKNOWN


@pytest.mark.asyncio
async def test_what_was_cancelled_and_what_came_along_is_not_kept_in_memory(
    start: Start, requester: Requester
) -> None:
    """INV-TASK-13."""
    others = [one for one in gc.get_objects() if isinstance(one, Submit | Held)]
    async with start(slots=1, queue=1):
        await requester.submit(requester.submission(guests.FOREVER))
        submit = requester.submission(guests.ECHO)
        for number in range(10):
            submit = requester.submission(guests.ECHO, stdin=bytes([number]) * 1000)
            assert isinstance(await requester.submit(submit), Accepted)
            await requester.ask(Cancel(handles=(handle_of(submit),)))
        gc.collect()
        there = {id(one) for one in others}
        everything = [one for one in gc.get_objects() if id(one) not in there]
        assert len([one for one in everything if isinstance(one, Held)]) == 1
        came = [one for one in everything if isinstance(one, Submit) and one.attached]
        assert {handle_of(one) for one in came} <= {handle_of(submit)}  # the test's own


@pytest.mark.asyncio
async def test_what_waits_for_news_keeps_nothing_of_what_came_along(
    worker: Running, requester: Requester
) -> None:
    """INV-TASK-13."""
    submit = requester.submission(guests.SAYS_AND_LOOPS, stdin=b"x" * 10_000, hold_ms=20_000)
    waiting = asyncio.create_task(requester.ask(submit))
    await requester.until(handle_of(submit), lambda status: status.log_tail == b"error")
    assert not waiting.done()
    gc.collect()
    everything = gc.get_objects()
    incoming = [one for one in everything if isinstance(one, Received)]
    assert not any(handle_of(submit) in one.body and len(one.body) > 1000 for one in incoming)
    submissions = [one for one in everything if isinstance(one, Submit)]
    assert [one for one in submissions if handle_of(one) == handle_of(submit) and one.attached] == [
        submit
    ]
    await requester.ask(Cancel(handles=(handle_of(submit),)))
    await waiting


@pytest.mark.asyncio
async def test_a_worker_whose_cache_is_full_of_what_it_runs_is_busy(
    start: Start, requester: Requester
) -> None:
    """INV-TASK-13."""
    async with start(slots=1, cache_bytes=10_000):
        first = requester.submission(guests.FOREVER, stdin=b"1" * 6000)
        assert isinstance(await requester.submit(first), Accepted)
        second = requester.submission(guests.HELLO, stdin=b"2" * 6000)
        assert await requester.submit(second) == Busy(held=1, capacity=65)
        sealed = requester.seal(b"2" * 6000)
        assert isinstance(await requester.ask(Module(sealed.ref, sealed.data)), Busy)
        await requester.ask(Cancel(handles=(handle_of(first),)))
        assert isinstance(await requester.submit(second), Accepted)
        never = requester.seal(b"3" * 20_000)
        assert isinstance(await requester.ask(Module(never.ref, never.data)), Rejected)


@pytest.mark.asyncio
async def test_a_worker_whose_journal_is_unusable_is_busy(
    worker: Running, requester: Requester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-13, INV-TASK-14."""
    done, other = requester.submission(guests.HELLO), requester.submission(guests.HELLO)
    result = await requester.run(done)
    with monkeypatch.context() as broken:
        journal = worker.agent._journal
        broken.setattr(journal, "_reading", sqlite3.connect(":memory:"))  # no table in it
        for request in (
            other,
            Poll(items=(PollItem(handle_of(done)),)),
            Ack(handles=(handle_of(done),)),
        ):
            assert await requester.ask(request) == Busy(held=0, capacity=65)
    assert await requester.result(handle_of(done)) == result


@pytest.mark.asyncio
async def test_a_full_worker_is_busy_and_keeps_nothing(start: Start, requester: Requester) -> None:
    """INV-TASK-13."""
    async with start(slots=1, queue=1):
        held = [requester.submission(guests.FOREVER) for _ in range(2)]
        for submit in held:
            assert isinstance(await requester.submit(submit), Accepted)
        refused = requester.submission(guests.HELLO)
        assert await requester.submit(refused) == Busy(held=2, capacity=2)
        assert (await requester.status(handle_of(refused))).state == UNKNOWN
        assert isinstance(await requester.submit(held[0]), Accepted)
        await requester.ask(Cancel(handles=(handle_of(held[1]),)))
        accepted = await requester.submit(refused)
        assert isinstance(accepted, Accepted)


@pytest.mark.asyncio
async def test_a_worker_that_keeps_too_many_results_is_busy(
    start: Start, requester: Requester
) -> None:
    """INV-TASK-13."""
    async with start(kept_bytes=1000):
        first = requester.submission(guests.ECHO, stdin=b"x" * 1000)
        await requester.run(first)
        second = requester.submission(guests.HELLO)
        assert isinstance(await requester.submit(second), Busy)
        await requester.ask(Ack(handles=(handle_of(first),)))
        assert isinstance(await requester.submit(second), Accepted)


@pytest.mark.asyncio
async def test_a_finished_result_survives_a_restart_and_a_running_attempt_does_not(
    start: Start, requester: Requester
) -> None:
    """INV-TASK-14."""
    done, running, waiting = (
        requester.submission(guests.HELLO),
        requester.submission(guests.SAYS_AND_LOOPS),
        requester.submission(guests.HELLO),
    )
    async with start():
        result = await requester.run(done)
        await requester.submit(running)
        await requester.submit(waiting)
        await requester.until(handle_of(running), lambda status: status.log_tail == b"error")
    async with start():
        assert await requester.result(handle_of(done)) == result
        assert (await requester.status(handle_of(running))).state == UNKNOWN
        assert (await requester.status(handle_of(waiting))).state == UNKNOWN
        await requester.ask(Ack(handles=(handle_of(done),)))
    async with start():
        assert (await requester.status(handle_of(done))).state == UNKNOWN
        assert isinstance(await requester.ask(done), Rejected)
        # The blobs are still here, so what was lost can be sent again in one message.
        again = requester.submission(guests.HELLO, attach=False)
        assert isinstance(await requester.ask(again), Accepted)


@pytest.mark.asyncio
async def test_a_killed_runner_is_reported_as_lost_and_replaced(
    worker: Running, requester: Requester
) -> None:
    """INV-TASK-19."""
    submit = requester.submission(guests.SAYS_AND_LOOPS)
    await requester.submit(submit)
    await requester.until(handle_of(submit), lambda status: status.log_tail == b"error")
    (runner,) = (
        child
        for child in psutil.Process().children()
        # None of one that ended, and that nobody has asked for its end yet.
        if "fog_compute.worker.runner" in (child.as_dict(["cmdline"])["cmdline"] or ())
    )
    runner.send_signal(signal.SIGKILL)
    await requester.until(handle_of(submit), lambda status: status.state == LOST)
    again = await requester.submit(submit)
    assert isinstance(again, Accepted)
    assert again.status.state == LOST
    assert (await requester.run(requester.submission(guests.HELLO))).stdout == b"hello\n"
    await requester.ask(Ack(handles=(handle_of(submit),)))
    assert (await requester.status(handle_of(submit))).state == UNKNOWN


@pytest.mark.asyncio
async def test_faults_of_modules_are_results(worker: Running, requester: Requester) -> None:
    """INV-TASK-18."""
    faults = {
        Fault.NOT_WASM: requester.submission(b"#!/bin/sh"),
        Fault.OUT_OF_FUEL: requester.submission(guests.FOREVER, limits=Limits(fuel=1000)),
        Fault.TIMEOUT: requester.submission(guests.FOREVER, limits=Limits(wall_s=0.3)),
        Fault.TRAP: requester.submission(guests.TRAPS),
    }
    results = await asyncio.gather(*map(requester.run, faults.values()))
    assert [result.fault for result in results] == list(faults)
    assert all(result.detail for result in results)


@pytest.mark.asyncio
async def test_a_blob_that_does_not_open_is_bad_input(
    worker: Running, requester: Requester
) -> None:
    """INV-TASK-12."""
    foreign = seal_blob(bytes(32), guests.HELLO)
    submit = altered(
        requester.submission(guests.HELLO),
        module=foreign.ref,
        attached={foreign.ref: foreign.data},
    )
    for _ in range(2):
        result = await requester.run(submit)
        assert result.fault is Fault.BAD_INPUT
        assert "does not open" in result.detail
        # The runner that waited for the module does not take the next attempt with it.
        assert (await requester.run(requester.submission(guests.HELLO))).stdout == b"hello\n"
        submit = altered(submit, handle=bytes.fromhex(new_handle()))


@pytest.mark.asyncio
async def test_a_blob_with_a_false_name_is_rejected(worker: Running, requester: Requester) -> None:
    """INV-TASK-12."""
    reply = await requester.ask(Module(ref=bytes(32), data=b"something else"))
    assert isinstance(reply, Rejected)
    assert "hash" in reply.reason
    sealed = requester.seal(guests.HELLO)
    submit = altered(requester.submission(guests.HELLO), attached={sealed.ref: b"something else"})
    assert isinstance(await requester.ask(submit), Rejected)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "docker"}, "docker"),
        ({"argv": ("a\0b",)}, "zero byte"),
        ({"inputs": {"../x": bytes(32)}}, "../x"),
        ({"inputs": {"a": bytes(32), "a/b": bytes(32)}}, "a file and a folder"),
    ],
)
async def test_what_a_worker_cannot_run_is_rejected_with_the_reason(
    worker: Running, requester: Requester, change: dict[str, object], words: str
) -> None:
    submit = altered(requester.submission(guests.HELLO), **change)
    reply = await requester.ask(submit)
    assert isinstance(reply, Rejected)
    assert words in reply.reason
    assert (await requester.status(handle_of(submit))).state == UNKNOWN


@pytest.mark.asyncio
async def test_more_than_a_worker_lends_is_rejected(start: Start, requester: Requester) -> None:
    bounds = {"scratch_bytes": 5000, "output_bytes": 7000}
    small = Limits(memory_bytes=MIB, wall_s=1, **bounds)
    async with start(memory_bytes=64 * MIB, wall_s=10.0, input_bytes=1000, **bounds):
        for more, words in (
            ({"memory_bytes": 65 * MIB}, "lends at most 64.0 MiB of memory"),
            ({"wall_s": 11}, "lends at most 10 s"),
            ({"scratch_bytes": 5001}, "lends at most 4.9 KiB of scratch"),
            ({"output_bytes": 7001}, "lends at most 6.8 KiB of output"),
        ):
            limits = dataclasses.replace(small, **more)
            reply = await requester.ask(requester.submission(guests.HELLO, limits=limits))
            assert isinstance(reply, Rejected)
            assert words in reply.reason
        reply = await requester.ask(
            requester.submission(guests.HELLO, stdin=bytes(2000), limits=small)
        )
        assert isinstance(reply, Rejected)
        assert "1000 bytes" in reply.reason


@pytest.mark.asyncio
@pytest.mark.parametrize("beyond", [-1, 0, 1])
async def test_inputs_are_counted_by_what_they_take_on_the_disk_before_any_is_written(
    worker: Running, requester: Requester, tmp_path: Path, beyond: int
) -> None:
    """INV-TASK-92: a thousand bytes under many names are many files."""
    inputs = {f"d/{i}": b"x" * 1000 for i in range(200)}
    limits = Limits(scratch_bytes=201 * 4096 - beyond)
    submit = requester.submission(guests.FOREVER, inputs=inputs, limits=limits)
    reply = await requester.ask(submit)
    assert isinstance(reply, Rejected if beyond > 0 else Accepted)
    if isinstance(reply, Rejected):
        assert "`limits.scratch_bytes`" in reply.reason
        assert not list((tmp_path / "worker" / "slots").rglob("199"))


@pytest.mark.asyncio
@pytest.mark.parametrize("beyond", [-1, 0, 1])
async def test_inputs_that_are_too_large_are_refused_before_they_are_sent(
    start: Start, requester: Requester, beyond: int
) -> None:
    """INV-TASK-29: one byte less than a worker takes, as many, and one more."""
    submit = requester.submission(guests.ECHO, stdin=bytes(5000), attach=False)
    size = sum(len(requester.seal(blob).data) for blob in (guests.ECHO, bytes(5000)))
    submit = altered(submit, blob_bytes=size)
    async with start(input_bytes=size - beyond):
        reply = await requester.ask(submit)
        assert isinstance(reply, Rejected if beyond > 0 else NeedModule)
        # Who does not say it finds out later.
        silent = altered(submit, blob_bytes=0)
        assert isinstance(
            await requester.submit(silent, guests.ECHO, bytes(5000)),
            Rejected if beyond > 0 else Accepted,
        )


@pytest.mark.asyncio
async def test_bytes_that_are_no_message_are_rejected(
    worker: Running, requester: Requester
) -> None:
    """INV-TASK-11."""
    for body in (b"", b"\xff" * 100, b"\x91" * 5000, encode(Done())):
        reply = parse_reply(await requester.channel.request("worker", requester.sealed(body)))
        assert isinstance(reply, Rejected)
    assert (await requester.run(requester.submission(guests.HELLO))).stdout == b"hello\n"


@pytest.mark.asyncio
async def test_messages_without_a_way_back_have_their_effect(
    worker: Running, requester: Requester
) -> None:
    submit = requester.submission(guests.HELLO)
    await requester.channel.send("worker", requester.sealed(encode(submit)))
    await requester.until(handle_of(submit), lambda status: status.state != UNKNOWN)
    assert (await requester.result(handle_of(submit))).stdout == b"hello\n"
    await requester.channel.send(
        "worker", requester.sealed(encode(Ack(handles=(handle_of(submit),))))
    )
    await requester.until(handle_of(submit), lambda status: status.state == UNKNOWN)


@pytest.mark.asyncio
async def test_an_answer_can_wait_for_the_end_of_a_short_task(
    worker: Running, requester: Requester
) -> None:
    submit = requester.submission(guests.HELLO, hold_ms=20_000)
    reply = await requester.submit(submit)
    assert isinstance(reply, Accepted)
    assert reply.status.state == FINISHED
    assert len(reply.status.chunk) == reply.status.result_total > 0
    # News that is there already is not waited for.
    assert isinstance(await requester.submit(submit), Accepted)


@pytest.mark.asyncio
async def test_a_poll_is_answered_at_once_whatever_its_sender_wants(
    network: MemoryNetwork, requester: Requester, tmp_path: Path
) -> None:
    """INV-TASK-140: on a clock that stands still no answer that waits would come."""
    agent = WorkerAgent(
        [Served("w", network.channel("worker"))],
        tmp_path,
        keys=lambda: MEMBERS,
        clock=ManualClock(),
    )
    serving = asyncio.create_task(agent.run())
    try:
        submit = requester.submission(guests.FOREVER)
        await requester.submit(submit)
        poll = ["poll", [[handle_of(submit), 0]], [], 7_000]  # a field that no poll has
        reply = await requester.channel.request(
            "worker", requester.sealed(msgspec.msgpack.encode(poll)), reply_packets=4, timeout=5.0
        )
        status = parse_reply(reply)
        assert isinstance(status, Status)
        assert status.items[0].state in {QUEUED, RUNNING}
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.asyncio
async def test_a_held_answer_comes_when_the_time_is_over(
    worker: Running, requester: Requester
) -> None:
    submit = requester.submission(guests.FOREVER, hold_ms=50)
    reply = await requester.submit(submit)
    assert isinstance(reply, Accepted)
    assert reply.status.state in {QUEUED, RUNNING}


@pytest.mark.asyncio
async def test_the_offer_is_published(worker: Running, requester: Requester) -> None:
    await requester.ask(Ack(handles=()))
    async with asyncio.timeout(DEADLINE_S):
        while len(worker.offers.published) < 2:
            await asyncio.sleep(0.005)
    offers = {offer.name: offer for offer in worker.offers.published}
    offer, public = offers["worker-test"], offers["worker-other"]
    assert (offer.address, offer.kinds, offer.level) == ("worker", ("wasm",), None)
    assert (public.address, public.level) == ("worker-public", PrivacyLevel.PUBLIC)
    assert offer.slots == public.slots == 1
    assert public.address not in repr(offer)


@pytest.mark.asyncio
async def test_each_level_is_answered_where_it_was_asked(
    worker: Running, requester: Requester
) -> None:
    public = Requester(requester.channel, worker="worker-public")
    results = await asyncio.gather(
        requester.run(requester.submission(guests.HELLO)),
        public.run(public.submission(guests.HELLO)),
    )
    assert [result.stdout for result in results] == [b"hello\n"] * 2


@pytest.mark.asyncio
async def test_a_draining_worker_takes_nothing_new_and_ends_what_it_has(
    worker: Running, requester: Requester
) -> None:
    submit = requester.submission(guests.HELLO)
    await requester.submit(submit)
    await worker.agent.drain(DEADLINE_S)
    assert isinstance(await requester.submit(requester.submission(guests.HELLO)), Busy)
    assert (await requester.result(handle_of(submit))).stdout == b"hello\n"


@pytest.mark.asyncio
@pytest.mark.parametrize("killed", [False, True])
async def test_a_stopped_worker_gives_back_what_it_has_not_finished(
    start: Start, requester: Requester, killed: bool
) -> None:
    """INV-TASK-40."""
    running, waiting, late = (requester.submission(guests.SAYS_AND_LOOPS) for _ in range(3))
    async with start() as worker:
        await requester.submit(running)
        await requester.submit(waiting)
        await requester.until(handle_of(running), lambda status: status.log_tail == b"error")
        hears = asyncio.create_task(requester.submit(altered(running, hold_ms=60_000)))
        draining = asyncio.create_task(worker.agent.drain(DEADLINE_S if killed else 0.01))
        await requester.until(handle_of(waiting), lambda status: status.state == RETURNED)
        if killed:
            assert (await requester.status(handle_of(running))).state == RUNNING
            hears.cancel()
        else:
            await draining
            reply = await hears
            assert isinstance(reply, Accepted)
            assert reply.status.state == RETURNED
        assert isinstance(await requester.submit(late), Busy)
        draining.cancel()
    async with start():
        for submit in (running, waiting):
            again = await requester.submit(submit)
            assert isinstance(again, Accepted)
            assert again.status.state == RETURNED
        await requester.ask(Cancel(handles=(handle_of(running), handle_of(waiting))))
        for submit in (running, waiting):
            assert (await requester.status(handle_of(submit))).state == UNKNOWN
            assert isinstance(await requester.submit(submit), Rejected)


@pytest.mark.asyncio
async def test_what_ends_while_the_worker_stops_is_not_given_back(
    start: Start, requester: Requester
) -> None:
    """INV-TASK-40."""
    submit = requester.submission(guests.HELLO)
    async with start() as worker:
        await requester.submit(submit)
        await worker.agent.drain(DEADLINE_S)
    async with start():
        assert (await requester.result(handle_of(submit))).stdout == b"hello\n"


@pytest.mark.asyncio
async def test_a_completion_is_shown_at_an_edge_of_the_grid(
    network: MemoryNetwork, requester: Requester, tmp_path: Path
) -> None:
    """INV-TASK-15: on a clock that stands still the result exists and is not shown."""
    clock = ManualClock()
    agent = WorkerAgent(
        [Served("w", network.channel("worker"))], tmp_path, keys=lambda: MEMBERS, clock=clock
    )
    serving = asyncio.create_task(agent.run())
    try:
        submit = requester.submission(guests.HELLO)
        await requester.submit(submit)
        await agent.drain(DEADLINE_S)
        assert (await requester.status(handle_of(submit))).state == RUNNING
        await clock.advance(next_edge(0.0) - 0.002)
        assert (await requester.status(handle_of(submit))).state == RUNNING
        await clock.advance(0.002)
        status = await requester.status(handle_of(submit))
        assert status.state == FINISHED
        assert status.result_total == len((await requester.result(handle_of(submit))).data)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.asyncio
@pytest.mark.parametrize("jump", [sign * s for s in (1, 3600, 30 * 86400) for sign in (-1, 1)])
async def test_a_jump_of_the_wall_clock_neither_hides_a_result_nor_shows_it_early(
    network: MemoryNetwork, requester: Requester, tmp_path: Path, jump: int
) -> None:
    """INV-TASK-28: while it runs, and between two runs."""
    clock = ManualClock()
    submit = requester.submission(guests.HELLO)
    for _ in range(2):
        agent = WorkerAgent(
            [Served("w", network.channel("worker"))], tmp_path, keys=lambda: MEMBERS, clock=clock
        )
        serving = asyncio.create_task(agent.run())
        try:
            await requester.submit(submit)
            await agent.drain(DEADLINE_S)
            clock.jump(jump)
            await agent._journal.expire()
            if agent._holdings._unreleased:
                assert (await requester.status(handle_of(submit))).state == RUNNING
            await clock.advance(next_edge(0.0))
            assert (await requester.status(handle_of(submit))).state == FINISHED
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        clock.jump(jump)


@pytest.mark.asyncio
async def test_a_result_that_takes_long_to_keep_is_shown_at_a_later_edge(
    network: MemoryNetwork, requester: Requester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-15."""
    clock = ManualClock()
    agent = WorkerAgent(
        [Served("w", network.channel("worker"))], tmp_path, keys=lambda: MEMBERS, clock=clock
    )
    keep = agent._journal.finish

    async def keep_for_long(*args: Any) -> None:
        await keep(*args)
        await clock.advance(0.99)

    monkeypatch.setattr(agent._journal, "finish", keep_for_long)
    serving = asyncio.create_task(agent.run())
    try:
        submit = requester.submission(guests.HELLO)
        await requester.submit(submit)
        await agent.drain(DEADLINE_S)
        assert (await requester.status(handle_of(submit))).state == RUNNING
        await clock.advance(next_edge(0.99) - 0.99)
        assert (await requester.status(handle_of(submit))).state == FINISHED
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.asyncio
async def test_an_attempt_whose_module_is_being_compiled_says_so(
    worker: Running, requester: Requester, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asyncio.Event()
    keep = RunnerSlot._keep

    async def kept_once_told(slot: RunnerSlot, module_id: str, size: int) -> None:
        await told.wait()
        await keep(slot, module_id, size)

    monkeypatch.setattr(RunnerSlot, "_keep", kept_once_told)
    submit = requester.submission(guests.HELLO)
    assert isinstance(await requester.submit(submit), Accepted)
    await requester.until(handle_of(submit), lambda status: status.compiling)
    told.set()
    result = await requester.result(handle_of(submit))
    assert (result.fault, result.exit_code) == (None, 0)
    assert not (await requester.status(handle_of(submit))).compiling
