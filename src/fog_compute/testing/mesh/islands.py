"""Islands of the simulated mesh, joined by bridges over a mixnet in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from fog_compute.p2p.bitchat.events import SendFrame, Wake, WakeAt
from fog_compute.p2p.bitchat.mesh.engine import Mesh, MeshEvent
from fog_compute.p2p.mobile.bridging import (
    BridgeEvent,
    BridgePolicy,
    Bridging,
    Came,
    Partners,
    Post,
    Posted,
)
from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.topologies import Topology

__all__ = ["BridgedNode", "Islands", "MixnetModel", "islands"]

CARRIED_S: Final = 60.0
"""How long the mixnet keeps what a bridge sent."""


@dataclass(frozen=True, slots=True)
class MixnetModel:
    """How the mixnet in memory behaves.

    Attributes:
        delay_s: shortest and longest time of a message.
        lost: share of messages that are not posted, of which the sender hears.
        twice: share of messages that arrive a second time, later.
    """

    delay_s: tuple[float, float] = (0.05, 0.4)
    lost: float = 0.0
    twice: float = 0.0


class BridgedNode:
    """A node of the mesh that is a bridge, too: two engines behind one face."""

    def __init__(self, mesh: Mesh, bridging: Bridging) -> None:
        """Put the two together."""
        self.mesh: Final = mesh
        self.bridging: Final = bridging
        self._wakes: list[float | None] = [None, None]

    def handle(self, event: MeshEvent | BridgeEvent, now: float) -> Sequence[object]:
        """What is to be done after ``event``, for the air and for the mixnet."""
        out: list[object] = []
        was = list(self._wakes)
        if isinstance(event, Wake):
            self._wakes = [None if at is not None and at <= now else at for at in was]
            self._mesh(event, now, out)
            self._bridge(event, now, out)
        elif isinstance(event, BridgeEvent):
            self._bridge(event, now, out)
        else:
            self._mesh(event, now, out)
        wakes = [at for at in self._wakes if at is not None]
        if wakes and (self._wakes != was or isinstance(event, Wake)):
            out.append(WakeAt(min(wakes)))
        return out

    def _mesh(self, event: MeshEvent, now: float, out: list[object]) -> None:
        for action in self.mesh.handle(event, now):
            match action:
                case SendFrame(link) if self.bridging.owns(link):
                    self._bridge(action, now, out)
                case WakeAt(at):
                    self._wakes[0] = at
                case _:
                    out.append(action)

    def _bridge(self, event: BridgeEvent, now: float, out: list[object]) -> None:
        news: list[MeshEvent] = []
        for action in self.bridging.handle(event, now):
            match action:
                case Post():
                    out.append(action)
                case WakeAt(at):
                    self._wakes[1] = at
                case _:
                    news.append(action)
        # The mesh may answer at once, with a later word on when to wake.
        for one in news:
            self._mesh(one, now, out)


class Islands(World):
    """A world of which some nodes are bridges.

    Attributes:
        bridges: numbers of the nodes that are.
        posts: messages that bridges have sent, and their bytes.
        offline: bridges that the mixnet cannot be reached from now.
    """

    def __init__(
        self,
        topology: Topology,
        pairs: Sequence[tuple[int, int]],
        seed: int,
        *,
        mixnet: MixnetModel | None = None,
        policy: BridgePolicy | None = None,
    ) -> None:
        """Start all nodes, and join the nodes of each pair."""
        super().__init__(topology, seed)
        self.bridges = sorted({number for pair in pairs for number in pair})
        self.offline: set[int] = set()
        self.posts = self.posted_bytes = 0
        self._mixnet = mixnet or MixnetModel()
        self._rng = Random(seed + 1)
        self._names = {number: f"{number:064x}" for number in self.bridges}
        self._numbers = {name: number for number, name in self._names.items()}
        self._bridgings: dict[int, Bridging] = {}
        for number in self.bridges:
            bridging = self._bridgings[number] = Bridging(Random(self._rng.random()), policy)
            self.air.replace(number, BridgedNode(self.meshes[number], bridging))
        heard = self.air.actions
        self.air.actions = lambda node, action: (
            self._post(node, action) if isinstance(action, Post) else heard(node, action)
        )
        for number in self.bridges:
            others = {b if a == number else a for a, b in pairs if number in (a, b)}
            self.air.give(number, Partners(frozenset(self._names[one] for one in others)))

    def bridging(self, number: int) -> Bridging:
        """The bridge's engine at a node."""
        return self._bridgings[number]

    def _post(self, node: int, post: Post) -> None:
        self.posts += 1
        self.posted_bytes += len(post.body)
        rng, model = self._rng, self._mixnet
        ok = node not in self.offline and rng.random() >= model.lost
        delay = rng.uniform(*model.delay_s)
        now = self.air.now
        self.air.later(now + delay, partial(self.air.give, node, Posted(post.number, ok)))
        if not ok:
            return
        came = Came(self._names[node], post.body)
        for _ in range(2 if rng.random() < model.twice else 1):
            self.air.later(
                now + delay, partial(self._arrive, self._numbers[post.partner], came, now)
            )
            delay += rng.uniform(*model.delay_s)

    def _arrive(self, node: int, came: Came, since: float) -> None:
        """Give a message to its bridge, or let it wait at the edge while that is offline."""
        if node not in self.offline:
            self.air.give(node, came)
        elif self.air.now + 1 < since + CARRIED_S:
            self.air.later(self.air.now + 1, partial(self._arrive, node, came, since))


def islands(*parts: Topology) -> Topology:
    """Topologies beside each other, out of each other's reach; nodes are numbered through."""
    places: list[tuple[float, float]] = []
    links: set[tuple[int, int]] = set()
    for number, part in enumerate(parts):
        first = len(places)
        places += [(x + number * 100_000.0, y) for x, y in part.places]
        links |= {(a + first, b + first) for a, b in part.links}
    return Topology(" + ".join(part.name for part in parts), tuple(places), frozenset(links))
