"""The transport HTX, over a mixnet in memory."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path

import pytest

import betanet
from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.core.cards import ContactCard
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import DecentralizedMessage, MessageKind
from fog_compute.p2p.core.peer import Trust
from fog_compute.p2p.core.transport import (
    Arrival,
    CapabilitiesChanged,
    OutcomeState,
    PartLeft,
    Reach,
    Reachability,
    TransportEvent,
    TransportInterface,
    TransportType,
    TransportUnavailable,
)
from fog_compute.p2p.htx import client as clients
from fog_compute.p2p.htx import reception, strangers
from fog_compute.p2p.htx.client import HtxClient
from fog_compute.p2p.htx.own_card import OwnCard
from fog_compute.testing import ManualClock
from fog_compute.testing.mixnet import MemoryMixnet
from fog_compute.vpn.clients import MESSAGES

SEEDS = {"ada": 1, "bob": 2, "eve": 3, "dan": 4}


class Person:
    """Somebody with a machine of their own on the network."""

    def __init__(
        self,
        name: str,
        network: MemoryMixnet,
        folder: Path,
        level: PrivacyLevel = PrivacyLevel.PRIVATE,
    ) -> None:
        self.identity = Identity.new(random.Random(SEEDS[name]).randbytes)
        self.fingerprint = self.identity.fingerprint
        self.book = PeerBook(own=self.fingerprint)
        self.clock = ManualClock()
        self.service = network.service(name)
        self.htx = HtxClient(
            self.service,
            self.identity,
            self.book,
            OwnCard(self.identity, folder / name),
            name=name,
            level=level,
            clock=self.clock,
        )
        self._numbers = 0

    @property
    def now_ms(self) -> int:
        return int(self.clock.now().timestamp() * 1000)

    @property
    def card(self) -> ContactCard:
        card = self.htx.card
        assert card is not None
        return card

    def knows(self, *others: Person) -> None:
        for other in others:
            self.book.add(other.card, self.now_ms)

    def says(
        self, text: str, *, requires_privacy: bool = False, kind: MessageKind = MessageKind.TEXT
    ) -> DecentralizedMessage:
        self._numbers += 1
        return DecentralizedMessage(
            body=text.encode(),
            id=f"{SEEDS[self.card.name]:024x}{self._numbers:08x}",
            requires_privacy=requires_privacy,
            kind=kind,
        )

    async def hears(self) -> Arrival:
        """The next message."""
        while True:
            event = await self.event()
            if isinstance(event, Arrival):
                return event

    async def event(self) -> TransportEvent:
        async with asyncio.timeout(20):
            return await self.htx.receive()

    async def dropped(self, reason: str, count: int = 1) -> None:
        """Wait until so many messages have been dropped for a reason."""
        async with asyncio.timeout(20):
            while self.htx.dropped[reason] < count:
                await asyncio.sleep(0)
        assert self.htx.dropped == {reason: count}


async def people(network: MemoryMixnet, folder: Path, *names: str) -> list[Person]:
    """Some who have started, and know each other."""
    found = [Person(name, network, folder) for name in names]
    for one in found:
        await one.htx.initialize()
    for one in found:
        one.knows(*(other for other in found if other is not one))
    return found


def test_it_is_a_transport(tmp_path: Path) -> None:
    htx = Person("ada", MemoryMixnet(), tmp_path).htx

    assert isinstance(htx, TransportInterface)
    assert htx.type is TransportType.BETANET_HTX
    can = htx.get_capabilities()
    assert not can.supports_offline
    assert not can.supports_broadcast
    assert can.metadata_private
    assert can.unavailable_because == "it has not been started"


@pytest.mark.asyncio
@pytest.mark.parametrize("count", [1, 5])
async def test_what_was_read_and_not_taken_is_there_after_a_restart_of_the_transport(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """INV-P2P-38."""
    monkeypatch.setattr(reception, "WAITING", 3)
    ada, bob = await people(MemoryMixnet(), tmp_path, "ada", "bob")
    said = [f"number {number}" for number in range(count)]
    for text in said:
        await ada.htx.send(ada.says(text), bob.fingerprint)
    for _ in range(20):
        await asyncio.sleep(0)

    await bob.htx.shutdown()
    await bob.htx.initialize()

    assert [(await bob.hears()).message.text for _ in said] == said


@pytest.mark.asyncio
async def test_how_much_of_a_long_message_has_left_is_told_and_of_a_short_one_not(
    tmp_path: Path,
) -> None:
    """INV-P2P-44."""
    ada, bob = await people(MemoryMixnet(), tmp_path, "ada", "bob")
    await ada.htx.send(ada.says("short"), bob.fingerprint)
    said = ada.says("x" * (clients.LONG_BYTES + 1))
    await ada.htx.send(said, bob.fingerprint)

    told = await ada.event()
    while not isinstance(told, PartLeft):
        told = await ada.event()

    assert (told.message_id, told.receiver) == (said.id, bob.fingerprint)
    assert 0 < told.sent < told.size


@pytest.mark.asyncio
async def test_a_message_and_its_answer_arrive_and_are_kept_until_confirmed(
    tmp_path: Path,
) -> None:
    network = MemoryMixnet()
    ada, bob = await people(network, tmp_path, "ada", "bob")

    outcome = await ada.htx.send(ada.says("hello"), bob.fingerprint)
    came = await bob.hears()

    assert outcome.state is OutcomeState.STORED
    assert (came.message.text, came.message.sender) == ("hello", ada.fingerprint)
    assert came.message.receiver_id is None
    assert came.sender_verified
    bob.service.opened[PrivacyLevel.PRIVATE, MESSAGES].closed = True  # as a crash would
    await bob.htx.initialize()
    assert (await bob.hears()).message == came.message
    await bob.htx.confirm(came)
    await bob.htx.initialize()
    answer = await bob.htx.send(bob.says("and you"), ada.fingerprint)
    assert answer.state is OutcomeState.STORED
    assert (await ada.hears()).message.text == "and you"
    for one in (ada, bob):
        await one.htx.shutdown()


@pytest.mark.asyncio
async def test_a_stranger_is_marked_and_can_be_answered(tmp_path: Path) -> None:
    ada, bob = await people(MemoryMixnet(), tmp_path, "ada", "bob")
    ada.book.remove(bob.fingerprint)

    await bob.htx.send(bob.says("you do not know me"), ada.fingerprint)
    await ada.hears()

    stranger = ada.book.find(bob.fingerprint)
    assert stranger.trust is Trust.STRANGER
    assert stranger.shown == f"bob#{bob.fingerprint[:4]}"
    outcome = await ada.htx.send(ada.says("who are you"), bob.fingerprint)
    assert outcome.state is OutcomeState.STORED
    for one in (ada, bob):
        await one.htx.shutdown()


@pytest.mark.asyncio
async def test_inv_p2p_30_strangers_are_bounded_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-P2P-30."""
    monkeypatch.setattr(strangers, "PER_STRANGER", 3)
    monkeypatch.setattr(strangers, "ALL_STRANGERS", 5)
    ada, bob, eve, dan = await people(MemoryMixnet(), tmp_path, "ada", "bob", "eve", "dan")
    for stranger in (eve, dan):
        ada.book.remove(stranger.fingerprint)
        for _ in range(6):
            await stranger.htx.send(stranger.says("spam"), ada.fingerprint)
    for number in range(7):
        await bob.htx.send(bob.says(str(number)), ada.fingerprint)

    texts = [(await ada.hears()).message.text for _ in range(12)]

    assert texts == ["spam"] * 5 + [str(number) for number in range(7)]
    await ada.dropped("stranger_rate", 7)
    await ada.clock.advance(3700)
    await eve.htx.send(eve.says("an hour later"), ada.fingerprint)
    assert (await ada.hears()).message.text == "an hour later"
    for one in (ada, bob, eve, dan):
        await one.htx.shutdown()


