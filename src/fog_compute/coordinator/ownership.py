"""Keeps this backend the owner of its attempts, and takes over what a dead one had.

The rule is `fog_compute.store.ownership`; here it is carried out, beside everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from fog_compute.clock import Clock
from fog_compute.errors import StoreAway, StoreError
from fog_compute.observability import get_logger
from fog_compute.store.backends import Backends, Taken
from fog_compute.store.changes import Fenced
from fog_compute.store.ownership import (
    BEATS_IN_LEASE,
    Sign,
    Standing,
    Tenure,
    TenureDeed,
    TenureEvent,
    Watch,
    look,
)

__all__ = ["Ownership"]

_log = get_logger("fog_compute.coordinator")

ADOPT_EVERY: Final = 16
"""Beats between two looks for attempts that nobody owns: others cannot speak for their group."""

LAPSED: Final = "this backend did not reach the database in time: another may have taken its tasks"


class Ownership:
    """This backend's row: joined, counted up, lost, joined again.

    Attributes:
        others: how many other backends there are, as of the last beat.
    """

    __slots__ = (
        "_backends",
        "_beats",
        "_before",
        "_clock",
        "_groups",
        "_lease_s",
        "_let_go",
        "_look_again",
        "_take",
        "_tenure",
        "_turn",
        "_watch",
        "others",
    )

    def __init__(
        self,
        backends: Backends,
        clock: Clock,
        lease_s: float,
        *,
        groups: Callable[[], Collection[str]],
        take: Callable[[Collection[str | None]], Awaitable[None]],
        let_go: Callable[[], None],
        look_again: Callable[[], None],
    ) -> None:
        """Have no row yet.

        Args:
            backends: this process among the others.
            clock: for lengths of time alone.
            lease_s: seconds without a beat after which a backend counts as dead.
            groups: those that it speaks for.
            take: goes on with all that it owns, and is told who acted on that before.
            let_go: forgets all that it owned.
            look_again: looks at what others may have let go, at every beat while there are others.
        """
        self._backends: Final = backends
        self._clock: Final = clock
        self._lease_s: Final = lease_s
        self._groups: Final = groups
        self._take: Final = take
        self._let_go: Final = let_go
        self._look_again: Final = look_again
        self._tenure = Tenure()
        self._watch = Watch()
        self._turn: Final = asyncio.Lock()
        self._before: set[str | None] | None = None  # of what is owned and not gone on with yet
        self._beats = 0
        self.others = 0

    @property
    def acts(self) -> bool:
        """Whether no other backend can have taken this one for dead."""
        return self._tenure.acts(self._clock.monotonic())

    def check(self) -> None:
        """Raise `StoreError` unless this backend acts on its attempts."""
        if not self.acts:
            raise StoreAway(LAPSED)

    async def assure(self) -> None:
        """See to it that this backend acts on its attempts, and knows all of them.

        Raises:
            StoreError: it does not, because the database cannot be asked.
        """
        if not self.acts or self._before is not None:
            await self._beat()
        self.check()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await self._clock.sleep(self._lease_s / BEATS_IN_LEASE)
            try:
                await self._beat()
            except StoreError as error:
                # Whoever acts learns it from `assure`, and says it.
                _log.debug("beat.failed", reason=str(error))

    async def _beat(self) -> None:
        """Count up, or join; go on with what is owned now, and was not before."""
        async with self._turn:
            begun = self._clock.monotonic()
            if self._tenure.standing is Standing.ACTING and begun >= self._tenure.until:
                self._follow(TenureEvent.LATE)
            try:
                dead = await self._count(begun)
                self._beats += 1
                if dead or self._beats % ADOPT_EVERY == 0:
                    await self._take_over(dead)
            except Fenced:
                _log.warning("backend.fenced")
                self._follow(TenureEvent.FENCED)
                await self._count(self._clock.monotonic())
            if self._before is not None:
                await self._take(frozenset(self._before))
                self._before = None

    async def _count(self, begun: float) -> tuple[Sign, ...]:
        """Beat, or join if there is no row; return who is taken for dead."""
        if self._tenure.standing is Standing.APART:
            taken = await self._backends.join(self._groups())
            self._watch = Watch()
            self._follow(TenureEvent.JOINED, begun)
            self._note(taken)
            return ()
        signs = await self._backends.beat()
        self._follow(TenureEvent.BEAT, begun)
        self.others = len(signs)
        if signs:
            self._look_again()
        self._watch, dead = look(self._watch, signs, self._clock.monotonic(), self._lease_s)
        return dead

    async def _take_over(self, dead: Sequence[Sign]) -> None:
        try:
            taken = await self._backends.take_over(dead, self._groups())
        except Fenced:
            raise
        except StoreError:
            # Perhaps it was written; then what is owned now must be looked for.
            self._before = (self._before or set()) | {sign.backend for sign in dead}
            raise
        self._note(taken)

    def _note(self, taken: Taken) -> None:
        if taken.gone:
            _log.info("backend.replaced", backends=len(taken.gone), attempts=taken.attempts)
        if taken.gone or taken.attempts:
            self._before = (self._before or set()) | taken.gone

    def _follow(self, event: TenureEvent, begun: float | None = None) -> None:
        until = None if begun is None else begun + self._lease_s
        self._tenure, deeds = self._tenure.after(event, until=until)
        for deed in deeds:
            if deed is TenureDeed.TAKE:
                self._before = {None}
            elif deed is TenureDeed.LET_GO:
                self._before = None
                self._let_go()
