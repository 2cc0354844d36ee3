"""The coordinator's view of the workers, and the choice among them."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from types import MappingProxyType
from typing import Final

from fog_compute.clock import Clock, SystemClock
from fog_compute.coordinator.placement import (
    Decision,
    Requirements,
    Strategy,
    WorkerState,
    WorkerView,
    select,
)
from fog_compute.errors import NotFound
from fog_compute.observability import get_logger
from fog_compute.tasks import AttemptState
from fog_compute.vpn.directory import WorkerDirectory, WorkerOffer

__all__ = ["FogCoordinator", "by_state"]

_log = get_logger("fog_compute.coordinator")

BUSY_PAUSE: Final = timedelta(milliseconds=250)
BUSY_PAUSE_MAX: Final = timedelta(seconds=10)
SILENT_PAUSE: Final = timedelta(seconds=2)
SILENT_PAUSE_MAX: Final = timedelta(seconds=60)
_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(slots=True)
class _Known:
    """One listed worker and what this coordinator saw of it."""

    offer: WorkerOffer
    busy_answers: int = 0
    busy_until: datetime | None = None
    silent: int = 0
    silent_until: datetime | None = None
    failures: int = 0
    cached: set[str] = field(default_factory=set)


class FogCoordinator:
    """Knows the workers of the network's list and picks one for a task.

    Load is learned, not asked: from this coordinator's own leases, from ``busy`` answers, and from
    silence. Nothing of it is sent anywhere.
    """

    def __init__(
        self,
        directory: WorkerDirectory,
        *,
        clock: Clock | None = None,
        rng: Random | None = None,
        strategy: Strategy | None = None,
    ) -> None:
        """Start with no worker known; ``strategy`` overrides the default of each level."""
        self._directory: Final = directory
        self._clock: Final = SystemClock() if clock is None else clock
        self._rng: Final = secrets.SystemRandom() if rng is None else rng
        self._strategy: Final = strategy
        self._known: Final[dict[str, _Known]] = {}
        self._leased: Final[Counter[str]] = Counter()
        self._last: str | None = None

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
                self._known[name] = _Known(offer)
            else:
                known.offer = offer
        for name in self._known.keys() - offers.keys():
            del self._known[name]
        if before != offers:
            _log.info("workers.changed", count=len(offers))
        return before != offers

    def workers(self) -> tuple[WorkerView, ...]:
        """All listed workers, by name."""
        now = self._clock.now()
        return tuple(self._view(self._known[name], now) for name in sorted(self._known))

    def select_node(
        self,
        requirements: Requirements,
        strategy: Strategy | None = None,
        *,
        leased: Mapping[str, int] = _NOTHING,
    ) -> Decision:
        """Choose the worker for a task; the decision explains itself.

        Changes nothing: what is leased is said by :meth:`note_leased`.

        Args:
            requirements: what the task needs.
            strategy: how to rank the candidates; by default the coordinator's, then the level's.
            leased: attempts per worker to count on top of the known ones.
        """
        views = self.workers()
        if leased:
            views = tuple(
                replace(view, leased=view.leased + leased.get(view.name, 0)) for view in views
            )
        chosen = self._strategy if strategy is None else strategy
        return select(requirements, views, self._rng, strategy=chosen, after=self._last)

    def next_change(self) -> datetime | None:
        """When a worker that may not be asked now may be asked again; None if there is none."""
        now = self._clock.now()
        times = [
            until
            for known in self._known.values()
            for until in (known.busy_until, known.silent_until)
            if until is not None and until > now
        ]
        return min(times, default=None)

    def note_leased(self, name: str) -> None:
        """Count an attempt given to a worker."""
        self._last = name
        self._leased[name] += 1

    def note_ended(self, name: str, how: AttemptState) -> None:
        """Count an attempt as no longer with a worker; only a settled one makes up for losses."""
        self._leased[name] -= 1
        if not self._leased[name]:
            del self._leased[name]
        if known := self._known.get(name):
            if how in (AttemptState.LOST, AttemptState.EXPIRED):
                known.failures += 1
            elif how is AttemptState.SETTLED:
                known.failures = 0

    def note_answer(self, name: str) -> None:
        """The worker answered: it is there."""
        if known := self._known.get(name):
            known.silent = 0
            known.silent_until = None

    def note_accepted(self, name: str, module: str | None) -> None:
        """The worker took a task, and holds its module now."""
        self.note_answer(name)
        if known := self._known.get(name):
            known.busy_answers = 0
            known.busy_until = None
            if module is not None:
                known.cached.add(module)

    def note_busy(self, name: str) -> None:
        """The worker has no room: leave it alone for a while, longer each time."""
        self.note_answer(name)
        if known := self._known.get(name):
            pause = min(BUSY_PAUSE * 2 ** min(known.busy_answers, 10), BUSY_PAUSE_MAX)
            known.busy_answers += 1
            known.busy_until = self._clock.now() + pause

    def note_silence(self, name: str) -> None:
        """The worker did not answer: give it nothing new for a while, longer each time."""
        if known := self._known.get(name):
            pause = min(SILENT_PAUSE * 2 ** min(known.silent, 10), SILENT_PAUSE_MAX)
            known.silent += 1
            known.silent_until = self._clock.now() + pause

    def forgive_silence(self) -> None:
        """It was the network that was silent, and no worker."""
        for known in self._known.values():
            known.silent = 0
            known.silent_until = None

    def note_forgot(self, name: str) -> None:
        """The worker restarted or lost its cache."""
        if known := self._known.get(name):
            known.cached.clear()

    def worker(self, name: str) -> WorkerView:
        """One worker.

        Raises:
            NotFound: it is not in the list.
        """
        known = self._known.get(name)
        if known is None:
            raise NotFound(f"worker {name} is not in the network's list: see `fog worker ls`")
        return self._view(known, self._clock.now())

    def _view(self, known: _Known, now: datetime) -> WorkerView:
        offer = known.offer
        state = WorkerState.READY
        if known.busy_until is not None and known.busy_until > now:
            state = WorkerState.BUSY
        if known.silent_until is not None and known.silent_until > now:
            state = WorkerState.LOST
        return WorkerView(
            name=offer.name,
            address=offer.address,
            kinds=frozenset(offer.kinds),
            slots=offer.slots,
            memory_bytes=offer.memory_bytes,
            groups=frozenset(offer.groups),
            level=offer.level,
            state=state,
            leased=self._leased[offer.name],
            cached=frozenset(known.cached),
            failures=known.failures,
        )


def by_state(workers: Sequence[WorkerView]) -> dict[WorkerState, int]:
    """How many workers are in each state; every state has an entry."""
    counts = dict.fromkeys(WorkerState, 0)
    for worker in workers:
        counts[worker.state] += 1
    return counts