@pytest.mark.asyncio
async def test_a_long_message_of_a_stranger_is_dropped(tmp_path: Path) -> None:
    ada, eve = await people(MemoryMixnet(), tmp_path, "ada", "eve")
    ada.book.remove(eve.fingerprint)

    await eve.htx.send(eve.says("x" * 20_000), ada.fingerprint)

    await ada.dropped("stranger_size")
    await ada.htx.shutdown()
    await eve.htx.shutdown()


@pytest.mark.asyncio
async def test_who_is_blocked_says_nothing(tmp_path: Path) -> None:
    network = MemoryMixnet()
    ada, eve = await people(network, tmp_path, "ada", "eve")
    ada.book.block(eve.fingerprint)

    await eve.htx.send(eve.says("hey"), ada.fingerprint)

    await ada.dropped("blocked")
    assert network._mailbox(ada.card.addresses[PrivacyLevel.PRIVATE]).kept == {}
    await ada.htx.shutdown()
    await eve.htx.shutdown()


@pytest.mark.asyncio
@pytest.mark.parametrize(("data", "reason"), [(b"garbage", "form"), (bytes(70 * 2**20), "size")])
async def test_what_is_no_message_is_counted_and_forgotten(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    network = MemoryMixnet()
    (ada,) = await people(network, tmp_path, "ada")
    eve = await network.service("eve").client(PrivacyLevel.PRIVATE)

    await eve.send(ada.card.addresses[PrivacyLevel.PRIVATE], data)

    await ada.dropped(reason)
    assert network._mailbox(ada.card.addresses[PrivacyLevel.PRIVATE]).kept == {}
    await ada.htx.shutdown()


@pytest.mark.asyncio
async def test_one_s_own_message_does_not_come_back(tmp_path: Path) -> None:
    ada, bob = await people(MemoryMixnet(), tmp_path, "ada", "bob")
    bob.identity.erase()
    bob.htx._identity = ada.identity  # type: ignore[misc]  # somebody copied the keys

    await bob.htx.send(bob.says("me"), ada.fingerprint)

    await ada.dropped("own")
    await ada.htx.shutdown()
    await bob.htx.shutdown()


@pytest.mark.asyncio
async def test_sent_again_it_arrives_once_unless_it_is_a_new_attempt(tmp_path: Path) -> None:
    network = MemoryMixnet()
    ada, bob = await people(network, tmp_path, "ada", "bob")
    message = ada.says("once")

    for _ in range(3):
        await ada.htx.send(message, bob.fingerprint)
    assert network.sent == 1
    await ada.htx.send(message, bob.fingerprint, attempt=1)

    assert network.sent == 2
    assert (await bob.hears()).message == (await bob.hears()).message
    for one in (ada, bob):
        await one.htx.shutdown()


@pytest.mark.asyncio
async def test_a_receipt_carries_no_card(tmp_path: Path) -> None:
    ada, bob = await people(MemoryMixnet(), tmp_path, "ada", "bob")
    bob.book.remove(ada.fingerprint)

    await ada.htx.send(ada.says("\x03x", kind=MessageKind.RECEIPT), bob.fingerprint)
    await bob.hears()

    assert bob.book.get(ada.fingerprint) is None
    for one in (ada, bob):
        await one.htx.shutdown()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "reason", "permanent"),
    [
        (betanet.Timeout("a part was never acknowledged"), "not stored in time", False),
        (betanet.NetworkError("is under way"), "is under way", False),
        (betanet.InvalidAddress("damaged"), "the address on their card is none", True),
        (betanet.NotEnoughNodes("too few edges", 1, 0), "none of the edges on their card", False),
        (betanet.NotEnoughNodes("too few middles", 2, 1), "too few middles", False),
        (ValueError("used for another message"), "used for another", True),
        (OSError("disk"), "disk", False),
    ],
)
async def test_a_failure_is_an_outcome_with_its_reason(
    tmp_path: Path, error: Exception, reason: str, permanent: bool
) -> None:
    network = MemoryMixnet()
    ada, bob = await people(network, tmp_path, "ada", "bob")
    network.fails.append(error)

    outcome = await ada.htx.send(ada.says("x"), bob.fingerprint)

    assert outcome.state is OutcomeState.FAILED
    assert reason in outcome.reason
    assert outcome.permanent is permanent
    for one in (ada, bob):
        await one.htx.shutdown()


