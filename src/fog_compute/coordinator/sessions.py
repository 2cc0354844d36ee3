"""A session: what one worker and this coordinator share at one level for a while.

It has one circuit, one key for blobs, one group whose member its messages come from, and one poll
for all its attempts. At SECRET every attempt
has a session of its own, so that nothing a worker keeps ties two tasks together.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, TypeAlias

from fog_compute.backoff import Backoff
from fog_compute.coordinator.agenda import Agenda
from fog_compute.coordinator.attempts import OpenAttempt, Stage
from fog_compute.coordinator.outbox import Outbox
from fog_compute.levels import PrivacyLevel
from fog_compute.tasks import Attempt
from fog_compute.tasks.messages import MAX_ATTEMPTS
from fog_compute.tasks.pacing import RATIO
from fog_compute.tasks.sealing import new_key
from fog_compute.vpn.channel import REPLY_PACKET_BYTES

__all__ = [
    "Errand",
    "Planned",
    "Session",
    "Tempo",
    "packets_for",
    "polls_of",
    "session_key",
]

MIN_REPLY_PACKETS: Final = 2
MAX_REPLY_PACKETS: Final = 32
STATUS_BYTES: Final = 192
PULL_PACKETS: Final = 64
"""Reply packets of a request for one piece of a result: more, and more answers are lost."""

PULL_STRIDE: Final = PULL_PACKETS * REPLY_PACKET_BYTES - STATUS_BYTES
MIN_PULLS: Final = 4
MAX_PULLS: Final = 32
"""Pieces that are asked for at once, all results of a session together: 4 MiB."""

TELL: Final = Backoff(1, 300)
TELL_TRIES: Final = 8
IDLE_LIFE: Final = timedelta(minutes=10)
PIECE_BYTES: Final = 16 * 1024
"""Bytes that results must grow by to count as moving; one answer can bring four times as much."""


def packets_for(wanted: int) -> int:
    """Return how many reply packets to send along for so many bytes: a power of two."""
    packets = MIN_REPLY_PACKETS
    while packets < MAX_REPLY_PACKETS and packets * REPLY_PACKET_BYTES < wanted:
        packets *= 2
    return packets


@dataclass(frozen=True, slots=True)
class Tempo:
    """The times that the dispatcher keeps, in seconds.

    Attributes:
        lease_s: silence after which an attempt expires.
        request_timeout_s: how long an answer to a small message may take.
        poll_min_s: first pause between polls.
        poll_max_s: longest pause between polls; a quarter of the lease is never exceeded.
        worker_refresh_s: pause between two looks at the list of workers.
        owner_lease_s: seconds without a beat after which another backend takes over.
    """

    lease_s: float = 60.0
    request_timeout_s: float = 10.0
    poll_min_s: float = 0.05
    poll_max_s: float = 30.0
    worker_refresh_s: float = 5.0
    owner_lease_s: float = 8.0


def polls_of(tempo: Tempo) -> Backoff:
    """How often a session is polled that has no news: ×√2 each time.

    Within a lease there is time for a poll that is lost, and for another.
    """
    longest = min(tempo.poll_max_s, tempo.lease_s / 4)
    return Backoff(min(tempo.poll_min_s, longest), longest, factor=RATIO)


class Errand(enum.StrEnum):
    """What a session's time can have come for."""

    POLL = "poll"  # ask for news of its attempts
    TELL = "tell"  # say what its worker may forget
    END = "end"  # nothing needs it any more


@dataclass(slots=True)
class _Forget:
    """A handle that the worker may forget, and how often it was told."""

    cancel: bool
    tries: int = 0


