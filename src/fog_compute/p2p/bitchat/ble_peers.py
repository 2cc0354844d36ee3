"""Peers of the mesh as people: who is near, how each is reached, and which key shows who it is.

The mesh names a peer by 8 bytes, the router a person by the fingerprint that begins with them. What
a peer showed is noted in the book of contacts, and what the mesh wants to know of somebody is read
there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, TypeAlias

from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.mail.carried import Tier
from fog_compute.p2p.bitchat.mesh.news import KeysProved, PeerAway, PeerNear, SessionReady
from fog_compute.p2p.bitchat.mesh.peers import PeerTable
from fog_compute.p2p.bitchat.wire.announce import Capability
from fog_compute.p2p.core.contacts import KeyChanged, PeerBook
from fog_compute.p2p.core.identity import fingerprint_of
from fog_compute.p2p.core.peer import Proof
from fog_compute.p2p.core.transport import Reach, Reachability, TransportType

__all__ = ["NearPeers", "PeerNews"]

PeerNews: TypeAlias = PeerNear | PeerAway | SessionReady | KeysProved


class NearPeers:
    """Who can be reached over the mesh.

    Attributes:
        links: those that are up, of every kind.
        dropped: what was heard and counts nothing, by reason: other keys than before.
    """

    __slots__ = ("_book", "_now_ms", "_reach", "_sessions", "_table", "_tell", "dropped", "links")

    def __init__(
        self,
        book: PeerBook,
        tell: Callable[[Reachability], None],
        now_ms: Callable[[], int],
        dropped: Counter[str],
    ) -> None:
        """Nobody is near before `begin`.

        Args:
            book: whom one knows; who is met is noted there.
            tell: called when somebody is reached better, or worse.
            now_ms: the time, in ms since 1970.
            dropped: counts what is dropped.
        """
        self._book: Final = book
        self._tell: Final = tell
        self._now_ms: Final = now_ms
        self._table: PeerTable | None = None
        self._reach: Final[dict[str, Reach]] = {}
        self._sessions: Final[set[str]] = set()
        self.links: Final[set[Link]] = set()
        self.dropped: Final = dropped

    def begin(self, table: PeerTable) -> None:
        """Look at the peers of a mesh that begins."""
        self.end()
        self._table = table

    def end(self) -> None:
        """The mesh is over; nobody is told that nobody is near."""
        self._table = None
        self.links.clear()
        self._reach.clear()
        self._sessions.clear()

    def hear(self, news: PeerNews) -> None:
        """Take in what the mesh tells of a peer."""
        match news:
            case PeerNear(_, announce, _, direct):
                if self._meet(announce.noise_key, announce.signing_key, announce.nickname):
                    self._near(announce.noise_key, direct)
            case PeerAway(peer_id):
                self._away(peer_id)
            case SessionReady(_, noise_key):
                self._sessions.add(fingerprint_of(noise_key))
                self._near(noise_key, True)
            case KeysProved(_, noise_key, signing_key):
                self._meet(noise_key, signing_key, "", in_session=True)

    def look(self) -> None:
        """See who can be reached how, now that links have come or gone."""
        if not self.links or self._table is None:
            for fingerprint in tuple(self._reach):
                self._reached(fingerprint, Reach.NONE)
            return
        for near in self._table:
            if near.near:
                self._near(near.noise_key, bool(near.links))
        for peer in self._book:
            if peer.is_kept and self._reach.get(peer.fingerprint, Reach.NONE) <= Reach.COURIER:
                self._reached(peer.fingerprint, self._by_courier(peer.fingerprint))

    def is_near(self, fingerprint: str) -> bool:
        """Whether somebody was heard within the last minute."""
        peer = None if self._table is None else self._table.get(bytes.fromhex(fingerprint)[:8])
        return peer is not None and peer.near

    def is_ours(self, fingerprint: str) -> bool:
        """Whether somebody uses a program of our sort, as far as that is known."""
        known = self._book.get(fingerprint)
        if known is not None and known.card_ms:
            return True
        peer = None if self._table is None else self._table.get(bytes.fromhex(fingerprint)[:8])
        return peer is not None and peer.is_ours

    def sender(self, peer_id: bytes) -> str | None:
        """The fingerprint of a peer that was announced."""
        peer = None if self._table is None else self._table.get(peer_id)
        return None if peer is None else fingerprint_of(peer.noise_key)

    def proved(self, fingerprint: str) -> bool:
        """Whether a signature shows who somebody is.

        Anybody can announce another's Noise key beside a signing key of his own: it takes a word
        from inside a session, or a Noise key that follows from the signing key.
        """
        known = self._book.get(fingerprint)
        return known is not None and known.proof > Proof.ANNOUNCED

    def signs(self, fingerprint: str) -> bytes | None:
        """The signing key that somebody is proved to have."""
        known = self._book.get(fingerprint)
        return known.signing_public if known is not None and self.proved(fingerprint) else None

    def takes_groups(self, fingerprint: str) -> bool:
        """Whether somebody is near whose program reads messages to groups."""
        peer = None if self._table is None else self._table.get(bytes.fromhex(fingerprint)[:8])
        can = None if peer is None else peer.announce.capabilities
        return peer is not None and peer.near and can is not None and Capability.GROUPS in can

    def noise_key(self, fingerprint: str) -> bytes | None:
        """The key that mail to somebody is sealed to."""
        peer = self._book.get(fingerprint)
        return None if peer is None else peer.noise_public

    def pinned(self, peer_id: bytes) -> bytes | None:
        """The signing key that somebody had before this run, or that a handshake proved."""
        peer = self._book.by_peer_id(peer_id.hex())
        return None if peer is None else peer.signing_public

    def tier(self, noise_key: bytes) -> Tier | None:
        """How far somebody is trusted with mail; None is not at all."""
        peer = self._book.get(fingerprint_of(noise_key))
        if peer is not None and peer.blocked:
            return None
        return Tier.FRIEND if peer is not None and peer.is_kept else Tier.PEER

    def _meet(
        self, noise_key: bytes, signing_key: bytes, name: str, *, in_session: bool = False
    ) -> bool:
        """Note who is near; False if it shows other keys than before."""
        try:
            self._book.meet(noise_key, signing_key, name, self._now_ms(), in_session=in_session)
        except KeyChanged:
            self.dropped["key"] += 1
            return False
        return True

    def _near(self, noise_key: bytes, direct: bool) -> None:
        fingerprint = fingerprint_of(noise_key)
        direct = direct or fingerprint in self._sessions
        self._reached(fingerprint, Reach.DIRECT if direct else Reach.MESH)

    def _away(self, peer_id: bytes) -> None:
        digits = peer_id.hex()
        for fingerprint in tuple(self._reach):
            if fingerprint.startswith(digits):
                self._sessions.discard(fingerprint)
                self._reached(fingerprint, self._by_courier(fingerprint))

    def _by_courier(self, fingerprint: str) -> Reach:
        peer = self._book.get(fingerprint)
        return Reach.COURIER if peer is not None and peer.is_kept and self.links else Reach.NONE

    def _reached(self, fingerprint: str, reach: Reach) -> None:
        if self._reach.get(fingerprint, Reach.NONE) == reach:
            return
        if reach is Reach.NONE:
            self._reach.pop(fingerprint, None)
        else:
            self._reach[fingerprint] = reach
        self._tell(Reachability(TransportType.BITCHAT_BLE, fingerprint, reach))
