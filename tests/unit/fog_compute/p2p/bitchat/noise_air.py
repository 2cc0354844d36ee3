"""Nodes that have nothing but sessions, on a clock that the test moves, over an air that loses."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from random import Random

import betanet
from fog_compute.p2p.bitchat.sessions.noise_sessions import NoiseSessions
from fog_compute.p2p.bitchat.sessions.noise_states import (
    NotSent,
    PrivatePacket,
    PrivateReceived,
    SessionAction,
    SessionLimits,
    SessionOpened,
)
from fog_compute.p2p.bitchat.wire.announce import peer_id

SECRETS = sorted(
    (betanet.NoiseSecret(bytes([number]) * 32) for number in range(1, 5)),
    key=lambda secret: peer_id(secret.public),
)
"""In the order of their peer ids: the first stays the caller where two call at once."""
IDS = [peer_id(secret.public) for secret in SECRETS]
LOW, HIGH = IDS[0], IDS[1]


class Air:
    """All packets take 10 to 30 ms, and may be lost, delayed for long or doubled."""

    def __init__(
        self,
        limits: SessionLimits | None = None,
        *,
        seed: int = 1,
        loss: float = 0.0,
        late: float = 0.0,
    ) -> None:
        self.now = 1_000.0
        self.rng = Random(seed)
        self.loss, self.late, self.limits = loss, late, limits
        self.nodes = {
            one: NoiseSessions(secret, limits) for one, secret in zip(IDS, SECRETS, strict=True)
        }
        self.received: dict[bytes, list[PrivateReceived]] = defaultdict(list)
        self.opened: dict[bytes, list[SessionOpened]] = defaultdict(list)
        self.not_sent: dict[bytes, list[NotSent]] = defaultdict(list)
        self.packets: list[tuple[bytes, PrivatePacket]] = []
        """All that left, with who sent it."""
        self._way: list[tuple[float, int, bytes, PrivatePacket]] = []
        self._count = 0

    def restart(self, node: bytes) -> None:
        """Its sessions are gone; what is under way to it is not."""
        self.nodes[node] = NoiseSessions(SECRETS[IDS.index(node)], self.limits)

    def send(self, node: bytes, peer: bytes, payload: bytes, token: int = 0) -> None:
        self.do(node, self.nodes[node].send(peer, payload, token, self.now))

    def do(self, node: bytes, actions: Sequence[SessionAction]) -> None:
        for action in actions:
            match action:
                case PrivatePacket():
                    self.packets.append((node, action))
                    self._fly(node, action)
                case PrivateReceived():
                    self.received[node].append(action)
                case SessionOpened():
                    self.opened[node].append(action)
                case NotSent():
                    self.not_sent[node].append(action)

    def _fly(self, node: bytes, packet: PrivatePacket) -> None:
        for _ in range(2 if self.rng.random() < self.late else 1):
            if self.rng.random() >= self.loss:
                slow = self.rng.uniform(0, 4) if self.rng.random() < self.late else 0.0
                self._count += 1
                at = self.now + self.rng.uniform(0.01, 0.03) + slow
                heapq.heappush(self._way, (at, self._count, node, packet))

    def hand(self, node: bytes, sender: bytes, payload: bytes, *, handshake: bool) -> None:
        """Let a node have a packet as if it came from this sender."""
        sessions = self.nodes[node]
        take = sessions.handshake if handshake else sessions.encrypted
        self.do(node, take(sender, payload, self.now))

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        while True:
            wakes = [at for one in self.nodes.values() if (at := one.next_wake) is not None]
            at = min([*wakes, self._way[0][0] if self._way else end, end])
            self.now = max(self.now, at)
            if at >= end:
                return
            while self._way and self._way[0][0] <= self.now:
                _, _, sender, packet = heapq.heappop(self._way)
                if packet.peer in self.nodes:
                    self.hand(packet.peer, sender, packet.payload, handshake=packet.handshake)
            for node, sessions in self.nodes.items():
                self.do(node, sessions.wake(self.now))

    def texts(self, node: bytes) -> list[bytes]:
        return [one.payload for one in self.received[node]]
