"""Whole engines in the simulated air: announces, signatures, gossip and all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from random import Random

import betanet
from fog_compute.p2p.bitchat.events import WakeAt
from fog_compute.p2p.bitchat.mesh.engine import Mesh, MeshEvent, MeshPolicy
from fog_compute.p2p.bitchat.mesh.news import SayAll, Sent, TextHeard
from fog_compute.p2p.core.identity import Identity
from fog_compute.testing.mesh.air import Air, AirModel
from fog_compute.testing.mesh.runs import Run, judged
from fog_compute.testing.mesh.topologies import Topology, hops_from

__all__ = ["START", "Skewed", "World"]

START = 1_800_000_000.0
"""When a simulation begins, in seconds since 1970."""


class Skewed:
    """An engine whose clock is wrong by some seconds."""

    def __init__(self, mesh: Mesh, seconds: float) -> None:
        """The engine believes that it is ``seconds`` later than it is."""
        self._mesh = mesh
        self._seconds = seconds

    def handle(self, event: MeshEvent, now: float) -> Sequence[object]:
        """What is to be done after ``event``."""
        return [
            WakeAt(one.at - self._seconds) if isinstance(one, WakeAt) else one
            for one in self._mesh.handle(event, now + self._seconds)
        ]


def seeded(policy: MeshPolicy, rng: Random) -> MeshPolicy:
    """A policy by which prekeys are drawn from ``rng``, so that all is the same again."""
    prekeys = replace(policy.couriers.prekeys, draw=lambda: betanet.NoiseSecret(rng.randbytes(32)))
    return replace(policy, couriers=replace(policy.couriers, prekeys=prekeys))


class World:
    """Engines, an air between them, and a record of what their owners heard.

    Attributes:
        air: the links.
        meshes: the engines, by number.
        news: what each of them told, with the time since the start.
    """

    def __init__(
        self,
        topology: Topology,
        seed: int,
        *,
        model: AirModel | None = None,
        policy: MeshPolicy | None = None,
        skew_s: dict[int, float] | None = None,
    ) -> None:
        """Start the engines, and link them as the topology says."""
        rng = Random(seed)
        self.air = Air(model or AirModel(), rng, START)
        policy = seeded(policy or MeshPolicy(), Random(seed))
        self.meshes = [
            Mesh(Identity(rng.randbytes(32)), f"node {number}", Random(rng.random()), policy=policy)
            for number in range(len(topology.places))
        ]
        self.news: list[list[tuple[float, object]]] = [[] for _ in self.meshes]
        self.air.actions = lambda node, action: self.news[node].append((self.time, action))
        for number, mesh in enumerate(self.meshes):
            skew = (skew_s or {}).get(number, 0.0)
            self.air.add(Skewed(mesh, skew) if skew else mesh)
        self.air.lay(topology.links)

    @property
    def time(self) -> float:
        """Seconds since the start."""
        return self.air.now - START

    def run(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.air.run(self.air.now + seconds)

    def say(self, node: int, text: str) -> None:
        """Let a node say something to all."""
        self.air.give(node, SayAll(text, text))

    def texts(self, node: int) -> list[str]:
        """What a node heard, in its order."""
        return [one.text for _, one in self.news[node] if isinstance(one, TextHeard)]

    def counts(self) -> Counter[str]:
        """The counters of all engines together."""
        return Counter(
            {
                name: sum(mesh.counts.get(name, 0) for mesh in self.meshes)
                for name in {name for mesh in self.meshes for name in mesh.counts}
            }
        )

    def talk(self, messages: int, every_s: float, seed: int, limit_s: float = 30.0) -> Run:
        """Let random nodes say things, and judge who heard them in time."""
        rng, begun = Random(seed), self.time
        frames, sizes = self.air.frames, self.air.bytes.copy()
        senders = [rng.randrange(len(self.meshes)) for _ in range(messages)]
        ways: dict[bytes, list[int | None]] = {}
        said: dict[bytes, float] = {}

        def say(sender: int, text: str) -> None:
            # Nodes move: those count that were within reach when it was said.
            ways[text.encode()] = hops_from(self.air.neighbours(), sender)
            self.say(sender, text)

        for number, sender in enumerate(senders):
            text = f"{seed}/{number}"
            said[text.encode()] = at = begun + number * every_s
            self.air.later(START + at, partial(say, sender, text))
        self.run(messages * every_s + limit_s)
        arrived: dict[tuple[bytes, int], list[float]] = {}
        for node, news in enumerate(self.news):
            for at, one in news:
                if isinstance(one, TextHeard):
                    arrived.setdefault((one.text.encode(), node), []).append(at)
        run = judged(ways, said, arrived, limit_s)
        run.frames, run.bytes = self.air.frames - frames, self.air.bytes - sizes
        run.lasted_s = self.time - begun
        run.duplicates = self.counts()["duplicates"]
        return run

    def sent(self, node: int) -> list[Sent]:
        """What became of what a node was to send."""
        return [one for _, one in self.news[node] if isinstance(one, Sent)]
