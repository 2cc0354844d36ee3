"""The workers as this coordinator knows them at each level, and the choice among them."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from types import MappingProxyType
from typing import Final

from fog_compute.backoff import Backoff
from fog_compute.clock import Clock, SystemClock
from fog_compute.coordinator.capacity import Capacity
from fog_compute.coordinator.placement import (
    MEASURES,
    Decision,
    Measure,
    Requirements,
    WorkerState,
    WorkerView,
    select,
    shortfalls,
)
from fog_compute.levels import PrivacyLevel
from fog_compute.observability import get_logger
from fog_compute.observability.metrics import TaskMetrics
from fog_compute.strategies import Strategy
from fog_compute.tasks import AttemptState
from fog_compute.vpn.directory import WorkerDirectory, WorkerOffer

__all__ = ["Shortfall", "WorkerRegistry", "by_state"]

_log = get_logger("fog_compute.coordinator")

BUSY: Final = Backoff(0.25, 10)
SILENT: Final = Backoff(2, 60)
SETTLES_S: Final = 330.0
"""For so long a worker that has just come may come to offer more: levels, and the kind python,
whose interpreter a slow machine compiles for up to five minutes."""
DOUBT_FADES: Final = 0.9
"""What is left of the doubts about a worker after each task that it brings to its end."""

_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(slots=True)
class _Seen:
    """What this coordinator saw of one worker at one level; no other level knows of it."""

    busy_answers: int = 0
    busy_until: datetime | None = None
    silent: int = 0
    silent_until: datetime | None = None
    failures: int = 0
    doubt: float = 0.0
    cached: set[str] = field(default_factory=set)
    capacity: Capacity = field(default_factory=Capacity)
    turn: int = 0

    def state(self, now: datetime) -> WorkerState:
        if self.silent_until is not None and self.silent_until > now:
            return WorkerState.LOST
        if self.busy_until is not None and self.busy_until > now:
            return WorkerState.BUSY
        return WorkerState.READY


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What no listed worker offers a task.

    Attributes:
        text: it in one line.
        measures: of what the task wants too much, if that is it.
        certain: whether the workers that are listed will not offer it in a moment, either.
    """

    text: str
    measures: tuple[Measure, ...] = ()
    certain: bool = True

    def refusal(self) -> str:
        """What to tell of a task that is not to wait."""
        less = " or ".join(f"`{measure.field}`" for measure in self.measures)
        lower = f"lower {less}, or " if less else ""
        return f"{self.text}: {lower}let it wait for one with `wait_for_worker`"


@dataclass(slots=True)
class _Known:
    """One listed worker, and since when it is."""

    offer: WorkerOffer
    since: datetime
    seen: dict[PrivacyLevel, _Seen]

    @property
    def levels(self) -> tuple[PrivacyLevel, ...]:
        """Where it may be asked."""
        return tuple(PrivacyLevel) if self.offer.level is None else (self.offer.level,)


