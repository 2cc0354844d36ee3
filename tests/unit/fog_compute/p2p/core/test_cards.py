"""Contact cards: what is signed, and what is refused."""

from __future__ import annotations

import random

import msgspec
import pytest

from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.core import cards
from fog_compute.p2p.core.cards import CARD_PREFIX, MAX_CARD_CHARS, CardInvalid, ContactCard
from fog_compute.p2p.core.identity import Identity, verifies

OWN = Identity.new(random.Random(1).randbytes)


def address(seed: int, length: int = 133) -> str:
    return "fog1" + cards._base32(random.Random(seed).randbytes(length))


ADDRESSES = {PrivacyLevel.SECRET: address(1), PrivacyLevel.PRIVATE: address(2)}


def text_of(body: tuple[object, ...], signer: Identity = OWN) -> str:
    """A card with any content at all, signed."""
    signed = msgspec.msgpack.encode(body)
    return CARD_PREFIX + cards._base32(signer.sign(b"fog-card-v1\x00" + signed) + signed)


def test_a_card_says_all_that_was_put_on_it() -> None:
    card = ContactCard.make(OWN, "Ada", ADDRESSES, 1_700_000_000_000)

    read = ContactCard.parse(card.text)

    assert read == card
    assert read.name == "Ada"
    assert read.fingerprint == OWN.fingerprint
    assert read.noise_public == OWN.noise_public
    assert read.signing_public == OWN.signing_public
    assert read.words == OWN.words
    assert read.addresses == ADDRESSES
    assert read.issued_ms == 1_700_000_000_000
    assert ContactCard.make(OWN, "Ada", ADDRESSES, 1_700_000_000_000).text == card.text


def test_a_card_survives_mail_and_a_code_to_scan() -> None:
    card = ContactCard.make(OWN, "", {PrivacyLevel.PRIVATE: address(3)}, 5)
    folded = "\n  ".join(card.text[at : at + 60] for at in range(0, len(card.text), 60))

    assert ContactCard.parse(f"  {folded}\n") == card
    assert ContactCard.parse(card.text.upper()) == card
    assert len(card.text) <= 400  # such a code has 61 x 61 fields
    assert set(card.text.upper()) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def test_inv_p2p_24_no_character_of_a_card_can_be_another() -> None:
    """INV-P2P-24."""
    text = ContactCard.make(OWN, "Ada", ADDRESSES, 12).text

    for at in range(len(text)):
        for other in "a7q":
            if text[at] != other:
                with pytest.raises(CardInvalid):
                    ContactCard.parse(text[:at] + other + text[at + 1 :])
    for length in range(len(text)):
        with pytest.raises(CardInvalid):
            ContactCard.parse(text[:length])


@pytest.mark.parametrize(
    "body",
    [
        ("Ada", OWN.signing_public, (), 1, 2),
        ("Ada", OWN.signing_public, ()),
        ("Ada", OWN.signing_public[:31], (), 1),
        ("Ada\n", OWN.signing_public, (), 1),
        ("A" * 256, OWN.signing_public, (), 1),
        ("Ada", OWN.signing_public, ((4, b"x"),), 1),
        ("Ada", OWN.signing_public, ((3, b""),), 1),
        ("Ada", OWN.signing_public, ((3, b"x"), (3, b"y")), 1),
        ("Ada", OWN.signing_public, ((5, b"x"), (3, b"y")), 1),
        ("Ada", OWN.signing_public, ((3, b"x"),) * 5, 1),
        ("Ada", OWN.signing_public, (), -1),
        ("Ada", OWN.signing_public, (), 2**60),
        ("Ada", bytes([1]) + bytes(31), (), 1),
        (),
    ],
)
def test_what_is_signed_and_makes_no_sense_is_refused(body: tuple[object, ...]) -> None:
    with pytest.raises(CardInvalid, match="damaged"):
        ContactCard.parse(text_of(body))


def test_a_card_that_another_signed_is_refused() -> None:
    other = Identity.new(random.Random(2).randbytes)

    with pytest.raises(CardInvalid, match="damaged"):
        ContactCard.parse(text_of(("Ada", OWN.signing_public, (), 1), signer=other))


def test_random_bytes_are_no_card() -> None:
    rng = random.Random(3)
    for _ in range(500):
        data = rng.randbytes(rng.randrange(300))
        with pytest.raises(CardInvalid):
            ContactCard.parse(CARD_PREFIX + cards._base32(data))
    with pytest.raises(CardInvalid, match="begins with fogcard1"):
        ContactCard.parse(address(1))
    with pytest.raises(CardInvalid, match="at most"):
        ContactCard.parse(CARD_PREFIX + "a" * (2 * MAX_CARD_CHARS))


def test_a_card_has_no_room_for_everything() -> None:
    with pytest.raises(CardInvalid, match="no address"):
        ContactCard.make(OWN, "Ada", {PrivacyLevel.PRIVATE: "mail" + address(1)[4:]}, 1)
    with pytest.raises(CardInvalid, match="no address"):
        ContactCard.make(OWN, "Ada", {PrivacyLevel.PRIVATE: address(1, 700)}, 1)
    with pytest.raises(CardInvalid, match="too long"):
        ContactCard.make(OWN, "Ada", {level: address(1, 400) for level in PrivacyLevel}, 1)


def test_a_signature_on_a_card_is_good_for_nothing_else() -> None:
    text = ContactCard.make(OWN, "Ada", {}, 1).text
    data = cards._unbase32(text.removeprefix(CARD_PREFIX))

    assert not verifies(OWN.signing_public, data[64:], data[:64])
