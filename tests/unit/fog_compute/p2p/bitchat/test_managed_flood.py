"""Whom a node gives a packet: seeded graphs, a clock that the test moves, and no bytes at all."""

from __future__ import annotations

from collections import defaultdict
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from fog_compute.p2p.bitchat.managed_flood import Copy, FloodPolicy, ManagedFlood, Relay
from fog_compute.testing.mesh.topologies import hops_from

KEY = b"k"
LINKS = (1, 2, 3, 4)


def node(**changed: object) -> ManagedFlood[str]:
    return ManagedFlood(FloodPolicy(**changed), Random(5))  # type: ignore[arg-type]  # by name


def given_to(relays: list[Relay[str]]) -> dict[int, int]:
    return {one.link: one.ttl for one in relays}


def test_first_copy_goes_to_all_others_with_one_hop_less_after_a_wait() -> None:
    flood = node()
    assert flood.heard(KEY, "p", 6, 2, 10.0, 4) is Copy.FIRST
    assert flood.next_due is not None
    assert 10.02 <= flood.next_due <= 10.1
    assert flood.due(10.01, LINKS) == []
    assert given_to(flood.due(10.1, LINKS)) == {1: 5, 3: 5, 4: 5}
    assert flood.next_due is None


def test_where_there_is_hardly_anybody_the_wait_is_short() -> None:
    for seed in range(40):
        flood: ManagedFlood[str] = ManagedFlood(FloodPolicy(), Random(seed))
        flood.heard(KEY, "p", 6, 1, 0.0, 2)
        assert flood.next_due is not None
        assert 0.01 <= flood.next_due <= 0.04


def test_own_packet_leaves_at_once_with_every_hop() -> None:
    flood = node(ttl=5)
    flood.start(KEY, "p", 3.0)
    assert given_to(flood.due(3.0, LINKS)) == dict.fromkeys(LINKS, 5)
    assert flood.heard(KEY, "p", 4, 1, 3.2, 4) is Copy.DUPLICATE


def test_neighbour_that_has_it_is_left_out_and_the_others_are_not() -> None:
    """INV-BITCHAT-51."""
    flood = node()
    flood.heard(KEY, "p", 6, 1, 0.0, 4)
    assert flood.heard(KEY, "p", 5, 3, 0.01, 4) is Copy.DUPLICATE
    assert given_to(flood.due(0.2, LINKS)) == {2: 5, 4: 5}


def test_copy_over_a_shorter_way_is_passed_on_again() -> None:
    flood = node()
    flood.heard(KEY, "p", 3, 1, 0.0, 4)
    assert given_to(flood.due(0.2, LINKS)) == {2: 2, 3: 2, 4: 2}
    assert flood.heard(KEY, "p", 6, 2, 0.3, 4) is Copy.BETTER
    assert given_to(flood.due(0.5, LINKS)) == {1: 5, 3: 5, 4: 5}


def test_last_hop_keeps_a_packet_and_a_better_copy_frees_it() -> None:
    flood = node()
    assert flood.heard(KEY, "p", 1, 1, 0.0, 4) is Copy.FIRST
    assert flood.due(1.0, LINKS) == []
    assert flood.heard(KEY, "p", 2, 2, 1.1, 4) is Copy.BETTER
    assert given_to(flood.due(2.0, LINKS)) == {3: 1, 4: 1}


def test_ttl_beyond_the_limit_gives_no_further_hops() -> None:
    flood = node()
    flood.heard(KEY, "p", 255, 1, 0.0, 4)
    assert given_to(flood.due(1.0, LINKS)) == {2: 6, 3: 6, 4: 6}
    assert flood.heard(KEY, "p", 9, 2, 1.1, 4) is Copy.DUPLICATE


def test_what_was_lost_may_be_given_again() -> None:
    flood = node()
    flood.heard(KEY, "p", 5, 1, 0.0, 4)
    flood.due(1.0, LINKS)
    assert flood.wanted(KEY, 2, 4)
    flood.lost(KEY, 2, 4)
    assert flood.heard(KEY, "p", 6, 3, 1.1, 4) is Copy.BETTER
    assert given_to(flood.due(2.0, LINKS)) == {2: 5, 4: 5}
    flood.heard(KEY, "p", 6, 4, 2.1, 4)
    assert not flood.wanted(KEY, 4, 5)


def test_packet_with_a_known_way_goes_there_alone() -> None:
    flood = node()
    flood.heard(KEY, "p", 6, 1, 0.0, 4)
    flood.only(KEY, [3])
    assert given_to(flood.due(1.0, LINKS)) == {3: 5}


def test_neighbour_that_left_and_came_back_is_a_stranger() -> None:
    flood = node()
    flood.heard(KEY, "p", 6, 1, 0.0, 4)
    flood.heard(KEY, "p", 6, 3, 0.0, 4)
    flood.link_down(3)
    assert given_to(flood.due(1.0, LINKS)) == {2: 5, 3: 5, 4: 5}


def test_memory_is_bounded_by_number_and_by_age() -> None:
    flood = node(largest=25, keep_s=9.0)
    for number in range(400):
        flood.heard(number.to_bytes(2), "p", 6, 1, number / 100, 4)
        flood.due(number / 100, ())
    assert len(flood) == 25
    flood.due(100.0, ())
    assert len(flood) == 0
    assert flood.next_due is None


@given(seed=st.integers(0, 2**32), nodes=st.integers(2, 24), chords=st.integers(0, 30))
def test_every_node_within_reach_gets_it_and_no_link_carries_it_more_than_it_helps(
    seed: int, nodes: int, chords: int
) -> None:
    """INV-BITCHAT-50: whoever is within seven links, nobody further, nothing twice for nothing."""
    rng = Random(seed)
    neighbours: list[list[int]] = [[] for _ in range(nodes)]
    pairs = {(number, number + 1) for number in range(nodes - 1)}
    pairs |= {(a, b) for a, b in (sorted(rng.sample(range(nodes), 2)) for _ in range(chords))}
    for a, b in pairs:
        neighbours[a].append(b)
        neighbours[b].append(a)
    floods: list[ManagedFlood[str]] = [
        ManagedFlood(FloodPolicy(), Random(rng.random())) for _ in range(nodes)
    ]
    floods[0].start(KEY, "p", 0.0)
    under_way: list[tuple[float, int, int, int]] = []
    got, carried, now = {0}, defaultdict(list), 0.0
    while True:
        for number, one in enumerate(floods):
            for relay in one.due(now, neighbours[number]):
                carried[number, relay.link].append(relay.ttl)
                at = now + rng.uniform(0.01, 0.2)
                under_way.append((at, relay.link, number, relay.ttl))
        times = [one.next_due for one in floods if one.next_due is not None]
        times += [at for at, *_ in under_way]
        if not times:
            break
        now = min(times)
        for item in [item for item in under_way if item[0] <= now]:
            under_way.remove(item)
            _, to, by, ttl = item
            got.add(to)
            floods[to].heard(KEY, "p", ttl, by, now, len(neighbours[to]))
    hops = hops_from(neighbours, 0)
    assert got == {number for number, far in enumerate(hops) if far is not None and far <= 7}
    for ttls in carried.values():
        # Again only if it arrives better than before: each time counts for more.
        assert ttls == sorted(set(ttls))