class Session:
    """The one record of a session.

    Whatever makes it due earlier touches it on the agenda.

    Attributes:
        attempts: open attempts that were, or are being, submitted here, by handle.
        followed: those that the worker confirmed.
    """

    __slots__ = (
        "_agenda",
        "_forget",
        "_grown",
        "_moved_at",
        "_poll_at",
        "_polling",
        "_polls",
        "_quiet",
        "_tell_at",
        "_telling",
        "_window",
        "address",
        "attempts",
        "blob_key",
        "circuit_id",
        "circuit_lock",
        "ended",
        "followed",
        "group",
        "held_refs",
        "key",
        "last_used",
        "level",
        "outbox",
        "receipt_key",
        "seal_lock",
        "sealed",
        "sending",
        "upload_lock",
        "worker",
    )

    def __init__(
        self,
        key: str,
        level: PrivacyLevel,
        group: str,
        attempt: Attempt,
        polls: Backoff,
        now: datetime,
        agenda: Agenda[Planned],
    ) -> None:
        """Begin with the first attempt of the session; nothing is sent yet."""
        self.key: Final = key
        self.attempts: Final[dict[str, OpenAttempt]] = {}
        self.followed: Final[dict[str, OpenAttempt]] = {}
        self._agenda: Final = agenda
        self.level: Final = level
        self.group: Final = group
        self.worker: Final = attempt.worker
        self.address: Final = attempt.address
        self.circuit_id: str | None = None
        self.circuit_lock: Final = asyncio.Lock()
        self.blob_key: Final = new_key()
        self.held_refs: Final[set[bytes]] = set()
        self.upload_lock: Final = asyncio.Lock()
        self.sending: Stage | None = None  # what goes to the worker now
        self.outbox: Final = Outbox()
        self.receipt_key = b""  # of its worker, once it signed for a result
        self.sealed: Final[dict[str, tuple[bytes, int]]] = {}  # reference and size, by SHA-256
        self.seal_lock: Final = asyncio.Lock()
        self.last_used = now
        self.ended = False  # who still speaks in it says nothing to anybody
        self._polls: Final = polls
        self._quiet = 0  # polls without news, one after another
        self._poll_at = now
        self._polling = False
        self._window = MIN_PULLS
        self._grown = 0
        self._moved_at: datetime | None = None
        self._forget: Final[dict[str, _Forget]] = {}
        self._tell_at: datetime | None = None
        self._telling = False

    def due(self, now: datetime) -> tuple[tuple[Errand, ...], datetime | None]:
        """What its time has come for, and when it comes for the rest."""
        if self.ended:
            return (), None
        errands: list[Errand] = []
        times: list[datetime] = []

        def consider(errand: Errand, at: datetime) -> None:
            if at <= now:
                errands.append(errand)
            else:
                times.append(at)

        if self.followed and not self._polling:
            consider(Errand.POLL, self._poll_at)
        if self._forget and not self._telling:
            consider(Errand.TELL, now if self._tell_at is None else self._tell_at)
        if not (self.attempts or self._forget or self._polling or self._telling):
            kept = timedelta() if self.level is PrivacyLevel.SECRET else IDLE_LIFE
            consider(Errand.END, self.last_used + kept)
        return tuple(errands), min(times, default=None)

    def begin(self, errand: Errand) -> None:
        """A message of this kind is under way."""
        match errand:
            case Errand.POLL:
                self._polling = True
            case Errand.TELL:
                self._telling = True
            case Errand.END:
                self.ended = True

    def follow(self, record: OpenAttempt, now: datetime) -> None:
        """Poll for this attempt from now on, at the shortest pause."""
        self.attempts[record.handle] = self.followed[record.handle] = record
        if record.follow(now):
            self._quiet = 0
            self._poll_at = now + self._polls.delay(0)
            self._agenda.touch(self)
        self.last_used = now

    def count_anew(self, now: datetime) -> None:
        """Let no result be late for the time until now, in which nobody listened."""
        self._moved_at = now

    def grew(self, record: OpenAttempt, now: datetime) -> bool:
        """Note how much of a result is here; return whether that is more than ever before."""
        grown = record.assembler.here - record.most
        if grown <= 0:
            return False
        record.most += grown
        self._grown += grown
        if self._grown >= PIECE_BYTES:
            self.moved(now)
        return True

    def moved(self, now: datetime) -> None:
        """A result came, whole or a good piece of it."""
        self._grown = 0
        self._moved_at = now

    def moving(self, since: datetime) -> bool:
        """Whether results came after ``since``; a worker sends one after the other."""
        return self._moved_at is not None and self._moved_at > since

    def poll_now(self, now: datetime) -> None:
        """Poll as soon as no poll is under way."""
        self._poll_at = now
        self._agenda.touch(self)

    def drop(self, handle: str, now: datetime, *, cancel: bool | None) -> None:
        """Follow an attempt no more; unless ``cancel`` is None, let its worker know."""
        self.attempts.pop(handle, None)
        self.followed.pop(handle, None)
        self.last_used = now
        self._agenda.touch(self)
        if cancel is not None:
            self._forget[handle] = _Forget(cancel)
            # What waits already is not put off, or many ends would keep it waiting for ever.
            soon = now + TELL.delay(0)
            self._tell_at = soon if self._tell_at is None else min(self._tell_at, soon)

    def end_poll(self, now: datetime, *, news: bool) -> None:
        """The poll is over: the next comes soon after news, at once while a result is moving."""
        self._polling = False
        self.last_used = now
        self._quiet = 0 if news else self._quiet + 1
        moving = news and any(record.missing for record in self.followed.values())
        self._poll_at = now if moving else now + self._polls.delay(self._quiet)
        self._agenda.touch(self)

    def reply_packets(self) -> int:
        """Packets to ask for: enough for every status and what is missing, a power of two."""
        wanted = STATUS_BYTES * (len(self.followed) + 1)
        wanted += sum(record.missing for record in self.followed.values())
        return packets_for(wanted)

    def pulls(self) -> list[tuple[str, int]]:
        """Which pieces of finished results to ask for at once, each with its offset."""
        wanted: list[tuple[str, int]] = []
        for handle, record in self.followed.items():
            room = self._window - len(wanted)
            if room > 0 and record.missing:
                wanted += [(handle, at) for at in record.assembler.gaps(PULL_STRIDE, room)]
        return wanted

    def pulled(self, came: int, asked: int) -> None:
        """Ask for twice as much the next time if all came, else for half as much."""
        factor = 2.0 if came == asked else 0.5
        self._window = min(max(MIN_PULLS, int(self._window * factor)), MAX_PULLS)

    def acks(self) -> tuple[str, ...]:
        """Handles whose results are kept here, which a poll can mention on its way."""
        return self._forgettable(cancel=False)

    def cancels(self) -> tuple[str, ...]:
        """Handles that the worker should stop."""
        return self._forgettable(cancel=True)

    def _forgettable(self, *, cancel: bool) -> tuple[str, ...]:
        """As many handles as one message may name; the others follow."""
        handles = (handle for handle, entry in self._forget.items() if entry.cancel is cancel)
        return tuple(islice(handles, MAX_ATTEMPTS))

    def told(self, handles: tuple[str, ...]) -> None:
        """The worker has heard that it may forget these."""
        for handle in handles:
            self._forget.pop(handle, None)
        if not self._forget:
            self._tell_at = None
            self._agenda.touch(self)  # it may be over

    def end_tell(self, now: datetime) -> None:
        """The message is over; what is left is said again later, and some day no more."""
        self._telling = False
        for handle, entry in tuple(self._forget.items()):
            entry.tries += 1
            if entry.tries >= TELL_TRIES:
                # The worker forgets by itself in the end; it may be gone for good.
                del self._forget[handle]
        tries = min((entry.tries for entry in self._forget.values()), default=None)
        self._tell_at = None if tries is None else now + TELL.delay(tries)
        self._agenda.touch(self)


Planned: TypeAlias = OpenAttempt | Session
"""What a plan looks at."""


def session_key(level: PrivacyLevel, group: str, attempt: Attempt) -> str:
    """Name the session that an attempt belongs to."""
    parts = [level.value, group, attempt.worker, attempt.address]
    if level is PrivacyLevel.SECRET:
        parts.append(attempt.handle)
    return "/".join(parts)
