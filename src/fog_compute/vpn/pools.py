"""The circuits of one level: made, chosen, rotated and closed as :mod:`fog_compute.vpn.plans` says.

Circuits belong to sessions, and no two sessions share one. A session uses the level's client, or
one of its own, which has its own keys, mailboxes and edges.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from fog_compute.errors import ChannelDown, CircuitError
from fog_compute.vpn.circuits import Circuit, CircuitView, Cost, Span
from fog_compute.vpn.plans import (
    SMALLEST,
    Close,
    Drain,
    Open,
    PoolPolicy,
    PoolView,
    Want,
    choose,
    plan,
)

if TYPE_CHECKING:
    from fog_compute.clock import Clock
    from fog_compute.levels import PrivacyLevel
    from fog_compute.observability.metrics import CircuitMetrics
    from fog_compute.vpn.channel import MessageChannel
    from fog_compute.vpn.network import ClientHealth

__all__ = ["ChannelSource", "CircuitPool", "PoolTotals"]

T = TypeVar("T")


class ChannelSource(Protocol):
    """Opens the clients of all levels; :class:`~fog_compute.vpn.betanet.BetanetService` is one."""

    async def channel(self, level: PrivacyLevel, owner: str = "") -> MessageChannel:
        """The channel whose messages take paths of this level; its client is opened if it is not.

        The same one for as long as its client is open.

        Args:
            level: its privacy level.
            owner: the session whose client it is; empty for the one that the level's others share.

        Raises:
            ServiceUnavailable: the network cannot be joined.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        ...

    def health(self, level: PrivacyLevel, owner: str = "") -> ClientHealth | None:
        """How a client is; None if it is not open."""
        ...

    async def leave(self, level: PrivacyLevel, owner: str) -> None:
        """Close a session's own client and forget its keys."""
        ...


@dataclass(slots=True)
class PoolTotals:
    """What all circuits of a level did, those that are closed included, and those of earlier runs.

    Attributes:
        circuits: circuits that were made.
        rotations: circuits whose place another took.
        bytes_sent: bytes of messages that were stored or answered.
        bytes_received: bytes of answers.
        packets_sent: packets that all messages needed at least.
        surbs_sent: reply blocks that went with them.
    """

    circuits: int = 0
    rotations: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    surbs_sent: int = 0

    def count(self, more: PoolTotals, sign: int = 1) -> None:
        """Add what another has, or take it away."""
        for part in dataclasses.fields(PoolTotals):
            value = getattr(self, part.name) + sign * getattr(more, part.name)
            setattr(self, part.name, value)

    def add(self, circuit: Circuit) -> None:
        """Count in what a circuit did."""
        status = circuit.status()
        self.bytes_sent += status.bytes_sent
        self.bytes_received += status.bytes_received
        self.packets_sent += status.packets_sent
        self.surbs_sent += status.surbs_sent


@dataclass(slots=True)
class _Session:
    """A session of the pool.

    Attributes:
        circuits: how many it has for use at a time.
        owner: names its own client; empty where it shares the level's.
        channel: what carries its messages.
        own: its circuits, by id.
        name_next: whether the next circuit has the session's name for its id.
        attaching: held while the channel is replaced.
    """

    circuits: int
    owner: str
    channel: MessageChannel
    own: dict[str, Circuit] = field(default_factory=dict)
    name_next: bool = False
    attaching: asyncio.Lock = field(default_factory=asyncio.Lock)


