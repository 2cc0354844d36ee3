"""Which worker gets a task: filter, score, then the best of a few drawn at random.

Pure: workers and requirements in, a :class:`Decision` that explains itself out. What the
coordinator knows about load is always a little old, so the best of two random candidates beats
the best of all (everybody would run to the same worker), and a worker that lies about being idle
gets no more than its share.

What a worker says of itself (kinds, limits, groups) only filters. What ranks is what it was seen to
do, and equals are drawn at random: a worker chooses its own name, so no choice looks at names, nor
at the order of the list.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Final, Protocol

from fog_compute.levels import PrivacyLevel
from fog_compute.strategies import Strategy
from fog_compute.units import format_bytes
from fog_compute.vpn.directory import TaskLimits, shown_name

__all__ = [
    "MEASURES",
    "Decision",
    "Requirements",
    "WorkerState",
    "WorkerView",
    "select",
    "shortfalls",
    "strategy_of",
]

DRAWN: Final = 2
"""Candidates drawn for the final comparison."""

WELL_ENOUGH: Final = 0.5
"""``privacy_aware`` draws evenly among all whose score is at least this part of the best one."""

SHOWN: Final = 4
"""Candidates whose scores a decision names."""


class WorkerState(enum.StrEnum):
    """A worker as this coordinator sees it."""

    READY = "ready"
    BUSY = "busy"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class WorkerView:
    """What the coordinator knows about one worker.

    Attributes:
        name: its name in the worker list.
        address: where it is reached.
        kinds: kinds of task that it runs.
        slots: tasks that it runs at once, by its own word.
        memory_bytes: memory that one task may have there.
        groups: groups that it serves.
        level: the level whose tasks it takes; None for any.
        state: whether it may be asked now.
        leased: attempts that it holds for this coordinator.
        places: attempts that it may hold for this coordinator.
        cached: modules that it has from this coordinator, by their SHA-256.
        failures: attempts in a row that it lost.
        doubt: faults that it claimed and others did not find, fading as it finishes tasks.
        turn: the number of the lease that it got last, or of the last before it came.
        limits: what else one task may have there; None if the worker does not say.
    """

    name: str
    address: str
    kinds: frozenset[str]
    slots: int
    memory_bytes: int
    groups: frozenset[str] = frozenset()
    level: PrivacyLevel | None = None
    state: WorkerState = WorkerState.READY
    leased: int = 0
    places: int = 1
    cached: frozenset[str] = frozenset()
    failures: int = 0
    doubt: float = 0.0
    turn: int = 0
    limits: TaskLimits | None = None


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a task needs of a worker. Nothing here says whose task it is.

    Attributes:
        kind: the kind of task.
        memory_bytes: linear memory that the task may use.
        privacy: its level.
        strategy: how to rank; None for the coordinator's setting, then the level's own.
        module: SHA-256 of its module; lets ``affinity`` find a warm cache.
        groups: groups of which the worker must serve one; empty for any.
        near: groups that count as close for ``proximity``.
        avoid: workers that lost this very task before, used only when nobody else is left.
        refused_by: workers that refused this very task, not used.
        limits: what else the task may use; None where that is not known.
    """

    kind: str
    memory_bytes: int = 0
    privacy: PrivacyLevel = PrivacyLevel.PRIVATE
    strategy: Strategy | None = None
    module: str | None = None
    groups: frozenset[str] = frozenset()
    near: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()
    refused_by: frozenset[str] = frozenset()
    limits: TaskLimits | None = None


class Lends(Protocol):
    """A worker, or what one is wanted for: so much of everything."""

    @property
    def memory_bytes(self) -> int: ...

    @property
    def limits(self) -> TaskLimits | None: ...


@dataclass(frozen=True, slots=True)
class Measure:
    """One of the amounts that a worker lends and a task wants.

    Attributes:
        what: its name.
        field: the field of a task that says how much is wanted.
        of: the amount; None where it is not known.
        shown: an amount for people.
    """

    what: str
    field: str
    of: Callable[[Lends], float | None]
    shown: Callable[[float], str]

    def amount(self, wanted: Lends) -> str:
        """How much of it is wanted, for people."""
        return f"{self.shown(self.of(wanted) or 0)} of {self.what}"