@pytest.mark.asyncio
async def test_no_internet_is_an_outcome_and_is_told_when_it_comes_and_goes(
    tmp_path: Path,
) -> None:
    network = MemoryMixnet()
    ada, bob = await people(network, tmp_path, "ada", "bob")
    assert await ada.event() == Reachability(
        TransportType.BETANET_HTX, bob.fingerprint, Reach.ADDRESS
    )
    changed = CapabilitiesChanged(TransportType.BETANET_HTX)

    network.trouble = "the cable is out"
    outcome = await ada.htx.send(ada.says("x"), bob.fingerprint)

    assert outcome.state is OutcomeState.FAILED
    assert outcome.reason == "the mixnet cannot be reached: the cable is out"
    assert await ada.event() == changed
    assert ada.htx.get_capabilities().unavailable_because == "the cable is out"
    network.trouble = ""
    await ada.clock.advance(5)
    assert await ada.event() == changed
    assert ada.htx.get_capabilities().available
    network.shortages[3] = betanet.PathShortage(3, 3, 1, "too few middles")
    await ada.clock.advance(5)
    assert await ada.event() == changed
    assert ada.htx.get_capabilities().unavailable_because == "too few middles"
    for one in (ada, bob):
        await one.htx.shutdown()


@pytest.mark.asyncio
async def test_who_has_no_address_of_this_level_is_not_reached(tmp_path: Path) -> None:
    network = MemoryMixnet()
    ada, eve = await people(network, tmp_path, "ada", "eve")
    dan = Person("dan", network, tmp_path, PrivacyLevel.SECRET)
    await dan.htx.initialize()
    ada.knows(dan)

    other = await ada.htx.send(ada.says("x"), dan.fingerprint)
    unknown = await ada.htx.send(ada.says("x"), "0" * 64)

    assert "they take messages at SECRET, and not at PRIVATE" in other.reason
    assert "ask for their card" in unknown.reason
    assert {other.state, unknown.state} == {OutcomeState.FAILED}
    event = await ada.event()
    assert isinstance(event, Reachability)
    assert event.peer == eve.fingerprint
    ada.book.remove(eve.fingerprint)
    assert await ada.event() == dataclasses.replace(event, reach=Reach.NONE)
    for one in (ada, eve, dan):
        await one.htx.shutdown()


