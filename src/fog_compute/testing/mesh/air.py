"""Links in memory on a clock of their own: what nodes of a simulated mesh send arrives, or not.

Events happen in the order of their times, and of two at one time in the order in which they were
made; with the same seed, the same happens again. Nothing waits for a real clock.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from fog_compute.p2p.bitchat.events import (
    Disconnect,
    FrameReceived,
    FrameSent,
    Link,
    LinkDown,
    LinkUp,
    SendFrame,
    Wake,
    WakeAt,
)

__all__ = ["Air", "AirModel", "Node"]


class Node(Protocol):
    """An engine: takes events, gives actions."""

    def handle(self, event: Any, now: float, /) -> Sequence[object]:
        """What is to be done after ``event``."""
        ...


@dataclass(frozen=True, slots=True)
class AirModel:
    """How links behave.

    Attributes:
        interval_s: shortest and longest time until the next connection event, in seconds.
        jitter_s: what comes on top at most.
        loss: share of frames that do not arrive.
        told: share of those of which the sender hears.
        garbled: share of the frames that arrive with a bit changed.
        mtu: bytes of the longest frame.
    """

    interval_s: tuple[float, float] = (0.015, 0.030)
    jitter_s: float = 0.005
    loss: float = 0.0
    told: float = 1.0
    garbled: float = 0.0
    mtu: int = 512


@dataclass(slots=True)
class _End:
    """One side of a link."""

    node: int
    other: Link
    arrives: float = 0.0


class Air:
    """Nodes, links and what is under way between them.

    Attributes:
        now: the time, in seconds.
        frames: frames sent so far.
        bytes: their bytes, by the second byte of each: of a packet, its kind.
        lost: of those frames, how many did not arrive.
        happened: events given to nodes so far.
        actions: called with the number of a node and what it wants that concerns no link.
    """

    def __init__(self, model: AirModel, rng: Random, start: float = 0.0) -> None:
        """An air without nodes, at a time in seconds."""
        self.now = start
        self.frames = self.lost = self.happened = 0
        self.bytes: Counter[int] = Counter()
        self.actions: Callable[[int, object], None] = lambda _node, _action: None
        self._model = model
        self._rng = rng
        self._order = 0
        self._nodes: list[Node] = []
        self._wakes: list[float | None] = []
        self._ends: dict[Link, _End] = {}
        self._between: dict[tuple[int, int], tuple[Link, Link]] = {}
        self._queue: list[tuple[float, int, int, object]] = []

    def add(self, node: Node) -> int:
        """Let a node take part; its number."""
        self._nodes.append(node)
        self._wakes.append(None)
        return len(self._nodes) - 1

    def replace(self, number: int, node: Node) -> None:
        """Let another engine stand where one stood; links and what is under way stay."""
        self._nodes[number] = node

    @property
    def links(self) -> frozenset[tuple[int, int]]:
        """Pairs of nodes with a link."""
        return frozenset(self._between)

    def neighbours(self) -> list[list[int]]:
        """Of each node, those it has a link to now."""
        found: list[list[int]] = [[] for _ in self._nodes]
        for a, b in sorted(self._between):
            found[a].append(b)
            found[b].append(a)
        return found

    def link(self, a: int, b: int) -> Link:
        """The name that node ``a`` has for its link to ``b``."""
        ends = self._between[(min(a, b), max(a, b))]
        return ends[0] if a < b else ends[1]

    def connect(self, a: int, b: int) -> None:
        """Make a link, which the first of the two asked for."""
        one, other = len(self._ends) + 1, len(self._ends) + 2
        self._ends[one] = _End(a, other)
        self._ends[other] = _End(b, one)
        self._between[(min(a, b), max(a, b))] = (one, other) if a < b else (other, one)
        self.give(a, LinkUp(one, self._model.mtu, True))
        self.give(b, LinkUp(other, self._model.mtu, False))

    def cut(self, a: int, b: int) -> None:
        """End a link; what is under way on it is lost."""
        one, other = self._between.pop((min(a, b), max(a, b)))
        for link in (one, other):
            # Numbers are never used again, so the entry stays and says that it is over.
            end = self._ends[link]
            node, end.node = end.node, -1
            self.give(node, LinkDown(link))

    def lay(self, links: frozenset[tuple[int, int]]) -> None:
        """Make and end links until they are these."""
        for pair in sorted(self.links - links):
            self.cut(*pair)
        for pair in sorted(links - self.links):
            self.connect(*pair)

    def give(self, node: int, event: object) -> None:
        """Let something happen at a node now."""
        self.happened += 1
        for action in self._nodes[node].handle(event, self.now):
            self._do(node, action)

    def later(self, at: float, call: Callable[[], None]) -> None:
        """Call something at a time."""
        self._push(at, -1, call)

    def run(self, until: float) -> None:
        """Let time pass up to ``until``."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, node, event = heapq.heappop(queue)
            if node < 0:
                if callable(event):
                    event()
            elif isinstance(event, Wake):
                if self._wakes[node] == self.now:
                    self._wakes[node] = None
                    self.give(node, event)
            elif self._concerns(node, event):
                self.give(node, event)
        self.now = until

    def _do(self, node: int, action: object) -> None:
        match action:
            case SendFrame(link, data, token):
                self._send(node, link, data, token)
            case WakeAt(at):
                if self._wakes[node] != at:
                    self._wakes[node] = at = max(at, self.now)
                    self._push(at, node, Wake())
            case Disconnect(link, _):
                end = self._ends[link]
                if end.node >= 0:
                    self.cut(end.node, self._ends[end.other].node)
            case _:
                self.actions(node, action)

    def _concerns(self, node: int, event: object) -> bool:
        """Whether the link of what was under way is still there."""
        return isinstance(event, FrameReceived | FrameSent) and self._ends[event.link].node == node

    def _send(self, node: int, link: Link, data: bytes, token: int) -> None:
        end = self._ends[link]
        if end.node != node:
            return
        self.frames += 1
        self.bytes[int.from_bytes(data[1:2])] += len(data)
        rng, model = self._rng, self._model
        delay = rng.uniform(*model.interval_s) + rng.uniform(0, model.jitter_s)
        # Frames of a link arrive in their order.
        end.arrives = at = max(end.arrives, self.now + delay)
        told = False
        if model.loss and rng.random() < model.loss:
            self.lost += 1
            told = rng.random() < model.told
        else:
            if model.garbled and rng.random() < model.garbled:
                data = self._garbled(data)
            self._push(at, self._ends[end.other].node, FrameReceived(end.other, data))
        self._push(at, node, FrameSent(link, token, not told))

    def _garbled(self, data: bytes) -> bytes:
        changed = bytearray(data)
        changed[self._rng.randrange(len(changed))] ^= 1 << self._rng.randrange(8)
        return bytes(changed)

    def _push(self, at: float, node: int, event: object) -> None:
        self._order += 1
        heapq.heappush(self._queue, (at, self._order, node, event))