def _limit(of: Callable[[TaskLimits], float]) -> Callable[[Lends], float | None]:
    return lambda lends: None if lends.limits is None else of(lends.limits)


def _size(amount: float) -> str:
    return format_bytes(int(amount))


def _seconds(amount: float) -> str:
    return f"{amount:g} s"


MEASURES: Final = (
    Measure("memory", "limits.memory_bytes", lambda lends: lends.memory_bytes, _size),
    Measure("wall time", "limits.wall_s", _limit(lambda limits: limits.wall_s), _seconds),
    Measure("scratch", "limits.scratch_bytes", _limit(lambda limits: limits.scratch_bytes), _size),
    Measure("output", "limits.output_bytes", _limit(lambda limits: limits.output_bytes), _size),
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of one placement.

    Attributes:
        worker: the chosen worker, or None.
        strategy: how candidates were ranked.
        scores: candidates that were compared, the best first, with their scores; four at most.
        eligible: how many workers could have taken the task.
        rejected: why the others could not, by reason.
        hopeless: whether there are workers, and none of them could take it if it were idle.
    """

    worker: WorkerView | None
    strategy: Strategy
    scores: tuple[tuple[str, float], ...] = ()
    eligible: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    hopeless: bool = False

    def explain(self) -> str:
        """One line for a person."""
        left_out = ", ".join(f"{count} {reason}" for reason, count in self.rejected.items())
        if self.worker is None:
            return f"no worker can take it: {left_out or 'no worker is known yet'}"
        compared = ", ".join(f"{shown_name(name)} {score:.2f}" for name, score in self.scores)
        text = f"{shown_name(self.worker.name)} by {self.strategy.value} among {self.eligible}"
        if compared:
            text += f" (compared: {compared})"
        return text + (f"; left out: {left_out}" if left_out else "")


@dataclass(frozen=True, slots=True)
class _Weights:
    load: float
    cached: float = 0.0
    near: float = 0.0
    reliable: float = 0.1


_WEIGHTS: Final[Mapping[Strategy, _Weights]] = MappingProxyType(
    {
        Strategy.LEAST_LOADED: _Weights(load=0.9),
        Strategy.AFFINITY: _Weights(load=0.4, cached=0.5),
        Strategy.PROXIMITY: _Weights(load=0.4, near=0.5),
        Strategy.PRIVACY_AWARE: _Weights(load=0.9),
    }
)


def _strategy_of_level(privacy: PrivacyLevel) -> Strategy:
    """The strategy of a level: warm caches where a link does no harm, an even spread above."""
    if privacy in (PrivacyLevel.CONFIDENTIAL, PrivacyLevel.SECRET):
        return Strategy.PRIVACY_AWARE
    return Strategy.AFFINITY


def strategy_of(requirements: Requirements, setting: Strategy | None = None) -> Strategy:
    """The strategy in force: the task's own, then the setting's, then its level's.

    A warm cache ties two tasks together, which SECRET must not even prefer, whoever wishes it.
    """
    strategy = requirements.strategy or setting or _strategy_of_level(requirements.privacy)
    if strategy is Strategy.AFFINITY and requirements.privacy is PrivacyLevel.SECRET:
        return _strategy_of_level(requirements.privacy)
    return strategy


def select(
    requirements: Requirements,
    workers: Iterable[WorkerView],
    rng: Random,
    *,
    setting: Strategy | None = None,
    others: int = 0,
) -> Decision:
    """Choose a worker.

    Args:
        requirements: what the task needs.
        workers: the workers that serve the task's level, as they are known there.
        rng: source of the draw.
        setting: how to rank where the task does not say; by default as its level does.
        others: how many known workers serve other levels only.
    """
    chosen = strategy_of(requirements, setting)
    fit, rejected, hopeless = _filter(requirements, workers, others)
    fresh = [worker for worker in fit if worker.name not in requirements.avoid]
    if fresh and len(fresh) < len(fit):
        rejected["lost it before"] = len(fit) - len(fresh)
        fit = fresh
    if not fit:
        return Decision(None, chosen, rejected=rejected, hopeless=hopeless)
    # Equals stand in random order from here on, and sorting and min() keep it.
    rng.shuffle(fit)
    scores: list[tuple[WorkerView, float]] = []
    match chosen:
        case Strategy.RANDOM:
            best = fit[0]
        case Strategy.ROUND_ROBIN:
            best = min(fit, key=lambda worker: worker.turn)
        case Strategy.PRIVACY_AWARE:
            scores = _rank(requirements, fit, chosen)
            enough = WELL_ENOUGH * scores[0][1]
            best = rng.choice([worker for worker, score in scores if score >= enough])
        case _:
            scores = _rank(requirements, fit[:DRAWN], chosen)
            best = scores[0][0]
    shown = tuple((worker.name, score) for worker, score in scores[:SHOWN])
    return Decision(best, chosen, shown, len(fit), rejected)


def _filter(
    requirements: Requirements, workers: Iterable[WorkerView], others: int
) -> tuple[list[WorkerView], dict[str, int], bool]:
    fit: list[WorkerView] = []
    rejected: Counter[str] = Counter({"of another level": others} if others else {})
    lasting = others
    for worker in workers:
        if reason := _lasting_misfit(requirements, worker):
            lasting += 1
        else:
            reason = _present_misfit(worker)
        if reason:
            rejected[reason] += 1
        else:
            fit.append(worker)
    return fit, dict(rejected), 0 < lasting == rejected.total() and not fit


def _lasting_misfit(requirements: Requirements, worker: WorkerView) -> str:
    """Why a worker cannot take a task even when it is idle; empty if it can."""
    if requirements.kind not in worker.kinds:
        return f"without {requirements.kind}"
    if requirements.groups and not requirements.groups & worker.groups:
        return "in other groups"
    if not _lends_enough(worker, requirements):
        short = next(shortfalls(requirements, worker))
        return f"with less than {short.amount(requirements)}"
    if worker.name in requirements.refused_by:
        return "refused it"
    return ""


def _lends_enough(worker: WorkerView, wanted: Requirements) -> bool:
    """Whether there are no shortfalls; by itself because it is asked of every worker."""
    enough = worker.memory_bytes >= wanted.memory_bytes
    if not enough or worker.limits is None or wanted.limits is None:
        return enough
    return worker.limits.cover(wanted.limits)


def shortfalls(requirements: Requirements, worker: Lends) -> Iterator[Measure]:
    """Of what a worker gives less than a task may use; what either does not say falls not short."""
    for measure in MEASURES:
        wanted, lent = measure.of(requirements), measure.of(worker)
        if wanted is not None and lent is not None and lent < wanted:
            yield measure


def _present_misfit(worker: WorkerView) -> str:
    """Why a worker cannot take anything now; empty if it can."""
    if worker.state is not WorkerState.READY:
        return worker.state.value
    if worker.leased >= worker.places:
        return "full"
    return ""


def _rank(
    requirements: Requirements, workers: Sequence[WorkerView], strategy: Strategy
) -> list[tuple[WorkerView, float]]:
    scored = [(worker, _score(requirements, worker, strategy)) for worker in workers]
    return sorted(scored, key=lambda item: -item[1])


def _score(requirements: Requirements, worker: WorkerView, strategy: Strategy) -> float:
    weights = _WEIGHTS[strategy]
    free = 1 - worker.leased / worker.places
    warm = requirements.module in worker.cached
    near = bool(requirements.near & worker.groups)
    return (
        weights.load * free
        + weights.cached * warm
        + weights.near * near
        + weights.reliable / (1 + worker.failures + worker.doubt)
    )