@pytest.mark.asyncio
async def test_what_needs_privacy_does_not_go_over_one_hop(tmp_path: Path) -> None:
    network = MemoryMixnet()
    ada, bob = (Person(name, network, tmp_path, PrivacyLevel.PUBLIC) for name in ("ada", "bob"))
    for one in (ada, bob):
        await one.htx.initialize()
    ada.knows(bob)

    outcome = await ada.htx.send(ada.says("x", requires_privacy=True), bob.fingerprint)

    assert outcome.permanent
    assert "PUBLIC" in outcome.reason
    assert not ada.htx.get_capabilities().metadata_private
    for one in (ada, bob):
        await one.htx.shutdown()


@pytest.mark.asyncio
async def test_a_broadcast_goes_to_those_who_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "SENDING_AT_ONCE", 2)
    ada, *others = await people(MemoryMixnet(), tmp_path, "ada", "bob", "eve", "dan")
    names = [one.fingerprint for one in others]

    assert await ada.htx.broadcast(ada.says("all"), [*names, names[0], "0" * 64]) == 3

    assert [(await one.hears()).message.text for one in others] == ["all"] * 3
    with pytest.raises(TransportUnavailable, match="no broadcast"):
        await ada.htx.broadcast(ada.says("all"))
    for one in (ada, *others):
        await one.htx.shutdown()


