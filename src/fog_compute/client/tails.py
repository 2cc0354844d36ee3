"""The end of a text that grows, as it is told again and again."""

from __future__ import annotations

__all__ = ["grown"]


def grown(before: str, now: str) -> str:
    """Return what of ``now`` was not in ``before``; both are ends of one text that grows."""
    for length in range(min(len(before), len(now)), 0, -1):
        if before.endswith(now[:length]):
            return now[length:]
    return now
