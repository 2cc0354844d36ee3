"""HTX: messages between people over the mixnet."""

from __future__ import annotations
