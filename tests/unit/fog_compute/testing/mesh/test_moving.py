"""Nodes that walk keep talking."""

from __future__ import annotations

from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.moving import Walk
from fog_compute.testing.mesh.topologies import scattered


def test_who_is_in_reach_when_it_is_said_hears_it_while_all_walk() -> None:
    topology = scattered(16, 5.0, seed=3)
    world = World(topology, 1)
    walk = Walk(world.air, topology, 1, metres_s=8.0)
    walk.begin()
    world.run(5.0)
    run = world.talk(8, 1.0, seed=2, limit_s=4.0)
    assert walk.changes > 10
    assert run.share == 1.0
    assert run.shown_twice == 0
