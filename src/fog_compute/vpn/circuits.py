"""Circuits: a client's own handles on how it uses the mixnet.

Sphinx is source-routed: nodes hold no circuit state, setting one up costs nothing, and the middle
nodes change with every packet. A :class:`Circuit` therefore is a name that fixes a level, a session
and what may be sent under it, and counts what was. Which states follow which is one table.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from fog_compute.errors import (
    ChannelError,
    ChannelTimeout,
    ChannelUnanswered,
    CircuitError,
    PrivacyUnavailable,
)

if TYPE_CHECKING:
    from fog_compute.clock import Clock
    from fog_compute.levels import PrivacyLevel
    from fog_compute.observability.metrics import CircuitMetrics
    from fog_compute.vpn.channel import MessageChannel, OnSent

__all__ = [
    "LARGEST",
    "Circuit",
    "CircuitEvent",
    "CircuitState",
    "CircuitStatus",
    "CircuitView",
    "Cost",
    "Span",
    "after",
]

FRAGMENT_BYTES: Final = 1500
"""Bytes of a message that one packet carries; for counting packets, not for cutting."""

SURB_BYTES: Final = 457
"""Bytes of a message that one reply block takes up."""


class CircuitState(enum.StrEnum):
    """Where a circuit stands."""

    FRESH = "fresh"
    """Nothing was sent yet."""
    ACTIVE = "active"
    """Something was."""
    DRAINING = "draining"
    """It carries nothing new, and what is under way goes on."""
    CLOSED = "closed"
    """Nothing is under way any more, or nobody waits for it."""

    @property
    def usable(self) -> bool:
        """Whether a message may begin."""
        return self in {CircuitState.FRESH, CircuitState.ACTIVE}


class CircuitEvent(enum.StrEnum):
    """What happens to a circuit."""

    USE = "use"
    DRAIN = "drain"
    CLOSE = "close"


_TABLE: Final[Mapping[tuple[CircuitState, CircuitEvent], CircuitState]] = {
    (CircuitState.FRESH, CircuitEvent.USE): CircuitState.ACTIVE,
    (CircuitState.FRESH, CircuitEvent.DRAIN): CircuitState.DRAINING,
    (CircuitState.FRESH, CircuitEvent.CLOSE): CircuitState.CLOSED,
    (CircuitState.ACTIVE, CircuitEvent.USE): CircuitState.ACTIVE,
    (CircuitState.ACTIVE, CircuitEvent.DRAIN): CircuitState.DRAINING,
    (CircuitState.ACTIVE, CircuitEvent.CLOSE): CircuitState.CLOSED,
    (CircuitState.DRAINING, CircuitEvent.CLOSE): CircuitState.CLOSED,
}


def after(state: CircuitState, event: CircuitEvent) -> CircuitState:
    """The state that follows.

    Raises:
        CircuitError: nothing follows: the table has no such step.
    """
    following = _TABLE.get((state, event))
    if following is None:
        raise CircuitError(
            f"the circuit is {state.value} and cannot {event.value}: create a new one"
        )
    return following


@dataclass(frozen=True, slots=True)
class Cost:
    """What a message takes of its circuit, or what a circuit has.

    Attributes:
        packets: packets out, without what is sent again and without acknowledgements.
        surbs: reply blocks given to the recipient.
    """

    packets: int
    surbs: int

    @classmethod
    def of(cls, size: int, reply_packets: int = 0) -> Self:
        """The cost of ``size`` bytes with a way back for ``reply_packets`` packets."""
        stream = 1 + size + SURB_BYTES * reply_packets
        return cls(-(-stream // FRAGMENT_BYTES), reply_packets)

    def covers(self, other: Cost) -> bool:
        """Whether there is enough here for ``other``."""
        return self.packets >= other.packets and self.surbs >= other.surbs

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.packets + other.packets, self.surbs + other.surbs)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.packets - other.packets, self.surbs - other.surbs)


LARGEST: Final = Cost.of(64 * 2**20, 255)
"""What the largest message takes that a client sends."""


@dataclass(frozen=True, slots=True)
class Span:
    """For how long and for how much a circuit may be used.

    Attributes:
        rotate_s: age in seconds at which another one takes its place.
        lifetime_s: age in seconds at which it refuses to begin with a message.
        budget: what it may carry in all.
    """

    rotate_s: float
    lifetime_s: float
    budget: Cost


@dataclass(frozen=True, slots=True)
class CircuitView:
    """A circuit as decisions see it.

    Attributes:
        id: its name.
        session: whose it is.
        state: where it stands.
        rotate_at: monotonic seconds at which another one should take its place.
        expires_at: monotonic seconds from which it carries nothing new.
        left: what it may still carry.
        in_flight: messages under way.
        gone: whether its client is open no more.
    """

    id: str
    session: str
    state: CircuitState
    rotate_at: float
    expires_at: float
    left: Cost
    in_flight: int
    gone: bool = False


@dataclass(frozen=True, slots=True)
class CircuitStatus:
    """What a circuit did so far.

    Attributes:
        id: its name, never sent anywhere.
        level: its privacy level.
        state: where it stands.
        age_s: seconds since it was made.
        idle_s: seconds since its last activity.
        bytes_sent: bytes of messages that were stored or answered.
        bytes_received: bytes of answers.
        packets_sent: packets that all messages needed at least.
        surbs_sent: reply blocks that went with them.
        in_flight: messages not yet stored at an edge or answered.
    """

    id: str
    level: PrivacyLevel
    state: CircuitState
    age_s: float
    idle_s: float
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    surbs_sent: int
    in_flight: int


class Circuit:
    """A handle that fixes a level, a session and a channel, and counts its use."""

    __slots__ = (
        "_bytes_received",
        "_bytes_sent",
        "_channel",
        "_clock",
        "_created_at",
        "_id",
        "_in_flight",
        "_last_activity",
        "_level",
        "_metrics",
        "_session",
        "_span",
        "_spent",
        "_state",
    )

    def __init__(
        self,
        circuit_id: str,
        level: PrivacyLevel,
        session: str,
        channel: MessageChannel,
        span: Span,
        clock: Clock,
        metrics: CircuitMetrics | None = None,
    ) -> None:
        self._id: Final = circuit_id
        self._level: Final = level
        self._session: Final = session
        self._channel: Final = channel
        self._span: Final = span
        self._clock: Final = clock
        self._metrics: Final = metrics
        self._created_at: Final = clock.monotonic()
        self._last_activity = self._created_at
        self._state = CircuitState.FRESH
        self._spent = Cost(0, 0)
        self._bytes_sent = 0
        self._bytes_received = 0
        self._in_flight = 0

    @property
    def id(self) -> str:
        """A random name, never sent anywhere."""
        return self._id

    @property
    def privacy_level(self) -> PrivacyLevel:
        """The level of every message of this circuit."""
        return self._level

    @property
    def session(self) -> str:
        """The session that alone uses it."""
        return self._session

    @property
    def channel(self) -> MessageChannel:
        """What carries its messages."""
        return self._channel

    @property
    def state(self) -> CircuitState:
        """Where it stands."""
        return self._state

    @property
    def in_flight(self) -> int:
        """Messages under way now."""
        return self._in_flight

    @property
    def address(self) -> str:
        """Where answers and loops of this circuit arrive."""
        return self._channel.address

    def view(self, *, gone: bool = False) -> CircuitView:
        """What decisions need to know."""
        return CircuitView(
            id=self._id,
            session=self._session,
            state=self._state,
            rotate_at=self._created_at + self._span.rotate_s,
            expires_at=self._created_at + self._span.lifetime_s,
            left=self._span.budget - self._spent,
            in_flight=self._in_flight,
            gone=gone,
        )

    def status(self) -> CircuitStatus:
        """A copy of all counters."""
        now = self._clock.monotonic()
        return CircuitStatus(
            id=self._id,
            level=self._level,
            state=self._state,
            age_s=now - self._created_at,
            idle_s=now - self._last_activity,
            bytes_sent=self._bytes_sent,
            bytes_received=self._bytes_received,
            packets_sent=self._spent.packets,
            surbs_sent=self._spent.surbs,
            in_flight=self._in_flight,
        )

    async def send(self, to: str | None, data: bytes) -> None:
        """Send ``data`` to ``to``, or as a loop to the own mailbox.

        Raises:
            CircuitError: the circuit carries nothing new, or not as much.
            ChannelError: the message could not be sent.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        with self._counted(Cost.of(len(data))):
            await self._channel.send(self._channel.address if to is None else to, data)
            self._bytes_sent += len(data)

    async def request(
        self,
        to: str,
        data: bytes,
        *,
        reply_packets: int = 4,
        timeout: float = 30.0,
        on_sent: OnSent | None = None,
    ) -> bytes:
        """Ask ``to`` and wait for the answer.

        Raises:
            CircuitError: the circuit carries nothing new, or not as much.
            ChannelTimeout: no answer came in time.
            ChannelError: the message could not be sent.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        with self._counted(Cost.of(len(data), reply_packets)):
            answer = await self._channel.request(
                to, data, reply_packets=reply_packets, timeout=timeout, on_sent=on_sent
            )
            self._bytes_sent += len(data)
            self._bytes_received += len(answer)
        return answer

    def drain(self) -> None:
        """Begin nothing new."""
        self._state = after(self._state, CircuitEvent.DRAIN)

    def close(self) -> None:
        """Refuse further use; what is in flight goes on."""
        self._state = after(self._state, CircuitEvent.CLOSE)

    @contextmanager
    def _counted(self, cost: Cost) -> Iterator[None]:
        state = after(self._state, CircuitEvent.USE)
        now = self._clock.monotonic()
        if now >= self._created_at + self._span.lifetime_s:
            raise CircuitError("the circuit is too old: create a new one")
        if not (self._span.budget - self._spent).covers(cost):
            raise CircuitError("the circuit's budget does not cover this: create a new one")
        self._state = state
        self._spent += cost
        self._in_flight += 1
        self._last_activity = now
        outcome = None  # nobody knows what became of what is given up
        try:
            yield
            outcome = "acknowledged"
        except ChannelUnanswered:
            outcome = "acknowledged"
            raise
        except ChannelTimeout:
            outcome = "lost"
            raise
        except (ChannelError, PrivacyUnavailable):
            outcome = "failed"
            raise
        finally:
            self._in_flight -= 1
            self._last_activity = self._clock.monotonic()
            self._note(cost, outcome)

    def _note(self, cost: Cost, outcome: str | None) -> None:
        if self._metrics is None:
            return
        self._metrics.packets.labels(self._level.value).inc(cost.packets)
        if outcome is not None:
            self._metrics.sends.labels(self._level.value, outcome).inc()
