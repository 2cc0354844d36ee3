"""What travels over HTX: for one recipient, by one sender, and nothing else."""

from __future__ import annotations

import random

import msgspec
import pytest

from fog_compute.p2p.core.cards import ContactCard
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import (
    MAX_LIFE_MS,
    DecentralizedMessage,
    InvalidMessage,
    MessageKind,
    Priority,
)
from fog_compute.p2p.htx import envelope as envelopes
from fog_compute.p2p.htx.envelope import (
    EnvelopeInvalid,
    mixnet_id,
    open_envelope,
    seal_envelope,
)

ADA = Identity.new(random.Random(1).randbytes)
BOB = Identity.new(random.Random(2).randbytes)
EVE = Identity.new(random.Random(3).randbytes)
ID = "0123456789abcdef01234567" + "00000000"


def said(**fields: object) -> DecentralizedMessage:
    whole = {"body": b"hello", "receiver_id": BOB.fingerprint, "id": ID, "created_ms": 5} | fields
    return msgspec.convert(whole, DecentralizedMessage)


def card(of: Identity = ADA) -> str:
    return ContactCard.make(of, "Ada", {}, 7).text


@pytest.mark.parametrize(
    "message",
    [
        said(),
        said(body=b""),
        said(body=b"x" * 300_000, kind=MessageKind.FILE, name="a.bin", media_type="image/png"),
        said(receiver_id=None, room="g" * 32),
        said(priority=Priority.URGENT, requires_privacy=True, offline_capable=False),
        said(id="a foreign id", expires_ms=5 + MAX_LIFE_MS),
    ],
)
def test_what_was_sealed_is_opened(message: DecentralizedMessage) -> None:
    opened = open_envelope(seal_envelope(message, BOB.fingerprint, ADA, card()), BOB.fingerprint)

    assert opened.message == msgspec.structs.replace(message, sender=ADA.fingerprint)
    assert opened.card is not None
    assert opened.card.fingerprint == ADA.fingerprint
    assert opened.signing_public == ADA.signing_public


def test_the_sender_is_who_signed_whatever_the_message_says() -> None:
    forged = said(sender=EVE.fingerprint)

    opened = open_envelope(seal_envelope(forged, BOB.fingerprint, ADA), BOB.fingerprint)

    assert opened.message.sender == ADA.fingerprint
    assert opened.card is None


def test_inv_p2p_27_an_envelope_is_for_one_recipient() -> None:
    """INV-P2P-27."""
    data = seal_envelope(said(), BOB.fingerprint, ADA)

    with pytest.raises(EnvelopeInvalid, match="not signed for this recipient") as caught:
        open_envelope(data, EVE.fingerprint)

    assert caught.value.reason == "signature"


def test_inv_p2p_28_no_bit_and_no_byte_of_an_envelope_can_be_another() -> None:
    """INV-P2P-28."""
    data = seal_envelope(said(), BOB.fingerprint, ADA)

    for at in range(len(data)):
        for bit in range(8):
            bad = bytearray(data)
            bad[at] ^= 1 << bit
            with pytest.raises(EnvelopeInvalid):
                open_envelope(bytes(bad), BOB.fingerprint)
    for length in range(len(data)):
        with pytest.raises(EnvelopeInvalid):
            open_envelope(data[:length], BOB.fingerprint)
    with pytest.raises(EnvelopeInvalid):
        open_envelope(data + b"\x00", BOB.fingerprint)


def test_inv_p2p_29_the_same_message_gives_the_same_bytes_and_id() -> None:
    """INV-P2P-29."""
    assert seal_envelope(said(), BOB.fingerprint, ADA, card()) == seal_envelope(
        said(), BOB.fingerprint, ADA, card()
    )
    one = mixnet_id(ID, BOB.fingerprint, 0, "")
    others = [
        mixnet_id("a" + ID[1:], BOB.fingerprint, 0, ""),
        mixnet_id(ID, EVE.fingerprint, 0, ""),
        mixnet_id(ID, BOB.fingerprint, 1, ""),
        mixnet_id(ID, BOB.fingerprint, 0, card()),
    ]

    assert mixnet_id(ID, BOB.fingerprint, 0, "") == one
    assert len({one, *others}) == 5
    assert len(one) == 32
    assert bytes.fromhex(one)


def test_another_s_card_is_no_card_of_the_sender() -> None:
    for text in (card(EVE), "fogcard1aaaa", card()[:-1]):
        opened = open_envelope(seal_envelope(said(), BOB.fingerprint, ADA, text), BOB.fingerprint)

        assert opened.card is None


def test_what_cannot_be_sent_is_refused_before_it_is_signed() -> None:
    for message, to in (
        (said(id=""), BOB.fingerprint),
        (said(), "bob"),
        (said(room="r" * 99), BOB.fingerprint),
    ):
        with pytest.raises(InvalidMessage):
            seal_envelope(message, to, ADA)


def signed(header: object, body: bytes = b"x", version: int = 1, key: bytes = b"") -> bytes:
    """An envelope with any header at all, signed."""
    packed = msgspec.msgpack.encode(header)
    signature = ADA.sign(envelopes._signed(BOB.fingerprint, packed, body))
    whole = [version, key or ADA.signing_public, signature, packed, body]
    return msgspec.msgpack.encode(whole)


GOOD = [ID, "text", False, "", "text/plain", "", 1, False, True, 1, 2, ""]


def changed(at: int, value: object) -> list[object]:
    header: list[object] = list(GOOD)
    header[at] = value
    return header


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (signed(changed(0, "")), "field"),
        (signed(changed(0, "x" * 256)), "field"),
        (signed(changed(0, "a\nb")), "field"),
        (signed(changed(1, "song")), "form"),
        (signed(changed(3, "r" * 65)), "field"),
        (signed(changed(4, "text")), "field"),
        (signed(changed(5, "n" * 256)), "field"),
        (signed(changed(10, 2 + MAX_LIFE_MS)), "field"),
        (signed(changed(9, 3)), "field"),
        (signed(changed(6, 9)), "form"),
        (signed(changed(9, -1)), "form"),
        (signed(changed(10, 2**60)), "form"),
        (signed(changed(11, "c" * 5000)), "form"),
        (signed(GOOD[:-1]), "form"),
        (signed("text"), "form"),
        (signed(GOOD, version=2), "version"),
        (signed(GOOD, key=bytes([1]) + bytes(31)), "key"),
        (signed(GOOD, key=bytes(31)), "form"),
        (signed(GOOD, key=EVE.signing_public), "signature"),
        (b"", "form"),
        (b"\x91" * 5000, "form"),
    ],
)
def test_what_makes_no_sense_is_refused_by_reason(data: bytes, reason: str) -> None:
    with pytest.raises(EnvelopeInvalid) as caught:
        open_envelope(data, BOB.fingerprint)

    assert caught.value.reason == reason


def test_a_later_version_may_say_more_in_the_header() -> None:
    opened = open_envelope(signed([*GOOD, "more"]), BOB.fingerprint)

    assert opened.message.body == b"x"


def test_random_bytes_are_no_envelope(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(4)
    for _ in range(2000):
        with pytest.raises(EnvelopeInvalid):
            open_envelope(rng.randbytes(rng.randrange(200)), BOB.fingerprint)
    monkeypatch.setattr(envelopes, "MAX_ENVELOPE_BYTES", 99)
    with pytest.raises(EnvelopeInvalid, match="too long"):
        open_envelope(bytes(100), BOB.fingerprint)
