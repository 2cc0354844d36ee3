"""Padding to the next bucket, as in PKCS#7: each byte that is added tells how many there are.

A packet is padded to the smallest of 256, 512, 1024 and 2048 bytes that holds it and 16 bytes
more. Where this takes more than 255 bytes it is not padded at all, because the number has to fit
one byte: 257 to 496 bytes become 512, and 497 to 768 stay as they are.

Source: ``BitFoundation/MessagePadding.swift`` of the app.
"""

from __future__ import annotations

from typing import Final

__all__ = ["BUCKETS", "pad", "unpad"]

BUCKETS: Final = (256, 512, 1024, 2048)
OVERHEAD: Final = 16
"""Room that the app leaves for an authentication code, whatever is padded."""


def pad(data: bytes) -> bytes:
    """The bytes, and as many more as bring them to their bucket, or none."""
    size = len(data)
    for bucket in BUCKETS:
        if size + OVERHEAD <= bucket:
            missing = bucket - size
            return data + bytes([missing]) * missing if missing <= 255 else data
    return data


def unpad(data: bytes) -> bytes:
    """The bytes without their padding, or as they are where they have none."""
    if not data:
        return data
    count = data[-1]
    if not 0 < count <= len(data) or data[-count:] != bytes([count]) * count:
        return data
    return data[:-count]
