"""A worker's own trouble costs no task a try: it gives attempts back and says why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from fog_compute.backoff import Backoff
from fog_compute.tasks import Fault
from fog_compute.tasks.messages import (
    RETURNED,
    Accepted,
    Ack,
    Busy,
    Cancel,
    NeedModule,
    Rejected,
    Submit,
)
from fog_compute.units import GIB, format_bytes
from fog_compute.worker import slots, workplace
from fog_compute.worker.journal import Journal, JournalUnusable

from . import guests
from .conftest import Requester, Running, Start, handle_of

DEADLINE_S = 30.0


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not met():
            await asyncio.sleep(0.01)


async def is_returned(requester: Requester, submit: Submit) -> None:
    """Wait until an attempt was given back."""
    async with asyncio.timeout(DEADLINE_S):
        while (state := (await requester.status(handle_of(submit))).state) != RETURNED:
            assert state in {"queued", "running"}, state
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "RESTART", Backoff(0.02, 0.02))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that are free, to be changed by the test."""
    free = [10 * GIB]
    monkeypatch.setattr(workplace, "free_bytes", lambda _: free[0])
    return free


async def waits_behind_another(
    requester: Requester, waiting: Submit
) -> Callable[[], Awaitable[object]]:
    """Have an attempt wait, as it was accepted; return what lets it run."""
    first = requester.submission(guests.FOREVER)
    assert isinstance(await requester.submit(first), Accepted)
    assert isinstance(await requester.submit(waiting), Accepted)
    return lambda: requester.ask(Cancel(handles=(handle_of(first),)))


@pytest.mark.asyncio
async def test_a_disk_that_fills_up_gives_back_what_waits_until_there_is_room(
    start: Start, requester: Requester, disk: list[int]
) -> None:
    """INV-TASK-94."""
    async with start(slots=1) as worker:
        waiting = requester.submission(guests.HELLO)
        go = await waits_behind_another(requester, waiting)
        disk[0] = 1000
        await go()
        await is_returned(requester, waiting)
        await until(lambda: bool(worker.troubles))
        assert "1000 B free" in worker.troubles[-1]
        assert "make room" in worker.troubles[-1]
        other = requester.submission(guests.HELLO)
        assert isinstance(await requester.submit(other), Busy)

        disk[0] = 10 * GIB
        await until(lambda: worker.troubles[-1] == "")
        assert (await requester.run(other)).stdout == b"hello\n"


@pytest.mark.asyncio
async def test_a_task_for_which_the_disk_has_no_room_is_refused_and_a_smaller_one_is_not(
    worker: Running, requester: Requester, disk: list[int]
) -> None:
    """INV-TASK-94: nothing is kept of it, and the slot goes on."""
    large = requester.submission(guests.HELLO)
    limits = large.orders[0].limits
    disk[0] = limits.scratch_bytes
    answer = await requester.submit(large)
    assert isinstance(answer, Rejected)
    assert "`limits.scratch_bytes`" in answer.reason
    assert f"{format_bytes(disk[0])} free" in worker.agent.report().trouble
    disk[0] = limits.scratch_bytes + workplace.FREE_BYTES
    assert (await requester.run(large)).stdout == b"hello\n"
    assert worker.agent.report().trouble == ""
    assert worker.troubles == []


@pytest.mark.asyncio
@pytest.mark.parametrize("remembers", [True, False])
async def test_a_result_that_cannot_be_kept_is_given_back_and_not_lost(
    start: Start, requester: Requester, monkeypatch: pytest.MonkeyPatch, *, remembers: bool
) -> None:
    """INV-TASK-94: also where the journal cannot even be told that it was."""

    async def refuse(*_: object) -> None:
        raise JournalUnusable("the worker's journal cannot be used: database or disk is full")

    async with start(slots=1):
        first = requester.submission(guests.HELLO)
        with monkeypatch.context() as full:
            full.setattr(Journal, "finish", refuse)
            if not remembers:
                full.setattr(Journal, "give_back", refuse)
            assert isinstance(await requester.submit(first), Accepted)
            await is_returned(requester, first)
            assert isinstance(await requester.submit(first), Accepted)  # it is known, and over
        again = requester.submission(guests.HELLO)
        async with asyncio.timeout(DEADLINE_S):
            while isinstance(await requester.submit(again), Busy):
                await asyncio.sleep(0.01)
        assert (await requester.result(handle_of(again))).stdout == b"hello\n"
        await requester.ask(Ack(handles=(handle_of(first),)))
        assert (await requester.status(handle_of(first))).state == "unknown"


@pytest.mark.asyncio
@pytest.mark.parametrize("spoil", ["vanished", "damaged"])
@pytest.mark.parametrize("which", ["module", "stdin"])
async def test_a_blob_that_the_worker_lost_is_asked_for_again_and_no_fault_of_the_task(
    start: Start, requester: Requester, tmp_path: Path, which: str, spoil: str
) -> None:
    """INV-TASK-95."""
    module, stdin = guests.ECHO, b"text"
    async with start(slots=1):
        waiting = requester.submission(module, stdin=stdin)
        go = await waits_behind_another(requester, waiting)
        ref = requester.seal(module if which == "module" else stdin).ref
        (path,) = (tmp_path / "worker").rglob(ref.hex())
        if spoil == "vanished":
            path.unlink()
        else:
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
        await go()
        await is_returned(requester, waiting)
        assert not path.exists()

        again = requester.submission(module, stdin=stdin, attach=False)
        answer = await requester.ask(again)
        assert NeedModule(refs=(ref,)) in getattr(answer, "items", (answer,))
        assert isinstance(await requester.submit(again, module, stdin), Accepted)
        assert (await requester.result(handle_of(again))).stdout == stdin


@pytest.mark.asyncio
async def test_a_blob_that_does_not_open_as_it_was_sent_is_the_tasks_fault(
    worker: Running, requester: Requester
) -> None:
    """INV-TASK-95."""
    submit = requester.submission(guests.ECHO, stdin=b"text")
    requester.key = bytes(32)
    other = requester.submission(guests.ECHO, stdin=b"text")
    spoiled = msgspec.structs.replace(submit, key=other.key)
    assert isinstance(await requester.submit(spoiled), Accepted)
    assert (await requester.result(handle_of(submit))).fault is Fault.BAD_INPUT
    assert worker.troubles == []
