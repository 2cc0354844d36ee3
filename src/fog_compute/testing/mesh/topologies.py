"""Where nodes stand and who hears whom: the range model of the simulated mesh.

A link is possible where its margin is not below zero: ``10 · n · log10(range / distance)``
decibels, and some luck that is drawn once for each pair, as walls would have it. Of the possible
links a node keeps a few, in an order that is drawn, too: radios do not choose the best.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Final, TypeAlias

__all__ = [
    "RangeModel",
    "Topology",
    "chain",
    "grid",
    "hops_from",
    "line",
    "scattered",
]

Place: TypeAlias = tuple[float, float]
Pair: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class RangeModel:
    """How far radio goes.

    Attributes:
        range_m: metres at which the margin is zero without luck.
        exponent: of the path loss; 2 in free space, 2.7 among buildings.
        sigma_db: standard deviation of the luck of a pair, in decibels.
        links: how many links a node keeps at most.
    """

    range_m: float = 80.0
    exponent: float = 2.7
    sigma_db: float = 4.0
    links: int = 8

    def margin(self, distance_m: float, luck_db: float) -> float:
        """Decibels to spare at a distance."""
        if distance_m <= 0:
            return math.inf
        return 10 * self.exponent * math.log10(self.range_m / distance_m) + luck_db

    def luck(self, pair: Pair, seed: int) -> float:
        """What walls do to a pair, in decibels; the same whenever it is asked."""
        return _drawn(pair, seed) * self.sigma_db

    def links_among(
        self, places: Sequence[Place], seed: int, kept: frozenset[Pair] = frozenset()
    ) -> frozenset[Pair]:
        """The links of nodes at these places; ``kept`` ones stay as long as they can."""
        possible = [
            (a, b)
            for a, one in enumerate(places)
            for b, other in enumerate(places[a + 1 :], a + 1)
            if self._in_reach(one, other, (a, b), seed)
        ]
        Random(seed).shuffle(possible)
        possible.sort(key=lambda pair: pair not in kept)
        degree = [0] * len(places)
        links = set()
        for a, b in possible:
            if degree[a] < self.links and degree[b] < self.links:
                degree[a] += 1
                degree[b] += 1
                links.add((a, b))
        return frozenset(links)

    def _in_reach(self, one: Place, other: Place, pair: Pair, seed: int) -> bool:
        distance = math.dist(one, other)
        if distance > self.range_m * 4:
            return False  # no luck of four standard deviations helps
        luck = self.luck(pair, seed) if self.sigma_db else 0.0
        return self.margin(distance, luck) >= 0


@dataclass(frozen=True, slots=True)
class Topology:
    """Nodes and the links between them.

    Attributes:
        name: how figures call it.
        places: where each node stands, in metres.
        links: pairs of nodes, the lower number first.
    """

    name: str
    places: tuple[Place, ...]
    links: frozenset[Pair]

    @property
    def degree(self) -> float:
        """Links of a node, on average."""
        return 2 * len(self.links) / len(self.places)

    def neighbours(self) -> list[list[int]]:
        """Of each node, those it has a link to."""
        found: list[list[int]] = [[] for _ in self.places]
        for a, b in sorted(self.links):
            found[a].append(b)
            found[b].append(a)
        return found


@lru_cache(maxsize=200_000)
def _drawn(pair: Pair, seed: int) -> float:
    return Random(f"{seed}/{pair[0]}/{pair[1]}").gauss(0.0, 1.0)


def line(nodes: int, length_m: float) -> Topology:
    """Nodes in a row at equal distances, without luck; 8 on 500 m are 7 hops."""
    step = length_m / (nodes - 1)
    places = tuple((step * number, 0.0) for number in range(nodes))
    model = RangeModel(sigma_db=0.0)
    return Topology(f"line {nodes}", places, model.links_among(places, 0))


def chain(nodes: int) -> Topology:
    """Nodes in a row that hear their neighbours alone."""
    places = tuple((float(number), 0.0) for number in range(nodes))
    links = frozenset((number, number + 1) for number in range(nodes - 1))
    return Topology(f"chain {nodes}", places, links)


def grid(side: int, step_m: float = 60.0) -> Topology:
    """A square of nodes that hear those beside, above and below them."""
    places = tuple((step_m * x, step_m * y) for y in range(side) for x in range(side))
    model = RangeModel(range_m=step_m * 1.2, sigma_db=0.0)
    return Topology(f"grid {side}×{side}", places, model.links_among(places, 0))


def scattered(nodes: int, degree: float, seed: int, model: RangeModel | None = None) -> Topology:
    """Nodes at random places of a square that is so large that each hears about ``degree``."""
    model = model or RangeModel()
    side = _side(nodes, degree, model)
    rng = Random(seed)
    places = tuple((rng.uniform(0, side), rng.uniform(0, side)) for _ in range(nodes))
    return Topology(f"random {nodes}", places, model.links_among(places, seed))


def _side(nodes: int, degree: float, model: RangeModel) -> float:
    """Metres: what is cut off at the border counts, and luck lets more hear each other."""
    gain = math.exp(2 * (model.sigma_db * math.log(10) / (10 * model.exponent)) ** 2)
    reach = model.range_m * math.sqrt(gain)
    low, high = 2 * reach, 100 * reach * math.sqrt(nodes)
    for _ in range(60):
        side = (low + high) / 2
        near = math.pi * (reach / side) ** 2 - 8 / 3 * (reach / side) ** 3
        low, high = (side, high) if (nodes - 1) * near > degree else (low, side)
    return low


def hops_from(neighbours: Sequence[Sequence[int]], start: int) -> list[int | None]:
    """How many hops each node is away; None where there is no way."""
    hops: list[int | None] = [None] * len(neighbours)
    hops[start] = 0
    queue = deque([(start, 0)])
    while queue:
        node, distance = queue.popleft()
        for other in neighbours[node]:
            if hops[other] is None:
                hops[other] = distance + 1
                queue.append((other, distance + 1))
    return hops


LINE_500_M: Final = line(8, 500.0)
