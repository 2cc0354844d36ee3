"""Ways through the mesh: which peers a packet for one of them should pass.

Announces tell neighbours. A link counts if both its ends tell of it, so that nobody draws traffic
by naming neighbours who do not know of him. The shortest way wins; what is on it is only a hint:
whoever on the way does not find the next peer passes the packet on to everybody.

Source: ``docs/SOURCE_ROUTING.md``, ``BLERouteForwardingPolicy.swift`` of the app.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import Final

__all__ = ["MOST_BETWEEN", "route"]

MOST_BETWEEN: Final = 4
"""Peers between the two ends, at most: longer ways break before they are used."""


def route(
    nearest: Collection[bytes], goal: bytes, neighbours: Mapping[bytes, Collection[bytes]]
) -> tuple[bytes, ...]:
    """The peers between this node and another, in their order; none if no way is known.

    Args:
        nearest: peers to whom this node has a link.
        goal: where the packet is to arrive.
        neighbours: of each peer that can be on the way or is its end, those that it tells of.
    """
    came_from: dict[bytes, bytes | None] = {one: None for one in nearest if one in neighbours}
    queue = deque((one, 1) for one in came_from)
    while queue:
        here, count = queue.popleft()
        for other in neighbours[here]:
            if other in came_from or here not in neighbours.get(other, ()):
                continue
            came_from[other] = here
            if other == goal:
                return _back(came_from, here)
            if count < MOST_BETWEEN:
                queue.append((other, count + 1))
    return ()


def _back(came_from: Mapping[bytes, bytes | None], last: bytes) -> tuple[bytes, ...]:
    way = [last]
    while (before := came_from[way[-1]]) is not None:
        way.append(before)
    return tuple(reversed(way))
