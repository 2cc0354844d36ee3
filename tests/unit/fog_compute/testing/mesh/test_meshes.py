"""Whole engines on small meshes: who hears what, when, and how often. The large ones are slow.

``python -m benches.mesh`` has the figures for all sizes; these are seeds of the same.
"""

from __future__ import annotations

from random import Random

import pytest

from fog_compute.p2p.bitchat.mesh.news import PeerAway, PeerNear
from fog_compute.testing.mesh.air import AirModel
from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.topologies import (
    LINE_500_M,
    Topology,
    chain,
    grid,
    hops_from,
    scattered,
)

TOLD, SILENT = AirModel(loss=0.05), AirModel(loss=0.05, told=0.0)


def ready(topology: Topology, model: AirModel | None = None, seed: int = 1) -> World:
    """A mesh whose nodes have announced themselves."""
    world = World(topology, seed, model=model)
    world.run(5.0)
    return world


@pytest.mark.parametrize(
    "topology", [LINE_500_M, grid(4), scattered(20, 4.5, seed=2)], ids=lambda one: one.name
)
def test_everybody_within_seven_hops_hears_it_once_without_loss(topology: Topology) -> None:
    """INV-BITCHAT-50, on a line of 500 m, a grid and a random mesh."""
    run = ready(topology).talk(6, 0.5, seed=3, limit_s=5.0)
    assert run.expected > 40
    assert run.share == 1.0
    assert run.shown_twice == 0
    assert run.quantile(0.99) < 3.0


@pytest.mark.parametrize("model", [TOLD, SILENT], ids=["told", "silent"])
def test_lost_frames_are_mended_in_time_whether_the_sender_hears_of_them_or_not(
    model: AirModel,
) -> None:
    """INV-BITCHAT-52, INV-BITCHAT-91: by sending again, or by asking."""
    run = ready(LINE_500_M, model).talk(40, 1.0, seed=4)
    assert run.share == 1.0
    assert run.quantile(0.99) <= 3.0
    assert run.shown_twice == 0


def test_what_is_said_fast_is_shown_once() -> None:
    """INV-BITCHAT-53 at fifty messages a second."""
    world = ready(grid(3))
    run = world.talk(100, 0.02, seed=5, limit_s=20.0)
    assert run.share == 1.0
    assert run.shown_twice == 0
    assert run.duplicates > 100


def test_parted_islands_learn_what_the_other_said_when_they_meet() -> None:
    """INV-BITCHAT-56: by gossip, though the flood was long over."""
    whole, parted = chain(4), Topology("parted", chain(4).places, frozenset({(0, 1), (2, 3)}))
    world = ready(parted)
    world.say(0, "from the left")
    world.run(100.0)
    assert world.texts(1) == ["from the left"]
    assert world.texts(3) == []
    world.air.lay(whole.links)
    world.run(25.0)
    assert [world.texts(node) for node in (1, 2, 3)] == [["from the left"]] * 3


def test_newcomer_hears_what_somebody_said_who_left_an_hour_ago() -> None:
    """INV-BITCHAT-56: the announce that shows who it was comes with it, and brings nobody back."""
    apart = Topology("apart", chain(4).places, frozenset({(0, 1), (1, 2)}))
    world = ready(apart)
    world.say(0, "I was here")
    world.run(1.0)
    world.air.cut(0, 1)
    world.run(3_600.0)
    world.air.connect(3, 2)
    world.run(10.0)
    assert world.texts(3) == ["I was here"]
    gone = world.meshes[0].peer_id
    assert not any(isinstance(e, PeerNear) and e.peer_id == gone for _, e in world.news[3])


def test_node_that_moves_away_is_away_after_a_minute_and_back_at_once() -> None:
    """INV-BITCHAT-54."""
    world = ready(chain(3))
    world.air.cut(1, 2)
    world.run(95.0)
    gone = [one for _, one in world.news[0] if isinstance(one, PeerAway)]
    assert gone == [PeerAway(world.meshes[2].peer_id)]
    world.air.connect(0, 2)
    before = len(world.news[0])
    world.run(1.0)
    news = [one for _, one in world.news[0][before:]]
    assert any(isinstance(one, PeerNear) and one.direct for one in news)


def test_node_whose_clock_is_wrong_by_a_minute_takes_part_and_by_an_hour_does_not() -> None:
    """INV-BITCHAT-55."""
    world = World(chain(3), 1, skew_s={1: 60.0, 2: 3600.0})
    world.run(5.0)
    world.say(0, "right")
    world.say(1, "a minute late")
    world.say(2, "an hour late")
    world.run(5.0)
    assert world.texts(0) == ["a minute late"]
    assert world.texts(1) == ["right"]
    assert world.meshes[1].counts["dropped_time"] > 0


def test_chaos_shows_nothing_twice_and_nothing_that_nobody_said() -> None:
    """INV-BITCHAT-53: links come and go, frames are lost in silence or have a bit changed."""
    topology, rng = scattered(10, 4.0, seed=6), Random(9)
    world = World(topology, 2, model=AirModel(loss=0.1, told=0.3, garbled=0.05))
    said: dict[str, int] = {}
    for second in range(45):
        pair = rng.choice(sorted(topology.links))
        if pair in world.air.links:
            world.air.cut(*pair)
        else:
            world.air.connect(*pair)
        if second % 3 == 0:
            said[f"text {second}"] = sender = rng.randrange(10)
            world.say(sender, f"text {second}")
        before = world.air.happened
        world.run(1.0)
        # Nobody wakes again and again for nothing.
        assert world.air.happened - before < 4_000
    world.air.lay(topology.links)
    world.run(60.0)
    reachable = [hops_from(topology.neighbours(), node) for node in range(10)]
    for node in range(10):
        wanted = [t for t, by in said.items() if by != node and reachable[by][node] is not None]
        assert sorted(world.texts(node)) == sorted(wanted)


def test_same_seed_tells_the_same_story() -> None:
    stories = [ready(grid(3), TOLD, seed=8).talk(4, 0.5, seed=1, limit_s=3.0) for _ in range(2)]
    assert stories[0] == stories[1]


@pytest.mark.slow
@pytest.mark.parametrize("model", [AirModel(), TOLD, SILENT], ids=["none", "told", "silent"])
@pytest.mark.parametrize(
    "topology",
    [grid(7), scattered(50, 5.5, seed=2), scattered(100, 5.5, 3)],
    ids=lambda one: one.name,
)
def test_large_meshes_hear_everything(topology: Topology, model: AirModel) -> None:
    run = ready(topology, model).talk(20, 1.0, seed=6)
    assert run.share >= (0.995 if model.loss else 1.0)
    assert run.shown_twice == 0
