"""Runs of a simulated mesh, and what came of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from fog_compute.testing.mesh.air import Air, AirModel
from fog_compute.testing.mesh.moving import Walk
from fog_compute.testing.mesh.policies import Delivered, FloodNode, Say
from fog_compute.testing.mesh.topologies import Topology, hops_from

__all__ = ["Run", "flood"]


@dataclass(slots=True)
class Run:
    """What became of the messages of a run.

    Attributes:
        expected: pairs of a message and a node within seven hops of its sender.
        reached: of those, pairs where it arrived in time.
        seconds: after which each of those arrived.
        beyond: pairs that arrived though the node is further away.
        shown_twice: pairs where it was shown more than once.
        frames: frames sent for all messages.
        messages: how many there were.
        duplicates: copies that came of what was there already.
        bytes: of all frames, by kind of packet; empty where nodes only flood.
        lasted_s: seconds from the first message to the end.
    """

    expected: int = 0
    reached: int = 0
    seconds: list[float] = field(default_factory=list)
    beyond: int = 0
    shown_twice: int = 0
    frames: int = 0
    messages: int = 0
    duplicates: int = 0
    bytes: Counter[int] = field(default_factory=Counter)
    lasted_s: float = 0.0

    @property
    def share(self) -> float:
        """Of the nodes within seven hops, those that a message reached, from 0 to 1."""
        return self.reached / self.expected if self.expected else 1.0

    @property
    def frames_each(self) -> float:
        """Frames for one message."""
        return self.frames / self.messages if self.messages else 0.0

    def quantile(self, share: float) -> float:
        """Seconds after which that share of what arrived had arrived."""
        if not self.seconds:
            return math.inf
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def flood(
    topology: Topology,
    node: Callable[[Random, int], FloodNode],
    seed: int,
    *,
    messages: int,
    every_s: float = 1.0,
    model: AirModel | None = None,
    limit_s: float = 30.0,
    walking: bool = False,
) -> Run:
    """Send messages from random nodes, by flood alone; the nodes may walk meanwhile."""
    rng = Random(seed)
    air = Air(model or AirModel(), rng)
    nodes = [node(Random(rng.random()), len(topology.places)) for _ in topology.places]
    arrived: dict[tuple[bytes, int], list[float]] = {}

    def note(number: int, action: object) -> None:
        if isinstance(action, Delivered):
            arrived.setdefault((action.key, number), []).append(air.now)

    air.actions = note
    for one in nodes:
        air.add(one)
    air.lay(topology.links)
    if walking:
        Walk(air, topology, seed).begin()
    said: dict[bytes, float] = {}
    ways: dict[bytes, list[int | None]] = {}

    def say(key: bytes, sender: int) -> None:
        ways[key] = hops_from(air.neighbours(), sender)
        air.give(sender, Say(key))

    for number in range(messages):
        key, sender = number.to_bytes(8), rng.randrange(len(nodes))
        said[key] = number * every_s
        air.later(said[key], partial(say, key, sender))
    air.run(messages * every_s + limit_s)
    run = judged(ways, said, arrived, limit_s)
    run.frames, run.duplicates = air.frames, sum(one.duplicates for one in nodes)
    return run


def judged(
    ways: Mapping[bytes, Sequence[int | None]],
    said: Mapping[bytes, float],
    arrived: Mapping[tuple[bytes, int], Sequence[float]],
    limit_s: float,
) -> Run:
    """Compare what arrived with what should have.

    Args:
        ways: of each message, how many hops each node was from its sender.
        said: when each was sent.
        arrived: when it was shown, by message and node.
        limit_s: seconds after which it comes too late.
    """
    run = Run(messages=len(said))
    for key, at in said.items():
        for number, hops in enumerate(ways[key]):
            times = arrived.get((key, number), [])
            run.shown_twice += len(times) > 1
            if not hops:
                continue
            if hops > 7:
                run.beyond += bool(times)
                continue
            run.expected += 1
            if times and times[0] - at <= limit_s:
                run.reached += 1
                run.seconds.append(times[0] - at)
    return run