class CircuitPool:
    """All circuits of one level, each of one session."""

    __slots__ = (
        "_circuits",
        "_clock",
        "_level",
        "_metrics",
        "_policy",
        "_rng",
        "_sessions",
        "_source",
        "_totals",
    )

    def __init__(
        self,
        level: PrivacyLevel,
        source: ChannelSource,
        *,
        policy: PoolPolicy,
        clock: Clock,
        rng: Random,
        metrics: CircuitMetrics | None = None,
    ) -> None:
        self._level: Final = level
        self._source: Final = source
        self._policy: Final = policy
        self._clock: Final = clock
        self._rng: Final = rng
        self._metrics: Final = metrics
        self._sessions: Final[dict[str, _Session]] = {}
        self._circuits: Final[dict[str, Circuit]] = {}
        self._totals: Final = PoolTotals()

    def __len__(self) -> int:
        return len(self._circuits)

    def __contains__(self, name: str) -> bool:
        return name in self._circuits or name in self._sessions

    def __iter__(self) -> Iterator[Circuit]:
        return iter(tuple(self._circuits.values()))

    @property
    def level(self) -> PrivacyLevel:
        """The level of all circuits here."""
        return self._level

    @property
    def sessions(self) -> int:
        """Sessions that have circuits here."""
        return len(self._sessions)

    def totals(self) -> PoolTotals:
        """What all circuits did, in this run and those before it that were restored."""
        totals = dataclasses.replace(self._totals)
        for circuit in self._circuits.values():
            totals.add(circuit)
        return totals

    def restore(self, totals: PoolTotals) -> None:
        """Count on from what earlier runs did."""
        self._totals.count(totals)

    def get_circuit(self, circuit_id: str) -> Circuit:
        """The circuit with this id, or the one that took its place.

        Raises:
            CircuitError: this pool has none.
        """
        session = self._sessions.get(circuit_id)
        if session is not None:
            return self._pick(circuit_id, session, SMALLEST)
        circuit = self._circuits.get(circuit_id)
        if circuit is None:
            raise self._unknown()
        return circuit

    async def join(
        self, session: str, *, circuits: int = 1, apart: bool = False, named: bool = False
    ) -> None:
        """Give a session circuits of its own.

        Args:
            session: a name that is new to the pool; whoever knows it can use the circuits.
            circuits: how many it has for use at a time.
            apart: whether it has a client of its own.
            named: whether the first circuit has the session's name for its id.

        Raises:
            ServiceUnavailable: the network cannot be joined.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        owner = session if apart else ""
        try:
            channel = await self._source.channel(self._level, owner)
        except BaseException:
            if owner:
                await self._source.leave(self._level, owner)
            raise
        joined = self._sessions[session] = _Session(circuits, owner, channel, name_next=named)
        self._tend(session, joined, SMALLEST)

    def end(self, session: str) -> None:
        """Take a session's circuits away; what is under way goes on.

        Raises:
            CircuitError: this pool has no such session.
        """
        ended = self._session(session)
        del self._sessions[session]
        self._do(PoolView((), self._views(ended)))

    async def leave(self, session: str) -> None:
        """End a session, and close its client if it has its own, with what is under way on it.

        Raises:
            CircuitError: this pool has no such session.
        """
        owner = self._session(session).owner
        self.end(session)
        if owner:
            await self._source.leave(self._level, owner)

    async def carry(self, session: str, cost: Cost, work: Callable[[Circuit], Awaitable[T]]) -> T:
        """Let a session's circuit do something; once more, where its client turns out to be closed.

        Args:
            session: whose it is; the circuit with the shortest queue does it.
            cost: what it takes.
            work: sends something by the circuit that it is given.

        Raises:
            CircuitError: the pool has no such session, or no circuit carries so much.
            ServiceUnavailable: the network cannot be joined.
        """
        found = self._session(session)
        circuit = self._pick(session, found, cost)
        try:
            return await work(circuit)
        except ChannelDown:
            if not await self._attach_again(session, found, circuit):
                raise
        if self._sessions.get(session) is not found:
            raise self._unknown()  # it ended meanwhile
        return await work(self._pick(session, found, cost))

    def tend(self) -> None:
        """Rotate, open and close what is due, whether anything is sent or not."""
        wants = tuple(Want(name, one.circuits) for name, one in self._sessions.items())
        now = [
            self._view(circuit, self._sessions.get(circuit.session))
            for circuit in self._circuits.values()
        ]
        self._do(PoolView(wants, tuple(now)))

    def _pick(self, name: str, session: _Session, cost: Cost) -> Circuit:
        """The circuit that carries something now."""
        self._tend(name, session, cost)
        return self._chosen(session, cost)

    async def _attach_again(self, name: str, session: _Session, circuit: Circuit) -> bool:
        """Replace the channel of a circuit that failed, if its client was closed.

        A client that is only away from the network stays: it comes back by itself, and with it the
        same edges. Where the session has ended, its own client was closed for good.
        """
        async with session.attaching:
            if circuit.channel is session.channel and self._sessions.get(name) is session:
                session.channel = await self._source.channel(self._level, session.owner)
            return circuit.channel is not session.channel

    def _chosen(self, session: _Session, cost: Cost) -> Circuit:
        chosen = choose(self._views(session), cost, self._clock.monotonic())
        if chosen is None:
            budget = self._policy.budget
            raise CircuitError(
                f"a message of {cost.packets} packets and {cost.surbs} reply blocks is more than a "
                f"circuit carries: {budget.packets} and {budget.surbs}"
            )
        return session.own[chosen]

    def _session(self, name: str) -> _Session:
        session = self._sessions.get(name)
        if session is None:
            raise self._unknown()
        return session

    def _tend(self, name: str, session: _Session, cost: Cost) -> None:
        """Do what is due in one session, and make room for a message that costs ``cost``."""
        self._do(PoolView((Want(name, session.circuits, cost),), self._views(session)))

    def _views(self, session: _Session) -> tuple[CircuitView, ...]:
        return tuple(self._view(circuit, session) for circuit in session.own.values())

    def _view(self, circuit: Circuit, session: _Session | None) -> CircuitView:
        return circuit.view(gone=session is not None and circuit.channel is not session.channel)

    def _do(self, view: PoolView) -> None:
        for action in plan(view, self._policy, self._clock.monotonic(), self._rng):
            match action:
                case Open(session, span):
                    self._open(session, span)
                case Drain(circuit_id):
                    self._circuits[circuit_id].drain()
                    if self._circuits[circuit_id].session in self._sessions:
                        self._note_rotation()
                case Close(circuit_id):
                    closed = self._circuits.pop(circuit_id)
                    closed.close()
                    self._totals.add(closed)
                    if closed.session in self._sessions:
                        del self._sessions[closed.session].own[circuit_id]

    def _note_rotation(self) -> None:
        self._totals.rotations += 1
        if self._metrics is not None:
            self._metrics.rotations.labels(self._level.value).inc()

    def _open(self, name: str, span: Span) -> None:
        session = self._sessions[name]
        circuit_id = name if session.name_next else secrets.token_hex(16)
        session.name_next = False
        circuit = Circuit(
            circuit_id, self._level, name, session.channel, span, self._clock, self._metrics
        )
        self._circuits[circuit_id] = session.own[circuit_id] = circuit
        self._totals.circuits += 1

    def _unknown(self) -> CircuitError:
        return CircuitError(
            f"no circuit of level {self._level.value} has this id: it was closed, "
            "never made, or belongs to another level"
        )
