"""What a node looks at after which event."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fog_compute.p2p.bitchat.mesh.engine import Mesh, MeshEvent
from fog_compute.p2p.bitchat.mesh.news import MailKept
from fog_compute.testing.mesh.air import AirModel
from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.topologies import Topology, chain, grid


class Thorough:
    """An engine that asks all its parts after whatever happens."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    def handle(self, event: MeshEvent, now: float) -> Sequence[object]:
        self.mesh._touched = True
        return self.mesh.handle(event, now)


def told(world: World) -> list[list[object]]:
    """All but what carries secrets, which are drawn elsewhere."""
    return [[one for one in news if not isinstance(one[1], MailKept)] for news in world.news]


@pytest.mark.parametrize(("topology", "seed"), [(chain(5), 1), (grid(3), 2)], ids=["chain", "grid"])
def test_parts_that_are_not_asked_would_have_had_nothing_to_do(
    topology: Topology, seed: int
) -> None:
    model = AirModel(loss=0.1, told=0.5)
    worlds = [World(topology, seed, model=model) for _ in range(2)]
    for number, mesh in enumerate(worlds[1].meshes):
        worlds[1].air.replace(number, Thorough(mesh))
    for world in worlds:
        for number in range(6):
            world.say(number % 3, f"text {number}")
            world.run(4.0)
        world.run(30.0)
    asked, all_asked = worlds
    assert told(asked) == told(all_asked)
    assert asked.air.frames == all_asked.air.frames
    assert asked.counts() == all_asked.counts()
    assert len(asked.texts(4)) > 0
