"""The attempts in a worker's hands, by handle: waiting, running, kept as a result, lost.

The handle is all that is known of an attempt's owner; nothing here says who sent what.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from fog_compute.clock import Clock
from fog_compute.observability import get_logger
from fog_compute.tasks.messages import (
    FINISHED,
    LOST,
    QUEUED,
    RETURNED,
    RUNNING,
    UNKNOWN,
    AttemptStatus,
)
from fog_compute.tasks.pacing import next_edge
from fog_compute.worker.attempts import Early, Held, module_id, refs_of
from fog_compute.worker.cache import BlobCache
from fog_compute.worker.journal import Journal, JournalUnusable
from fog_compute.worker.report import Counts
from fog_compute.worker.shares import Owner, Turns, furthest_above

__all__ = ["Holdings"]

LOST_REMEMBERED: Final = 4096
EARLY_WAITING: Final = 64
"""Modules that wait to be compiled before their tasks are here, of one for each session."""

RELEASE_TOLERANCE_S: Final = 0.001  # what adding up floating-point times may be off by

_log = get_logger("fog_compute.worker")


class Holdings:
    """Attempts from their acceptance until they are forgotten.

    Attributes:
        counts: what became of them since this process began.
    """

    def __init__(self, journal: Journal, cache: BlobCache, kept_s: float, clock: Clock) -> None:
        """Hold nothing but what ``journal`` kept; it remembers what is over for ``kept_s``."""
        self._journal: Final = journal
        self._cache: Final = cache
        self._kept_s: Final = kept_s
        self._clock: Final = clock
        self._held: Final[dict[bytes, Held]] = {}  # bounded by who adds; first come, first run
        self._unreleased: Final[dict[bytes, Held]] = {}  # finished and kept, not shown yet
        self._lost: Final[dict[bytes, None]] = {}
        self._returned: Final[dict[bytes, None]] = {}  # those that the journal could not be told
        self._queued: Final = asyncio.Event()
        self._early: Final[dict[Owner, Early]] = {}  # what free slots may compile
        self._compiling: Final[set[str]] = set()  # modules that are being compiled early
        self._turns: Final = Turns()
        self.counts: Final = Counts()

    def __len__(self) -> int:
        """How many wait or run."""
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        """Those that wait or run, as they are now."""
        return iter(tuple(self._held.values()))

    def __contains__(self, held: Held) -> bool:
        """Whether an attempt still waits or runs."""
        return self._held.get(held.handle) is held

    @property
    def kept_bytes(self) -> int:
        """Bytes of all results that wait for acknowledgement."""
        return self._journal.kept_bytes

    def knows(self, handle: bytes) -> bool:
        """Whether an attempt came and is not over."""
        return (
            handle in self._held
            or handle in self._lost
            or handle in self._returned
            or self._journal.knows(handle)
            or self._journal.returned(handle)
        )

    def over(self, handle: bytes) -> bool:
        """Whether an attempt was acknowledged or cancelled, which may be before it came."""
        return self._journal.over(handle)

    def add(self, held: Held) -> None:
        """Take an attempt in, with its blobs."""
        self._held[held.handle] = held
        early = self._early.get(held.owner)
        if early is not None and early.module_id == module_id(held):
            del self._early[held.owner]  # no longer
        self.counts.taken += 1
        self._cache.pin(refs_of(held.order))
        self._queued.set()

    def compile_early(self, early: Early) -> None:
        """Let a module be compiled by a slot that nothing waits for; few wait for that."""
        has_room = early.owner in self._early or len(self._early) < EARLY_WAITING
        if early.module_id not in self._compiling and has_room:
            self._early[early.owner] = early
            self._queued.set()

    async def next(self) -> Held | Early:
        """Return the attempt whose turn it is, once there is one; it has a slot from now on.

        One whose module is being compiled waits for that. Where nothing waits for a slot, a module
        may have it whose task is not here yet.
        """
        while True:
            waiting = [held for held in self._held.values() if self._could_run(held)]
            if waiting:
                owner = self._turns.next(held.owner for held in waiting)
                chosen = next(held for held in waiting if held.owner == owner)
                chosen.state, chosen.began_at = RUNNING, self._clock.monotonic()
                return chosen
            if self._early:
                early = self._early.pop(self._turns.next(self._early))
                self._compiling.add(early.module_id)
                return early
            self._queued.clear()
            await self._queued.wait()

    def had_slot(self, held: Held) -> None:
        """Charge an attempt's owner for the time that it had its slot."""
        self._turns.charge(held.owner, self._clock.monotonic() - held.began_at)

    def compiled(self, early: Early, seconds: float) -> None:
        """Charge an owner for the time that a module had a slot; its attempt may run now."""
        self._turns.charge(early.owner, seconds)
        self._compiling.discard(early.module_id)
        self._queued.set()

    def _could_run(self, held: Held) -> bool:
        return held.state == QUEUED and not self._is_compiled_early(held)

    def _is_compiled_early(self, held: Held) -> bool:
        return bool(self._compiling) and module_id(held) in self._compiling

    async def make_room(self, owner: Owner, capacity: int, kept_bytes: int) -> bool:
        """Say whether ``owner`` may bring one more attempt, at the cost of who has more than it.

        Of a full queue, whoever has most in it gets the last of his attempts back; of results that
        take too much room, whoever has most of them loses the oldest.

        Raises:
            JournalUnusable: results cannot be dropped now.
        """
        if (over := self._journal.kept_bytes - kept_bytes) >= 0:
            most = furthest_above(self._journal.kept_by, owner, 1)
            if most == owner:
                return False
            await self._journal.drop_oldest(most, over + 1)
        if len(self._held) < capacity:
            return True
        most = furthest_above(Counter(held.owner for held in self._held.values()), owner, 1)
        waiting = [h for h in self._held.values() if h.owner == most and h.state == QUEUED]
        if most == owner or not waiting:
            return False
        await self.note_given_back(waiting[-1:])
        if waiting[-1] in self and waiting[-1].state == QUEUED:
            self.stop(waiting[-1])
        return len(self._held) < capacity

    def awaited(self, handles: Iterable[bytes]) -> list[Held]:
        """Return those of these attempts whose end is still to be told."""
        known = (self._held.get(h) or self._unreleased.get(h) for h in handles)
        return [held for held in known if held is not None]

    # Ends

    async def finish(self, held: Held, result: bytes, receipt: bytes) -> float:
        """Keep a result and return the seconds until it may be shown: see `release`.

        Raises:
            JournalUnusable: it cannot be kept.
        """
        release_at = self._journal.now() + self._until_edge(held)
        await self._journal.finish(
            held.handle, held.owner, result, release_at, release_at + self._kept_s, receipt
        )
        self._unreleased[held.handle] = held
        self.counts.finished += 1
        self._let_go(held)
        # Writing it may have taken longer than to that edge.
        return self._until_edge(held)

    def release(self, held: Held) -> None:
        """Show a result, because its edge has come."""
        self._unreleased.pop(held.handle, None)
        held.tell()

    def lose(self, held: Held) -> None:
        """Remember that an attempt was lost; a bounded number of them."""
        self._lost[held.handle] = None
        self.counts.lost += 1
        _forget_oldest(self._lost)
        self._let_go(held)
        held.tell()

    async def note_given_back(self, held: Iterable[Held]) -> None:
        """Write down that attempts go elsewhere, before they do."""
        handles = [one.handle for one in held]
        until = self._journal.now() + self._kept_s
        self.counts.returned += len(handles)
        try:
            await self._journal.give_back(handles, until)
        except JournalUnusable as err:
            _log.warning("attempts.not_given_back", reason=err.message)
            self._returned.update(dict.fromkeys(handles))  # as long as this process lives
            _forget_oldest(self._returned)

    async def give_back(self, held: Held) -> None:
        """Let an attempt go elsewhere whose run has ended without a result."""
        await self.note_given_back([held])
        self._let_go(held)
        held.tell()

    def stop(self, held: Held) -> None:
        """End an attempt, whatever it is doing; who waits for news of it is told."""
        if held.running is not None:
            held.running.cancel()
        self._let_go(held)
        held.tell()

    async def forget(self, handles: Iterable[bytes], *, forestall: bool = False) -> None:
        """Drop attempts for good, whatever they are doing.

        Unknown ones stay unknown, or with ``forestall`` will not be taken when they come.

        Raises:
            JournalUnusable: that they are over cannot be kept.
        """
        known, unknown = [], []
        for handle in dict.fromkeys(handles):
            if self.knows(handle):
                known.append(handle)
            elif not self.over(handle):
                unknown.append(handle)
        for handle in known:
            self._lost.pop(handle, None)
            self._returned.pop(handle, None)
            if (held := self._held.get(handle)) is not None:
                self.stop(held)
        until = self._journal.now() + self._kept_s
        await self._journal.forget(known, until, unknown if forestall else ())

    async def expire(self) -> None:
        """Drop results that nobody asked for in time."""
        try:
            await self._journal.expire()
        except JournalUnusable as err:
            _log.error("journal.not_swept", reason=err.message)

    def _let_go(self, held: Held) -> None:
        """Make room for another attempt and free the blobs of this one; once."""
        if self._held.pop(held.handle, None) is not None:
            self._cache.unpin(refs_of(held.order))
        held.ended.set()

    def _until_edge(self, held: Held) -> float:
        elapsed = self._clock.monotonic() - held.accepted_at
        return max(0.0, next_edge(elapsed) - elapsed)

    # What is told

    def status(
        self, handle: bytes, offset: int, length: int
    ) -> tuple[AttemptStatus, dict[bytes, bytes]]:
        """Return where an attempt stands, and up to ``length`` bytes of its result.

        Raises:
            JournalUnusable: results cannot be read now.
        """
        held = self._held.get(handle)
        if held is not None:
            running = held.state == RUNNING and held.slot is not None
            if not running or held.slot is None:
                compiling = self._is_compiled_early(held)
                return AttemptStatus(handle, held.state, compiling=compiling), {}
            tail, compiling = held.slot.place.log_tail(), held.slot.compiling
            return AttemptStatus(handle, held.state, log_tail=tail, compiling=compiling), {}
        kept = self._journal.get(handle, offset, length)
        if kept is None:
            if handle in self._lost:
                return AttemptStatus(handle, LOST), {}
            returned = handle in self._returned or self._journal.returned(handle)
            state = RETURNED if returned else UNKNOWN
            return AttemptStatus(handle, state), {}
        now = self._journal.now()
        if handle in self._unreleased or now + RELEASE_TOLERANCE_S < kept.release_at:
            return AttemptStatus(handle, RUNNING), {}
        status = AttemptStatus(
            handle,
            FINISHED,
            result_id=kept.result_id,
            result_total=kept.total,
            offset=min(offset, kept.total),
            receipt=kept.receipt,
        )
        return status, {handle: kept.piece}


def _forget_oldest(handles: dict[bytes, None]) -> None:
    """Remember a bounded number of attempts that came to nothing."""
    while len(handles) > LOST_REMEMBERED:
        del handles[next(iter(handles))]
