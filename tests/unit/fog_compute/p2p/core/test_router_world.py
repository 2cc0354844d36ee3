"""Two routers, and all that goes wrong between them: nothing is lost, twice, or out of order."""

from __future__ import annotations

import pytest

from fog_compute.p2p.core.inbox import InboxLimits
from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState
from fog_compute.p2p.core.router import RouterPolicy
from tests.unit.fog_compute.p2p.core.world import Air, World

PATIENT = RouterPolicy(inbox=InboxLimits(patience_s=40_000))
"""Gaps are waited for longer than anything is away here."""


def talk(world: World, messages: int, pause_s: float) -> None:
    """Both say so many things, while transports come and go."""
    rng = world.rng
    for number in range(messages):
        for person in world.people:
            person.say(DecentralizedMessage(body=b"%d" % number, receiver_id=person.other.name))
        if rng.random() < 0.05:
            world.set_near(not world.near)
        if rng.random() < 0.05:
            person = rng.choice(world.people)
            world.set_online(person, not person.online)
        world.pass_time(rng.uniform(0, 2 * pause_s))


def check(world: World, messages: int) -> None:
    expected = [str(number) for number in range(messages)]
    for person in world.people:
        assert person.shown() == expected
        assert world.states(person) == {DeliveryState.DELIVERED}
        assert not person.book.receipts
        assert person.router is not None
        assert person.router.waiting == 0


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_or_shown_twice_and_order_holds(seed: int) -> None:
    """INV-P2P-04, INV-P2P-05, INV-P2P-06: transports that lose, repeat, lie and go; and crashes."""
    world = World(seed, Air(crash=0.004, lost=0.2, twice=0.2, htx_fails=0.2), PATIENT)

    talk(world, 60, 1.5)
    world.settle()

    check(world, 60)
    assert sum(person.crashes for person in world.people) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_nothing_is_lost_or_shown_twice_whatever_the_seed(seed: int) -> None:
    """INV-P2P-04, INV-P2P-05, INV-P2P-06."""
    crash = (0.0, 0.001, 0.01, 0.03)[seed % 4]
    lost = (0.0, 0.1, 0.4)[seed % 3]
    world = World(seed, Air(crash, lost, 0.3, 0.3), PATIENT)

    talk(world, 300, (0.05, 0.5, 5.0, 60.0)[seed // 4 % 4])
    world.settle()

    check(world, 300)
