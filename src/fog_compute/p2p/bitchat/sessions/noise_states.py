"""Sessions of peers: their states, what is told of them, and how many handshakes there may be.

Limits and times are the app's (``NoiseSecurityConstants.swift``) and those of the app for Android
where they are stricter; both are in ``docs/spec/bitchat.md``.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

__all__ = [
    "Allowance",
    "NotSent",
    "PrivatePacket",
    "PrivateReceived",
    "SessionAction",
    "SessionLimits",
    "SessionOpened",
    "SessionState",
    "Step",
    "after",
]


class SessionState(enum.Enum):
    """What there is with a peer: a session that frames go through, a handshake, both or neither."""

    IDLE = "idle"
    CALLING = "calling"
    """We wrote the first message and wait for the second."""
    ANSWERING = "answering"
    """We wrote the second message and wait for the third."""
    OPEN = "open"
    RENEWING = "renewing"
    """Open, and calling: the session has served long enough. It goes on meanwhile."""
    REPLACING = "replacing"
    """Open, and answering: the peer has lost its session, or somebody says so. What is to be sent
    waits until that is clear."""

    @property
    def is_calling(self) -> bool:
        """Whether the second message is awaited."""
        return self in {SessionState.CALLING, SessionState.RENEWING}

    @property
    def is_answering(self) -> bool:
        """Whether the third message is awaited."""
        return self in {SessionState.ANSWERING, SessionState.REPLACING}


class Step(enum.Enum):
    """What changes a state."""

    CALL = "call"
    """We write a first message."""
    ANSWER = "answer"
    """A first message of the peer counts, and we write the second."""
    FINISH = "finish"
    """The handshake is over, with the peer whom it was to be."""
    LAPSE = "lapse"
    """The handshake is over, without a session."""
    CLOSE = "close"
    """All that there is is given up."""


_TABLE: Final[Mapping[tuple[SessionState, Step], SessionState]] = MappingProxyType(
    {
        (SessionState.IDLE, Step.CALL): SessionState.CALLING,
        (SessionState.IDLE, Step.ANSWER): SessionState.ANSWERING,
        (SessionState.CALLING, Step.ANSWER): SessionState.ANSWERING,
        (SessionState.CALLING, Step.FINISH): SessionState.OPEN,
        (SessionState.CALLING, Step.LAPSE): SessionState.IDLE,
        (SessionState.ANSWERING, Step.ANSWER): SessionState.ANSWERING,
        (SessionState.ANSWERING, Step.FINISH): SessionState.OPEN,
        (SessionState.ANSWERING, Step.LAPSE): SessionState.IDLE,
        (SessionState.OPEN, Step.CALL): SessionState.RENEWING,
        (SessionState.OPEN, Step.ANSWER): SessionState.REPLACING,
        (SessionState.RENEWING, Step.ANSWER): SessionState.REPLACING,
        (SessionState.RENEWING, Step.FINISH): SessionState.OPEN,
        (SessionState.RENEWING, Step.LAPSE): SessionState.OPEN,
        (SessionState.REPLACING, Step.ANSWER): SessionState.REPLACING,
        (SessionState.REPLACING, Step.FINISH): SessionState.OPEN,
        (SessionState.REPLACING, Step.LAPSE): SessionState.OPEN,
        **{(state, Step.CLOSE): SessionState.IDLE for state in SessionState},
    }
)


def after(state: SessionState, step: Step) -> SessionState | None:
    """The state after a step, or None where that step does not happen."""
    return _TABLE.get((state, step))


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """All that can be chosen. Times are in seconds.

    Attributes:
        call_s: how long a first message waits for the second;
        answer_s: and a second one for the third.
        calls: first messages without an answer before what waits is given back.
        wait_s: how long anything waits for a session.
        waiting: payloads that wait for one peer, and ``waiting_bytes`` of all peers.
        early: frames kept for one peer that came before its third message, and ``early_bytes`` of
            all.
        renew_s: age, and ``renew_frames`` frames sent, at which a session is renewed.
        life_s: age at which a session that could not be renewed ends.
        overlap_s: how long frames of a session are read after another took its place.
        crossing_s: how long after it won a crossing a peer's own first message may still come in.
        calm_s: how long first messages are not taken, after one that led to nothing while there was
            a session.
        failures: frames in a row that a session cannot read before it is renewed.
        per_peer: handshakes of one peer over one link in a minute; ``in_all`` those of all, and as
            many of ours.
        per_link: handshakes that one link may bring in a minute.
        peers: peers in memory.
    """

    call_s: float = 10.0
    answer_s: float = 20.0
    calls: int = 3
    wait_s: float = 60.0
    waiting: int = 64
    waiting_bytes: int = 8 * 1024 * 1024
    early: int = 4
    early_bytes: int = 2 * 1024 * 1024
    renew_s: float = 3_600.0
    renew_frames: int = 1_000
    life_s: float = 86_400.0
    overlap_s: float = 60.0
    crossing_s: float = 3.0
    calm_s: float = 60.0
    failures: int = 3
    per_peer: int = 10
    in_all: int = 30
    per_link: int = 15
    peers: int = 512


class Allowance:
    """So many handshakes in any minute, for each peer or link and for all."""

    __slots__ = ("_all", "_in_all", "_of", "_per_peer")

    MINUTE: Final = 60.0

    def __init__(self, per_peer: int, in_all: int) -> None:
        self._per_peer: Final = per_peer
        self._in_all: Final = in_all
        self._all: deque[tuple[float, bytes]] = deque()
        self._of: Counter[bytes] = Counter()

    def take(self, peer: bytes, now: float) -> bool:
        """Count a handshake, if there may be one."""
        while self._all and self._all[0][0] <= now - self.MINUTE:
            _, old = self._all.popleft()
            self._of[old] -= 1
            if not self._of[old]:
                del self._of[old]
        if len(self._all) >= self._in_all or self._of[peer] >= self._per_peer:
            return False
        self._all.append((now, peer))
        self._of[peer] += 1
        return True


@dataclass(frozen=True, slots=True)
class PrivatePacket:
    """Send a packet to a peer, wherever it is.

    Attributes:
        peer: its id.
        payload: of the packet.
        handshake: whether its kind is that of handshakes, or that of encrypted packets.
        token: what the payload was handed in with; None of a handshake.
    """

    peer: bytes
    payload: bytes
    handshake: bool
    token: int | None = None


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """There is a session with the holder of this key, which is that of the peer.

    Attributes:
        peer: its id.
        noise_key: 32 bytes, proved.
        again: whether there was one before.
    """

    peer: bytes
    noise_key: bytes
    again: bool


@dataclass(frozen=True, slots=True)
class PrivateReceived:
    """A peer sent a private payload.

    Attributes:
        peer: its id.
        noise_key: 32 bytes, proved.
        payload: what it encrypted.
    """

    peer: bytes
    noise_key: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class NotSent:
    """A payload comes back: nothing of it has left.

    Attributes:
        peer: whose it was to be.
        token: what it was handed in with.
        reason: ``no_answer``, ``waiting_full``, ``too_long`` or ``closed``.
    """

    peer: bytes
    token: int
    reason: str


SessionAction: TypeAlias = PrivatePacket | SessionOpened | PrivateReceived | NotSent
