"""Which of several backends acts on an attempt: the rule, without a database, a clock or a lock.

Each backend has a row with a number that it counts up, its *beat*. Nobody's clock stands in it:

1. A backend acts for one lease after the beginning of the last beat that the database took.
2. Who reads the same beat of another for a whole lease, without a break in his own looking, takes
   that one for dead: he deletes its row, if the beat is still the same, and takes its attempts.
3. Every change of an attempt is written under a lock on its owner's row. Without that row there is
   no change: a backend that was taken for dead, rightly or not, is *fenced*, and joins anew.

Only lengths of time are compared, each measured by one machine. So no wall clock, wrong or put
right, lets two act; and what the time cannot prove, because a process may stand still between its
look at the clock and its deed, the third point does.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

from fog_compute.errors import FogError

__all__ = [
    "STANDINGS",
    "Sign",
    "Standing",
    "Tenure",
    "TenureDeed",
    "TenureEvent",
    "UnexpectedTenure",
    "Watch",
    "look",
]

BEATS_IN_LEASE: Final = 4
"""Beats that a backend tries within one lease."""

BREAK: Final = 0.5
"""The part of a lease after which who looked last begins to look anew."""


class UnexpectedTenure(FogError):
    """An event that cannot happen to a backend as it stands."""


class Standing(enum.StrEnum):
    """How a backend stands to the attempts that it owns."""

    APART = "apart"  # it has no row: it owns nothing
    ACTING = "acting"  # nobody can have taken it for dead
    LAPSED = "lapsed"  # no beat was taken for a lease: it may have been


class TenureEvent(enum.StrEnum):
    """What can happen to a backend."""

    JOINED = "joined"  # its new row is in the database
    BEAT = "beat"  # the database took a beat
    LATE = "late"  # a lease is over since the last one began
    FENCED = "fenced"  # its row is gone


class TenureDeed(enum.StrEnum):
    """What follows at once."""

    TAKE = "take"  # go on with all that it owns, and can take over
    LET_GO = "let_go"  # forget all that it owned; another has it


Step: TypeAlias = tuple[Standing, tuple[TenureDeed, ...]]

STANDINGS: Final[Mapping[Standing, Mapping[TenureEvent, Step]]] = MappingProxyType(
    {
        Standing.APART: {
            TenureEvent.JOINED: (Standing.ACTING, (TenureDeed.TAKE,)),
        },
        Standing.ACTING: {
            TenureEvent.BEAT: (Standing.ACTING, ()),
            TenureEvent.LATE: (Standing.LAPSED, ()),
            TenureEvent.FENCED: (Standing.APART, (TenureDeed.LET_GO,)),
        },
        Standing.LAPSED: {
            TenureEvent.BEAT: (Standing.ACTING, ()),
            TenureEvent.LATE: (Standing.LAPSED, ()),
            TenureEvent.FENCED: (Standing.APART, (TenureDeed.LET_GO,)),
        },
    }
)


@dataclass(frozen=True, slots=True)
class Tenure:
    """What a backend knows of itself.

    Attributes:
        standing: as of the last event.
        until: when its lease ends, by its own count of seconds.
    """

    standing: Standing = Standing.APART
    until: float = 0.0

    def acts(self, now: float) -> bool:
        """Whether it may act on its attempts now."""
        return self.standing is Standing.ACTING and now < self.until

    def after(
        self, event: TenureEvent, *, until: float | None = None
    ) -> tuple[Tenure, tuple[TenureDeed, ...]]:
        """Follow an event; ``until`` is the lease's new end, where the event brings one.

        Raises:
            UnexpectedTenure: the table has no such line.
        """
        try:
            standing, deeds = STANDINGS[self.standing][event]
        except KeyError:
            raise UnexpectedTenure(
                f"a backend that is {self.standing} does not allow {event}"
            ) from None
        return Tenure(standing, self.until if until is None else until), deeds


@dataclass(frozen=True, slots=True)
class Sign:
    """A backend's row, as it was read."""

    backend: str
    beat: int


@dataclass(frozen=True, slots=True)
class Watch:
    """What a backend saw of the others.

    Attributes:
        looked_at: when it looked last; None before.
        seen: the beat of each that was read last, and since when it is the same.
    """

    looked_at: float | None = None
    seen: Mapping[str, tuple[int, float]] = field(default_factory=dict)


def look(
    watch: Watch, signs: Iterable[Sign], now: float, lease_s: float
) -> tuple[Watch, tuple[Sign, ...]]:
    """Look at the others' rows; return what is known now, and who is taken for dead.

    Args:
        watch: what was known before.
        signs: the rows of all others.
        now: when they had been read, by this machine's count of seconds.
        lease_s: seconds without a new beat after which a backend does not act any more.
    """
    broken = watch.looked_at is None or now - watch.looked_at > BREAK * lease_s
    before = {} if broken else watch.seen
    seen: dict[str, tuple[int, float]] = {}
    dead: list[Sign] = []
    for sign in signs:
        known = before.get(sign.backend)
        since = now if known is None or known[0] != sign.beat else known[1]
        seen[sign.backend] = sign.beat, since
        if now - since >= lease_s:
            dead.append(sign)
    return Watch(now, seen), tuple(dead)
