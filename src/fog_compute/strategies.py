"""The strategies by which a worker is chosen; ``coordinator.placement`` carries them out."""

from __future__ import annotations

import enum

__all__ = ["Strategy"]


class Strategy(enum.StrEnum):
    """How the workers that can run a task are ranked."""

    LEAST_LOADED = "least_loaded"  # the one of two drawn at random that has more room
    ROUND_ROBIN = "round_robin"  # who was asked longest ago
    RANDOM = "random"
    AFFINITY = "affinity"  # who has the module; not at SECRET, where it would tie tasks together
    PROXIMITY = "proximity"  # who serves a group that is near
    PRIVACY_AWARE = "privacy_aware"  # evenly among all that fit well enough