@pytest.mark.asyncio
async def test_without_a_network_it_says_why(tmp_path: Path) -> None:
    network = MemoryMixnet()
    ada = Person("ada", network, tmp_path)
    network.trouble = "no bootstrap file"

    with pytest.raises(TransportUnavailable, match="no bootstrap file"):
        await ada.htx.initialize()

    assert "no bootstrap file" in (ada.htx.get_capabilities().unavailable_because or "")
    with pytest.raises(TransportUnavailable, match="no bootstrap file"):
        await ada.htx.send(DecentralizedMessage(body=b""), "0" * 64)
    with pytest.raises(TransportUnavailable, match="no bootstrap file"):
        await ada.htx.receive()
    await ada.htx.shutdown()
    network.trouble = ""
    broken = Person("bob", network, tmp_path / "missing")
    with pytest.raises(TransportUnavailable, match="card cannot be kept"):
        await broken.htx.initialize()


@pytest.mark.asyncio
async def test_a_client_that_is_closed_under_it_ends_the_transport(tmp_path: Path) -> None:
    ada, bob = await people(MemoryMixnet(), tmp_path, "ada", "bob")
    await ada.event()

    await ada.service.opened[PrivacyLevel.PRIVATE, MESSAGES].close()

    with pytest.raises(TransportUnavailable, match="closed"):
        await ada.event()
    with pytest.raises(TransportUnavailable, match="closed"):
        await ada.htx.send(ada.says("x"), bob.fingerprint)
    await ada.htx.initialize()
    assert (await ada.htx.send(ada.says("x"), bob.fingerprint)).state is OutcomeState.STORED
    for one in (ada, bob):
        await one.htx.shutdown()


@pytest.mark.asyncio
async def test_a_fault_while_something_is_taken_ends_the_transport(tmp_path: Path) -> None:
    """INV-P2P-13: it is said, and the transport is started again."""
    ada, bob = await people(MemoryMixnet(), tmp_path, "ada", "bob")
    await bob.event()

    def fault(sender: str, body: bytes) -> None:
        raise RuntimeError(f"{sender} said {len(body)} bytes")

    bob.htx.on_carried = fault
    assert await ada.htx.carry(bob.fingerprint, b"x")

    with pytest.raises(TransportUnavailable):
        await bob.event()
    for one in (ada, bob):
        await one.htx.shutdown()


@pytest.mark.asyncio
async def test_a_fault_while_the_network_is_looked_at_ends_the_transport(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-P2P-13: it is said, and the transport is started again."""
    ada, bob = await people(MemoryMixnet(), tmp_path, "ada", "bob")
    await ada.event()

    def fault() -> betanet.ClientStatus:
        raise RuntimeError("the core has a fault")

    monkeypatch.setattr(ada.service.opened[PrivacyLevel.PRIVATE, MESSAGES], "status", fault)
    await ada.clock.advance(5)

    with pytest.raises(TransportUnavailable, match="RuntimeError"):
        await ada.event()
    assert "RuntimeError" in (ada.htx.get_capabilities().unavailable_because or "")
    await bob.htx.shutdown()


@pytest.mark.asyncio
async def test_a_cancelled_wait_loses_nothing(tmp_path: Path) -> None:
    ada, bob = await people(MemoryMixnet(), tmp_path, "ada", "bob")
    await bob.event()
    waiting = asyncio.create_task(bob.htx.receive())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})

    await ada.htx.send(ada.says("still"), bob.fingerprint)

    assert (await bob.hears()).message.text == "still"
    for one in (ada, bob):
        await one.htx.shutdown()


def test_the_own_card_is_signed_anew_only_when_it_says_something_else(tmp_path: Path) -> None:
    ada = Identity.new(random.Random(1).randbytes)
    own, path = OwnCard(ada, tmp_path / "card"), tmp_path / "card"
    first = own.issue("Ada", {}, 100)

    assert own.issue("Ada", {}, 200) == first
    assert OwnCard(ada, path).issue("Ada", {}, 300) == first
    assert own.issue("A.", {}, 50).issued_ms == 101  # though the clock went back
    assert own.issue("A.", {PrivacyLevel.SECRET: "fog1" + "a" * 16}, 400).issued_ms == 400
    path.write_text("fogcard1nonsense")
    assert own.issue("A.", {}, 500).issued_ms == 500
    eve = Identity.new(random.Random(3).randbytes)
    assert OwnCard(eve, path).issue("A.", {}, 1).fingerprint == eve.fingerprint