class WorkerRegistry:
    """Knows the workers of the network's list and picks one for a task.

    Load is learned, not asked: from this coordinator's own leases, from ``busy`` answers, from what
    was finished, and from silence. Nothing of it is sent anywhere. A worker that serves every level
    is another worker at each: what was learned at one never steers another, so that who watches one
    level learns nothing of the others.
    """

    def __init__(
        self,
        directory: WorkerDirectory,
        *,
        clock: Clock | None = None,
        rng: Random | None = None,
        strategy: Strategy | None = None,
        near: frozenset[str] = frozenset(),
        metrics: TaskMetrics | None = None,
    ) -> None:
        """Start with no worker known.

        Args:
            directory: where the list of workers is read.
            clock: the time.
            rng: source of all draws.
            strategy: how to rank where a task does not say, in place of each level's own.
            near: groups whose workers count as near for ``proximity``.
            metrics: counts workers that fall silent.
        """
        self._directory: Final = directory
        self._clock: Final = SystemClock() if clock is None else clock
        self._rng: Final = secrets.SystemRandom() if rng is None else rng
        self._strategy: Final = strategy
        self._near: Final = near
        self._metrics: Final = metrics
        self._known: Final[dict[str, _Known]] = {}
        self._leased: Final[Counter[tuple[str, PrivacyLevel]]] = Counter()
        self._turns = 0

    async def refresh(self) -> bool:
        """Read the list of workers again; return whether anything changed.

        Cancelled, it leaves the old view.

        Raises:
            ChannelError: the list cannot be had now; the old view stays.
        """
        offers = {offer.name: offer for offer in await self._directory.workers()}
        before = {name: known.offer for name, known in self._known.items()}
        for name, offer in offers.items():
            known = self._known.get(name)
            if known is None or known.offer.address != offer.address:
                self._known[name] = _Known(offer, self._clock.now(), {})
            else:
                known.offer = offer
            # Who comes is the last in turn: a new name buys no turn before the others.
            for level in self._known[name].levels:
                self._known[name].seen.setdefault(level, _Seen(turn=self._turns))
        for name in self._known.keys() - offers.keys():
            del self._known[name]
        if before != offers:
            _log.info("workers.changed", count=len(offers))
        return before != offers

    def workers(self) -> tuple[WorkerView, ...]:
        """All listed workers, by name, for people: what was seen at its levels put together."""
        now = self._clock.now()
        return tuple(
            _together([self._view(known, level, now) for level in known.levels])
            for _, known in sorted(self._known.items())
        )

    def at(self, level: PrivacyLevel) -> tuple[WorkerView, ...]:
        """The workers that serve a level, as they are known there."""
        now = self._clock.now()
        return tuple(
            self._view(known, level, now)
            for known in self._known.values()
            if known.offer.level in (None, level)
        )

    def select_node(
        self,
        requirements: Requirements,
        *,
        leased: Mapping[str, int] = _NOTHING,
    ) -> Decision:
        """Choose the worker for a task; the decision explains itself.

        Changes nothing: what is leased is said by :meth:`note_leased`.

        Args:
            requirements: what the task needs.
            leased: attempts per worker to count on top of the known ones.
        """
        views = self.at(requirements.privacy)
        if leased:
            views = tuple(
                replace(view, leased=view.leased + leased.get(view.name, 0)) for view in views
            )
        if self._near:
            requirements = replace(requirements, near=self._near)
        others = len(self._known) - len(views)
        return select(requirements, views, self._rng, setting=self._strategy, others=others)

    def shortfall(self, requirements: Requirements) -> Shortfall | None:
        """What no worker that is listed at the level offers a task; None if one could take it.

        Where none is listed at all, nothing is known of what will be.
        """
        listed = list(self._known.values())
        level = requirements.privacy
        known = [one for one in listed if one.offer.level in (None, level)]
        groups = requirements.groups
        ours = [one for one in known if not groups or groups.intersection(one.offer.groups)]
        able = [one for one in ours if requirements.kind in one.offer.kinds]
        if able:
            return self._too_small(requirements, [one.offer for one in able])
        if not listed:
            return None
        if not known:
            text = f"no listed worker serves {level.value}"
        elif not ours:
            text = f"no listed worker serves the task's group at {level.value}"
        else:
            text = f"no listed worker runs tasks of kind {requirements.kind} at {level.value}"
        # One that comes is listed level by level, and with more kinds once they are prepared.
        settled = self._clock.now() - timedelta(seconds=SETTLES_S)
        return Shortfall(text, certain=all(one.since <= settled for one in listed))

    def _too_small(
        self, requirements: Requirements, able: Sequence[WorkerOffer]
    ) -> Shortfall | None:
        """Of what even the best worker lends too little."""
        short = [set(shortfalls(requirements, offer)) for offer in able]
        if not all(short):
            return None
        level = requirements.privacy.value
        for measure in MEASURES:
            if all(measure in of_one for of_one in short):
                most = max(measure.of(offer) or 0 for offer in able)
                return Shortfall(
                    f"no listed worker lends {measure.amount(requirements)} at {level}, and the"
                    f" largest lends {measure.shown(most)}",
                    (measure,),
                )
        wanted = tuple(one for one in MEASURES if any(one in of_one for of_one in short))
        amounts = " and ".join(one.amount(requirements) for one in wanted)
        return Shortfall(f"no listed worker lends {amounts} together at {level}", wanted)

    def next_change(self) -> datetime | None:
        """When a worker that may not be asked now may be asked again; None if there is none."""
        now = self._clock.now()
        times = [
            until
            for known in self._known.values()
            for seen in known.seen.values()
            for until in (seen.busy_until, seen.silent_until)
            if until is not None and until > now
        ]
        return min(times, default=None)

    def note_leased(self, name: str, level: PrivacyLevel) -> None:
        """Count an attempt given to a worker."""
        self._leased[name, level] += 1
        if seen := self._seen(name, level):
            self._turns += 1
            seen.turn = self._turns

    def note_ended(self, name: str, level: PrivacyLevel, how: AttemptState) -> None:
        """Count an attempt as no longer with a worker; only a settled one makes up for losses.

        One that expired may have done so through our own trouble: see :meth:`note_expired`.
        """
        held = self._leased[name, level]
        self._leased[name, level] -= 1
        if not self._leased[name, level]:
            del self._leased[name, level]
        if seen := self._seen(name, level):
            if how is AttemptState.LOST:
                self._note_failure(seen)
            elif how is AttemptState.SETTLED:
                seen.failures = 0
                seen.doubt *= DOUBT_FADES
                seen.capacity = seen.capacity.after_finish(held, self._clock.now())

    def note_answer(self, name: str, level: PrivacyLevel) -> None:
        """The worker answered: it is there."""
        if seen := self._seen(name, level):
            seen.silent = 0
            seen.silent_until = None
            held = self._leased[name, level]
            seen.capacity = seen.capacity.after_answer(held, self._clock.now())

    def note_accepted(self, name: str, level: PrivacyLevel, module: str | None) -> None:
        """The worker took a task, and holds its module now."""
        self.note_answer(name, level)
        if seen := self._seen(name, level):
            seen.busy_answers = 0
            seen.busy_until = None
            if module is not None:
                seen.cached.add(module)

    def note_busy(self, name: str, level: PrivacyLevel) -> None:
        """The worker has no room: leave it alone for a while, longer each time."""
        self.note_answer(name, level)
        if seen := self._seen(name, level):
            now = self._clock.now()
            if seen.busy_until is not None and seen.busy_until > now:
                return  # one of several refusals of one moment
            seen.busy_until = now + BUSY.delay(seen.busy_answers)
            seen.busy_answers += 1
            seen.capacity = seen.capacity.after_trouble(now)

    def note_silence(self, name: str, level: PrivacyLevel) -> None:
        """The worker did not answer: give it nothing new for a while, longer each time."""
        if seen := self._seen(name, level):
            if not seen.silent and self._metrics is not None:
                self._metrics.worker_losses.labels(level.value).inc()
            seen.silent_until = self._clock.now() + SILENT.delay(seen.silent)
            seen.silent += 1

    def note_expired(self, name: str, level: PrivacyLevel) -> None:
        """The worker could be asked, and an attempt came to nothing all the same."""
        self.note_silence(name, level)
        if seen := self._seen(name, level):
            self._note_failure(seen)

    def note_contradicted(self, name: str, level: PrivacyLevel) -> None:
        """The worker claimed a fault of a task that others did not find.

        It is held against it for longer than a loss, and no more than that weighs: who says
        "done" without having done anything would otherwise drive out who tells the truth.
        """
        if seen := self._seen(name, level):
            seen.doubt += 1.0
            seen.capacity = seen.capacity.after_trouble(self._clock.now())

    def forgive_silence(self, level: PrivacyLevel) -> None:
        """It was the network of a level that was silent, and no worker."""
        for known in self._known.values():
            if seen := known.seen.get(level):
                seen.silent = 0
                seen.silent_until = None

    def note_forgot(self, name: str, level: PrivacyLevel) -> None:
        """The worker restarted or lost its cache."""
        if seen := self._seen(name, level):
            seen.cached.clear()

    def _note_failure(self, seen: _Seen) -> None:
        seen.failures += 1
        seen.capacity = seen.capacity.after_trouble(self._clock.now())

    def _seen(self, name: str, level: PrivacyLevel) -> _Seen | None:
        known = self._known.get(name)
        return None if known is None else known.seen.get(level)

    def _view(self, known: _Known, level: PrivacyLevel, now: datetime) -> WorkerView:
        offer, seen = known.offer, known.seen[level]
        return WorkerView(
            name=offer.name,
            address=offer.address,
            kinds=frozenset(offer.kinds),
            slots=offer.slots,
            memory_bytes=offer.memory_bytes,
            groups=frozenset(offer.groups),
            level=offer.level,
            state=seen.state(now),
            leased=self._leased[offer.name, level],
            places=seen.capacity.places(offer.slots, now),
            cached=frozenset(seen.cached),
            failures=seen.failures,
            doubt=seen.doubt,
            turn=seen.turn,
            limits=offer.limits,
        )


def _together(views: Sequence[WorkerView]) -> WorkerView:
    """One worker at several levels: as ready as it is anywhere."""
    if len(views) == 1:
        return views[0]
    states = {view.state for view in views}
    return replace(
        views[0],
        state=next(state for state in WorkerState if state in states),
        leased=sum(view.leased for view in views),
        places=sum(view.places for view in views),
        cached=frozenset(),
        failures=max(view.failures for view in views),
        doubt=max(view.doubt for view in views),
    )


def by_state(workers: Sequence[WorkerView]) -> dict[WorkerState, int]:
    """How many workers are in each state; every state has an entry."""
    counts = dict.fromkeys(WorkerState, 0)
    for worker in workers:
        counts[worker.state] += 1
    return counts
