"""Equal shares: of slots, of answers that are held back, of bytes in handling."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.tasks import Limits
from fog_compute.tasks.messages import Order
from fog_compute.tasks.wire import limits_to_wire
from fog_compute.testing import ManualClock
from fog_compute.worker.attempts import Held
from fog_compute.worker.budget import ByteBudget
from fog_compute.worker.shares import Owner, Turns, furthest_above
from fog_compute.worker.waiting import WaitingRoom

A, B, C = Owner("", b"a"), Owner("", b"b"), Owner("team", b"c")
owners = st.builds(Owner, st.sampled_from(["", "g", "h"]), st.sampled_from([b"1", b"2", b"3"]))


@given(st.dictionaries(owners, st.integers(1, 100), min_size=1), owners, st.integers(1, 50))
def test_it_is_taken_from_who_has_most_and_never_from_who_has_less(
    loads: dict[Owner, float], newcomer: Owner, amount: int
) -> None:
    """INV-TASK-72."""
    victim = furthest_above(loads, newcomer, amount)
    wanted = {**loads, newcomer: loads.get(newcomer, 0) + amount}
    groups = Counter[str]()
    for owner, load in wanted.items():
        groups[owner.group] += int(load)
    assert groups[victim.group] == max(groups.values())
    assert wanted[victim] == max(v for o, v in wanted.items() if o.group == victim.group)
    if victim != newcomer and victim.group == newcomer.group:
        assert loads[victim] > loads.get(newcomer, 0)


def test_many_sessions_of_a_group_take_nothing_from_another_group() -> None:
    """INV-TASK-72."""
    crowd = {Owner("", bytes([n])): 3.0 for n in range(50)}
    assert furthest_above({**crowd, C: 20.0}, Owner("", b"new"), 1).group == ""
    turns = Turns()
    waiting = [*crowd, C]
    got = Counter[str]()
    for _ in range(100):
        owner = turns.next(waiting)
        turns.charge(owner, 1.0)
        got[owner.group] += 1
    assert abs(got[""] - got["team"]) <= 1


@pytest.mark.parametrize(("many", "few"), [(50, 1), (64, 2), (7, 3)])
@pytest.mark.parametrize("seconds", [(1.0, 1.0), (4.0, 0.5), (0.1, 3.0)])
def test_two_coordinators_get_at_least_two_fifths_each(
    many: int, few: int, seconds: tuple[float, float]
) -> None:
    """INV-TASK-72: one always has many attempts waiting, the other few; theirs differ in length."""
    turns, had = Turns(), {A: 0.0, B: 0.0}
    length = dict(zip((A, B), seconds, strict=True))
    for _ in range(400):
        owner = turns.next([A] * many + [B] * few)
        turns.charge(owner, length[owner])
        had[owner] += length[owner]
    assert min(had.values()) >= 0.4 * sum(had.values())


def test_who_was_idle_does_not_lock_out_the_others_when_it_comes_back() -> None:
    """INV-TASK-72."""
    turns = Turns()
    for _ in range(500):
        turns.charge(turns.next([A]), 1.0)
    got = Counter[Owner]()
    for _ in range(20):
        owner = turns.next([A, B])
        turns.charge(owner, 1.0)
        got[owner] += 1
    assert abs(got[A] - got[B]) <= 1


def attempt(owner: Owner) -> Held:
    order = Order(bytes(16), "wasm", bytes(32), (), None, {}, limits_to_wire(Limits()), bytes(32))
    return Held(order=order, key=bytes(32), owner=owner, limits=Limits(), accepted_at=0.0)


async def rest() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_answers_that_are_held_lock_nobody_out() -> None:
    """INV-TASK-72."""
    clock = ManualClock()
    room = WaitingRoom(10, clock)
    mine, other = attempt(A), attempt(B)
    waiting = [asyncio.create_task(room.wait(A, [mine], 60.0)) for _ in range(10)]
    await rest()
    late = asyncio.create_task(room.wait(B, [other], 60.0))
    await rest()
    assert [task.done() for task in waiting] == [True] + [False] * 9
    assert not late.done()
    other.tell()
    await rest()
    assert late.done()
    assert len(room) == 9
    mine.tell()
    await rest()
    assert all(task.done() for task in waiting)
    assert len(room) == 0
    assert not mine.listeners


@pytest.mark.asyncio
async def test_who_has_most_answers_waiting_waits_for_its_own() -> None:
    """INV-TASK-72."""
    clock = ManualClock()
    room = WaitingRoom(3, clock)
    both = {owner: attempt(owner) for owner in (A, B)}
    first = asyncio.create_task(room.wait(B, [both[B]], 60.0))
    await rest()
    mine = [asyncio.create_task(room.wait(A, [both[A]], 60.0)) for _ in range(5)]
    await rest()
    assert not first.done()
    assert sum(task.done() for task in mine) == 3
    await clock.advance(61)
    await rest()
    assert all(task.done() for task in (first, *mine))


@pytest.mark.asyncio
async def test_bytes_in_handling_are_bounded_and_nobody_is_overtaken() -> None:
    """INV-TASK-71."""
    budget = ByteBudget(100)
    assert await budget.take(60) == 60
    large = asyncio.create_task(budget.take(1000))
    small = asyncio.create_task(budget.take(1))
    gone = asyncio.create_task(budget.take(5))
    await rest()
    assert not large.done()
    assert not small.done()  # though it would fit
    gone.cancel()
    await rest()
    budget.give_back(60)
    await rest()
    assert large.done()
    assert not small.done()
    budget.give_back(await large)
    await rest()
    assert await small == 1
    assert await budget.take(99) == 99
