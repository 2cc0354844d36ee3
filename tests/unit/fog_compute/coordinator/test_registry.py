"""What the coordinator learns about workers, at each level for itself."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from random import Random

import pytest

from fog_compute.coordinator.capacity import FIRST_PLACES
from fog_compute.coordinator.placement import Requirements, WorkerState, WorkerView
from fog_compute.coordinator.registry import SETTLES_S, WorkerRegistry
from fog_compute.levels import PrivacyLevel
from fog_compute.strategies import Strategy
from fog_compute.tasks import AttemptState
from fog_compute.testing import ManualClock
from fog_compute.units import MIB
from fog_compute.vpn.directory import TaskLimits, WorkerOffer
from tests.unit.fog_compute.coordinator.scripted import Directory

pytestmark = pytest.mark.asyncio

PRIVATE, PUBLIC = PrivacyLevel.PRIVATE, PrivacyLevel.PUBLIC


def offer(name: str, *, slots: int = 2, level: PrivacyLevel | None = None) -> WorkerOffer:
    return WorkerOffer(name, f"fog1{name}", ("wasm",), slots, 2**30, level=level)


async def registry(*offers: WorkerOffer, clock: ManualClock | None = None) -> WorkerRegistry:
    clock = ManualClock() if clock is None else clock
    made = WorkerRegistry(Directory(list(offers)), clock=clock, rng=Random(3))
    await made.refresh()
    return made


def view(workers: WorkerRegistry, name: str, level: PrivacyLevel = PRIVATE) -> WorkerView:
    return next(view for view in workers.at(level) if view.name == name)


async def test_what_the_best_worker_lends_too_little_of_is_named() -> None:
    """INV-TASK-145."""
    small, long = TaskLimits(90.0, 3 * MIB, 5 * MIB), TaskLimits(7200.0, 2 * MIB, 4 * MIB)
    workers = await registry(
        *(replace(offer(name), limits=limits) for name, limits in (("a", small), ("b", long)))
    )

    def said(wall_s: float, scratch: int, output: int, memory: int = 0) -> str:
        wanted = TaskLimits(wall_s, scratch, output)
        short = workers.shortfall(Requirements("wasm", memory, limits=wanted))
        return "" if short is None else short.text

    assert said(90.0, 3 * MIB, 5 * MIB) == said(7200.0, 2 * MIB, 4 * MIB, 2**30) == ""
    assert said(7201.0, 1, 1) == (
        "no listed worker lends 7201 s of wall time at private, and the largest lends 7200 s"
    )
    assert "lends 4.0 MiB of scratch at private, and the largest lends 3.0 MiB" in said(
        1, 4 * MIB, 0
    )
    assert "lends 6.0 MiB of output at private, and the largest lends 5.0 MiB" in said(
        1, 0, 6 * MIB
    )
    assert said(100.0, 3 * MIB, 0) == (
        "no listed worker lends 100 s of wall time and 3.0 MiB of scratch together at private"
    )
    assert said(1.0, 0, 0, 2**31).startswith("no listed worker lends 2.0 GiB of memory")

    unknown = await registry(replace(offer("a"), limits=small), offer("b"))
    beyond = Requirements("wasm", limits=TaskLimits(604800.0, 2**32, 2**28))
    assert unknown.shortfall(beyond) is None
    assert {unknown.select_node(beyond).worker.name for _ in range(9)} == {"b"}  # type: ignore[union-attr]


WANTED = {
    "memory": (
        Requirements("wasm", 3 * 2**30),
        (
            "no listed worker lends 3.0 GiB of memory at private, and the largest lends 1.0 GiB:"
            " lower `limits.memory_bytes`, or let it wait for one with `wait_for_worker`"
        ),
    ),
    "wall": (
        Requirements("wasm", limits=TaskLimits(99.0, 0, 0)),
        "the largest lends 60 s: lower `limits.wall_s`, or let it wait for one with",
    ),
    "scratch": (Requirements("wasm", limits=TaskLimits(0, 3 * MIB, 0)), "`limits.scratch_bytes`"),
    "output": (Requirements("wasm", limits=TaskLimits(0, 0, 3 * MIB)), "`limits.output_bytes`"),
    "kind": (
        Requirements("python"),
        "no listed worker runs tasks of kind python at private: let it wait for one with",
    ),
    "group": (
        Requirements("wasm", groups=frozenset({"lab"})),
        "no listed worker serves the task's group at private: let it wait",
    ),
    "level": (
        Requirements("wasm", privacy=PrivacyLevel.SECRET),
        "no listed worker serves secret: let it wait for one with `wait_for_worker`",
    ),
}


@pytest.mark.parametrize("what", WANTED)
async def test_what_no_listed_worker_can_take_is_told_with_what_to_change(what: str) -> None:
    """INV-WORDS-09: of one that has just come, what it may still offer is not certain."""
    clock = ManualClock()
    lent = TaskLimits(60.0, 2 * MIB, 2 * MIB)
    workers = await registry(
        replace(offer("a"), limits=lent, level=PRIVATE, groups=("home",)), clock=clock
    )
    needs, words = WANTED[what]

    young = workers.shortfall(needs)
    await clock.advance(SETTLES_S)
    settled = workers.shortfall(needs)

    assert young is not None
    assert settled is not None
    assert words in settled.refusal()
    assert young.text == settled.text
    assert settled.certain
    assert young.certain is bool(young.measures)
    assert (await registry()).shortfall(needs) is None  # nothing is known of who will come


async def test_only_a_settled_attempt_makes_up_for_lost_ones() -> None:
    workers = await registry(offer("a", slots=1))

    def after(how: AttemptState) -> int:
        workers.note_leased("a", PRIVATE)
        workers.note_ended("a", PRIVATE, how)
        return view(workers, "a").failures

    assert after(AttemptState.LOST) == 1
    workers.note_expired("a", PRIVATE)
    assert after(AttemptState.EXPIRED) == 2
    assert after(AttemptState.DECLINED) == 2
    assert after(AttemptState.CANCELLED) == 2
    assert after(AttemptState.FAILED) == 2
    assert after(AttemptState.SETTLED) == 0


@pytest.mark.parametrize("level", list(PrivacyLevel))
async def test_a_task_goes_to_the_entry_of_its_level_and_to_no_other(level: PrivacyLevel) -> None:
    others = [offer(one.value, level=one) for one in PrivacyLevel if one is not level]
    task = Requirements(kind="wasm", privacy=level)

    decision = (await registry(*others)).select_node(task)
    assert (decision.worker, decision.rejected) == (None, {"of another level": 3})
    for entry in (offer("own", level=level), offer("any")):
        chosen = (await registry(*others, entry)).select_node(task).worker
        assert chosen is not None
        assert chosen.name == entry.name


async def test_nothing_that_is_learned_at_one_level_is_known_at_another() -> None:
    """INV-TASK-116."""
    workers = await registry(offer("a"), offer("b"))
    before = {level: workers.at(level) for level in PrivacyLevel}

    workers.note_leased("a", PUBLIC)
    workers.note_accepted("a", PUBLIC, "m")
    workers.note_ended("a", PUBLIC, AttemptState.LOST)
    workers.note_leased("a", PUBLIC)
    workers.note_busy("a", PUBLIC)
    workers.note_silence("a", PUBLIC)

    assert workers.at(PUBLIC) != before[PUBLIC]
    for level in set(PrivacyLevel) - {PUBLIC}:
        assert workers.at(level) == before[level]
        assert [one.state for one in workers.at(level)] == [WorkerState.READY] * 2
    assert view(workers, "a", PUBLIC).places == 1
    assert view(workers, "b", PUBLIC).places == FIRST_PLACES


async def test_a_worker_at_several_levels_is_shown_once() -> None:
    workers = await registry(offer("a"))

    for level in (PUBLIC, PRIVATE):
        workers.note_leased("a", level)
    workers.note_silence("a", PUBLIC)

    (shown,) = workers.workers()
    assert (shown.state, shown.leased) == (WorkerState.READY, 2)


async def test_a_new_name_waits_for_its_turn() -> None:
    directory = Directory([offer(name) for name in "abc"])
    workers = WorkerRegistry(directory, clock=ManualClock(), rng=Random(5))
    await workers.refresh()
    task = Requirements(kind="wasm", strategy=Strategy.ROUND_ROBIN)
    turns = []
    for turn in range(12):
        if turn == 4:
            directory.offers.append(offer("0"))
            await workers.refresh()
        chosen = workers.select_node(task).worker
        assert chosen is not None
        workers.note_leased(chosen.name, PRIVATE)
        workers.note_ended(chosen.name, PRIVATE, AttemptState.SETTLED)
        turns.append(chosen.name)

    assert set(turns[:3]) == set(turns[4:6]) | {turns[3]} == set("abc")
    assert "0" in turns[6:8]
    assert turns[4:8] == turns[8:12]


@pytest.mark.parametrize("level", [PRIVATE, PrivacyLevel.SECRET])
async def test_who_claims_more_slots_gets_about_its_share(level: PrivacyLevel) -> None:
    """INV-TASK-117."""
    liar = offer("0", slots=2**32 - 1)
    workers = await registry(liar, *(offer(f"w{number}") for number in range(9)))
    task = Requirements(kind="wasm", privacy=level)
    seen, held = Counter[str](), deque[str]()
    for _ in range(1000):
        chosen = workers.select_node(task).worker
        assert chosen is not None
        workers.note_leased(chosen.name, level)
        seen[chosen.name] += 1
        held.append(chosen.name)
        if len(held) > 25:
            workers.note_ended(held.popleft(), level, AttemptState.DECLINED)

    assert len(seen) == 10
    assert seen["0"] < 150, seen


async def test_claimed_slots_earn_no_places_at_once() -> None:
    workers = await registry(offer("liar", slots=2**32 - 1), offer("small", slots=1))

    assert {one.name: one.places for one in workers.at(PRIVATE)} == {
        "liar": FIRST_PLACES,
        "small": 2,
    }


async def test_the_groups_of_a_setting_are_near() -> None:
    directory = Directory([offer(name) for name in "abc"])
    directory.offers.append(WorkerOffer("d", "fog1d", ("wasm",), 2, 2**30, groups=("lab",)))
    workers = WorkerRegistry(
        directory,
        clock=ManualClock(),
        rng=Random(3),
        strategy=Strategy.PROXIMITY,
        near=frozenset({"lab", "home"}),
    )
    await workers.refresh()
    task = Requirements(kind="wasm")

    decisions = [workers.select_node(task) for _ in range(40)]

    compared = [dict(decision.scores) for decision in decisions]
    assert any("d" in scores for scores in compared)
    for decision, scores in zip(decisions, compared, strict=True):
        assert decision.worker is not None
        assert (decision.worker.name == "d") == ("d" in scores)


async def test_a_fault_that_others_did_not_find_costs_places_and_score_for_a_while() -> None:
    """INV-TASK-120."""
    workers = await registry(offer("a", slots=9), offer("b", slots=9))
    before = view(workers, "a")

    workers.note_contradicted("a", PRIVATE)

    doubted = view(workers, "a")
    assert (doubted.places, doubted.doubt) == (before.places // 2, 1)
    assert view(workers, "a", PUBLIC).doubt == view(workers, "b").doubt == 0
    chosen = [
        workers.select_node(Requirements("wasm", strategy=Strategy.LEAST_LOADED)).worker
        for _ in range(7)
    ]
    assert {one.name for one in chosen if one is not None} == {"b"}

    for _ in range(10):
        for _ in range(3):
            workers.note_leased("a", PRIVATE)
        for _ in range(3):
            workers.note_ended("a", PRIVATE, AttemptState.SETTLED)
    made_up = view(workers, "a")
    assert made_up.places >= before.places
    assert 0 < made_up.doubt < 0.1
