"""What is to become of a pool's circuits: decisions alone, from a view, a time and a generator.

Which circuit carries a message depends on what is under way here, and never on how long answers
took: whoever delays packets would otherwise steer them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Final, TypeAlias

from fog_compute.errors import ConfigError
from fog_compute.vpn.circuits import LARGEST, CircuitState, CircuitView, Cost, Span

__all__ = [
    "Action",
    "Close",
    "Drain",
    "Open",
    "PoolPolicy",
    "PoolView",
    "Want",
    "choose",
    "plan",
]

BUDGET: Final = Cost(packets=65_536, surbs=16_384)
"""What a circuit may carry unless somebody says otherwise: ninety MiB, or some hours of polls."""

SMALLEST: Final = Cost(1, 0)
"""What every message takes."""


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """The bounds of the circuits of one level.

    Attributes:
        lifetime_s: age in seconds at which a circuit refuses to begin with a message.
        earliest: share of the lifetime after which a circuit may be rotated.
        latest: share of the lifetime after which it certainly is.
        budget: what a circuit may carry in all; the largest message has to fit.
    """

    lifetime_s: float = 600.0
    earliest: float = 0.7
    latest: float = 0.95
    budget: Cost = BUDGET

    def __post_init__(self) -> None:
        if not self.budget.covers(LARGEST):
            raise ConfigError(f"a circuit has to carry the largest message, {LARGEST}")
        if not 0 < self.earliest <= self.latest <= 1 or self.lifetime_s <= 0:
            raise ConfigError("a circuit is rotated within its lifetime, and not at once")

    def span(self, rng: Random) -> Span:
        """For how long the next circuit is used; drawn, so that not all are rotated at a time."""
        share = rng.uniform(self.earliest, self.latest)
        return Span(share * self.lifetime_s, self.lifetime_s, self.budget)


@dataclass(frozen=True, slots=True)
class Want:
    """What a session wants of the pool.

    Attributes:
        session: its name.
        circuits: how many circuits it has for use.
        next: what its next message costs.
    """

    session: str
    circuits: int
    next: Cost = SMALLEST


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as :func:`plan` sees it; circuits of sessions that want nothing are left over."""

    wants: tuple[Want, ...]
    circuits: tuple[CircuitView, ...]


@dataclass(frozen=True, slots=True)
class Open:
    """Make a circuit."""

    session: str
    span: Span


@dataclass(frozen=True, slots=True)
class Drain:
    """Begin nothing new on a circuit."""

    circuit: str


@dataclass(frozen=True, slots=True)
class Close:
    """Forget a circuit on which nothing is under way."""

    circuit: str


Action: TypeAlias = Open | Drain | Close


def plan(view: PoolView, policy: PoolPolicy, now: float, rng: Random) -> tuple[Action, ...]:
    """What is to be done now, in this order; done, there is nothing more to do.

    Args:
        view: the pool.
        policy: its bounds.
        now: monotonic seconds.
        rng: draws when new circuits are rotated.
    """
    actions: list[Action] = [
        Close(circuit.id)
        for circuit in view.circuits
        if circuit.state is CircuitState.DRAINING and not circuit.in_flight
    ]
    usable: dict[str, list[CircuitView]] = {want.session: [] for want in view.wants}
    for circuit in view.circuits:
        if not circuit.state.usable:
            continue
        if circuit.session in usable:
            usable[circuit.session].append(circuit)
        else:
            actions += _end(circuit)
    for want in view.wants:
        fits = policy.budget.covers(want.next)
        due = _due(usable[want.session], want.next if fits else SMALLEST, now)
        for circuit in due:
            actions += _end(circuit)
        lacking = want.circuits - len(usable[want.session]) + len(due)
        actions += [Open(want.session, policy.span(rng)) for _ in range(lacking)]
    return tuple(actions)


def choose(circuits: Iterable[CircuitView], cost: Cost, now: float) -> str | None:
    """The circuit that carries a message: the one with the shortest queue, then the least used.

    None if there is none that may.
    """
    fitting = [
        circuit
        for circuit in circuits
        if circuit.state.usable
        and not circuit.gone
        and now < circuit.expires_at
        and circuit.left.covers(cost)
    ]
    best = min(fitting, key=lambda one: (one.in_flight, -one.left.packets, one.id), default=None)
    return None if best is None else best.id


def _end(circuit: CircuitView) -> list[Action]:
    """Drain a circuit, and close it where nothing is under way."""
    closing: list[Action] = [] if circuit.in_flight else [Close(circuit.id)]
    return [Drain(circuit.id), *closing]


def _due(usable: list[CircuitView], cost: Cost, now: float) -> list[CircuitView]:
    """Circuits whose place others take, so that one of them carries ``cost``."""
    due = [circuit for circuit in usable if circuit.gone or now >= circuit.rotate_at]
    kept = [circuit for circuit in usable if circuit not in due]
    spent = [circuit for circuit in kept if not circuit.left.covers(cost)]
    if spent and len(spent) == len(kept):
        # One place is enough for the next message; of what is nearly used up, the most goes.
        due.append(min(spent, key=lambda one: (one.left.packets, one.left.surbs, one.id)))
    return due
