"""Contacts: trust on first use, and what changes it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fog_compute.errors import NotFound
from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.core import contacts
from fog_compute.p2p.core.cards import ContactCard
from fog_compute.p2p.core.contacts import BookFull, KeyChanged, NameTaken, PeerBook, WordsDiffer
from fog_compute.p2p.core.identity import Identity, words_for
from fog_compute.p2p.core.peer import TRUST, Peer, Proof, Trust, TrustEvent

NOW = 1_700_000_000_000
OWN = Identity.new(random.Random(0).randbytes)
ADA = Identity.new(random.Random(1).randbytes)
EVE = Identity.new(random.Random(2).randbytes)
BOB = Identity.new(random.Random(3).randbytes)
FAR = "fog1" + "a" * 200
NEAR = "fog1" + "q" * 200


def book() -> PeerBook:
    return PeerBook(own=OWN.fingerprint)


def card(of: Identity = ADA, name: str = "Ada", address: str = NEAR, at: int = NOW) -> ContactCard:
    return ContactCard.make(of, name, {PrivacyLevel.PRIVATE: address}, at)


def foreign(seed: int) -> bytes:
    """The Noise key of a program whose keys say nothing of each other."""
    secret = X25519PrivateKey.from_private_bytes(random.Random(seed).randbytes(32))
    return secret.public_key().public_bytes_raw()


def test_who_is_met_is_a_stranger_until_something_is_done() -> None:
    known = book()

    met = known.meet(ADA.noise_public, ADA.signing_public, "Ada", NOW)

    assert (met.trust, met.proof, met.shown) == (
        Trust.STRANGER,
        Proof.DERIVED,
        f"Ada#{ADA.fingerprint[:4]}",
    )
    assert known.get(ADA.fingerprint) is known.by_peer_id(ADA.peer_id)
    assert known.add(card(), NOW).trust is Trust.CONTACT
    assert known.get(ADA.fingerprint) == known.find("ada")
    assert known.find("ada").shown == "Ada"
    verified = known.verify(ADA.fingerprint, ADA.words)
    assert verified.trust is Trust.VERIFIED
    assert known.add(card(), NOW).trust is Trust.VERIFIED


def test_every_pair_of_trust_and_event_is_decided() -> None:
    assert set(TRUST) == {(state, event) for state in Trust for event in TrustEvent}


def test_inv_p2p_25_another_signing_key_is_refused_and_told() -> None:
    """INV-P2P-25."""
    known, noise = book(), foreign(5)
    first = known.meet(noise, ADA.signing_public, "Ada", NOW)
    known.take_changes()

    with pytest.raises(KeyChanged, match="another signing key"):
        known.meet(noise, EVE.signing_public, "Ada", NOW + 99_000)

    after = known.find(first.fingerprint)
    assert after.signing_public == ADA.signing_public
    assert after.conflict_ms == NOW + 99_000
    assert known.take_changes() == ([after], [])


def test_inv_p2p_26_better_proof_replaces_a_key_and_takes_verification_away() -> None:
    """INV-P2P-26."""
    known, noise = book(), foreign(6)
    fingerprint = known.meet(noise, EVE.signing_public, "Ada", NOW).fingerprint
    known.verify(fingerprint, words_for(noise, EVE.signing_public))

    proven = known.meet(noise, ADA.signing_public, "Ada", NOW, in_session=True)

    assert (proven.signing_public, proven.proof) == (ADA.signing_public, Proof.SESSION)
    assert proven.trust is Trust.CONTACT
    for in_session in (False, True):
        with pytest.raises(KeyChanged):
            known.meet(noise, EVE.signing_public, "Ada", NOW, in_session=in_session)
    assert known.meet(noise, ADA.signing_public, "", NOW).proof is Proof.SESSION


def test_a_key_that_follows_from_the_other_beats_one_that_was_announced_first() -> None:
    known = book()
    known.meet(ADA.noise_public, EVE.signing_public, "Ada", NOW)

    assert known.add(card(), NOW).signing_public == ADA.signing_public
    with pytest.raises(KeyChanged):
        known.meet(ADA.noise_public, EVE.signing_public, "Ada", NOW, in_session=True)


def test_nobody_takes_the_own_place() -> None:
    known = book()

    with pytest.raises(KeyChanged, match="your own"):
        known.meet(OWN.noise_public, EVE.signing_public, "me", NOW)
    with pytest.raises(ValueError, match="your own"):
        known.add(card(OWN), NOW)
    assert len(known) == 0


def test_the_newest_card_holds() -> None:
    known = book()
    known.add(card(at=NOW - 5), NOW, petname="Countess")

    assert known.add(card(address=FAR, at=NOW - 9), NOW).addresses[PrivacyLevel.PRIVATE] == NEAR
    moved = known.add(card(address=FAR, name="A.", at=NOW), NOW)
    assert (moved.addresses[PrivacyLevel.PRIVATE], moved.name, moved.shown) == (
        FAR,
        "A.",
        "Countess",
    )
    with pytest.raises(ValueError, match="future"):
        known.add(card(at=NOW + 2 * 24 * 3600 * 1000), NOW)


def test_a_card_that_came_along_makes_no_contact() -> None:
    known = book()

    assert known.learn(card(), NOW).addresses == {PrivacyLevel.PRIVATE: NEAR}
    assert known.find("Ada").trust is Trust.STRANGER
    assert known.learn(card(address=FAR, at=NOW - 1), NOW).addresses[PrivacyLevel.PRIVATE] == NEAR
    later = NOW + 9 * 24 * 3600 * 1000
    assert known.learn(card(address=FAR, at=later), NOW).card_ms == NOW


def test_other_words_verify_nobody() -> None:
    known = book()
    known.add(card(), NOW)

    for words in (EVE.words, ADA.words[::-1]):
        with pytest.raises(WordsDiffer, match="not the words of Ada"):
            known.verify(ADA.fingerprint, words)
    for part in (ADA.words[:11], (), (*ADA.words, "abbey")):
        with pytest.raises(WordsDiffer, match=f"^those are {len(part)} words and not 12"):
            known.verify(ADA.fingerprint, part)  # accuses nobody
    with pytest.raises(WordsDiffer, match="no word of the list"):
        known.verify(ADA.fingerprint, ["qqqq"] * 12)
    assert known.find("ada").trust is Trust.CONTACT


def test_nobody_becomes_a_contact_under_the_name_of_another() -> None:
    known = book()
    known.add(card(), NOW, "Eve")

    with pytest.raises(NameTaken, match="you know somebody else as Eve already"):
        known.add(card(EVE, "eve"), NOW)
    with pytest.raises(NameTaken, match="--as"):
        known.add(card(EVE, "Mallory"), NOW, "EVE")
    assert EVE.fingerprint not in {one.fingerprint for one in known}
    assert known.add(card(EVE, "eve"), NOW, "the other Eve").shown == "the other Eve"
    assert known.add(card(EVE, "eve"), NOW + 1).shown == "the other Eve"
    known.meet(EVE.noise_public, EVE.signing_public, "Grace", NOW)
    with pytest.raises(NameTaken, match="you know somebody else as Eve already"):
        known.rename(EVE.fingerprint, "eve")


@pytest.mark.parametrize("mark", ["\u3164", "\ufe0f", "\u2800", "\uffa0", "\U000e0101", "\u034f"])
def test_nobody_is_known_under_the_name_of_another_with_a_mark_that_is_not_seen(mark: str) -> None:
    """INV-P2P-46."""
    book = PeerBook()
    eve = book.add(ContactCard.make(Identity(b"e" * 32), "Eve", {}, 1), 1)
    with pytest.raises(NameTaken, match="Eve already"):
        book.add(ContactCard.make(Identity(b"f" * 32), f"E{mark}ve", {}, 1), 1)
    nameless = book.add(ContactCard.make(Identity(b"g" * 32), mark, {}, 1), 1)

    assert nameless.shown == f"somebody#{nameless.fingerprint[:4]}"
    assert book.find(f"eve{mark}") == eve
    with pytest.raises(NotFound):
        book.find(mark)


def test_nobody_is_known_under_the_name_of_another_by_what_he_says_later() -> None:
    """INV-P2P-46."""
    known = book()
    known.add(card(), NOW)
    known.add(card(EVE, "Eve"), NOW)

    assert known.learn(card(EVE, "ADA", FAR, NOW + 1), NOW).shown == "Eve"
    assert known.add(card(EVE, "ada", at=NOW + 2), NOW).shown == "Eve"
    assert known.meet(EVE.noise_public, EVE.signing_public, "\uff21da", NOW).shown == "Eve"
    assert known.find("eve").addresses == {PrivacyLevel.PRIVATE: NEAR}
    with pytest.raises(NameTaken):
        known.rename(EVE.fingerprint, "Ada")
    assert known.learn(card(EVE, "Evelyn", at=NOW + 3), NOW).shown == "Evelyn"
    nameless = known.add(card(BOB, ""), NOW)
    assert known.learn(card(BOB, "ada", at=NOW + 1), NOW).shown == nameless.shown
    assert known.find("Ada").fingerprint == ADA.fingerprint


def test_whom_one_only_met_gets_no_name_of_another_by_being_verified() -> None:
    """INV-P2P-46."""
    known = book()
    known.meet(EVE.noise_public, EVE.signing_public, "Ada", NOW)
    known.add(card(), NOW)

    with pytest.raises(NameTaken):
        known.verify(EVE.fingerprint, EVE.words)
    known.rename(EVE.fingerprint, "Eve")

    assert known.verify(EVE.fingerprint, EVE.words).shown == "Eve"
    with pytest.raises(NameTaken):
        known.rename(EVE.fingerprint, "")


def test_people_are_found_by_what_a_person_types() -> None:
    known = book()
    known.add(card(), NOW)
    known.meet(EVE.noise_public, EVE.signing_public, "ADA", NOW)

    assert known.find(ADA.fingerprint).name == "Ada"
    assert known.find(f"@{EVE.fingerprint[:4]}").name == "ADA"
    assert known.find(f"ada#{EVE.fingerprint[:4]}").name == "ADA"
    assert known.find("ada").fingerprint == ADA.fingerprint  # whom one knows comes first
    known.rename(ADA.fingerprint, "Countess")
    with pytest.raises(NotFound, match="several") as caught:
        known.find("ada")
    assert EVE.fingerprint[:12] in str(caught.value)
    for nobody in ("grace", ADA.fingerprint[:3], "", "#", "x" * 5000):
        with pytest.raises(NotFound, match="nobody is known"):
            known.find(nobody)


def test_who_is_not_there_cannot_be_changed() -> None:
    known = book()

    changes: list[Callable[[], Peer]] = [
        lambda: known.block(ADA.fingerprint),
        lambda: known.rename(ADA.fingerprint, "x"),
        lambda: known.verify(ADA.fingerprint, ADA.words),
        lambda: known.remove(ADA.fingerprint),
    ]
    for change in changes:
        with pytest.raises(NotFound, match="nobody has"):
            change()


def test_changes_are_given_out_once() -> None:
    known = book()
    known.meet(ADA.noise_public, ADA.signing_public, "Ada", NOW)
    known.meet(EVE.noise_public, EVE.signing_public, "Eve", NOW)
    known.block(EVE.fingerprint)
    known.remove(ADA.fingerprint)

    kept, gone = known.take_changes()

    assert [one.name for one in kept] == ["Eve"]
    assert kept[0].blocked
    assert gone == [ADA.fingerprint]
    assert known.take_changes() == ([], [])
    known.meet(EVE.noise_public, EVE.signing_public, "Eve", NOW + 4_000)
    assert known.take_changes() == ([], [])  # seen again a moment later
    assert PeerBook(known).find("eve").blocked


def test_strangers_are_bounded_and_contacts_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contacts, "MAX_STRANGERS", 5)
    monkeypatch.setattr(contacts, "MAX_PEERS", 2)
    known = book()
    known.add(card(at=NOW - 10**9), NOW - 10**9)
    for seed in range(10, 30):
        known.meet(foreign(seed), EVE.signing_public, f"n{seed}", NOW + seed * 100_000)

    assert len(known) == 6
    assert known.find("ada").trust is Trust.CONTACT
    assert {one.name for one in known} == {"Ada", "n25", "n26", "n27", "n28", "n29"}
    known.add(card(EVE, "Eve"), NOW)
    with pytest.raises(BookFull, match="2 people"):
        known.add(card(Identity.new(random.Random(9).randbytes), "Bob"), NOW)
    known.add(card(EVE, "Eve", at=NOW + 1), NOW)


def test_names_that_are_made_up_push_nobody_out_who_proved_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """INV-P2P-25."""
    monkeypatch.setattr(contacts, "MAX_STRANGERS", 6)
    known = book()
    known.meet(foreign(9), EVE.signing_public, "old", NOW)
    for seed in range(20, 22):
        known.meet(foreign(seed), EVE.signing_public, "met", NOW + seed, in_session=True)
    for seed in range(30, 50):
        known.meet(foreign(seed), EVE.signing_public, "flood", NOW + seed * 100_000)
    assert sorted(one.name for one in known) == ["flood"] * 4 + ["met"] * 2
    for seed in range(50, 70):
        known.meet(foreign(seed), EVE.signing_public, "s", NOW + seed * 100_000, in_session=True)
    known.meet(foreign(70), EVE.signing_public, "new", NOW + 70 * 100_000)

    assert sorted(one.name for one in known) == ["new"] + ["s"] * 5


def test_a_nameless_stranger_is_shown_too() -> None:
    assert Peer(ADA.noise_public, ADA.signing_public).shown == f"somebody#{ADA.fingerprint[:4]}"
