"""Placement: who may take a task, who is preferred, and why."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.coordinator.placement import (
    QUEUE_PER_SLOT,
    Requirements,
    Strategy,
    WorkerState,
    WorkerView,
    default_strategy,
    select,
)
from fog_compute.levels import PrivacyLevel

TASK = Requirements(kind="wasm", memory_bytes=100, module="m")


def worker(
    name: str,
    *,
    leased: int = 0,
    slots: int = 2,
    memory_bytes: int = 1000,
    kinds: frozenset[str] = frozenset({"wasm"}),
    groups: frozenset[str] = frozenset(),
    level: PrivacyLevel | None = None,
    state: WorkerState = WorkerState.READY,
    cached: frozenset[str] = frozenset(),
    failures: int = 0,
) -> WorkerView:
    return WorkerView(
        name=name,
        address=f"fog1{name}",
        kinds=kinds,
        slots=slots,
        memory_bytes=memory_bytes,
        groups=groups,
        level=level,
        state=state,
        leased=leased,
        cached=cached,
        failures=failures,
    )


def chosen(requirements: Requirements, *workers: WorkerView, strategy: Strategy) -> str:
    decision = select(requirements, workers, Random(1), strategy=strategy)
    assert decision.worker is not None
    return decision.worker.name


@pytest.mark.parametrize(
    ("unfit", "reason"),
    [
        (worker("a", kinds=frozenset({"python"})), "without wasm"),
        (worker("a", memory_bytes=99), "memory"),
        (worker("a", level=PrivacyLevel.PUBLIC), "of another level"),
        (worker("a", state=WorkerState.BUSY), "busy"),
        (worker("a", state=WorkerState.LOST), "lost"),
        (worker("a", slots=1, leased=QUEUE_PER_SLOT), "full"),
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


@pytest.mark.parametrize("level", list(PrivacyLevel))
def test_a_task_goes_to_the_entry_of_its_level_and_to_no_other(level: PrivacyLevel) -> None:
    entries = [worker(one.value, level=one) for one in PrivacyLevel]
    task = replace(TASK, privacy=level)

    assert chosen(task, *entries, strategy=Strategy.RANDOM) == level.value
    others = [entry for entry in entries if entry.level is not level]
    decision = select(task, others, Random(1))
    assert (decision.worker, decision.rejected) == (None, {"of another level": 3})
    assert chosen(task, *others, worker("any"), strategy=Strategy.RANDOM) == "any"


def test_no_known_worker_is_said_so() -> None:
    assert "no worker is known yet" in select(TASK, [], Random(1)).explain()


def test_least_loaded_prefers_the_free_worker() -> None:
    busy, free = worker("a", leased=3), worker("b")

    assert chosen(TASK, busy, free, strategy=Strategy.LEAST_LOADED) == "b"


def test_affinity_prefers_the_warm_cache_over_a_little_load() -> None:
    warm, cold = worker("a", leased=1, cached=frozenset({"m"})), worker("b")

    assert chosen(TASK, warm, cold, strategy=Strategy.AFFINITY) == "a"


def test_affinity_is_off_at_secret() -> None:
    secret = replace(TASK, privacy=PrivacyLevel.SECRET)
    warm, cold = worker("a", leased=1, cached=frozenset({"m"})), worker("b")

    assert chosen(secret, warm, cold, strategy=Strategy.AFFINITY) == "b"
    assert default_strategy(PrivacyLevel.SECRET) is Strategy.PRIVACY_AWARE


def test_proximity_prefers_a_shared_group() -> None:
    task = replace(TASK, near=frozenset({"lab"}))
    near, far = worker("a", leased=1, groups=frozenset({"lab"})), worker("b")

    assert chosen(task, near, far, strategy=Strategy.PROXIMITY) == "a"


def test_round_robin_takes_turns() -> None:
    workers = [worker("a"), worker("b"), worker("c")]
    turns: list[str] = []
    last: str | None = None
    for _ in range(4):
        decision = select(TASK, workers, Random(1), strategy=Strategy.ROUND_ROBIN, after=last)
        assert decision.worker is not None
        last = decision.worker.name
        turns.append(last)

    assert turns == ["a", "b", "c", "a"]


def test_privacy_aware_spreads_over_equal_workers() -> None:
    workers = [worker(name) for name in "abcd"]
    rng = Random(7)
    seen = {
        decision.worker.name
        for _ in range(100)
        if (decision := select(TASK, workers, rng, strategy=Strategy.PRIVACY_AWARE)).worker
    }

    assert seen == set("abcd")


def test_worker_that_lost_the_task_is_used_only_if_nobody_else_is_left() -> None:
    avoiding = replace(TASK, avoid=frozenset({"a"}))

    assert chosen(avoiding, worker("a"), worker("b"), strategy=Strategy.RANDOM) == "b"
    assert chosen(avoiding, worker("a"), strategy=Strategy.RANDOM) == "a"


def test_decision_names_the_compared_workers_and_those_left_out() -> None:
    decision = select(
        TASK,
        [worker("a"), worker("b", leased=1), worker("c", state=WorkerState.BUSY)],
        Random(1),
        strategy=Strategy.LEAST_LOADED,
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
        slots=st.integers(1, 3),
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
    decision = select(TASK, workers, Random(seed), strategy=strategy)

    fitting = [
        view
        for view in workers
        if view.state is WorkerState.READY
        and "wasm" in view.kinds
        and view.memory_bytes >= TASK.memory_bytes
        and view.leased < QUEUE_PER_SLOT * view.slots
    ]
    assert (decision.worker in fitting) if fitting else (decision.worker is None)
    assert decision.eligible == len(fitting)
    assert sum(decision.rejected.values()) == len(workers) - len(fitting)
