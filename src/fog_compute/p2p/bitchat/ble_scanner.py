"""Whom to connect to over Bluetooth, and when: decisions alone.

An adapter scans or connects, not both: BlueZ refuses a second attempt with "operation already in
progress", and some chips drop what they hear while they connect. So one attempt is under way at a
time, scanning rests meanwhile, and an address that failed is left alone for longer each time
(facts: `TransportConfig.swift`, `BLEService.swift`; the traps: the change log of ble-reticulum).

Which of several good candidates is taken, chance decides: if all took the nearest, a crowd would
fall apart into clusters that do not hear each other.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from random import Random
from typing import Final, TypeAlias

from fog_compute.backoff import Backoff
from fog_compute.p2p.bitchat.radio.interface import (
    Back,
    Closed,
    Found,
    Gone,
    Link,
    Opened,
    RadioEvent,
)

__all__ = [
    "BLEScanner",
    "Cancel",
    "Connect",
    "ConnectEnded",
    "Scan",
    "ScanAction",
    "ScanPolicy",
    "ScanRefused",
]


@dataclass(frozen=True, slots=True)
class ScanPolicy:
    """All that can be chosen.

    Attributes:
        links: connections that this side keeps up at most.
        gap_s: shortest and longest time before the next attempt, in seconds; by chance, so that
            two who found each other do not both connect.
        floor_dbm: signal below which nobody is connected to,
        alone_dbm: and with nobody else to talk to.
        fresh_s: seconds after which an advertisement is out of date.
        steady_s: a link that is lost sooner counts as a failed attempt.
        scan_s: seconds of scanning in a row while there are links,
        rest_s: and seconds without, to save power and leave the air to the links.
        remembered: addresses in memory; of strangers the oldest are forgotten.
        failures: how long an address that failed is left alone.
        refused_s: seconds until an adapter is asked again that refused to scan.
    """

    links: int = 6
    gap_s: tuple[float, float] = (0.1, 0.9)
    floor_dbm: int = -90
    alone_dbm: int = -100
    fresh_s: float = 30.0
    steady_s: float = 5.0
    scan_s: float = 10.0
    rest_s: float = 10.0
    remembered: int = 512
    failures: Backoff = Backoff(first=4.0, most=300.0, jitter=0.5)  # noqa: RUF009 - it is frozen
    refused_s: float = 5.0


@dataclass(frozen=True, slots=True)
class ScanRefused:
    """The adapter did not begin to scan."""


@dataclass(frozen=True, slots=True)
class ConnectEnded:
    """The attempt that was asked for is over; `ok` if a link came of it."""

    address: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Scan:
    """Begin or stop scanning."""

    on: bool


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect to an address, and say with :class:`ConnectEnded` what became of it."""

    address: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give up the attempt that is under way: the other side has connected to us."""

    address: str


ScanAction: TypeAlias = Scan | Connect | Cancel


@dataclass(slots=True)
class _Address:
    """What is known of an address.

    Attributes:
        heard_at: when it was last heard; -inf if never.
        rssi: with which strength, in dBm; 0 if the radio does not say.
        failures: attempts in a row that failed.
        leave_until: when it may be tried again.
    """

    heard_at: float = float("-inf")
    rssi: int = 0
    failures: int = 0
    leave_until: float = float("-inf")


@dataclass(frozen=True, slots=True)
class _Use:
    """A link: to whom, by whom, since when."""

    address: str
    initiated: bool
    since: float


class BLEScanner:
    """Which addresses are near, which are connected to, and what to do next."""

    __slots__ = (
        "_addresses",
        "_connecting",
        "_links",
        "_next_at",
        "_phase_at",
        "_policy",
        "_resting",
        "_rng",
        "_scan_from",
        "_scanning",
        "_there",
    )

    def __init__(self, policy: ScanPolicy, rng: Random) -> None:
        """Begin without an adapter; `Back` says that there is one."""
        self._policy: Final = policy
        self._rng: Final = rng
        self._addresses: Final[OrderedDict[str, _Address]] = OrderedDict()
        self._links: Final[dict[Link, _Use]] = {}
        self._connecting = ""
        self._next_at = 0.0
        self._phase_at = 0.0
        self._resting = False
        self._scan_from = 0.0
        self._scanning = False
        self._there = False

    @property
    def scanning(self) -> bool:
        """Whether the radio was last told to scan."""
        return self._scanning

    def handle(
        self, event: RadioEvent | ConnectEnded | ScanRefused, now: float
    ) -> list[ScanAction]:
        """Take in what happened, and say what is to be done.

        Args:
            event: what the radio told, or what became of an attempt.
            now: seconds, of a clock that never goes back.
        """
        actions: list[ScanAction] = []
        match event:
            case Back():
                self._there = True
                self._scanning = False
            case Gone():
                self._there = self._scanning = False
                self._connecting = ""
                self._addresses.clear()
            case Found():
                self._heard(event, now)
            case Opened():
                self._opened(event, now, actions)
            case Closed():
                self._closed(event, now)
            case ConnectEnded():
                self._ended(event, now)
            case ScanRefused():
                self._scanning = False
                self._scan_from = now + self._policy.refused_s
            case _:
                return actions
        return actions + self.due(now)

    def shun(self, address: str, now: float, seconds: float) -> None:
        """Leave an address alone for a while, whatever happens with it."""
        known = self._known(address)
        known.leave_until = max(known.leave_until, now + seconds)

    def due(self, now: float) -> list[ScanAction]:
        """What is to be done at this time without anything else happening."""
        if not self._there:
            return []
        actions: list[ScanAction] = []
        if not self._connecting and self._room() and now >= self._next_at:
            address = self._choice(now)
            if address is not None:
                self._connecting = address
                self._scan(False, actions)
                actions.append(Connect(address))
        scan = not self._connecting and self._room() and not self._rests(now)
        self._scan(scan and now >= self._scan_from, actions)
        return actions

    @property
    def next_due(self) -> float | None:
        """When :meth:`due` may have something; None if only an event can change anything."""
        if not self._there or self._connecting or not self._room():
            return None
        times = [self._phase_at] if self._links else []
        if not self._scanning and not self._resting:
            times.append(self._scan_from)
        times += [
            at
            for address, known in self._addresses.items()
            if self._good(known) and not self._linked(address)
            if (at := max(self._next_at, known.leave_until)) - known.heard_at
            <= self._policy.fresh_s
        ]
        return min(times, default=None)

    def _heard(self, found: Found, now: float) -> None:
        known = self._known(found.address)
        if known.heard_at == float("-inf"):
            # Two who hear each other for the first time would both connect.
            self._next_at = max(self._next_at, now + self._rng.uniform(*self._policy.gap_s))
        known.heard_at = now
        known.rssi = found.rssi

    def _opened(self, opened: Opened, now: float, actions: list[ScanAction]) -> None:
        self._links[opened.link] = _Use(opened.address, opened.initiated, now)
        if not opened.initiated and opened.address and opened.address == self._connecting:
            actions.append(Cancel(opened.address))

    def _closed(self, closed: Closed, now: float) -> None:
        use = self._links.pop(closed.link, None)
        if use is None:
            return
        self._resting = False  # there is room now
        self._phase_at = now + self._policy.scan_s
        self._pause(now)
        if not use.address:
            return
        known = self._known(use.address)
        if use.initiated and now - use.since < self._policy.steady_s:
            self._failed(known, now)
        elif use.initiated:
            known.failures = 0

    def _ended(self, ended: ConnectEnded, now: float) -> None:
        if ended.address != self._connecting:
            return
        self._connecting = ""
        if not ended.ok and not self._linked(ended.address):
            self._failed(self._known(ended.address), now)
        self._pause(now)

    def _failed(self, known: _Address, now: float) -> None:
        pause = self._policy.failures.after(known.failures, self._rng.random)
        known.leave_until = max(known.leave_until, now + pause)
        known.failures += 1
        known.heard_at = float("-inf")  # whoever is tried again must be there again

    def _pause(self, now: float) -> None:
        self._next_at = max(self._next_at, now + self._rng.uniform(*self._policy.gap_s))

    def _known(self, address: str) -> _Address:
        known = self._addresses.get(address)
        if known is None:
            while len(self._addresses) >= self._policy.remembered:
                self._addresses.popitem(last=False)
            known = self._addresses[address] = _Address()
        self._addresses.move_to_end(address)
        return known

    def _choice(self, now: float) -> str | None:
        for known in self._addresses.values():
            if now - known.heard_at > self._policy.fresh_s:
                known.heard_at = float("-inf")
        good = [
            address
            for address, known in self._addresses.items()
            if self._good(known) and now >= known.leave_until and not self._linked(address)
        ]
        return self._rng.choice(good) if good else None

    def _good(self, known: _Address) -> bool:
        floor = self._policy.floor_dbm if self._links else self._policy.alone_dbm
        return known.heard_at != float("-inf") and (known.rssi == 0 or known.rssi >= floor)

    def _linked(self, address: str) -> bool:
        return any(use.address == address for use in self._links.values())

    def _room(self) -> bool:
        return sum(use.initiated for use in self._links.values()) < self._policy.links

    def _rests(self, now: float) -> bool:
        if not self._links:
            self._resting = False
            self._phase_at = now + self._policy.scan_s
        elif now >= self._phase_at:
            self._resting = not self._resting
            self._phase_at = now + (self._policy.rest_s if self._resting else self._policy.scan_s)
        return self._resting

    def _scan(self, on: bool, actions: list[ScanAction]) -> None:
        if on != self._scanning:
            self._scanning = on
            actions.append(Scan(on))
