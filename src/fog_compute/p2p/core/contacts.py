"""Contacts: everybody whom one knows, and what changes that.

Trust on first use: the first signing key that is seen beside a Noise key is kept, and another one
is refused and told, unless it comes with better proof. Two people are never known under one name:
who takes another's is called as before. Nothing here waits or writes: a change is
taken from `PeerBook.take_changes` and kept by a `PeerStorage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from fog_compute.errors import FogError, NotFound
from fog_compute.p2p.core.cards import CardInvalid, ContactCard
from fog_compute.p2p.core.identity import as_name, fingerprint_of, peer_id_of
from fog_compute.p2p.core.peer import (
    SHORTEST_START,
    TRUST,
    Peer,
    Proof,
    TrustEvent,
    alike,
    proof_of,
)
from fog_compute.p2p.core.words import bytes_of, words_of
from fog_compute.text import counted, one_line

__all__ = [
    "MAX_PEERS",
    "MAX_STRANGERS",
    "BookFull",
    "KeyChanged",
    "NameTaken",
    "PeerBook",
    "PeerStorage",
    "WordsDiffer",
]

MAX_STRANGERS: Final = 1_000
"""People whom one only met, such as by an announce: the one not seen for longest goes first."""

MAX_PEERS: Final = 10_000
"""People whom one added, verified, named or blocked: none of them is ever dropped."""

STEP_MS: Final = 60_000
"""Steps in which it is noted when somebody was last seen."""

AHEAD_MS: Final = 24 * 3600 * 1000
"""How far in the future a card may have been issued; further ahead it could never be replaced."""


class KeyChanged(FogError):
    """Somebody shows another signing key than before; the text says what to do."""


class WordsDiffer(FogError):
    """The words that were compared belong to other keys."""


class NameTaken(FogError):
    """One knows somebody else under this name."""


class BookFull(FogError):
    """No more contacts fit."""


class PeerStorage(Protocol):
    """Keeps a book over restarts."""

    async def load_peers(self) -> Sequence[Peer]:
        """Everybody who was kept."""
        ...

    async def save_peers(self, kept: Sequence[Peer], dropped: Sequence[str]) -> None:
        """Keep these as they are now, and forget those with these fingerprints."""
        ...


class PeerBook:
    """Everybody whom one knows, by fingerprint."""

    def __init__(self, peers: Iterable[Peer] = (), *, own: str = "") -> None:
        """Begin with who was kept; ``own`` is one's own fingerprint, which stands in no book."""
        self._own: Final = own
        self._peers: Final[dict[str, Peer]] = {one.fingerprint: one for one in peers}
        self._by_id: Final[dict[str, str]] = {peer_id_of(one): one for one in self._peers}
        self._changed: Final[dict[str, None]] = {}
        self._watchers: Final[list[Callable[[str], None]]] = []

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call somebody with the fingerprint of everybody who changes, or goes."""
        self._watchers.append(watcher)

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self._peers.values()))

    def get(self, fingerprint: str) -> Peer | None:
        """Who has this fingerprint."""
        return self._peers.get(fingerprint)

    def by_peer_id(self, peer_id: str) -> Peer | None:
        """Whom the Bluetooth mesh calls so."""
        fingerprint = self._by_id.get(peer_id)
        return None if fingerprint is None else self._peers[fingerprint]

    def find(self, text: str) -> Peer:
        """Whom a person means: by name, by fingerprint, or by at least four digits it begins with.

        Those whom one knows under a name come before those who only call themselves so.

        Raises:
            NotFound: nobody, or several; the text says which.
        """
        said = text.strip().removeprefix("@")
        word = said.lower()
        name, mark, start = word.rpartition("#")
        if mark and start:
            by_digits = [one for one in self if one.fingerprint.startswith(start)]
            anybody = name in {"", "somebody"}
            matching = [one for one in by_digits if anybody or one.is_called(name)]
        else:
            heard = alike(said)
            matching = [one for one in self if heard and alike(one.known_as) == heard]
            matching = matching or [one for one in self if one.is_called(said)]
        if not matching and len(word) >= SHORTEST_START:
            matching = [one for one in self if one.fingerprint.startswith(word)]
        if len(matching) == 1:
            return matching[0]
        shown = one_line(said, 80)
        if not matching:
            raise NotFound(f"nobody is known as {shown!r}: `fog peer ls` shows who is")
        several = ", ".join(f"{one.fingerprint[:12]} ({one.shown})" for one in matching[:4])
        raise NotFound(f"{shown!r} may be several: {several}; name one by the digits")

    def meet(
        self,
        noise_public: bytes,
        signing_public: bytes,
        name: str,
        now_ms: int,
        *,
        in_session: bool = False,
    ) -> Peer:
        """Note who showed a pair of keys, each signed by or proven with them.

        Args:
            noise_public: 32 bytes.
            signing_public: 32 bytes.
            name: what they call themselves.
            now_ms: the time, Unix milliseconds.
            in_session: they were said inside a Noise session with this Noise key.

        Raises:
            KeyChanged: they are known with another signing key, and nothing proves this one better;
                or the Noise key is one's own.
        """
        return self._note(noise_public, signing_public, as_name(name), now_ms, in_session)

    def add(self, card: ContactCard, now_ms: int, petname: str = "") -> Peer:
        """Make somebody a contact by their card; an older card than the known one changes nothing.

        Raises:
            KeyChanged: as for `meet`.
            BookFull: there are too many contacts.
            CardInvalid: the card is one's own, or from the future.
            NameTaken: one knows somebody else under this name.
        """
        if card.fingerprint == self._own:
            raise CardInvalid("this card is your own: give it to others, and add theirs")
        if card.issued_ms > now_ms + AHEAD_MS:
            raise CardInvalid("this card is from the future: one of the two clocks is wrong")
        known = self._peers.get(card.fingerprint)
        if petname or known is None or not known.known_as:
            self._check_name(as_name(petname) or card.name, card.fingerprint)
        if (known is None or not known.is_kept) and self._kept >= MAX_PEERS:
            raise BookFull(f"{MAX_PEERS} people are known: remove some of them first")
        peer = self._note(card.noise_public, card.signing_public, card.name, now_ms, False)
        if card.issued_ms < peer.card_ms:
            card_ms, addresses, name = peer.card_ms, peer.addresses, peer.name
        else:
            card_ms, addresses, name = card.issued_ms, card.addresses, card.name
        return self._set(
            msgspec.structs.replace(
                peer,
                name=name,
                petname=as_name(petname) or peer.petname,
                trust=TRUST[peer.trust, TrustEvent.ADD],
                addresses=addresses,
                card_ms=card_ms,
            )
        )

    def _check_name(self, name: str, fingerprint: str) -> None:
        """Let one know nobody under the name of another, for whom he would be taken."""
        other = self._known_as(name, fingerprint)
        if other is not None:
            raise NameTaken(
                f"you know somebody else as {other.shown} already: call this one otherwise, with a"
                " name of your own (`fog peer add CARD --as NAME`, `fog peer name`)"
            )

    def _known_as(self, name: str, beside: str) -> Peer | None:
        """Whom one knows under a name, beside somebody."""
        said = alike(name)
        found = (one for one in self._peers.values() if said and alike(one.known_as) == said)
        return next((one for one in found if one.fingerprint != beside), None)

    def learn(self, card: ContactCard, now_ms: int) -> Peer:
        """Note what a card says that somebody sent along, without making them a contact.

        Raises:
            KeyChanged: as for `meet`.
        """
        peer = self._note(card.noise_public, card.signing_public, card.name, now_ms, False)
        if card.issued_ms <= peer.card_ms or card.issued_ms > now_ms + AHEAD_MS:
            return peer
        return self._set(
            msgspec.structs.replace(
                peer, name=card.name, addresses=card.addresses, card_ms=card.issued_ms
            )
        )

    def verify(self, fingerprint: str, words: Sequence[str]) -> Peer:
        """Note that somebody read these words, of the keys that are known of them.

        Raises:
            NotFound: nobody has this fingerprint.
            WordsDiffer: the words are of other keys, or there are more or fewer than twelve.
            NameTaken: one knows somebody else under their name; give them one of your own first.
        """
        peer = self._known(fingerprint)
        if len(words) != len(peer.words):
            raise WordsDiffer(
                f"those are {counted(len(words), 'word')} and not {len(peer.words)}: write all of"
                " them as they are read"
            )
        try:
            same = words_of(bytes_of(words)) == peer.words
        except ValueError as error:
            raise WordsDiffer(f"{error}: write the twelve words as they are read") from None
        if not same:
            raise WordsDiffer(
                f"these are not the words of {peer.shown}: somebody may be in between, or the words"
                " are of somebody else; do not trust what comes from there"
            )
        if not peer.known_as:
            self._check_name(peer.name, fingerprint)
        return self._set(
            msgspec.structs.replace(peer, trust=TRUST[peer.trust, TrustEvent.VERIFY], conflict_ms=0)
        )

    def block(self, fingerprint: str, blocked: bool = True) -> Peer:
        """Let nothing of somebody's be shown, or let it again.

        Raises:
            NotFound: nobody has this fingerprint.
        """
        return self._set(msgspec.structs.replace(self._known(fingerprint), blocked=blocked))

    def rename(self, fingerprint: str, petname: str) -> Peer:
        """Call somebody by a name of one's own; "" for what they call themselves.

        Raises:
            NotFound: nobody has this fingerprint.
            NameTaken: one knows somebody else under this name.
        """
        renamed = msgspec.structs.replace(self._known(fingerprint), petname=as_name(petname))
        self._check_name(renamed.known_as, fingerprint)
        return self._set(renamed)

    def remove(self, fingerprint: str) -> Peer:
        """Forget somebody, and return who it was; met again, they are a stranger.

        Raises:
            NotFound: nobody has this fingerprint.
        """
        peer = self._known(fingerprint)
        self._drop(fingerprint)
        return peer

    def take_changes(self) -> tuple[list[Peer], list[str]]:
        """Who has changed since the last call, and the fingerprints of who is gone."""
        changed = tuple(self._changed)
        self._changed.clear()
        kept = [self._peers[one] for one in changed if one in self._peers]
        return kept, [one for one in changed if one not in self._peers]

    def put_back(self, fingerprints: Iterable[str]) -> None:
        """Let `take_changes` tell of these again: they could not be kept."""
        self._changed.update(dict.fromkeys(fingerprints))

    @property
    def _kept(self) -> int:
        return sum(one.is_kept for one in self._peers.values())

    def _known(self, fingerprint: str) -> Peer:
        peer = self._peers.get(fingerprint)
        if peer is None:
            raise NotFound(f"nobody has the fingerprint {one_line(fingerprint, 64)}")
        return peer

    def _note(self, noise: bytes, signing: bytes, name: str, now_ms: int, in_session: bool) -> Peer:
        fingerprint = fingerprint_of(noise)
        if fingerprint == self._own:
            raise KeyChanged("somebody else shows your own Noise key")
        proof = proof_of(noise, signing, in_session)
        known = self._peers.get(fingerprint)
        if known is None:
            self._make_room()
            return self._set(
                Peer(noise, signing, name, proof=proof, first_seen_ms=now_ms, last_seen_ms=now_ms)
            )
        if known.signing_public == signing:
            return self._set(
                msgspec.structs.replace(
                    known,
                    name=name or known.name,
                    proof=max(known.proof, proof),
                    last_seen_ms=_later(known.last_seen_ms, now_ms),
                )
            )
        if proof > known.proof:
            return self._set(
                msgspec.structs.replace(
                    known,
                    signing_public=signing,
                    name=name or known.name,
                    proof=proof,
                    trust=TRUST[known.trust, TrustEvent.REPLACE],
                    last_seen_ms=_later(known.last_seen_ms, now_ms),
                )
            )
        self._set(msgspec.structs.replace(known, conflict_ms=_later(known.conflict_ms, now_ms)))
        raise KeyChanged(
            f"{known.shown} shows another signing key than before, which was refused: it may be"
            f" somebody else; if they have a new key, `fog peer rm {known.fingerprint[:12]}` and"
            " verify them again"
        )

    def _make_room(self) -> None:
        """Drop the stranger who was not seen for longest, if there are too many.

        Who proved a key in a session has half of the room: with the key that was kept goes what
        keeps others from showing another one, and names that are made up have no sessions.
        """
        strangers = [one for one in self._peers.values() if not one.is_kept]
        if len(strangers) < MAX_STRANGERS:
            return
        others = [one for one in strangers if one.proof != Proof.SESSION]
        if 2 * len(others) >= len(strangers):
            strangers = others
        self._drop(min(strangers, key=lambda one: one.last_seen_ms).fingerprint)

    def _set(self, peer: Peer) -> Peer:
        fingerprint = peer.fingerprint
        before = self._peers.get(fingerprint)
        renamed = before is not None and peer.known_as != before.known_as
        if before is not None and renamed and self._known_as(peer.known_as, fingerprint):
            # By a newer card, or an announce, they call themselves like somebody else now.
            peer = msgspec.structs.replace(peer, name=before.name)
        if before != peer:
            self._peers[fingerprint] = peer
            self._by_id[peer.peer_id] = fingerprint
            self._tell(fingerprint)
        return peer

    def _drop(self, fingerprint: str) -> None:
        del self._peers[fingerprint]
        self._by_id.pop(peer_id_of(fingerprint), None)
        self._tell(fingerprint)

    def _tell(self, fingerprint: str) -> None:
        self._changed[fingerprint] = None
        for watcher in self._watchers:
            watcher(fingerprint)


def _later(before_ms: int, now_ms: int) -> int:
    """A time kept in steps: announces come every few seconds, and each change is written."""
    return now_ms if now_ms >= before_ms + STEP_MS else before_ms
