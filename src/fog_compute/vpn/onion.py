"""Circuits: the client's own handles on how it uses the mixnet.

Sphinx is source-routed: nodes hold no circuit state, setting one up costs nothing, and the middle
nodes change with every packet. A :class:`Circuit` therefore is a name that fixes a privacy level
and counts what was done under it. Circuits of one level share that level's client, and levels
share nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from fog_compute.clock import Clock, SystemClock
from fog_compute.errors import CircuitError
from fog_compute.levels import PrivacyLevel

if TYPE_CHECKING:
    from fog_compute.vpn.channel import MessageChannel

__all__ = ["ChannelSource", "Circuit", "CircuitPool", "CircuitStatus", "OnionCircuitService"]

PACKET_PAYLOAD_BYTES: Final = 1500
"""Bytes of a message that one packet carries at most; for counting packets, not for cutting."""


class ChannelSource(Protocol):
    """Opens the channel of a level; :class:`~fog_compute.vpn.betanet.BetanetService` is one."""

    async def channel(self, level: PrivacyLevel) -> MessageChannel:
        """The channel whose messages take paths of this level."""
        ...


@dataclass(frozen=True, slots=True)
class CircuitStatus:
    """What a circuit did so far.

    Attributes:
        level: its privacy level.
        age_s: seconds since it was made.
        idle_s: seconds since its last activity.
        bytes_sent: bytes of messages handed to the network.
        bytes_received: bytes of answers.
        packets_sent: packets that those messages needed at least.
        in_flight: messages not yet stored at an edge or answered.
    """

    level: PrivacyLevel
    age_s: float
    idle_s: float
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    in_flight: int


class Circuit:
    """A handle that fixes one level and counts its use."""

    __slots__ = (
        "_bytes_received",
        "_bytes_sent",
        "_channel",
        "_clock",
        "_closed",
        "_created_at",
        "_id",
        "_in_flight",
        "_last_activity",
        "_level",
        "_packets_sent",
    )

    def __init__(self, level: PrivacyLevel, channel: MessageChannel, clock: Clock) -> None:
        self._id: Final = secrets.token_hex(16)
        self._level: Final = level
        self._channel: Final = channel
        self._clock: Final = clock
        self._created_at: Final = clock.monotonic()
        self._last_activity = self._created_at
        self._bytes_sent = 0
        self._bytes_received = 0
        self._packets_sent = 0
        self._in_flight = 0
        self._closed = False

    @property
    def id(self) -> str:
        """A random name, never sent anywhere."""
        return self._id

    @property
    def level(self) -> PrivacyLevel:
        """The level of every message of this circuit."""
        return self._level

    @property
    def in_flight(self) -> int:
        """Messages under way now."""
        return self._in_flight

    @property
    def address(self) -> str:
        """Where answers and loops of this circuit arrive."""
        return self._channel.address

    def status(self) -> CircuitStatus:
        """A copy of all counters."""
        now = self._clock.monotonic()
        return CircuitStatus(
            level=self._level,
            age_s=now - self._created_at,
            idle_s=now - self._last_activity,
            bytes_sent=self._bytes_sent,
            bytes_received=self._bytes_received,
            packets_sent=self._packets_sent,
            in_flight=self._in_flight,
        )

    async def send(self, to: str | None, data: bytes) -> None:
        """Send ``data`` to ``to``, or as a loop to the own mailbox.

        Raises:
            CircuitError: the circuit is closed.
            ChannelError: the message could not be sent.
        """
        with self._counted(len(data)):
            await self._channel.send(self._channel.address if to is None else to, data)

    async def request(
        self, to: str, data: bytes, *, reply_packets: int = 4, timeout: float = 30.0
    ) -> bytes:
        """Ask ``to`` and wait for the answer.

        Raises:
            CircuitError: the circuit is closed.
            ChannelTimeout: no answer came in time.
            ChannelError: the message could not be sent.
        """
        with self._counted(len(data)):
            answer = await self._channel.request(
                to, data, reply_packets=reply_packets, timeout=timeout
            )
            self._bytes_received += len(answer)
        return answer

    def close(self) -> None:
        """Refuse further use; what is in flight goes on."""
        self._closed = True

    @contextmanager
    def _counted(self, size: int) -> Iterator[None]:
        if self._closed:
            raise CircuitError("the circuit is closed: create a new one")
        self._in_flight += 1
        self._last_activity = self._clock.monotonic()
        try:
            yield
            self._bytes_sent += size
            self._packets_sent += max(1, -(-size // PACKET_PAYLOAD_BYTES))
        finally:
            self._in_flight -= 1
            self._last_activity = self._clock.monotonic()


class CircuitPool:
    """All circuits of one level."""

    __slots__ = ("_circuits", "_level", "_make")

    def __init__(self, level: PrivacyLevel, make: Callable[[], Awaitable[Circuit]]) -> None:
        self._level: Final = level
        self._make: Final = make
        self._circuits: Final[dict[str, Circuit]] = {}

    def __len__(self) -> int:
        return len(self._circuits)

    def __iter__(self) -> Iterator[Circuit]:
        return iter(tuple(self._circuits.values()))

    @property
    def level(self) -> PrivacyLevel:
        """The level of all circuits here."""
        return self._level

    def get_circuit(self, circuit_id: str) -> Circuit:
        """The circuit with this id.

        Raises:
            CircuitError: this pool has none.
        """
        circuit = self._circuits.get(circuit_id)
        if circuit is None:
            raise CircuitError(
                f"no circuit of level {self._level.value} has this id: it was closed, "
                "never made, or belongs to another level"
            )
        return circuit

    async def create(self) -> Circuit:
        """Make a circuit; the level's client is opened if it is the first."""
        circuit = await self._make()
        self._circuits[circuit.id] = circuit
        return circuit

    def close(self, circuit_id: str) -> None:
        """Close one circuit and forget it.

        Raises:
            CircuitError: this pool has no such circuit.
        """
        self.get_circuit(circuit_id).close()
        del self._circuits[circuit_id]


