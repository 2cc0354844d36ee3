"""Figures of one person's messages, for who looks after the machine: counts, and no names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from fog_compute.p2p.core.messages import DeliveryState
from fog_compute.p2p.core.transport import TransportType

if TYPE_CHECKING:
    from fog_compute.p2p.unified import UnifiedDecentralizedSystem

__all__ = ["Figures", "Refused", "figures_of"]

_OF_MESH: Final = ("dropped_", "malformed_", "session_", "mail_refused_")
"""How the names of those counts of the mesh begin that are refusals."""


class Refused(NamedTuple):
    """What was refused: by which part, and why; both are words of the code."""

    part: str
    reason: str


@dataclass(frozen=True, slots=True)
class Figures:
    """How one person's messages are.

    Attributes:
        outbox: deliveries that are not over, by state.
        refused: what was refused since a part began; a part that begins anew counts from 0.
        up: whether each transport can be used.
        links: of the mesh, by kind.
    """

    outbox: Mapping[DeliveryState, int]
    refused: Mapping[Refused, int]
    up: Mapping[TransportType, bool]
    links: Mapping[str, int]


def figures_of(system: UnifiedDecentralizedSystem) -> Figures:
    """The figures of a system that runs."""
    ways = system.ways
    browsers = 0 if ways.web is None else len(ways.web)
    links = 0 if ways.mesh is None else ways.mesh.links
    return Figures(
        outbox=system.deliveries,
        refused=dict(_refused(system)),
        up={kind: can.available for kind, can in system.capabilities().items()},
        links={"browser": browsers, "other": max(0, links - browsers)},
    )


def _refused(system: UnifiedDecentralizedSystem) -> Iterator[tuple[Refused, int]]:
    ways = system.ways
    for part, counts in (
        ("router", system.refused),
        ("htx", {} if ways.htx is None else ways.htx.dropped),
        ("ble", {} if ways.mesh is None else ways.mesh.dropped),
        ("browsers", {} if ways.web is None else ways.web.refused),
    ):
        yield from ((Refused(part, reason), number) for reason, number in counts.items())
    mesh = None if ways.mesh is None else ways.mesh.mesh
    for name, number in ({} if mesh is None else mesh.counts).items():
        if name.startswith(_OF_MESH):
            yield Refused("mesh", name), number
