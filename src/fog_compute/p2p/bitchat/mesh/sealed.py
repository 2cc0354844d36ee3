"""What is said to one peer: Noise sessions as packets, and what travels inside them.

The sessions decide who calls and what waits; here their packets are sent, and what they opened is
told. One kind of payload is kept here: the peer's state, by which a session proves the signing key
that an announce only claims.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Final

import betanet
from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.mesh.guard import Drop
from fog_compute.p2p.bitchat.mesh.news import (
    HeardPrivately,
    KeysProved,
    SayTo,
    Sent,
    SentState,
    SessionReady,
)
from fog_compute.p2p.bitchat.mesh.station import Station
from fog_compute.p2p.bitchat.sessions.noise_sessions import NoiseSessions
from fog_compute.p2p.bitchat.sessions.noise_states import (
    NotSent,
    PrivatePacket,
    PrivateReceived,
    SessionAction,
    SessionLimits,
    SessionOpened,
    SessionState,
)
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.fragments import MANY_TAKE
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import MAX_TTL, Packet
from fog_compute.p2p.bitchat.wire.private import PeerState, PrivateKind, inside, within

__all__ = ["SealedTalk"]

VERSION_1_BYTES: Final = 0xFFFF
"""The longest payload of a version 1 packet."""

ANY_PROGRAM_BYTES: Final = MANY_TAKE - 256
"""The longest private payload that every program takes: what is around it has its pieces, too."""

WHY: Final = {
    "no_answer": "the peer does not answer",
    "waiting_full": "too much waits for the peer already",
    "too_long": "it is longer than a private message can be",
    "closed": "the session with the peer is over",
}


class SealedTalk:
    """The sessions of a node in its mesh."""

    __slots__ = ("_calls", "_next", "_numbers", "_sessions", "_station", "_tokens")

    def __init__(
        self,
        station: Station,
        limits: SessionLimits | None = None,
        *,
        favoured: Callable[[bytes], bool] = lambda _noise_key: False,
    ) -> None:
        self._station: Final = station
        self._sessions: Final = NoiseSessions(
            betanet.NoiseSecret(station.owner.noise_secret),
            limits,
            known_key=self._known_key,
            favoured=favoured,
        )
        self._numbers: Final = itertools.count(1)
        self._tokens: dict[int, SayTo] = {}
        self._calls: dict[bytes, int] = {}
        self._next: float | None = None

    @property
    def next_due(self) -> float | None:
        """When :meth:`due` has something."""
        return self._next

    @property
    def refused(self) -> dict[str, int]:
        """What sessions refused, by reason."""
        return dict(self._sessions.refused)

    def say(self, command: SayTo, now: float) -> None:
        """Say something to one peer, over the session with it or one that is asked for."""
        outbound = self._station.outbound
        if outbound.full or not outbound.links:
            reason = "too much is under way already" if outbound.full else "nobody is near"
            self._station.tell(Sent(command.token, SentState.FAILED, reason=reason))
            return
        if len(command.payload) > ANY_PROGRAM_BYTES and not self._takes_long_sets(command.peer_id):
            reason = f"the peer's program takes up to {ANY_PROGRAM_BYTES} bytes"
            self._station.tell(Sent(command.token, SentState.FAILED, reason=reason))
            return
        token = next(self._numbers)
        self._tokens[token] = command
        self._do(self._sessions.send(command.peer_id, command.payload, token, now), 0, now)
        if token in self._tokens:
            self._station.tell(Sent(command.token, SentState.QUEUED))

    def call(self, peer_id: bytes, now: float) -> None:
        """Ask for a session with a peer, if there is none."""
        self._do(self._sessions.call(peer_id, now), 0, now)

    def take(self, packet: Packet, link: Link, now: float) -> Drop | None:
        """Take a handshake or a frame for this node."""
        refused = self._sessions.refused.total()
        unknown = self._station.peers.get(packet.sender) is None
        idle = self._sessions.state(packet.sender) is SessionState.IDLE
        if unknown and idle and packet.kind == Kind.NOISE_ENCRYPTED:
            # Its sender would be called, and nobody is who was never announced.
            return Drop.UNKNOWN_SENDER
        if packet.kind == Kind.NOISE_HANDSHAKE:
            actions = self._sessions.handshake(packet.sender, packet.payload, now, link)
        else:
            actions = self._sessions.encrypted(packet.sender, packet.payload, now)
        if self._sessions.refused.total() > refused:
            # Its copies are no second try: it counts as seen, and the link pays once.
            self._station.guard.drop(link, Drop.NOT_OPENED)
        proof = any(isinstance(one, SessionOpened | PrivateReceived) for one in actions)
        if proof and packet.ttl == MAX_TTL:
            self._station.peers.prove_link(packet.sender, link)
        self._do(actions, packet.timestamp, now)
        return None

    def due(self, now: float) -> None:
        """End what has lasted too long, and call again."""
        if self._next is not None and self._next <= now:
            self._do(self._sessions.wake(now), 0, now)

    def _do(self, actions: Sequence[SessionAction], sent_ms: int, now: float) -> None:
        for action in actions:
            match action:
                case PrivatePacket():
                    self._send(action, now)
                case PrivateReceived(peer_id, noise_key, payload):
                    self._station.peers.heard(peer_id, now)
                    self._open(peer_id, noise_key, payload, sent_ms)
                case SessionOpened(peer_id, noise_key, _):
                    self._calls.pop(peer_id, None)
                    self._station.tell(SessionReady(peer_id, noise_key))
                    self._tell_state(peer_id, now)
                case NotSent(_, token, reason):
                    self._settle(token, SentState.FAILED, WHY.get(reason, reason))
        self._next = self._sessions.next_wake

    def _send(self, action: PrivatePacket, now: float) -> None:
        station = self._station
        kind = Kind.NOISE_HANDSHAKE if action.handshake else Kind.NOISE_ENCRYPTED
        said = None if action.handshake else self._tokens.get(action.token or 0)
        asked = said is not None and said.wide
        # Where the best way gave no answer, everybody is asked.
        wide = self._called(action.peer) if action.handshake else asked
        between, links = ((), frozenset[Link]()) if wide else station.way_to(action.peer)
        made = station.make(
            kind,
            action.payload,
            now,
            to=action.peer,
            signed=False,
            version=2 if between or len(action.payload) > VERSION_1_BYTES else 1,
            through=between,
        )
        token = "" if said is None else said.token
        station.outbound.launch(made, now, links or None, token)
        if action.token is not None:
            self._settle(action.token, SentState.ACCEPTED)

    def _open(self, peer_id: bytes, noise_key: bytes, payload: bytes, sent_ms: int) -> None:
        try:
            kind, body = inside(payload)
            if kind != PrivateKind.PEER_STATE:
                self._station.tell(HeardPrivately(peer_id, noise_key, kind, body, sent_ms))
                return
            state = PeerState.decode(body)
        except Malformed:
            self._station.guard.drops[Drop.CONTENT] += 1
            return
        self._station.peers.prove(peer_id, state.signing_key)
        self._station.tell(KeysProved(peer_id, noise_key, state.signing_key))

    def _tell_state(self, peer_id: bytes, now: float) -> None:
        state = PeerState(self._station.capabilities, self._station.owner.signing_public)
        payload = within(PrivateKind.PEER_STATE, state.encode())
        self._do(self._sessions.send(peer_id, payload, 0, now), 0, now)

    def _settle(self, number: int, state: SentState, reason: str = "") -> None:
        said = self._tokens.pop(number, None)
        if said is not None:
            self._station.tell(Sent(said.token, state, reason=reason))

    def _called(self, peer_id: bytes) -> bool:
        """Count a handshake with a peer; whether there was one that led to nothing yet."""
        if len(self._calls) > MOST_CALLS:
            self._calls.clear()
        self._calls[peer_id] = self._calls.get(peer_id, 0) + 1
        return self._calls[peer_id] > 1

    def _takes_long_sets(self, peer_id: bytes) -> bool:
        peer = self._station.peers.get(peer_id)
        return peer is not None and peer.is_ours

    def _known_key(self, peer_id: bytes) -> bytes | None:
        peer = self._station.peers.get(peer_id)
        return None if peer is None else peer.noise_key


MOST_CALLS: Final = 1_024
"""Peers whose unanswered handshakes are counted."""
