"""How often neighbours are asked and answered: allowances, and what is known of each of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from fog_compute.p2p.bitchat.mesh.doubts import DoubtPolicy
from fog_compute.p2p.bitchat.mesh.kept import KeptPolicy

__all__ = ["Back", "GossipPolicy", "Neighbour", "Window"]


@dataclass(frozen=True, slots=True)
class GossipPolicy:
    """All that can be chosen; times in seconds.

    Attributes:
        kept: how much is kept.
        doubts: when a neighbour is shown what was said lately.
        first_s: from a new link to the first question.
        busy_s: between questions while something is said;
        ours_s: and of neighbours that short questions go to as well.
        idle_s: between questions otherwise.
        prekeys_s: between questions for prekeys.
        lately_s: what came in the last so many seconds is in a short set.
        asked_s: for how long an answer may come.
        answers: questions of a neighbour that are answered, and asked of it,
        short_answers: and short ones that are answered,
        window_s: within so many seconds.
        packets: that one answer has at most.
        settle_s: for so long what somebody lacks may still be on its way there.
        back_s: shortest and longest time between two questions back; each that brought nothing
            doubles it.
    """

    kept: KeptPolicy = field(default_factory=KeptPolicy)
    doubts: DoubtPolicy = field(default_factory=DoubtPolicy)
    first_s: float = 0.5
    busy_s: float = 5.0
    ours_s: float = 10.0
    idle_s: float = 15.0
    prekeys_s: float = 60.0
    lately_s: float = 6.0
    asked_s: float = 30.0
    answers: int = 8
    short_answers: int = 90
    window_s: float = 30.0
    packets: int = 64
    settle_s: float = 0.1
    back_s: tuple[float, float] = (0.3, 16.0)


class Window:
    """So many times within so many seconds."""

    __slots__ = ("_most", "_seconds", "_times")

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._times: deque[float] = deque()

    def take(self, now: float) -> bool:
        """Take one; False if there was none left."""
        while self._times and self._times[0] + self._seconds <= now:
            self._times.popleft()
        if len(self._times) >= self._most:
            return False
        self._times.append(now)
        return True

    @property
    def next_at(self) -> float:
        """When one is left again, if none is."""
        return self._times[0] + self._seconds


@dataclass(frozen=True, slots=True)
class Back:
    """What a neighbour has lately and this node lacked then: places in a range of its set."""

    at: float
    since_ms: int
    m: int
    lacking: frozenset[int]


@dataclass(slots=True)
class Neighbour:
    """What is known of one link."""

    next_at: float
    asks: Window
    answers: Window
    short_answers: Window
    back_gap: float
    prekeys_at: float
    asked_at: float | None = None
    back: Back | None = None
    backed_at: float = float("-inf")
