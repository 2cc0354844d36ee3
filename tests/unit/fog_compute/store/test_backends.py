"""Several backends on one Postgres: whose attempts are whose, and who may change them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from fog_compute.levels import PrivacyLevel
from fog_compute.store import (
    Cancelled,
    Conflict,
    Failed,
    Leased,
    Parked,
    Reported,
    Settled,
    Started,
    Store,
)
from fog_compute.store.backends import Backends
from fog_compute.store.changes import Fenced
from fog_compute.store.ownership import Sign
from fog_compute.tasks import AttemptState, Task, TaskResult, TaskSpec, TaskState, new_handle
from fog_compute.units import MIB

pytestmark = pytest.mark.asyncio

GROUPS: Final = ("lab",)
ROOM: Final = {("lab", "wasm"): 300 * MIB}
LEVEL: Final = PrivacyLevel.PRIVATE
RESULT: Final = TaskResult(0, b"out", b"", 1, 2, 3)


class Several:
    """Backends of one database, each as a process of its own has it."""

    def __init__(self, url: str, folder: Path, stack: AsyncExitStack) -> None:
        self._url, self._folder, self._stack = url, folder, stack

    async def open(self, home: str) -> Store:
        store = await Store.open(self._url, blobs=self._folder, home=home)
        await self._stack.enter_async_context(store)
        await of(store).join(GROUPS)
        return store


@pytest_asyncio.fixture
async def several(postgres_url: str, tmp_path: Path) -> AsyncIterator[Several]:
    async with AsyncExitStack() as stack:
        yield Several(postgres_url, tmp_path / "blobs", stack)


def of(store: Store) -> Backends:
    assert store.backends is not None
    return store.backends


async def make(store: Store, count: int = 1, group: str = "lab") -> list[Task]:
    module = await store.blobs.put(b"module")
    return await store.tasks.create_batch([TaskSpec(module=module, group=group)] * count)


async def lease(store: Store, task: Task) -> str:
    handle = new_handle()
    await store.apply([Leased(task.id, handle, "w", "a", task.created_at)])
    return handle


async def claim(store: Store, limit: int) -> list[str]:
    now = (await store.tasks.list(limit=1))[0].created_at
    return [task.id for task, _ in await store.tasks.claim(LEVEL, ROOM, now, limit)]


async def sign_of(watcher: Store, watched: Store) -> Sign:
    (sign,) = [one for one in await of(watcher).beat() if one.backend == of(watched).me]
    return sign


async def test_what_one_backend_claims_no_other_does_until_it_is_changed_or_released(
    several: Several,
) -> None:
    """INV-STORE-23."""
    one, other = await several.open("one"), await several.open("other")
    tasks = await make(one, 9)
    ids = [task.id for task in tasks]

    first, second = await claim(one, 4), await claim(other, 4)
    assert first == ids[:4]
    assert second == ids[4:8]
    assert await claim(one, 4) == first  # until something became of them

    await lease(one, tasks[0])
    await one.apply([Parked(ids[1], tasks[1].created_at)])
    await one.tasks.release([ids[2]])
    assert await claim(other, 9) == [*ids[1:3], *ids[4:]]
    assert await claim(one, 9) == [ids[3]]


async def test_what_a_dead_backend_claimed_others_can(several: Several) -> None:
    """INV-STORE-23."""
    one, other = await several.open("one"), await several.open("other")
    tasks = await make(one, 2)
    ids = [task.id for task in tasks]
    assert await claim(other, 2) == ids
    await of(one).take_over([await sign_of(one, other)], GROUPS)
    assert await claim(one, 2) == ids
    with pytest.raises(Fenced):
        await lease(other, tasks[0])


async def test_nobody_changes_an_attempt_of_another_but_cancels_its_task(several: Several) -> None:
    """INV-STORE-24, INV-STORE-25."""
    one, other = await several.open("one"), await several.open("other")
    (task,) = await make(one)
    handle = await lease(one, task)

    for change in (
        Started(handle, task.created_at),
        Reported(handle, RESULT),
        Failed(task.id, "no"),
    ):
        with pytest.raises(Conflict, match=f"another backend acts on attempt {handle}"):
            await other.apply([change])
    await one.apply([Started(handle, task.created_at)])
    await other.apply([Cancelled(task.id)])
    assert (await one.attempts.get(handle)).state is AttemptState.CANCELLED
    with pytest.raises(Conflict, match="no longer open"):
        await one.apply([Reported(handle, RESULT)])


async def test_who_was_taken_for_dead_changes_nothing_and_who_took_it_goes_on(
    several: Several,
) -> None:
    """INV-STORE-22, INV-STORE-24."""
    one, other = await several.open("one"), await several.open("other")
    (task, another) = await make(one, 2)
    handle = await lease(one, task)
    late = await sign_of(other, one)
    await of(one).beat()
    assert (await of(other).take_over([late], GROUPS)).gone == frozenset()  # it lives

    dead = of(one).me
    taken = await of(other).take_over([await sign_of(other, one)], GROUPS)
    assert (taken.gone, taken.attempts) == (frozenset({dead}), 1)
    with pytest.raises(Fenced):
        await one.apply([Started(handle, task.created_at)])
    with pytest.raises(Fenced):
        await one.apply([Leased(another.id, new_handle(), "w", "a", task.created_at)])
    (new,) = await make(one)  # who makes a task acts on none
    await one.apply([Cancelled(new.id)])
    with pytest.raises(Fenced):
        await of(one).beat()

    await other.apply([Reported(handle, RESULT), Settled(handle)])
    await of(one).join(GROUPS)
    assert of(one).me != dead
    assert (await one.tasks.get(task.id)).state is TaskState.ACCEPTED
    with pytest.raises(Conflict):
        await one.apply([Settled(handle)])


async def test_a_backend_that_comes_back_has_at_once_what_its_home_had(several: Several) -> None:
    """INV-STORE-26."""
    one = await several.open("one")
    tasks = await make(one, 2, "lab") + await make(one, 1, "of others")
    handles = [await lease(one, task) for task in tasks]
    await one.apply([Started(handles[1], tasks[1].created_at), Failed(tasks[1].id, "no")])
    before = of(one).me

    again = await Store.open(several._url, blobs=several._folder, home="one")
    async with again:
        taken = await of(again).join(GROUPS)
        assert (taken.gone, taken.attempts) == (frozenset({before}), 1)
        # Of a group that it is no member of it cannot speak: that waits for who can.
        assert [one.handle for one in await again.attempts.open_attempts(again.owner)] == [
            handles[0]
        ]
        both = await Store.open(several._url, blobs=several._folder, home="other")
        async with both:
            assert (await of(both).join([*GROUPS, "of others"])).attempts == 1
        with pytest.raises(Fenced):
            await one.apply([Started(handles[0], tasks[0].created_at)])
