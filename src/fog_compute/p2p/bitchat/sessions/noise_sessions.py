"""Noise sessions with peers: who calls, whose key it is, what waits meanwhile; decisions alone.

A peer id is the beginning of a hash of the peer's Noise key, so a session is with that peer if the
key that was proved in it hashes to its id; before that is checked, nothing goes out. Handshakes are
not signed and anybody can make one up, so each is bounded in time and number, a session that works
is given up for no message that proves nothing, and what waits is bounded and given back.

Where two peers call each other at once, the one with the lower id stays the caller
(facts: the app's ``NoiseSessionManager.swift`` and ``BLENoisePacketHandler.swift``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import betanet
from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.sessions.noise_states import (
    Allowance,
    NotSent,
    PrivatePacket,
    PrivateReceived,
    SessionAction,
    SessionLimits,
    SessionOpened,
    SessionState,
    Step,
    after,
)
from fog_compute.p2p.bitchat.sessions.session_table import (
    Session,
    SessionPeer,
    SessionTable,
    Waiting,
)
from fog_compute.p2p.bitchat.wire.announce import peer_id

__all__ = ["NoiseSessions"]

FIRST, SECOND, THIRD = 32, 96, 64
"""Bytes of the three messages of a handshake, which carry nothing else."""


class NoiseSessions:
    """The sessions of a node. Every method tells what is to be done; none waits.

    Attributes:
        refused: how often what for; labels of a counter.
    """

    __slots__ = (
        "_early_bytes",
        "_known_key",
        "_limits",
        "_links",
        "_ours",
        "_own",
        "_peers",
        "_secret",
        "_theirs",
        "_waiting_bytes",
        "refused",
    )

    def __init__(
        self,
        secret: betanet.NoiseSecret,
        limits: SessionLimits | None = None,
        *,
        known_key: Callable[[bytes], bytes | None] = lambda _: None,
        favoured: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        """Begin without any session.

        Args:
            secret: this node's.
            limits: all that can be chosen.
            known_key: the Noise key of a peer id, where one is known: another one is refused even
                if it has the same id.
            favoured: whether the holder of a Noise key is forgotten after all others, where there
                are too many.
        """
        self._secret: Final = secret
        self._own: Final = peer_id(secret.public)
        self._limits: Final = limits or SessionLimits()
        self._known_key: Final = known_key
        self._peers: Final = SessionTable(self._limits.peers, favoured)
        self._ours: Final = Allowance(self._limits.per_peer, self._limits.in_all)
        self._theirs: Final = Allowance(self._limits.per_peer, self._limits.in_all)
        self._links: Final = Allowance(self._limits.per_link, 1 << 16)
        self._waiting_bytes = 0
        self._early_bytes = 0
        self.refused: Counter[str] = Counter()

    def state(self, peer: bytes) -> SessionState:
        """What there is with a peer."""
        entry = self._peers.get(peer)
        return SessionState.IDLE if entry is None else entry.state

    def handshake_hash(self, peer: bytes) -> bytes | None:
        """What both sides know of their session alone; None where there is none."""
        entry = self._peers.get(peer)
        if entry is None or entry.current is None:
            return None
        return entry.current.noise.handshake_hash

    def send(self, peer: bytes, payload: bytes, token: int, now: float) -> list[SessionAction]:
        """Encrypt a payload for a peer, or let it wait for a session and ask for one."""
        if peer == self._own:
            return [NotSent(peer, token, "closed")]
        entry, actions = self._entry(peer)
        if entry.state in {SessionState.OPEN, SessionState.RENEWING} and not entry.waiting:
            actions.append(self._frame(peer, entry, payload, token))
            return actions + self._renew(peer, entry, now)
        room = self._limits.waiting_bytes - self._waiting_bytes
        if len(entry.waiting) >= self._limits.waiting or len(payload) > room:
            return [*actions, NotSent(peer, token, "waiting_full")]
        entry.waiting.append(Waiting(payload, token, now + self._limits.wait_s))
        self._waiting_bytes += len(payload)
        if entry.shaking is None:
            actions += self._call(peer, entry, self._ours, now)
        return actions

    def call(self, peer: bytes, now: float) -> list[SessionAction]:
        """Ask for a session, if there is none and no handshake."""
        if peer == self._own or self.state(peer) is not SessionState.IDLE:
            return []
        entry, actions = self._entry(peer)
        return actions + self._call(peer, entry, self._ours, now)

    def handshake(
        self, peer: bytes, message: bytes, now: float, link: Link | None = None
    ) -> list[SessionAction]:
        """Take a message of a handshake that a peer is said to have sent, and a link brought."""
        if peer == self._own:
            return self._refuse("own_id")
        if len(message) == FIRST:
            return self._first(peer, message, now, link)
        entry = self._peers.get(peer)
        if len(message) == SECOND and entry is not None and entry.state.is_calling:
            return self._finish(peer, entry, message, now)
        if len(message) == THIRD and entry is not None and entry.state.is_answering:
            return self._finish(peer, entry, message, now)
        return self._refuse("out_of_turn" if len(message) in {SECOND, THIRD} else "wrong_length")

    def encrypted(self, peer: bytes, frame: bytes, now: float) -> list[SessionAction]:
        """Take a frame that a peer is said to have sent."""
        entry = self._peers.get(peer)
        if entry is None or (entry.current is None and not entry.state.is_answering):
            # Its sender has a session that is gone here. A new one lets it send again.
            self.refused["no_session"] += 1
            if peer == self._own:
                return []
            entry, actions = self._entry(peer)
            return actions + self._call(peer, entry, self._theirs, now)
        received = self._read(peer, entry, frame, now)
        if received is not None:
            return [received]
        if entry.state.is_answering:
            room = self._limits.early_bytes - self._early_bytes
            if len(entry.early) < self._limits.early and len(frame) <= room:
                entry.early.append(frame)
                self._early_bytes += len(frame)
                return []
            return self._refuse("early_full")
        if entry.current is not None and entry.current.failures >= self._limits.failures:
            return self._call(peer, entry, self._theirs, now)
        return []

    def close(self, peer: bytes) -> list[SessionAction]:
        """Forget a peer; what waits for it comes back."""
        entry = self._peers.pop(peer)
        if entry is None:
            return []
        entry.state = after(entry.state, Step.CLOSE) or SessionState.IDLE
        self._forget_early(entry)
        return self._give_back(peer, entry, "closed")

    @property
    def next_wake(self) -> float | None:
        """When :meth:`wake` has something to do, at the earliest."""
        times = [
            moment
            for _, entry in self._peers
            for moment in (
                entry.deadline if entry.shaking is not None else None,
                entry.waiting[0].until if entry.waiting else None,
                entry.former_until if entry.former is not None else None,
                entry.current.since + self._limits.life_s if entry.current is not None else None,
            )
            if moment is not None
        ]
        return min(times, default=None)

    def wake(self, now: float) -> list[SessionAction]:
        """End what has lasted too long."""
        actions: list[SessionAction] = []
        for peer, entry in self._peers:
            if entry.former is not None and entry.former_until <= now:
                entry.former = None
            while entry.waiting and entry.waiting[0].until <= now:
                actions.append(self._back(peer, entry, "no_answer"))
            if entry.shaking is not None and entry.deadline <= now:
                actions += self._lapse(peer, entry, now)
            if entry.current is not None and entry.current.since + self._limits.life_s <= now:
                self._step_out(entry)
        return actions

    # What a handshake goes through.

    def _call(
        self, peer: bytes, entry: SessionPeer, allowance: Allowance, now: float
    ) -> list[SessionAction]:
        """Write a first message.

        Args:
            peer: to whom.
            entry: its record.
            allowance: ours, or that of others where they caused it: they cannot spend ours.
            now: the time.
        """
        state = after(entry.state, Step.CALL)
        if state is None:
            return []
        if not allowance.take(peer, now):
            self.refused["calls_spent"] += 1
            # What waits is given back when its time is over; until then a handshake of the peer's
            # may serve it.
            return []
        session = betanet.NoiseSession.initiator(self._secret)
        entry.state, entry.shaking, entry.deadline = state, session, now + self._limits.call_s
        entry.calls += 1
        return [PrivatePacket(peer, session.write_handshake(), handshake=True)]

    def _first(
        self, peer: bytes, message: bytes, now: float, link: Link | None
    ) -> list[SessionAction]:
        entry = self._peers.get(peer)
        if entry is not None:
            if entry.state.is_calling and self._own < peer:
                return self._refuse("crossed")
            if entry.current is not None and now < entry.calm_until:
                return self._refuse("too_soon")
            if message in entry.firsts:
                return self._refuse("repeated")
        # A link that makes up peers spends its own share first, and not that of the others; nor
        # does what it brings in a peer's name count for what that peer brings over another one.
        over = b"" if link is None else b"%d" % link
        shared = link is None or self._links.take(over, now)
        if not shared or not self._theirs.take(peer + over, now):
            return self._refuse("too_many")
        session = betanet.NoiseSession.responder(self._secret)
        try:
            session.read_handshake(message)
            answer = session.write_handshake()
        except betanet.NoiseError as error:
            return self._refuse(error.reason)
        entry, actions = self._entry(peer, link)
        entry.firsts.append(message)
        state = after(entry.state, Step.ANSWER)
        if state is None:
            return actions
        if not entry.state.is_answering:
            # Others after it do not put off the end, or they would put it off for ever.
            entry.deadline = now + self._limits.answer_s
        entry.state, entry.shaking = state, session
        return [*actions, PrivatePacket(peer, answer, handshake=True)]

    def _finish(
        self, peer: bytes, entry: SessionPeer, message: bytes, now: float
    ) -> list[SessionAction]:
        session, actions = entry.shaking, list[SessionAction]()
        if session is None:
            return actions
        calling = entry.state.is_calling
        try:
            session.read_handshake(message)
            third = session.write_handshake() if calling else b""
        except betanet.NoiseError as error:
            return self._refuse(error.reason)
        noise_key = session.remote_static or b""
        if peer_id(noise_key) != peer or self._known_key(peer) not in {None, noise_key}:
            self.refused["not_its_key"] += 1
            return self._lapse(peer, entry, now)
        if calling:
            actions.append(PrivatePacket(peer, third, handshake=True))
        # The peer's own first message, which ours won against, may still be on its way.
        if calling and self._own < peer:
            entry.calm_until = max(entry.calm_until, now + self._limits.crossing_s)
        again = entry.current is not None
        if again:
            entry.former, entry.former_until = entry.current, now + self._limits.overlap_s
        entry.current = Session(session, noise_key, now)
        entry.state = after(entry.state, Step.FINISH) or SessionState.OPEN
        entry.shaking, entry.calls = None, 0
        actions.append(SessionOpened(peer, noise_key, again))
        return actions + self._after_opening(peer, entry, now)

    def _after_opening(self, peer: bytes, entry: SessionPeer, now: float) -> list[SessionAction]:
        actions: list[SessionAction] = []
        early = entry.early
        self._forget_early(entry)
        for frame in early:
            received = self._read(peer, entry, frame, now)
            if received is not None:
                actions.append(received)
        while entry.waiting:
            waiting = self._take(entry)
            actions.append(self._frame(peer, entry, waiting.payload, waiting.token))
        return actions

    def _lapse(self, peer: bytes, entry: SessionPeer, now: float) -> list[SessionAction]:
        replaced = entry.state is SessionState.REPLACING
        entry.state = after(entry.state, Step.LAPSE) or entry.state
        entry.shaking = None
        self._forget_early(entry)
        if replaced:
            # The peer may really have lost its session: then it answers us. Until that is clear,
            # others cannot have us wait by first messages.
            entry.calm_until = now + self._limits.calm_s
            entry.calls = 0
            return self._call(peer, entry, self._theirs, now)
        if not entry.waiting:
            entry.calls = 0
            return []
        if entry.state is SessionState.OPEN:
            return self._after_opening(peer, entry, now)
        if entry.calls < self._limits.calls:
            return self._call(peer, entry, self._ours, now)
        entry.calls = 0
        return self._give_back(peer, entry, "no_answer")

    def _renew(self, peer: bytes, entry: SessionPeer, now: float) -> list[SessionAction]:
        session = entry.current
        if session is None or entry.state is not SessionState.OPEN:
            return []
        old = now - session.since >= self._limits.renew_s
        if not old and session.sent < self._limits.renew_frames:
            return []
        return self._call(peer, entry, self._ours, now)

    # Frames and what waits.

    def _frame(
        self, peer: bytes, entry: SessionPeer, payload: bytes, token: int
    ) -> PrivatePacket | NotSent:
        session = entry.current
        try:
            if session is None:
                return NotSent(peer, token, "closed")
            frame = session.noise.encrypt(payload)
        except betanet.NoiseError as error:
            self.refused[error.reason] += 1
            return NotSent(peer, token, "too_long" if error.reason == "wrong_length" else "closed")
        session.sent += 1
        return PrivatePacket(peer, frame, handshake=False, token=token)

    def _read(
        self, peer: bytes, entry: SessionPeer, frame: bytes, now: float
    ) -> PrivateReceived | None:
        reason = "no_session"
        former = entry.former if now < entry.former_until else None
        for session in (entry.current, former):
            if session is None:
                continue
            try:
                payload = session.noise.decrypt(frame)
            except betanet.NoiseError as error:
                # A number that the newer session knows already may be a new one of the former.
                reason = error.reason if reason != "replayed" else reason
                continue
            session.failures = 0
            self._peers.used(peer)
            return PrivateReceived(peer, session.noise_key, payload)
        if reason == "bad_tag" and entry.current is not None:
            entry.current.failures += 1
        if not entry.state.is_answering:
            self.refused[reason] += 1
        return None

    def _take(self, entry: SessionPeer) -> Waiting:
        waiting = entry.waiting.popleft()
        self._waiting_bytes -= len(waiting.payload)
        return waiting

    def _back(self, peer: bytes, entry: SessionPeer, reason: str) -> NotSent:
        return NotSent(peer, self._take(entry).token, reason)

    def _give_back(self, peer: bytes, entry: SessionPeer, reason: str) -> list[SessionAction]:
        return [self._back(peer, entry, reason) for _ in range(len(entry.waiting))]

    def _forget_early(self, entry: SessionPeer) -> None:
        self._early_bytes -= sum(map(len, entry.early))
        entry.early = []

    @staticmethod
    def _step_out(entry: SessionPeer) -> None:
        """Give up a session that has lived too long, and a handshake that was to renew it."""
        entry.state = after(entry.state, Step.CLOSE) or SessionState.IDLE
        entry.current = entry.former = entry.shaking = None

    def _entry(
        self, peer: bytes, made_by: Link | None = None
    ) -> tuple[SessionPeer, list[SessionAction]]:
        """The record of a peer, made where there is none; another's goes if there are too many."""
        actions: list[SessionAction] = []
        entry = self._peers.get(peer)
        if entry is None:
            while (victim := self._peers.victim) is not None:
                actions += self.close(victim)
            entry = self._peers.add(peer, made_by)
        self._peers.used(peer)
        return entry, actions

    def _refuse(self, reason: str) -> list[SessionAction]:
        self.refused[reason] += 1
        return []
