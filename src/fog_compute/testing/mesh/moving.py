"""Nodes that walk: each to a place that it draws, and on to the next."""

from __future__ import annotations

import math
from functools import partial
from random import Random

from fog_compute.testing.mesh.air import Air
from fog_compute.testing.mesh.topologies import Place, RangeModel, Topology

__all__ = ["Walk"]


class Walk:
    """Lets the nodes of an air walk, and makes and ends their links as they go.

    Attributes:
        changes: links made and ended so far.
    """

    def __init__(
        self,
        air: Air,
        topology: Topology,
        seed: int,
        *,
        metres_s: float = 1.4,
        every_s: float = 1.0,
        model: RangeModel | None = None,
    ) -> None:
        """Begin at the places of a topology; links are looked at every so many seconds."""
        self.changes = 0
        self._air = air
        self._seed = seed
        self._rng = Random(seed)
        self._places: list[Place] = list(topology.places)
        self._side = max(max(place) for place in self._places)
        self._goals = [self._draw() for _ in self._places]
        self._step = metres_s * every_s
        self._every_s = every_s
        self._model = model or RangeModel()

    def begin(self) -> None:
        """Take the first step, and all that follow."""
        self._air.later(self._air.now + self._every_s, partial(self._walk))

    def _walk(self) -> None:
        for number, (place, goal) in enumerate(zip(self._places, self._goals, strict=True)):
            left = math.dist(place, goal)
            if left <= self._step:
                self._places[number], self._goals[number] = goal, self._draw()
            else:
                share = self._step / left
                self._places[number] = (
                    place[0] + share * (goal[0] - place[0]),
                    place[1] + share * (goal[1] - place[1]),
                )
        before = self._air.links
        links = self._model.links_among(self._places, self._seed, before)
        self.changes += len(before ^ links)
        self._air.lay(links)
        self.begin()

    def _draw(self) -> Place:
        return (self._rng.uniform(0, self._side), self._rng.uniform(0, self._side))
