"""When to let others find us over Bluetooth: decisions alone.

A node advertises whenever it has an adapter and room for another who connects. An adapter that
refuses is asked again, at growing intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fog_compute.backoff import Backoff
from fog_compute.p2p.bitchat.radio.interface import Back, Closed, Gone, Link, Opened, RadioEvent

__all__ = ["Advertise", "AdvertiseEnded", "AdvertisePolicy", "BLEAdvertiser"]


@dataclass(frozen=True, slots=True)
class AdvertisePolicy:
    """All that can be chosen.

    Attributes:
        links: of others' connections that are taken; a phone's adapter has about as many.
        failures: how long an adapter that refused is left alone.
    """

    links: int = 8
    failures: Backoff = Backoff(first=2.0, most=60.0)  # noqa: RUF009 - it is frozen


@dataclass(frozen=True, slots=True)
class Advertise:
    """Begin or stop advertising, and say with :class:`AdvertiseEnded` whether that worked."""

    on: bool


@dataclass(frozen=True, slots=True)
class AdvertiseEnded:
    """What became of an :class:`Advertise`."""

    on: bool
    ok: bool


class BLEAdvertiser:
    """Whether others can find us."""

    __slots__ = ("_advertising", "_failures", "_links", "_not_before", "_policy", "_there")

    def __init__(self, policy: AdvertisePolicy) -> None:
        """Begin without an adapter; `Back` says that there is one."""
        self._policy: Final = policy
        self._links: Final[set[Link]] = set()
        self._advertising = False
        self._failures = 0
        self._not_before = float("-inf")
        self._there = False

    @property
    def advertising(self) -> bool:
        """Whether the radio was last told to advertise, and did not refuse."""
        return self._advertising

    def handle(self, event: RadioEvent | AdvertiseEnded, now: float) -> list[Advertise]:
        """Take in what happened, and say what is to be done; ``now`` in seconds."""
        match event:
            case Back():
                self._there = True
                self._advertising = False
                self._failures = 0
                self._not_before = now
            case Gone():
                self._there = self._advertising = False
            case Opened() if not event.initiated:
                self._links.add(event.link)
            case Closed():
                self._links.discard(event.link)
            case AdvertiseEnded():
                self._ended(event, now)
            case _:
                return []
        return self.due(now)

    def due(self, now: float) -> list[Advertise]:
        """What is to be done at this time without anything else happening."""
        wanted = self._there and len(self._links) < self._policy.links
        if wanted == self._advertising or not self._there or (wanted and now < self._not_before):
            return []
        self._advertising = wanted
        return [Advertise(wanted)]

    @property
    def next_due(self) -> float | None:
        """When :meth:`due` has something; None if only an event can change anything."""
        full = len(self._links) >= self._policy.links
        return None if not self._there or self._advertising or full else self._not_before

    def _ended(self, ended: AdvertiseEnded, now: float) -> None:
        if ended.ok:
            self._failures = 0
        elif ended.on and self._there:
            self._advertising = False
            self._not_before = now + self._policy.failures.after(self._failures)
            self._failures += 1
