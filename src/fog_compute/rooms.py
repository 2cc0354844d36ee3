"""What those are called to whom something is said, where it is neither a person nor a group."""

from __future__ import annotations

from typing import Final

__all__ = ["ALL_NEAR", "NEAR"]

NEAR: Final = "near"
"""What the room of all who are near by Bluetooth is called."""

ALL_NEAR: Final = "*"
"""The recipient of what goes to them."""