class OnionCircuitService:
    """One :class:`CircuitPool` per privacy level over one source of channels."""

    __slots__ = ("_clock", "_source", "circuit_pools")

    def __init__(self, betanet_service: ChannelSource, *, clock: Clock | None = None) -> None:
        self._source: Final = betanet_service
        self._clock: Final = SystemClock() if clock is None else clock
        self.circuit_pools: Final = {
            level: CircuitPool(level, self._opener(level)) for level in PrivacyLevel
        }

    async def create_circuit(self, privacy_level: PrivacyLevel) -> str:
        """Make a circuit and return its id.

        Raises:
            ServiceUnavailable: the network cannot be joined.
        """
        circuit = await self.circuit_pools[privacy_level].create()
        return circuit.id

    async def send_through_circuit(
        self,
        circuit_id: str,
        data: bytes,
        privacy_level: PrivacyLevel = PrivacyLevel.PRIVATE,
        *,
        to: str | None = None,
    ) -> None:
        """Send ``data``; without ``to`` as a loop to the own mailbox.

        Raises:
            CircuitError: no circuit of this level has the id.
            ChannelError: the message could not be sent.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        await self.circuit_pools[privacy_level].get_circuit(circuit_id).send(to, data)

    async def request_through_circuit(
        self,
        circuit_id: str,
        data: bytes,
        privacy_level: PrivacyLevel = PrivacyLevel.PRIVATE,
        *,
        to: str,
        reply_packets: int = 4,
        timeout: float = 30.0,
    ) -> bytes:
        """Ask ``to`` and return its answer.

        Raises:
            CircuitError: no circuit of this level has the id.
            ChannelTimeout: no answer came in time.
            ChannelError: the message could not be sent.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        circuit = self.circuit_pools[privacy_level].get_circuit(circuit_id)
        return await circuit.request(to, data, reply_packets=reply_packets, timeout=timeout)

    def close_circuit(self, circuit_id: str, privacy_level: PrivacyLevel) -> None:
        """Close one circuit.

        Raises:
            CircuitError: no circuit of this level has the id.
        """
        self.circuit_pools[privacy_level].close(circuit_id)

    def _opener(self, level: PrivacyLevel) -> Callable[[], Awaitable[Circuit]]:
        async def open_circuit() -> Circuit:
            return Circuit(level, await self._source.channel(level), self._clock)

        return open_circuit
