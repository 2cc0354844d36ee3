"""What there is with each peer of a node's sessions, and who is forgotten where it is too many.

Anybody can make up peers, and open sessions with all of them over one link: whoever brought most
of them loses one of them first, and people whom the owner knows last.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import betanet
from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.sessions.noise_states import SessionState

__all__ = ["Session", "SessionPeer", "SessionTable", "Waiting"]

_REMEMBERED: Final = 8
"""First messages of a peer that are known again, so that a repeated one counts once."""


@dataclass(slots=True)
class Waiting:
    """A payload that waits for a session."""

    payload: bytes
    token: int
    until: float


@dataclass(slots=True)
class Session:
    """A session that frames go through.

    Attributes:
        noise: its keys.
        noise_key: the peer's, proved.
        since: when it was opened.
        sent: frames sent.
        failures: frames in a row that it could not read.
    """

    noise: betanet.NoiseSession
    noise_key: bytes
    since: float
    sent: int = 0
    failures: int = 0


@dataclass(slots=True)
class SessionPeer:
    """All that there is with a peer.

    Attributes:
        state: which of the following there are.
        current: the session that frames go through.
        former: the one before it, until ``former_until``.
        shaking: the handshake, until ``deadline``.
        calls: first messages of ours since there was an answer.
        waiting: what is sent as soon as it can be.
        early: frames that the handshake's session may read.
        calm_until: first messages of the peer are not taken before.
        firsts: those that came.
        made_by: the link that brought the first of them; None where this side called.
    """

    state: SessionState = SessionState.IDLE
    current: Session | None = None
    former: Session | None = None
    former_until: float = 0.0
    shaking: betanet.NoiseSession | None = None
    deadline: float = 0.0
    calls: int = 0
    waiting: deque[Waiting] = field(default_factory=deque)
    early: list[bytes] = field(default_factory=list)
    calm_until: float = 0.0
    firsts: deque[bytes] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    made_by: Link | None = None


class SessionTable:
    """Peers by their ids; whoever was used last stands last."""

    __slots__ = ("_favoured", "_most", "_peers")

    def __init__(self, most: int, favoured: Callable[[bytes], bool]) -> None:
        """Begin without any.

        Args:
            most: peers that are kept.
            favoured: whether the holder of a Noise key goes after all others.
        """
        self._most: Final = most
        self._favoured: Final = favoured
        self._peers: Final[OrderedDict[bytes, SessionPeer]] = OrderedDict()

    def __iter__(self) -> Iterator[tuple[bytes, SessionPeer]]:
        return iter(tuple(self._peers.items()))

    def get(self, peer: bytes) -> SessionPeer | None:
        """What there is with a peer."""
        return self._peers.get(peer)

    def add(self, peer: bytes, made_by: Link | None) -> SessionPeer:
        """A new record; make room with `victim` before."""
        entry = self._peers[peer] = SessionPeer(made_by=made_by)
        return entry

    def used(self, peer: bytes) -> None:
        """Something was sent to a peer, or came from nobody else."""
        self._peers.move_to_end(peer)

    def pop(self, peer: bytes) -> SessionPeer | None:
        """Forget a peer."""
        return self._peers.pop(peer, None)

    @property
    def victim(self) -> bytes | None:
        """Who is to go before another one comes; None where there is room."""
        if len(self._peers) < self._most:
            return None
        shares = Counter(one.made_by for one in self._peers.values() if one.made_by is not None)

        def worth(peer: bytes) -> tuple[bool, int, bool, bool]:
            one = self._peers[peer]
            known = one.current is not None and self._favoured(one.current.noise_key)
            share = 0 if one.made_by is None else shares[one.made_by]
            return known, -share, one.current is not None, bool(one.waiting)

        return min(self._peers, key=worth)  # of those alike whoever was used first
