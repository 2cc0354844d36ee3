"""Engines that run for long while others come and go: what they remember stays within bounds."""

from __future__ import annotations

import collections
from collections import Counter
from random import Random

import pytest

from fog_compute.p2p.bitchat.mesh.engine import Mesh, MeshPolicy
from fog_compute.p2p.bitchat.mesh.gossip import GossipPolicy
from fog_compute.p2p.bitchat.mesh.news import PostMail, SayTo
from fog_compute.p2p.bitchat.mesh.peers import PeersPolicy
from fog_compute.p2p.bitchat.wire.private import PrivateKind, within
from fog_compute.p2p.core.identity import Identity
from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.topologies import scattered

CALM = MeshPolicy(
    peers=PeersPolicy(reachable_s=2_600.0, connected_s=(800.0, 1_200.0)),
    gossip=GossipPolicy(busy_s=150.0, ours_s=150.0, idle_s=300.0),
)
"""At the usual pace a day takes hours; what is kept for how long is as usual."""

HOUR_S = 3600.0

BY_PERSON = ("_station.peers._peers", "_shown", "_told", "prekey")
"""Tables of whoever was ever met; each has a bound of its own, which other tests reach."""


def tables(root: object) -> Counter[str]:
    """How many entries every table has that can be reached from an engine, by its name."""
    found: Counter[str] = Counter()
    known: set[int] = set()
    todo: list[tuple[str, object]] = [("", root)]
    while todo:
        name, thing = todo.pop()
        if id(thing) in known:
            continue
        known.add(id(thing))
        if isinstance(thing, dict):
            found[name] += len(thing)
            todo += [(f"{name}[]", one) for one in thing.values()]
        elif isinstance(thing, list | set | frozenset | tuple | collections.deque):
            found[name] += len(thing)
            todo += [(f"{name}[]", one) for one in thing]
        elif type(thing).__module__.startswith("fog_compute"):
            slots = {slot for one in type(thing).__mro__ for slot in getattr(one, "__slots__", ())}
            slots |= set(getattr(thing, "__dict__", ())) | set(
                getattr(type(thing), "__struct_fields__", ())
            )
            todo += [(f"{name}.{slot}", getattr(thing, slot, None)) for slot in slots]
    return found


class Day:
    """Fifty nodes, of which some go and others come."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.world = World(scattered(50, 4.5, seed=seed), seed, policy=CALM)
        self.places = self.world.air.neighbours()

    def come_and_go(self) -> None:
        """A node goes; somebody else, or the same one again, comes to its place."""
        air, number = self.world.air, self.rng.randrange(50)
        for other in air.neighbours()[number]:
            air.cut(number, other)
        keys = Identity(self.rng.randbytes(32))
        made = Mesh(keys, f"node {number}", Random(self.rng.random()), policy=CALM)
        self.world.meshes[number] = made
        air.replace(number, made)
        for other in self.places[number]:
            air.connect(number, other)

    def talk(self) -> None:
        """Somebody says something to all, to one who is near, and to one who is gone."""
        rng, world = self.rng, self.world
        by = rng.randrange(50)
        world.say(by, f"text {rng.random()}")
        peers = list(world.meshes[by].peers)
        text = within(PrivateKind.MESSAGE, rng.randbytes(40))
        if peers:
            world.air.give(by, SayTo("t", rng.choice(peers).peer_id, text))
            gone = Identity(rng.randbytes(32))
            world.air.give(by, PostMail("t", f"{rng.random()}", gone.noise_public, text))

    def hours(self, count: int) -> Counter[str]:
        """Let hours pass; the largest size that each table of any node has then."""
        for _ in range(count):
            for _ in range(4):
                self.come_and_go()
                for _ in range(3):
                    self.talk()
                    self.world.run(HOUR_S / 12)
        for news in self.world.news:
            news.clear()
        largest: Counter[str] = Counter()
        for mesh in self.world.meshes:
            largest |= tables(mesh)
        return largest


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_nothing_piles_up_in_a_day_in_which_nodes_come_and_go() -> None:
    day = Day(3)
    day.hours(10)  # what is kept longest of what anybody says is kept for six hours
    early = day.hours(2)
    day.hours(10)
    late = day.hours(2)
    grown = {
        name: (early[name], size)
        for name, size in late.items()
        if size > 1.5 * early[name] + 20 and not any(part in name for part in BY_PERSON)
    }
    assert grown == {}
    # One moment to be woken at for each node, and what is under way.
    assert len(day.world.air._queue) < 1_000
