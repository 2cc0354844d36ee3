"""Ways through the mesh, and what goes on them."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from fog_compute.p2p.bitchat.mesh.news import HeardPrivately, SayTo
from fog_compute.p2p.bitchat.wire.routes import MOST_BETWEEN, route
from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.topologies import grid, hops_from

A, B, C, D, E = b"A", b"B", b"C", b"D", b"E"


def test_shortest_way_wins_and_both_ends_have_to_tell_of_a_link() -> None:
    told = {A: [B, C], B: [A, D], C: [A, D, E], D: [B, C, E], E: [D, C]}
    assert route([A], E, told) == (A, C)
    assert route([A, D], E, told) == (D,)
    told[E] = [D]  # it knows nothing of C
    assert route([A], E, told) in ((A, B, D), (A, C, D))
    told[D] = [B, C]
    assert route([A], E, told) == ()
    assert route([], E, told) == ()
    assert route([b"unknown"], E, told) == ()


def test_way_is_not_longer_than_it_lives() -> None:
    for between in range(1, 9):
        chain = [bytes([number]) for number in range(between + 1)]
        told = {one: chain[max(0, n - 1) : n + 2] for n, one in enumerate(chain)}
        found = route(chain[:1], chain[-1], told)
        assert found == (tuple(chain[:-1]) if between <= MOST_BETWEEN else ())


def test_ways_in_random_meshes_are_as_short_as_they_can_be() -> None:
    rng = Random(3)
    for _ in range(60):
        told: dict[bytes, set[bytes]] = {bytes([n]): set() for n in range(12)}
        for _ in range(rng.randrange(8, 30)):
            one, other = rng.sample(sorted(told), 2)
            told[one].add(other)
            told[other].add(one)
        numbers = [[other[0] for other in told[bytes([n])]] for n in range(12)]
        hops = hops_from(numbers, 0)[11]
        found = route(sorted(told[b"\0"]), b"\x0b", told | {b"\0": set()})
        if hops is not None and 2 <= hops <= MOST_BETWEEN + 1:
            assert len(found) == hops - 1
            way = (b"\0", *found, b"\x0b")
            assert all(other in told[one] for one, other in pairwise(way))


def say(world: World, to: int, *, wide: bool = False) -> int:
    """Say something to a node; how many bytes that took, with what is sent all the time."""
    before = world.air.bytes.total()
    world.air.give(0, SayTo("t", world.meshes[to].peer_id, bytes(20_000), wide=wide))
    world.run(1.5)
    return world.air.bytes.total() - before


def heard(world: World, node: int) -> int:
    return sum(isinstance(one, HeardPrivately) for _, one in world.news[node])


def test_private_things_take_the_best_way_and_everybody_is_asked_where_it_breaks() -> None:
    """INV-BITCHAT-62."""
    world = World(grid(4), 1)
    world.run(65.0)  # by now announces tell neighbours
    say(world, 10)
    assert heard(world, 10) == 1
    routed = say(world, 10)
    assert heard(world, 10) == 2
    wide = say(world, 10, wide=True)
    assert heard(world, 10) == 3
    assert routed < wide / 2
    for other in (9, 6):
        world.air.cut(other, 10)  # nobody on the way has told of that yet
    say(world, 10)
    assert heard(world, 10) == 4
