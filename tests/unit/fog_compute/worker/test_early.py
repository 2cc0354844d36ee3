"""Modules that are compiled while the inputs of their tasks are still on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from fog_compute.tasks import Limits
from fog_compute.tasks.messages import QUEUED, Accepted, NeedModule
from fog_compute.testing import ManualClock
from fog_compute.worker.attempts import Early, Held, module_id
from fog_compute.worker.cache import BlobCache
from fog_compute.worker.holdings import EARLY_WAITING, Holdings
from fog_compute.worker.job import Job
from fog_compute.worker.journal import Journal
from fog_compute.worker.shares import Owner
from fog_compute.worker.slot import RunnerSlot

from . import guests
from .conftest import DEADLINE_S, Requester, Start, handle_of

pytestmark = pytest.mark.asyncio


def compiled_in(folder: Path) -> list[Path]:
    return list(folder.glob("*.cwasm"))


async def test_a_module_is_compiled_before_the_inputs_of_its_task_are_here(
    requester: Requester, start: Start, tmp_path: Path
) -> None:
    """INV-TASK-134."""
    submit = requester.submission(guests.ECHO, stdin=b"said", attach=False)
    folder = tmp_path / "worker" / "compiled"
    async with start(kinds=("wasm",)):
        module, said = requester.seal(guests.ECHO), requester.seal(b"said")
        assert await requester.ask(submit) == NeedModule((module.ref, said.ref))
        await requester.submit_blob(module)
        assert await requester.ask(submit) == NeedModule((said.ref,))
        async with asyncio.timeout(DEADLINE_S):
            while not compiled_in(folder):
                await asyncio.sleep(0.005)
        (code,) = compiled_in(folder)
        assert isinstance(await requester.submit(submit, b"said"), Accepted)
        result = await requester.result(handle_of(submit))
        assert (result.exit_code, result.stdout) == (0, b"said")
        assert compiled_in(folder) == [code]


async def test_a_module_that_cannot_be_compiled_early_fails_its_task_and_nothing_else(
    requester: Requester, start: Start
) -> None:
    """INV-TASK-134."""
    submit = requester.submission(guests.NOT_VALID, stdin=b"said", attach=False)
    async with start(kinds=("wasm",), slots=1):
        await requester.submit_blob(requester.seal(guests.NOT_VALID))
        assert isinstance(await requester.ask(submit), NeedModule)
        await requester.submit(submit, b"said")
        assert (await requester.result(handle_of(submit))).fault == "not_wasm"
        other = requester.submission(guests.ECHO, stdin=b"other")
        assert (await requester.run(other)).stdout == b"other"


async def test_a_module_takes_no_longer_to_compile_early_than_its_task_may(
    slot: RunnerSlot,
) -> None:
    """INV-TASK-134."""
    await slot.start()
    pid = slot.pid

    async def never() -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    await slot.compile("m", never, Limits(wall_s=0.05))
    assert slot.pid is None
    await slot.start()
    assert slot.pid not in (None, pid)


async def test_who_gives_up_an_early_module_leaves_no_runner_at_it(slot: RunnerSlot) -> None:
    loading = asyncio.Event()

    async def never() -> bytes:
        loading.set()
        await asyncio.Event().wait()
        raise AssertionError

    compiling = asyncio.create_task(slot.compile("m", never, Limits()))
    async with asyncio.timeout(DEADLINE_S):
        await loading.wait()
    compiling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await compiling
    assert slot.pid is None


async def test_what_was_compiled_early_runs_without_its_bytes(slot: RunnerSlot) -> None:
    """INV-TASK-134."""

    async def load() -> bytes:
        return guests.ECHO

    async def gone() -> bytes:
        raise AssertionError("it is compiled")

    await slot.compile("m", load, Limits())
    job = Job("m", (), b"said", {}, Limits(), bytes(32))
    assert (await slot.run(job, gone)).stdout == b"said"


@pytest.fixture
def holdings(tmp_path: Path) -> Iterator[Holdings]:
    clock = ManualClock()
    journal = Journal(tmp_path / "attempts.db", clock)
    yield Holdings(journal, BlobCache(tmp_path / "blobs", 1000), 60.0, clock)
    journal.close()


def owner(number: int, group: str = "g") -> Owner:
    return Owner(group, number.to_bytes(16))


def held(requester: Requester, module: bytes, of: Owner) -> Held:
    submit = requester.submission(module)
    return Held(submit.orders[0], requester.key, of, Limits(), accepted_at=0.0)


def early(one: Held) -> Early:
    return Early(one.order.module, one.key, one.owner, one.limits)


async def is_idle(turn: asyncio.Task[Held | Early]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not turn.done()


async def test_an_attempt_waits_for_its_module_that_is_being_compiled_and_no_slot_for_it(
    requester: Requester, holdings: Holdings
) -> None:
    """INV-TASK-134."""
    one, other = held(requester, b"a", owner(1)), held(requester, b"b", owner(1))
    holdings.compile_early(early(one))
    compiling = await holdings.next()
    assert compiling == early(one)
    holdings.add(one)
    holdings.compile_early(early(one))  # it was submitted once more
    turn = asyncio.create_task(holdings.next())
    assert await is_idle(turn)
    status, _ = holdings.status(one.handle, 0, 100)
    assert (status.state, status.compiling) == (QUEUED, True)
    holdings.add(other)
    assert await turn is other
    turn = asyncio.create_task(holdings.next())
    assert await is_idle(turn)
    holdings.compiled(early(one), 2.5)
    assert await turn is one
    assert module_id(one) == compiling.module_id


async def test_attempts_go_before_modules_whose_tasks_are_not_here(
    requester: Requester, holdings: Holdings
) -> None:
    """INV-TASK-134."""
    waiting, coming = held(requester, b"a", owner(1)), held(requester, b"b", owner(2))
    holdings.compile_early(early(coming))
    holdings.add(waiting)
    assert await holdings.next() is waiting
    assert await holdings.next() == early(coming)


async def test_a_module_is_not_compiled_early_when_its_task_has_come(
    requester: Requester, holdings: Holdings
) -> None:
    one = held(requester, b"a", owner(1))
    holdings.compile_early(early(one))
    holdings.add(one)
    assert await holdings.next() is one
    turn = asyncio.create_task(holdings.next())
    assert await is_idle(turn)
    turn.cancel()


async def test_a_session_has_one_module_waiting_and_all_together_few(
    requester: Requester, holdings: Holdings
) -> None:
    """INV-TASK-134."""
    latest = {}
    for number in range(EARLY_WAITING + 7):
        for name in (b"a", b"b"):
            latest[number] = early(held(requester, name, owner(number)))
            holdings.compile_early(latest[number])
    taken = [await holdings.next() for _ in range(EARLY_WAITING)]
    assert taken == [latest[number] for number in range(EARLY_WAITING)]
    turn = asyncio.create_task(holdings.next())
    assert await is_idle(turn)
    turn.cancel()


async def test_the_time_of_a_module_is_charged_to_its_session(
    requester: Requester, holdings: Holdings
) -> None:
    """INV-TASK-134."""
    greedy, modest = owner(1, "greedy"), owner(2, "modest")
    first = held(requester, b"a", greedy)
    holdings.compile_early(early(first))
    module = await holdings.next()
    assert isinstance(module, Early)
    for one in (greedy, modest):
        holdings.add(held(requester, b"b", one))
        holdings.add(held(requester, b"c", one))
    holdings.compiled(module, 9.0)
    turns = [await holdings.next() for _ in range(4)]
    assert [one.owner for one in turns] == [modest, modest, greedy, greedy]
