"""Two islands of the simulated mesh, joined by bridges over a mixnet in memory."""

from __future__ import annotations

from collections import Counter

import pytest

from fog_compute.p2p.bitchat.mesh.news import HeardPrivately, SayTo, Trace, Traced
from fog_compute.p2p.bitchat.wire.private import PrivateKind, within
from fog_compute.testing.mesh.islands import Islands, MixnetModel, islands
from fog_compute.testing.mesh.topologies import chain, grid

SLOW_SEEDS = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 13)]


def _said(world: Islands, every_s: float, number: int) -> list[str]:
    """Let nodes of both sides speak in turn."""
    nodes = len(world.meshes)
    texts = []
    for turn in range(number):
        text = f"message {turn}"
        world.say(turn * 5 % nodes, text)
        texts.append(text)
        world.run(every_s)
    return texts


def _all_once(world: Islands, texts: list[str]) -> None:
    for node in range(len(world.meshes)):
        heard = Counter(world.texts(node))
        own = {text for turn, text in enumerate(texts) if turn * 5 % len(world.meshes) == node}
        missing = [text for text in texts if text not in own and heard[text] != 1]
        assert not missing, f"node {node} heard {missing} not once"


@pytest.mark.parametrize("seed", [0, *SLOW_SEEDS])
def test_what_is_said_on_one_island_is_heard_once_by_everybody_on_the_other(seed: int) -> None:
    world = Islands(islands(chain(3), chain(3)), [(2, 3)], seed)
    world.run(20)
    texts = _said(world, 1.0, 12)
    world.run(30)
    _all_once(world, texts)


@pytest.mark.parametrize("seed", [0, *SLOW_SEEDS])
def test_inv_p2p_35_two_pairs_of_bridges_make_no_loop_and_lose_nothing_to_loss(seed: int) -> None:
    """INV-P2P-35."""
    model = MixnetModel(lost=0.2, twice=0.2)
    world = Islands(islands(grid(3), grid(3)), [(8, 9), (2, 15)], seed, mixnet=model)
    world.run(60)
    before = world.posts
    texts = _said(world, 1.0, 15)
    world.run(45)
    _all_once(world, texts)
    assert world.posts - before < 60 * len(texts)


def test_inv_p2p_34_a_bridge_that_was_away_brings_what_is_new_and_nothing_old() -> None:
    """INV-P2P-34."""
    world = Islands(islands(chain(3), chain(3)), [(2, 3)], 5)
    world.run(20)
    world.offline = {2, 3}
    world.run(5)
    world.say(0, "just before it is back")
    world.run(15)
    world.offline = set()
    world.run(90)
    assert world.texts(5) == ["just before it is back"]

    world.offline = {2, 3}
    world.run(200)
    world.say(0, "long ago")
    world.run(900)
    world.offline = set()
    world.run(120)
    world.say(0, "now")
    world.run(30)
    assert world.texts(5) == ["just before it is back", "now"]


def test_what_is_said_to_one_peer_on_the_other_island_reaches_it_alone() -> None:
    world = Islands(islands(chain(2), chain(2)), [(1, 2)], 4, mixnet=MixnetModel(lost=0.2))
    world.run(70)
    there, body = world.meshes[3].peer_id, bytes(range(256)) * 20
    world.air.give(0, SayTo("letter", there, within(PrivateKind.FILE, body)))
    world.air.give(0, Trace("how far", there))
    world.run(30)

    heard = [one for _, one in world.news[3] if isinstance(one, HeardPrivately)]
    assert [one.body for one in heard] == [body]
    traced = [one for _, one in world.news[0] if isinstance(one, Traced)]
    assert [one.hops for one in traced] == [3]
    assert not any(isinstance(one, HeardPrivately) for _, one in world.news[2])
