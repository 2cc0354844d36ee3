"""Placement: who may take a task, who is preferred, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.coordinator.placement import (
    Requirements,
    WorkerState,
    WorkerView,
    select,
    shortfalls,
    strategy_of,
)
from fog_compute.errors import InvalidTask
from fog_compute.levels import PrivacyLevel
from fog_compute.strategies import Strategy
from fog_compute.tasks import TaskSpec
from fog_compute.vpn.directory import TaskLimits

TASK = Requirements(kind="wasm", memory_bytes=100, module="m")


def worker(
    name: str,
    *,
    leased: int = 0,
    places: int = 4,
    memory_bytes: int = 1000,
    kinds: frozenset[str] = frozenset({"wasm"}),
    groups: frozenset[str] = frozenset(),
    state: WorkerState = WorkerState.READY,
    cached: frozenset[str] = frozenset(),
    failures: int = 0,
    turn: int = 0,
    limits: TaskLimits | None = None,
) -> WorkerView:
    return WorkerView(
        name=name,
        address=f"fog1{name}",
        kinds=kinds,
        slots=2**32 - 1,  # its own word, which decides nothing
        memory_bytes=memory_bytes,
        groups=groups,
        state=state,
        leased=leased,
        places=places,
        cached=cached,
        failures=failures,
        turn=turn,
        limits=limits,
    )


def chosen(requirements: Requirements, *workers: WorkerView, strategy: Strategy) -> str:
    decision = select(requirements, workers, Random(1), setting=strategy)
    assert decision.worker is not None
    return decision.worker.name


@pytest.mark.parametrize(
    ("unfit", "reason"),
    [
        (worker("a", kinds=frozenset({"python"})), "without wasm"),
        (worker("a", memory_bytes=99), "memory"),
        (worker("a", state=WorkerState.BUSY), "busy"),
        (worker("a", state=WorkerState.LOST), "lost"),
        (worker("a", places=3, leased=3), "full"),
    ],
)
def test_unfit_worker_is_left_out_and_the_reason_is_given(unfit: WorkerView, reason: str) -> None:
    decision = select(TASK, [unfit], Random(1))

    assert decision.worker is None
    assert reason in decision.explain()


def test_group_of_the_task_must_be_served() -> None:
    task = replace(TASK, groups=frozenset({"lab"}))
    outsider, member = worker("a"), worker("b", groups=frozenset({"lab"}))

    assert chosen(task, outsider, member, strategy=Strategy.RANDOM) == "b"


def test_workers_of_other_levels_are_counted_as_left_out() -> None:
    decision = select(TASK, [], Random(1), others=3)

    assert (decision.worker, decision.hopeless) == (None, True)
    assert "3 of another level" in decision.explain()


def test_no_known_worker_is_said_so() -> None:
    assert "no worker is known yet" in select(TASK, [], Random(1)).explain()


def test_least_loaded_prefers_the_free_worker() -> None:
    busy, free = worker("a", leased=3), worker("b")

    assert chosen(TASK, busy, free, strategy=Strategy.LEAST_LOADED) == "b"


def test_affinity_prefers_the_warm_cache_over_a_little_load() -> None:
    warm, cold = worker("a", leased=1, cached=frozenset({"m"})), worker("b")

    assert chosen(TASK, warm, cold, strategy=Strategy.AFFINITY) == "a"


def test_affinity_is_off_at_secret() -> None:
    """INV-TASK-118."""
    secret = replace(TASK, privacy=PrivacyLevel.SECRET)
    workers = [worker("warm", cached=frozenset({"m"})), worker("cold"), worker("other")]

    for asked in (None, Strategy.AFFINITY):
        task = replace(secret, strategy=asked)
        assert strategy_of(task, Strategy.AFFINITY) is Strategy.PRIVACY_AWARE
        rng = Random(11)
        drawn = [select(task, workers, rng, setting=Strategy.AFFINITY).worker for _ in range(900)]
        assert 220 < drawn.count(workers[0]) < 380
    with pytest.raises(InvalidTask, match="affinity is off at secret"):
        TaskSpec(module="a" * 64, privacy=PrivacyLevel.SECRET, strategy=Strategy.AFFINITY)


def test_the_task_chooses_the_strategy_before_the_setting_and_the_level() -> None:
    task = replace(TASK, strategy=Strategy.RANDOM)

    assert strategy_of(task, Strategy.PROXIMITY) is Strategy.RANDOM
    assert strategy_of(TASK, Strategy.PROXIMITY) is Strategy.PROXIMITY
    assert {level: strategy_of(replace(TASK, privacy=level)) for level in PrivacyLevel} == {
        PrivacyLevel.PUBLIC: Strategy.AFFINITY,
        PrivacyLevel.PRIVATE: Strategy.AFFINITY,
        PrivacyLevel.CONFIDENTIAL: Strategy.PRIVACY_AWARE,
        PrivacyLevel.SECRET: Strategy.PRIVACY_AWARE,
    }


def test_proximity_prefers_a_shared_group() -> None:
    task = replace(TASK, near=frozenset({"lab"}))
    near, far = worker("a", leased=1, groups=frozenset({"lab"})), worker("b")

    assert chosen(task, near, far, strategy=Strategy.PROXIMITY) == "a"


def test_round_robin_takes_who_was_asked_longest_ago() -> None:
    workers = [worker("a", turn=7), worker("b", turn=5), worker("c", turn=6)]

    assert chosen(TASK, *workers, strategy=Strategy.ROUND_ROBIN) == "b"


def draws(
    workers: list[WorkerView], strategy: Strategy, *, times: int = 2000, seed: int = 7
) -> Counter[str]:
    rng, seen = Random(seed), Counter[str]()
    for _ in range(times):
        decision = select(TASK, workers, rng, setting=strategy)
        assert decision.worker is not None
        seen[decision.worker.name] += 1
    return seen


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("count", [2, 3, 5, 10, 17])
def test_equal_workers_are_used_alike(strategy: Strategy, count: int) -> None:
    """INV-TASK-115."""
    seen = draws([worker(f"w{number:02}") for number in range(count)], strategy)

    share = 2000 / count
    margin = 5 * (share * (1 - 1 / count)) ** 0.5
    assert len(seen) == count
    assert all(abs(times - share) < margin for times in seen.values()), seen


def test_privacy_aware_draws_evenly_among_all_that_fit_well_enough() -> None:
    free = [worker(f"free{number}", leased=number % 2) for number in range(7)]
    nearly_full = [worker(f"full{number}", places=8, leased=7) for number in range(3)]

    seen = draws(nearly_full + free, Strategy.PRIVACY_AWARE)

    assert seen.keys() == {view.name for view in free}
    assert all(200 < times < 372 for times in seen.values()), seen


def test_sybil_names_draw_no_more_than_their_number() -> None:
    honest = [worker(f"worker-{number}") for number in range(8)]
    sybils = [worker(name) for name in ("", "!", "0", "\U0010ffff", "aaaa", "zzzz")]

    for strategy in Strategy:
        seen = draws(honest + sybils, strategy)
        share = sum(seen[view.name] for view in sybils) / 2000
        assert 0.37 < share < 0.49, (strategy, seen)


def test_worker_that_lost_the_task_is_used_only_if_nobody_else_is_left() -> None:
    avoiding = replace(TASK, avoid=frozenset({"a"}))

    assert chosen(avoiding, worker("a"), worker("b"), strategy=Strategy.RANDOM) == "b"
    assert chosen(avoiding, worker("a"), strategy=Strategy.RANDOM) == "a"


def test_decision_names_the_compared_workers_and_those_left_out() -> None:
    decision = select(
        TASK,
        [worker("a"), worker("b", leased=1), worker("c", state=WorkerState.BUSY)],
        Random(1),
        setting=Strategy.LEAST_LOADED,
    )

    text = decision.explain()
    assert text.startswith("a by least_loaded among 2")
    assert "a 1.00" in text
    assert "b 0.78" in text
    assert "1 busy" in text


WORKERS = st.lists(
    st.builds(
        worker,
        name=st.text("abcdef", min_size=1, max_size=3),
        leased=st.integers(0, 5),
        places=st.integers(1, 6),
        turn=st.integers(0, 3),
        memory_bytes=st.integers(0, 200),
        kinds=st.sampled_from([frozenset({"wasm"}), frozenset({"python"}), frozenset[str]()]),
        state=st.sampled_from(WorkerState),
        cached=st.sampled_from([frozenset({"m"}), frozenset[str]()]),
        failures=st.integers(0, 3),
    ),
    max_size=8,
    unique_by=lambda view: view.name,
)


@given(WORKERS, st.sampled_from(Strategy), st.integers())
def test_only_a_worker_that_fits_is_ever_chosen(
    workers: list[WorkerView], strategy: Strategy, seed: int
) -> None:
    decision = select(TASK, workers, Random(seed), setting=strategy)

    fitting = [
        view
        for view in workers
        if view.state is WorkerState.READY
        and "wasm" in view.kinds
        and view.memory_bytes >= TASK.memory_bytes
        and view.leased < view.places
    ]
    assert (decision.worker in fitting) if fitting else (decision.worker is None)
    assert decision.eligible == len(fitting)
    assert sum(decision.rejected.values()) == len(workers) - len(fitting)


@given(WORKERS, st.sampled_from(Strategy), st.integers(), st.randoms(use_true_random=False))
def test_no_choice_looks_at_names(
    workers: list[WorkerView], strategy: Strategy, seed: int, rng: Random
) -> None:
    """INV-TASK-115."""
    names = [view.name for view in workers]
    rng.shuffle(names)
    renamed = [replace(view, name=name) for view, name in zip(workers, names, strict=True)]

    before = select(TASK, workers, Random(seed), setting=strategy).worker
    after = select(TASK, renamed, Random(seed), setting=strategy).worker

    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert workers.index(before) == renamed.index(after)


def test_worker_that_says_it_lends_less_than_a_task_may_use_is_left_out() -> None:
    """INV-TASK-145."""
    short = [
        worker("wall", limits=TaskLimits(9.0, 100, 100)),
        worker("scratch", limits=TaskLimits(10.0, 99, 100)),
        worker("output", limits=TaskLimits(10.0, 100, 99)),
    ]
    task = Requirements("wasm", limits=TaskLimits(10.0, 100, 100))

    refused = select(task, short, Random(1))

    assert refused.hopeless
    assert refused.explain() == (
        "no worker can take it: 1 with less than 10 s of wall time, 1 with less than 100 B of"
        " scratch, 1 with less than 100 B of output"
    )
    for able in (worker("able", limits=TaskLimits(10.0, 100, 100)), worker("able")):
        chosen = select(task, [*short, able], Random(1))
        assert chosen.worker is not None
        assert chosen.worker.name == "able"


@given(
    st.integers(0, 2),
    st.none() | st.builds(TaskLimits, *[st.integers(0, 2)] * 3),
    st.none() | st.builds(TaskLimits, *[st.integers(0, 2)] * 3),
)
def test_worker_is_left_out_exactly_where_it_falls_short(
    memory: int, wanted: TaskLimits | None, lent: TaskLimits | None
) -> None:
    """INV-TASK-145."""
    task, able = Requirements("wasm", memory, limits=wanted), worker("a", memory_bytes=1)
    able = replace(able, limits=lent)

    decision = select(task, [able], Random(1))

    assert (decision.worker is None) == any(shortfalls(task, able))
