"""Frames on their way out: for each link in turn by where they came from, and again if lost.

What this node says itself and what each of its links brought takes turns, so that a neighbour who
brings much keeps nobody else's words back; of what came from one place the urgent goes first.

A radio takes one frame after another and says of some that they did not get out. Such a frame is
sent again after a pause, a bounded number of times. What goes in one stream, such as the pieces of
a file, leaves a gap between frames, so that text passes it.
"""

from __future__ import annotations

import enum
import heapq
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from fog_compute.p2p.bitchat.events import Link, SendFrame

__all__ = ["Frames", "FramesPolicy", "Lost", "Urgency"]

AboutT = TypeVar("AboutT")


class Urgency(enum.IntEnum):
    """Who goes first on a link."""

    SESSION = 0
    """Handshakes and answers that somebody waits for."""
    TEXT = 1
    """Messages."""
    ANNOUNCE = 2
    """Who is there: it is said again soon, and in a crowd it is most of what is said."""
    BULK = 3
    """Pieces of something long, and answers to gossip."""


@dataclass(frozen=True, slots=True)
class FramesPolicy:
    """All that can be chosen.

    Attributes:
        window: frames of a link with the radio at once.
        tries: how often a frame is sent at most.
        pause_s: seconds before the second try, doubled for each further one.
        gap_s: seconds between two frames of bulk on a link.
        waiting: frames from one place that may wait for a link; more are refused.
        answer_s: seconds after which a frame counts as lost whose sending was never answered.
    """

    window: int = 8
    tries: int = 5
    pause_s: float = 0.25
    gap_s: float = 0.010
    waiting: int = 512
    answer_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Lost(Generic[AboutT]):
    """A frame that was given up."""

    link: Link
    about: AboutT


@dataclass(slots=True)
class _Frame(Generic[AboutT]):
    urgency: Urgency
    number: int
    data: bytes
    about: AboutT
    source: Link | None
    tries: int = 0


@dataclass(slots=True)
class _Queue(Generic[AboutT]):
    """What waits for one link: ready frames by source, then urgency and age; later ones by time.

    ``ready`` has a source as long as something of it waits, those first whose turn is next;
    ``next_at`` is when time alone makes something due.
    """

    ready: OrderedDict[Link | None, list[tuple[int, int, _Frame[AboutT]]]] = field(
        default_factory=OrderedDict
    )
    later: list[tuple[float, int, _Frame[AboutT]]] = field(default_factory=list)
    out: dict[int, tuple[_Frame[AboutT], float]] = field(default_factory=dict)
    bulk_at: float = 0.0
    next_at: float = math.inf

    def push(self, frame: _Frame[AboutT]) -> None:
        """Let a frame wait for its turn among those of its source."""
        heap = self.ready.setdefault(frame.source, [])
        heapq.heappush(heap, (frame.urgency, frame.number, frame))

    def pop(self, now: float) -> _Frame[AboutT] | None:
        """The frame whose turn it is, if one may go."""
        for source, heap in self.ready.items():
            if heap[0][0] == Urgency.BULK and self.bulk_at > now:
                continue
            _, _, frame = heapq.heappop(heap)
            self.ready.move_to_end(source)
            if not heap:
                del self.ready[source]
            return frame
        return None


