"""The four privacy levels and the path length of each."""

from __future__ import annotations

import enum

__all__ = ["PrivacyLevel"]


class PrivacyLevel(enum.StrEnum):
    """How well a task or message is kept apart from the one who sent it."""

    PUBLIC = "public"
    """One hop, the recipient's edge alone: encrypted, and not anonymous."""
    PRIVATE = "private"
    """Three hops; the default."""
    CONFIDENTIAL = "confidential"
    """Five hops."""
    SECRET = "secret"  # noqa: S105  # a level, not a password
    """Seven hops; nothing that links two tasks, such as a warm cache, is used on purpose."""

    @property
    def hops(self) -> int:
        """Mix nodes on each path of this level, edges included."""
        return _HOPS[self]

    @classmethod
    def of_hops(cls, hops: int) -> PrivacyLevel:
        """The level with paths of ``hops`` nodes.

        Raises:
            ValueError: there is none.
        """
        for level, length in _HOPS.items():
            if length == hops:
                return level
        raise ValueError(f"no privacy level has {hops} hops")


_HOPS: dict[PrivacyLevel, int] = {
    PrivacyLevel.PUBLIC: 1,
    PrivacyLevel.PRIVATE: 3,
    PrivacyLevel.CONFIDENTIAL: 5,
    PrivacyLevel.SECRET: 7,
}
