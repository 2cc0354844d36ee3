"""A clock that is wrong by minutes mutes a node: it is said, once, whose it seems to be."""

from __future__ import annotations

from fog_compute.p2p.bitchat.events import LinkDown
from fog_compute.p2p.bitchat.mesh.clocks import Clocks
from fog_compute.p2p.bitchat.mesh.news import ClocksApart
from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.topologies import Topology, chain
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW, Person, Tried


def told(world: World, node: int) -> list[ClocksApart]:
    return [one for _, one in world.news[node] if isinstance(one, ClocksApart)]


def test_node_whose_clock_is_seven_minutes_ahead_hears_that_it_is_and_others_that_one_is() -> None:
    # INV-BITCHAT-94
    links = frozenset({(0, 1), (0, 2), (1, 2)})
    world = World(Topology("triangle", chain(3).places, links), 1, skew_s={0: 420.0})
    world.run(60.0)

    (own,) = told(world, 0)[-1:]
    assert own.everybody
    assert round(own.seconds) == -420
    assert own.reason is not None
    assert own.reason.startswith("this machine's clock is 7 minutes ahead of those of all")
    (others,) = told(world, 1)[-1:]
    assert (others.neighbours, others.everybody, others.reason) == (1, False, None)
    assert round(others.seconds) == 420
    assert len(told(world, 1)) <= 2


def test_clock_that_is_put_right_is_told_and_what_stays_wrong_is_told_rarely() -> None:
    # INV-BITCHAT-94
    tried, ann = Tried(1), Person(1)

    def say(off: float) -> list[ClocksApart]:
        heard = tried.get(1, ann.announce(tried.now + off))
        tried.wait(20.0)
        return [one for one in heard if isinstance(one, ClocksApart)]

    assert [len(say(-400.0)) for _ in range(29)] == [1, *[0] * 28]
    (again,) = [*say(-400.0), *say(-400.0)]
    assert again.reason is not None
    assert "behind" not in again.reason
    (right,) = say(0.0)
    assert (right.neighbours, right.reason) == (0, None)
    assert say(0.0) == []


def test_old_announces_over_one_link_say_nothing_of_the_clock_where_others_are_right() -> None:
    # INV-BITCHAT-94
    tried, ann, eve = Tried(1, 2), Person(1), Person(3)
    tried.get(1, ann.announce(tried.now))
    old = ann.announce(tried.now - 3_000, ttl=7)
    forged = eve.make(1, b"nothing", tried.now - 3_000, ttl=7)

    heard = tried.get(2, forged)
    tried.wait(11.0)
    heard += tried.get(2, old, old, ann.announce(tried.now - 2_000, ttl=6))

    (found,) = [one for one in heard if isinstance(one, ClocksApart)]
    assert (found.neighbours, found.everybody) == (1, False)
    tried.do(LinkDown(2))
    right = tried.get(1, ann.announce(tried.now))
    assert ClocksApart(0.0, 0, False) in right


def test_neighbours_that_are_off_to_both_sides_do_not_show_that_this_clock_is_wrong() -> None:
    # INV-BITCHAT-94
    clocks = Clocks(120.0)
    clocks.note(1, NOW + 300, NOW)
    found = clocks.note(2, NOW - 300, NOW)

    assert found == ClocksApart(0.0, 2, False)
    assert not clocks.looks(1, NOW) or not clocks.looks(1, NOW + 9)
    assert clocks.looks(1, NOW + 20)