class Frames(Generic[AboutT]):
    """All frames that wait, for all links.

    Attributes:
        sent: frames handed to the radio, repetitions included.
        repeated: of those, repetitions.
        refused: frames for which there was no room.
        given_up: frames that were lost every time.
    """

    __slots__ = (
        "_look_at",
        "_number",
        "_policy",
        "_queues",
        "_touched",
        "_wanted",
        "given_up",
        "refused",
        "repeated",
        "sent",
    )

    def __init__(
        self, policy: FramesPolicy, wanted: Callable[[Link, AboutT], bool] | None = None
    ) -> None:
        """``wanted`` says before a repetition whether it still makes sense."""
        self._policy: Final = policy
        self._wanted = wanted
        self._queues: dict[Link, _Queue[AboutT]] = {}
        # Where something happened since the last turn, and when time alone makes something due.
        self._touched: dict[Link, _Queue[AboutT]] = {}
        self._look_at = math.inf
        self._number = 0
        self.sent = self.repeated = self.refused = self.given_up = 0

    def up(self, link: Link) -> None:
        """A link can carry frames."""
        self._queues[link] = _Queue()

    def down(self, link: Link) -> list[Lost[AboutT]]:
        """A link is over, and what waited for it is lost."""
        queue = self._queues.pop(link, None)
        self._touched.pop(link, None)
        if queue is None:
            return []
        self._look()
        left = [frame for heap in queue.ready.values() for _, _, frame in heap]
        left += [frame for _, _, frame in queue.later]
        left += [frame for frame, _ in queue.out.values()]
        return [Lost(link, frame.about) for frame in left]

    def waiting(self, link: Link) -> int:
        """How many of this node's own frames wait for a link."""
        queue = self._queues.get(link)
        if queue is None:
            return 0
        later = sum(frame.source is None for _, _, frame in queue.later)
        return len(queue.ready.get(None, ())) + later

    def held(self, link: Link) -> list[bytes]:
        """What waits for a link, or is with the radio of which it said nothing yet."""
        queue = self._queues.get(link)
        if queue is None:
            return []
        waiting = [frame.data for heap in queue.ready.values() for _, _, frame in heap]
        later = [frame.data for _, _, frame in queue.later]
        return waiting + later + [frame.data for frame, _ in queue.out.values()]

    def put(
        self,
        link: Link,
        data: bytes,
        urgency: Urgency,
        about: AboutT,
        source: Link | None = None,
    ) -> bool:
        """Let a frame wait for its turn; False if there is no room or no such link.

        Args:
            link: over which it is to go.
            data: the frame.
            urgency: its order among those of its source.
            about: comes back if it is lost.
            source: the link that brought what is in it; ``None`` if it is this node's own.
        """
        queue = self._queues.get(link)
        if queue is None or len(queue.ready.get(source, ())) >= self._policy.waiting:
            self.refused += 1
            return False
        self._number += 1
        queue.push(_Frame(urgency, self._number, data, about, source))
        self._touched[link] = queue
        return True

    def answered(self, link: Link, token: int, ok: bool, now: float) -> list[Lost[AboutT]]:
        """What became of a frame; one that was lost goes again, or is given up."""
        queue = self._queues.get(link)
        taken = None if queue is None else queue.out.pop(token, None)
        if queue is None or taken is None:
            return []
        self._touched[link] = queue
        if ok:
            return []
        return self._again(link, queue, taken[0], now)

    def due(self, now: float) -> tuple[list[SendFrame], list[Lost[AboutT]]]:
        """What goes to the radio now, and what was given up."""
        frames: list[SendFrame] = []
        lost: list[Lost[AboutT]] = []
        queues = self._queues if self._look_at <= now else self._touched
        if not queues:
            return frames, lost
        for link, queue in queues.items():
            if queue.out:
                for token, (frame, at) in list(queue.out.items()):
                    if at + self._policy.answer_s > now:
                        break
                    del queue.out[token]
                    lost += self._again(link, queue, frame, now)
            while queue.later and queue.later[0][0] <= now:
                _, _, frame = heapq.heappop(queue.later)
                queue.push(frame)
            if queue.ready:
                frames += self._take(link, queue, now)
            queue.next_at = self._next_at(queue)
        self._touched.clear()
        self._look()
        return frames, lost

    @property
    def next_due(self) -> float | None:
        """When :meth:`due` has something without anything else happening."""
        if self._touched:
            for queue in self._touched.values():
                queue.next_at = self._next_at(queue)
            self._look()
        return None if self._look_at == math.inf else self._look_at

    def _look(self) -> None:
        self._look_at = min((queue.next_at for queue in self._queues.values()), default=math.inf)

    def _next_at(self, queue: _Queue[AboutT]) -> float:
        """When time alone makes something of a link due; infinity if it does not."""
        at = queue.later[0][0] if queue.later else math.inf
        if queue.out:
            at = min(at, next(iter(queue.out.values()))[1] + self._policy.answer_s)
        if queue.ready and len(queue.out) < self._policy.window:
            at = min(at, queue.bulk_at)
        return at

    def _take(self, link: Link, queue: _Queue[AboutT], now: float) -> list[SendFrame]:
        taken: list[SendFrame] = []
        while len(queue.out) < self._policy.window and (frame := queue.pop(now)) is not None:
            if frame.tries:
                if self._wanted is not None and not self._wanted(link, frame.about):
                    continue
                self.repeated += 1
            if frame.urgency == Urgency.BULK:
                queue.bulk_at = now + self._policy.gap_s
            frame.tries += 1
            self.sent += 1
            self._number += 1
            queue.out[self._number] = (frame, now)
            taken.append(SendFrame(link, frame.data, self._number))
        return taken

    def _again(
        self, link: Link, queue: _Queue[AboutT], frame: _Frame[AboutT], now: float
    ) -> list[Lost[AboutT]]:
        if frame.tries >= self._policy.tries:
            self.given_up += 1
            return [Lost(link, frame.about)]
        at = now + self._policy.pause_s * 2 ** (frame.tries - 1)
        heapq.heappush(queue.later, (at, frame.number, frame))
        return []
