"""Which worker gets a task: filter, score, then the best of a few drawn at random.

Pure: workers and requirements in, a :class:`Decision` that explains itself out. What the
coordinator knows about load is always a little old, so the best of two random candidates beats
the best of all (everybody would run to the same worker), and a worker that lies about being idle
gets no more than its share.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Final

from fog_compute.levels import PrivacyLevel
from fog_compute.units import format_bytes
from fog_compute.vpn.directory import shown_name

__all__ = [
    "Decision",
    "Requirements",
    "Strategy",
    "WorkerState",
    "WorkerView",
    "default_strategy",
    "select",
]

DRAWN: Final = 2
"""Candidates drawn for the final comparison."""

PRIVACY_TOP: Final = 4
"""Candidates among which ``privacy_aware`` draws evenly."""

QUEUE_PER_SLOT: Final = 2
"""Attempts that one worker may hold for us per slot: one runs while the next is on its way."""


class Strategy(enum.StrEnum):
    """How the candidates that can run a task are ranked."""

    LEAST_LOADED = "least_loaded"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    AFFINITY = "affinity"
    PROXIMITY = "proximity"
    PRIVACY_AWARE = "privacy_aware"


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
        slots: tasks that it runs at once.
        memory_bytes: memory that one task may have there.
        groups: groups that it serves.
        level: the level whose tasks it takes; None for any.
        state: whether it may be asked now.
        leased: attempts that it holds for this coordinator.
        cached: modules that it has from this coordinator, by their SHA-256.
        failures: attempts in a row that it lost.
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
    cached: frozenset[str] = frozenset()
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a task needs of a worker. Nothing here says whose task it is.

    Attributes:
        kind: the kind of task.
        memory_bytes: linear memory that the task may use.
        privacy: its level.
        module: SHA-256 of its module; lets ``affinity`` find a warm cache.
        groups: groups of which the worker must serve one; empty for any.
        near: groups that count as close for ``proximity``.
        avoid: workers that lost this very task before, used only when nobody else is left.
        refused_by: workers that refused this very task, not used.
    """

    kind: str
    memory_bytes: int = 0
    privacy: PrivacyLevel = PrivacyLevel.PRIVATE
    module: str | None = None
    groups: frozenset[str] = frozenset()
    near: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()
    refused_by: frozenset[str] = frozenset()

    @property
    def need(self) -> Requirements:
        """What decides whether any worker fits at all, without what only ranks those that do."""
        return Requirements(
            self.kind,
            self.memory_bytes,
            self.privacy,
            groups=self.groups,
            refused_by=self.refused_by,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of one placement.

    Attributes:
        worker: the chosen worker, or None.
        strategy: how candidates were ranked.
        scores: the candidates that were compared, best first, with their scores.
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


def default_strategy(privacy: PrivacyLevel) -> Strategy:
    """The strategy of a level: warm caches where a link does no harm, an even spread above."""
    if privacy in (PrivacyLevel.CONFIDENTIAL, PrivacyLevel.SECRET):
        return Strategy.PRIVACY_AWARE
    return Strategy.AFFINITY


def select(
    requirements: Requirements,
    workers: Iterable[WorkerView],
    rng: Random,
    *,
    strategy: Strategy | None = None,
    after: str | None = None,
) -> Decision:
    """Choose a worker.

    Args:
        requirements: what the task needs.
        workers: all known workers.
        rng: source of the draw.
        strategy: how to rank; by default that of the task's level.
        after: name of the worker chosen last, from which ``round_robin`` goes on.
    """
    chosen = default_strategy(requirements.privacy) if strategy is None else strategy
    fit, rejected, hopeless = _filter(requirements, workers)
    fresh = [worker for worker in fit if worker.name not in requirements.avoid]
    if fresh and len(fresh) < len(fit):
        rejected["lost it before"] = len(fit) - len(fresh)
        fit = fresh
    if not fit:
        return Decision(None, chosen, rejected=rejected, hopeless=hopeless)
    fit.sort(key=lambda worker: worker.name)
    if chosen is Strategy.RANDOM:
        return Decision(rng.choice(fit), chosen, (), len(fit), rejected)
    if chosen is Strategy.ROUND_ROBIN:
        return Decision(_next_in_turn(fit, after), chosen, (), len(fit), rejected)
    if chosen is Strategy.PRIVACY_AWARE:
        return _draw_from_top(requirements, fit, rejected, rng)
    drawn = rng.sample(fit, min(DRAWN, len(fit)))
    ranked = _rank(requirements, drawn, chosen)
    best = next(worker for worker in drawn if worker.name == ranked[0][0])
    return Decision(best, chosen, ranked, len(fit), rejected)


def _draw_from_top(
    requirements: Requirements, fit: list[WorkerView], rejected: dict[str, int], rng: Random
) -> Decision:
    ranked = _rank(requirements, fit, Strategy.PRIVACY_AWARE)[:PRIVACY_TOP]
    name = rng.choice(ranked)[0]
    worker = next(candidate for candidate in fit if candidate.name == name)
    return Decision(worker, Strategy.PRIVACY_AWARE, ranked, len(fit), rejected)


def _filter(
    requirements: Requirements, workers: Iterable[WorkerView]
) -> tuple[list[WorkerView], dict[str, int], bool]:
    fit: list[WorkerView] = []
    rejected: Counter[str] = Counter()
    lasting = 0
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
    if worker.level not in (None, requirements.privacy):
        return "of another level"
    if requirements.kind not in worker.kinds:
        return f"without {requirements.kind}"
    if requirements.groups and not requirements.groups & worker.groups:
        return "in other groups"
    if worker.memory_bytes < requirements.memory_bytes:
        return f"with less than {format_bytes(requirements.memory_bytes)} of memory"
    if worker.name in requirements.refused_by:
        return "refused it"
    return ""


def _present_misfit(worker: WorkerView) -> str:
    """Why a worker cannot take anything now; empty if it can."""
    if worker.state is not WorkerState.READY:
        return worker.state.value
    if worker.leased >= QUEUE_PER_SLOT * worker.slots:
        return "full"
    return ""


def _rank(
    requirements: Requirements, workers: Sequence[WorkerView], strategy: Strategy
) -> tuple[tuple[str, float], ...]:
    scored = ((worker.name, _score(requirements, worker, strategy)) for worker in workers)
    return tuple(sorted(scored, key=lambda item: (-item[1], item[0])))


def _score(requirements: Requirements, worker: WorkerView, strategy: Strategy) -> float:
    weights = _WEIGHTS[strategy]
    free = 1 - worker.leased / (QUEUE_PER_SLOT * worker.slots)
    # A warm cache ties two tasks together, which SECRET must not even prefer.
    warm = requirements.privacy is not PrivacyLevel.SECRET and requirements.module in worker.cached
    near = bool(requirements.near & worker.groups)
    return (
        weights.load * free
        + weights.cached * warm
        + weights.near * near
        + weights.reliable / (1 + worker.failures)
    )


def _next_in_turn(fit: Sequence[WorkerView], after: str | None) -> WorkerView:
    if after is not None:
        for worker in fit:
            if worker.name > after:
                return worker
    return fit[0]
