"""Mail as the router sees it: dated where that can be read, and opened once and for all."""

from __future__ import annotations

import msgspec
import pytest

import betanet
from fog_compute.p2p.bitchat.ble_messages import read_private
from fog_compute.p2p.bitchat.mail.carried import Tier
from fog_compute.p2p.bitchat.wire.courier import CourierEnvelope, day_of, recipient_tag
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.bitchat.wire.private import PrivateKind, PrivateMessage, inside, within
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.core.peer import Peer, Trust
from fog_compute.p2p.core.transport import Arrival, OutcomeState
from tests.unit.fog_compute.p2p.bitchat.neighbours import Person
from tests.unit.fog_compute.p2p.bitchat.wired import Wired, wired

PROLOGUE = b"bitchat-courier-v1"
BOB, CARL = Person(2), Person(3)


def contact(person: Person, card_ms: int = 0) -> Peer:
    keys = person.keys
    return Peer(keys.noise_public, keys.signing_public, trust=Trust.CONTACT, card_ms=card_ms)


def by_carl(me: Wired, envelope: CourierEnvelope) -> Packet:
    return CARL.make(Kind.COURIER_ENVELOPE, envelope.encode(), me.now, recipient=me.me.peer_id)


def mail_of_bob(me: Wired, text: str) -> CourierEnvelope:
    payload = within(PrivateKind.MESSAGE, PrivateMessage("an id of the app's", text).encode())
    key, at = me.me.keys.noise_public, int(me.now * 1000)
    secret = betanet.NoiseSecret(BOB.keys.noise_secret)
    sealed = betanet.noise_x_seal(key, PROLOGUE, payload, secret)
    return CourierEnvelope(recipient_tag(key, day_of(at)), at + 3_600_000, sealed, 2)


@pytest.mark.asyncio
@pytest.mark.parametrize("card_ms", [0, 1_700_000_000_000])
async def test_mail_says_when_it_is_over_where_its_recipient_can_read_that(card_ms: int) -> None:
    """INV-BITCHAT-86."""
    async with wired(1, book=PeerBook([contact(BOB, card_ms)])) as me:
        me.get(1, CARL.announce(me.now))
        at = int(me.now * 1000)
        message = DecentralizedMessage(
            body=b"wait for me", id="1" * 32, created_ms=at, expires_ms=at + 7_000_000
        )
        outcome = await me.transport.send(message, BOB.keys.fingerprint)
        assert outcome.state is OutcomeState.ACCEPTED
        await me.wait(1.0)
        (envelope,) = [
            CourierEnvelope.decode(one.payload)
            for _, one in me.sent
            if one.kind == Kind.COURIER_ENVELOPE
        ]
        secret = betanet.NoiseSecret(BOB.keys.noise_secret)
        _, payload = betanet.noise_x_open(PROLOGUE, envelope.ciphertext, secret)
        kind, body = inside(payload)
        later = at + 500_000_000
        read = read_private(kind, body, me.me.keys.fingerprint, BOB.keys.fingerprint, later)
        assert read is not None
        assert (read.text, read.id, read.kind) == ("wait for me", message.id, message.kind)
        if card_ms:
            assert (kind, read.expires_ms) == (PrivateKind.FILE, message.expires_ms)
        else:  # the app shows texts in this form alone
            assert kind == PrivateKind.MESSAGE


@pytest.mark.asyncio
async def test_mail_that_the_router_took_is_never_shown_again() -> None:
    """INV-BITCHAT-86."""
    async with wired(1, book=PeerBook([contact(BOB)])) as me:
        me.get(1, CARL.announce(me.now))
        envelope = mail_of_bob(me, "hello")
        me.get(1, by_carl(me, envelope))
        (arrival,) = [one for one in await me.told() if isinstance(one, Arrival)]
        assert (arrival.message.text, arrival.sender_verified) == ("hello", True)
        assert me.mail is None or not me.mail.opened
        await me.transport.confirm(arrival)
        assert me.mail is not None
        assert {tier: len(names) for tier, names in me.mail.opened.items()} == {Tier.FRIEND: 1}
    kept = me.mail
    async with wired(1, book=PeerBook([contact(BOB)]), mail=kept) as me:
        await me.wait(1.0)
        me.clock.jump(9 * 86_400)
        me.get(1, CARL.announce(me.now))
        at = int(me.now * 1000)
        tag = recipient_tag(me.me.keys.noise_public, day_of(at))
        late = msgspec.structs.replace(envelope, tag=tag, expires_ms=at + 3_600_000)
        me.get(1, by_carl(me, late))
        assert await me.heard() == []
        me.get(1, by_carl(me, mail_of_bob(me, "and something new")))
        assert [one.text for one in await me.heard()] == ["and something new"]


@pytest.mark.asyncio
async def test_mail_for_which_there_was_no_room_is_opened_when_it_comes_again() -> None:
    """INV-BITCHAT-86."""
    async with wired(1, book=PeerBook([contact(BOB)])) as me:
        me.get(1, CARL.announce(me.now))
        for number in range(600):
            me.get(1, CARL.text(f"{number}", me.now + number / 1000))
        envelope = mail_of_bob(me, "hello")
        me.get(1, by_carl(me, envelope))
        assert me.transport.dropped["full"] > 1
        assert "hello" not in [one.text for one in await me.heard()]
        await me.wait(1.0)
        me.get(1, by_carl(me, msgspec.structs.replace(envelope, copies=1)))
        assert [one.text for one in await me.heard()] == ["hello"]
