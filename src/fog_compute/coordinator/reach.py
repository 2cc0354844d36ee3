"""The requester's own trouble: while it lasts, nobody else's silence means anything."""

from __future__ import annotations

from typing import Final, TypeAlias

from fog_compute.errors import ChannelDown, ConfigError, ServiceUnavailable, StoreError
from fog_compute.levels import PrivacyLevel

__all__ = ["NO_NETWORK", "NetworkTrouble", "Reach"]

NetworkTrouble: TypeAlias = ChannelDown | ServiceUnavailable | ConfigError
NO_NETWORK: Final = (ChannelDown, ServiceUnavailable, ConfigError)
"""Errors that say that this side cannot use the network, whoever was to be asked over it.

Too few nodes for a path are none of them: the edges of one worker may be what is missing.
"""


class Reach:
    """What this side cannot reach now, and why: the network, by level, and the store."""

    __slots__ = ("_chores", "_levels", "_silent", "_store")

    def __init__(self) -> None:
        """Begin without trouble."""
        self._levels: Final[dict[PrivacyLevel, str]] = {}
        self._silent: Final[set[PrivacyLevel]] = set()
        self._store = ""
        self._chores: Final[dict[str, str]] = {}

    def away(self, level: PrivacyLevel) -> bool:
        """Whether the network is away at a level; each has a client of its own."""
        return level in self._levels

    def deaf(self, level: PrivacyLevel) -> bool:
        """Whether an answer at this level could not be heard, or not be kept."""
        return bool(self._store) or level in self._levels

    @property
    def store_away(self) -> bool:
        """Whether the store refused the last write."""
        return bool(self._store)

    def silent(self, level: PrivacyLevel) -> bool:
        """Whether the network is away at a level without saying so: it takes nothing."""
        return level in self._silent

    def lost(self, level: PrivacyLevel, error: NetworkTrouble, *, silent: bool = False) -> bool:
        """The network cannot be used at a level; return whether that is new.

        It says so itself, or is ``silent``: it takes messages and stores none of them.
        """
        new = level not in self._levels
        self._levels[level] = str(error)
        if silent:
            self._silent.add(level)
        else:
            self._silent.discard(level)
        return new

    def found(self, level: PrivacyLevel) -> bool:
        """The network carried something at a level; return whether that is new."""
        self._silent.discard(level)
        return self._levels.pop(level, None) is not None

    def store_lost(self, error: StoreError) -> bool:
        """The store refused a write; return whether that is new."""
        new = not self._store
        self._store = str(error)
        return new

    def store_found(self) -> bool:
        """The store took a write; return whether that is new."""
        was, self._store = self._store, ""
        return bool(was)

    def note_chore(self, chore: str, trouble: str) -> bool:
        """Keep what is wrong with a chore that keeps no task waiting; return whether it is new."""
        if not trouble:
            self._chores.pop(chore, None)
            return False
        new = self._chores.get(chore) != trouble
        self._chores[chore] = trouble
        return new

    def trouble(self, level: PrivacyLevel | None = None) -> str:
        """What is wrong now, for tasks of a level or for all, in one line; empty if nothing is."""
        reasons = [self._store] if self._store else []
        reasons += [text for at, text in self._levels.items() if level in (None, at)]
        if level is None:
            reasons += self._chores.values()
        return "; ".join(dict.fromkeys(reasons))
