"""Routers, and all that goes wrong between them: nothing is lost, twice, or out of order."""

from __future__ import annotations

import pytest

from fog_compute.p2p.core.inbox import InboxLimits
from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState, MessageId
from fog_compute.p2p.core.rosters import NO_KEY, Member, Roster
from fog_compute.p2p.core.router import RouterPolicy
from tests.unit.fog_compute.p2p.core.world import Air, Person, World

PATIENT = RouterPolicy(inbox=InboxLimits(patience_s=40_000))
"""Gaps are waited for longer than anything is away here."""

GROUP = "0f" * 16


def trouble(world: World) -> None:
    """Transports come and go."""
    rng = world.rng
    if rng.random() < 0.05:
        world.set_near(not world.near)
    if rng.random() < 0.05:
        person = rng.choice(world.people)
        world.set_online(person, not person.online)


def talk(world: World, messages: int, pause_s: float) -> None:
    """Both say so many things, and read some, while transports come and go."""
    rng = world.rng
    for number in range(messages):
        for person in world.people:
            person.say(DecentralizedMessage(body=b"%d" % number, receiver_id=person.other.name))
            if rng.random() < 0.2:
                person.read()
        trouble(world)
        world.pass_time(rng.uniform(0, 2 * pause_s))
    for person in world.people:
        person.read()


def check(world: World, messages: int) -> None:
    for person in world.people:
        # What could not be kept at first is said again, after what was said meanwhile.
        assert sorted(map(int, person.said())) == list(range(messages))
        assert person.other.shown() == person.said()
        assert not person.book.receipts
        assert person.router is not None
        assert person.router.waiting == 0
        check_read(person)


def check_read(person: Person) -> None:
    """Each message that was read is told as read, but for what the radio lost again and again."""
    states = {key: one.state for key, one in person.book.deliveries.items()}
    for (id_, receiver), state in states.items():
        reader = next(one for one in person.world.people if one.name == receiver)
        read = (person.name, id_) in reader.told_read
        if read and reader.by_radio[person.name, id_] < 4:
            assert state is DeliveryState.READ, f"{id_} was read"
        assert state is DeliveryState.DELIVERED or read


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_or_shown_twice_and_order_holds(seed: int) -> None:
    """INV-P2P-04, INV-P2P-05, INV-P2P-06, INV-P2P-10: what loses, repeats, lies, and goes."""
    air = Air(0.004, lost=0.2, twice=0.2, htx_fails=0.2, waits=0.3, hangs=0.05, poison=0.02)
    world = World(seed, air, PATIENT)

    talk(world, 60, 1.5)
    world.settle()

    check(world, 60)
    assert sum(person.crashes for person in world.people) > 0
    assert sum(person.poisoned for person in world.people) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_nothing_is_lost_or_shown_twice_whatever_the_seed(seed: int) -> None:
    """INV-P2P-04, INV-P2P-05, INV-P2P-06, INV-P2P-10."""
    crash = (0.0, 0.001, 0.01, 0.03)[seed % 4]
    lost = (0.0, 0.1, 0.4)[seed % 3]
    air = Air(crash, lost, 0.3, 0.3, waits=(0.0, 0.5)[seed // 2 % 2], hangs=0.1, poison=0.01)
    world = World(seed, air, PATIENT)

    talk(world, 300, (0.05, 0.5, 5.0, 60.0)[seed // 4 % 4])
    world.settle()

    check(world, 300)


def gather(world: World, epoch: int, members: list[Person], before: list[Person]) -> None:
    """Have the first of all make a group of these, and tell those who are not in it any more."""
    maker = world.people[0]

    def roster(key: bytes) -> Roster:
        people = [Member(one.name, one.keys.signing_public, "") for one in members[1:]]
        return Roster.make(maker.keys, GROUP, "us", people, epoch, key=key)

    made = roster(bytes([epoch]) * 32)
    maker.say(made.message(), made)
    for one in before:
        if one not in members:
            maker.say(roster(NO_KEY).message(one.name))


def check_group(world: World) -> None:
    for person in world.people:
        assert person.router is not None
        assert person.router.waiting == 0
        for (id_, receiver), delivery in person.book.deliveries.items():
            to = next(one for one in world.people if one.name == receiver)
            shown = [one.message.id for one in to.book.entries() if not one.outgoing]
            arrived = delivery.state in {DeliveryState.DELIVERED, DeliveryState.READ}
            assert arrived or delivery.state is DeliveryState.FAILED, delivery.reason
            assert shown.count(id_) == 1 or not arrived
        for other in person.others:
            check_order(person, other)


def check_order(person: Person, other: Person) -> None:
    """What somebody said in a stream is shown in order."""
    last: dict[str, int] = {}
    for entry in person.book.entries():
        parsed = MessageId.parse(entry.message.id)
        if parsed is not None and entry.message.sender == other.name and not entry.outgoing:
            assert parsed.sequence > last.get(parsed.stream, -1)
            last[parsed.stream] = parsed.sequence


def talk_in_group(world: World, messages: int, *, again: bool) -> None:
    """Three talk; the third is put out, and perhaps let in again."""
    rng, everybody = world.rng, world.people
    gather(world, 1, everybody, [])
    world.pass_time(60)
    for number in range(messages):
        if number == messages // 3:
            gather(world, 2, everybody[:2], everybody)
        if again and number == 2 * messages // 3:
            gather(world, 3, everybody, everybody[:2])
        for person in everybody:
            body = f"{person.name[:4]} {number}".encode()
            if person.router is not None and person.groups.get(GROUP):
                person.say(DecentralizedMessage(body=body, room=GROUP))
        trouble(world)
        world.pass_time(rng.uniform(0, 3))


@pytest.mark.parametrize("seed", range(4))
def test_groups_lose_nothing_and_wait_for_nobody_who_is_out(seed: int) -> None:
    """INV-P2P-05, INV-P2P-11, INV-P2P-48."""
    air = Air(0.002, lost=0.2, twice=0.2, htx_fails=0.2, waits=0.3, hangs=0.05, poison=0.005)
    world = World(seed, air, PATIENT, people=3)

    talk_in_group(world, 30, again=seed % 2 == 0)
    world.settle(50_000)

    check_group(world)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(300, 340))
def test_groups_lose_nothing_whatever_the_seed(seed: int) -> None:
    """INV-P2P-05, INV-P2P-11, INV-P2P-48."""
    crash, lost = (0.0, 0.001, 0.01)[seed % 3], (0.0, 0.3)[seed % 2]
    air = Air(crash, lost, 0.3, 0.3, waits=(0.0, 0.5)[seed // 2 % 2], hangs=0.1, poison=0.01)
    world = World(seed, air, PATIENT, people=3)

    talk_in_group(world, 90, again=seed % 4 < 2)
    world.settle(50_000)

    check_group(world)
