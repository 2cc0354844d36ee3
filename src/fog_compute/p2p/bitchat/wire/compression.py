"""Compression of payloads: raw DEFLATE, and never more out than was said.

The signature of a packet covers the compressed payload, so whether one is compressed is a rule of
the format: at least 100 bytes, fewer than nine different values among ten (counted against the
first 256 at most), and a result that is shorter.

What Apple calls ``COMPRESSION_ZLIB`` has no zlib header; some programs send one, and both are read.

Source: ``BitFoundation/CompressionUtil.swift`` of the app.
"""

from __future__ import annotations

import zlib
from typing import Final

from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason

__all__ = ["MOST", "compress", "decompress"]

THRESHOLD: Final = 100
LEVEL: Final = 6
RAW: Final = -15
WRAPPED: Final = 15
MOST: Final = 1_032
"""Bytes that DEFLATE makes of one at most: 258 out of two bits. The app allows 50,000."""


def compress(payload: bytes) -> bytes | None:
    """The payload as raw DEFLATE, or nothing where the rule says that it travels as it is."""
    size = len(payload)
    if size < THRESHOLD or 10 * len(set(payload)) >= 9 * min(size, 256):
        return None
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, RAW)
    packed = deflate.compress(payload) + deflate.flush()
    return packed if len(packed) < size else None


def decompress(packed: bytes, size: int) -> bytes:
    """What was compressed, of which there are exactly as many bytes as was said.

    Args:
        packed: raw DEFLATE, or that within zlib's header and checksum.
        size: how many bytes it gives; the caller has bounded it.

    Raises:
        Malformed: it is neither, ends early, goes on behind its end, or gives another number of
            bytes. No more than one byte above ``size`` is ever made.
    """
    if size <= 0 or size > MOST * len(packed):
        raise Malformed(Reason.COMPRESSION, "a compressed payload claims an impossible size")
    for window in (RAW, WRAPPED):
        inflate = zlib.decompressobj(window)
        try:
            payload = inflate.decompress(packed, size + 1)
        except zlib.error:
            continue
        if len(payload) == size and inflate.eof and not inflate.unused_data:
            return payload
    raise Malformed(Reason.COMPRESSION, "a compressed payload is not DEFLATE of the size it claims")
