"""The onion circuit service: messages by privacy level, through circuits that are looked after."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from fog_compute.clock import Clock, SystemClock
from fog_compute.errors import CircuitError
from fog_compute.levels import PrivacyLevel
from fog_compute.vpn.circuits import Circuit, CircuitState, Cost
from fog_compute.vpn.plans import PoolPolicy
from fog_compute.vpn.pools import ChannelSource, CircuitPool, PoolTotals

if TYPE_CHECKING:
    from fog_compute.observability.metrics import CircuitMetrics
    from fog_compute.vpn.channel import OnSent
    from fog_compute.vpn.network import ClientHealth

__all__ = ["ChannelSource", "CircuitPool", "LevelStatus", "OnionCircuitService"]

TEND_S: Final = 5.0
"""Seconds between two looks at circuits on which nothing happens."""


@dataclass(frozen=True, slots=True)
class LevelStatus:
    """The circuits of one level.

    Attributes:
        level: the level.
        circuits: how many there are now, by state.
        sessions: sessions that use them.
        in_flight: messages under way.
        totals: what they did since the start.
        health: how the level's shared client is; None while it is not open.
    """

    level: PrivacyLevel
    circuits: Mapping[CircuitState, int]
    sessions: int
    in_flight: int
    totals: PoolTotals
    health: ClientHealth | None


class OnionCircuitService:
    """One :class:`CircuitPool` for each privacy level over one source of channels."""

    __slots__ = ("_clock", "_source", "circuit_pools")

    def __init__(
        self,
        betanet_service: ChannelSource,
        *,
        policy: PoolPolicy | None = None,
        clock: Clock | None = None,
        rng: Random | None = None,
        metrics: CircuitMetrics | None = None,
    ) -> None:
        self._source: Final = betanet_service
        self._clock: Final = SystemClock() if clock is None else clock
        self.circuit_pools: Final = {
            level: CircuitPool(
                level,
                betanet_service,
                policy=PoolPolicy() if policy is None else policy,
                clock=self._clock,
                rng=secrets.SystemRandom() if rng is None else rng,
                metrics=metrics,
            )
            for level in PrivacyLevel
        }

    async def create_circuit(self, privacy_level: PrivacyLevel = PrivacyLevel.PRIVATE) -> str:
        """Make a circuit, which nobody else uses, and return its id.

        The id is good until :meth:`close_circuit`: when the circuit has been used enough, another
        takes its place under the same id.

        Raises:
            ServiceUnavailable: the network cannot be joined.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        circuit_id = secrets.token_hex(16)
        await self.circuit_pools[privacy_level].join(circuit_id, named=True)
        return circuit_id

    def get_circuit(self, circuit_id: str) -> Circuit:
        """The circuit with this id, of whatever level, or the one that took its place.

        Raises:
            CircuitError: there is none.
        """
        for pool in self.circuit_pools.values():
            if circuit_id in pool:
                return pool.get_circuit(circuit_id)
        raise CircuitError("no circuit has this id: it was closed, or never made")

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
            CircuitError: no circuit of this level has the id, or none carries so much.
            ChannelError: the message could not be sent.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        await self.circuit_pools[privacy_level].carry(
            circuit_id, Cost.of(len(data)), lambda circuit: circuit.send(to, data)
        )

    async def request_through_circuit(
        self,
        circuit_id: str,
        data: bytes,
        privacy_level: PrivacyLevel = PrivacyLevel.PRIVATE,
        *,
        to: str,
        reply_packets: int = 4,
        timeout: float = 30.0,
        on_sent: OnSent | None = None,
    ) -> bytes:
        """Ask ``to`` and return its answer.

        A long message tells ``on_sent`` on its way how far it is.

        Raises:
            CircuitError: no circuit of this level has the id, or none carries so much.
            ChannelTimeout: no answer came in time.
            ChannelError: the message could not be sent.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        return await self.circuit_pools[privacy_level].carry(
            circuit_id,
            Cost.of(len(data), reply_packets),
            lambda circuit: circuit.request(
                to, data, reply_packets=reply_packets, timeout=timeout, on_sent=on_sent
            ),
        )

    def close_circuit(self, circuit_id: str, privacy_level: PrivacyLevel) -> None:
        """Close a circuit, or what took its place; what is under way goes on.

        Raises:
            CircuitError: no circuit of this level has the id.
        """
        self.circuit_pools[privacy_level].end(circuit_id)

    def status(self, level: PrivacyLevel) -> LevelStatus:
        """How the circuits of a level are."""
        pool = self.circuit_pools[level]
        return LevelStatus(
            level=level,
            circuits=Counter(circuit.state for circuit in pool),
            sessions=pool.sessions,
            in_flight=sum(circuit.in_flight for circuit in pool),
            totals=pool.totals(),
            health=self._source.health(level),
        )

    async def run(self) -> None:
        """Rotate and close circuits in their time, whether anything is sent or not; never ends."""
        while True:
            await self._clock.sleep(TEND_S)
            for pool in self.circuit_pools.values():
                pool.tend()
