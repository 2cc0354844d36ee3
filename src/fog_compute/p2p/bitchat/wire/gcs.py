"""A Golomb-coded set: which packets somebody has, in a few bytes, sometimes wrong in one way.

A packet's id is hashed (SHA-256, the first 8 bytes, 63 bits of them) and taken modulo M, where 0
counts as 1. M is the number of ids times 2^P. The numbers are sorted, and the differences between
them, each less one, are written as Golomb-Rice codes with parameter P: the quotient by 2^P as ones
and a zero, then the remainder in P bits; most significant bit first, the last byte filled up with
zeros. Something that is not in the set is taken for a member once in 2^P times.

Source: ``Sync/GCSFilter.swift`` of the app.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from math import ceil, log2
from typing import Final

import msgspec

from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason

__all__ = [
    "MAX_FILTER",
    "MAX_P",
    "Filter",
    "Members",
    "build",
    "build_hashed",
    "hashed",
    "place",
]

MAX_P: Final = 32
MAX_FILTER: Final = 1024
"""Bytes of a filter that is read; we make ones of up to 400."""
MAX_M: Final = (1 << 32) - 1


class Filter(msgspec.Struct, frozen=True):
    """A set, as it travels.

    Attributes:
        p: the Golomb-Rice parameter, 1 to 32.
        m: the hashes' range, 1 to 2^32 - 1.
        data: the codes.
    """

    p: int
    m: int
    data: bytes

    def __post_init__(self) -> None:
        if not (1 <= self.p <= MAX_P and 1 <= self.m <= MAX_M):
            raise Malformed(Reason.FIELD, f"a filter has a parameter of 1 to {MAX_P} and a range")
        if len(self.data) > MAX_FILTER:
            raise Malformed(Reason.TOO_LONG, f"a filter has up to {MAX_FILTER} bytes")

    def members(self) -> Members:
        """Take it apart: 4,096 numbers at most; what is no code ends it."""
        values: set[int] = set()
        if self.m > 1:
            bits = bin(int.from_bytes(b"\1" + self.data, "big"))[3:]
            at, value = 0, 0
            while (zero := bits.find("0", at)) >= 0 and zero + self.p < len(bits):
                end = zero + 1 + self.p
                value += (zero - at << self.p) + int(bits[zero + 1 : end], 2) + 1
                if value >= self.m:
                    break
                values.add(value)
                at = end
        return Members(self.m, frozenset(values))


class Members(msgspec.Struct, frozen=True):
    """A set that can be asked.

    Attributes:
        m: the hashes' range.
        values: what is in it.
    """

    m: int
    values: frozenset[int]

    def __contains__(self, packet_id: bytes) -> bool:
        return self.holds(hashed(packet_id))

    def holds(self, hashed_id: int) -> bool:
        """Whether the packet is in it that has this hash of its id."""
        return place(hashed_id, self.m) in self.values

    def __len__(self) -> int:
        return len(self.values)


def build(
    ids: Iterable[bytes], *, size: int = 400, false_positives: float = 0.01
) -> tuple[Filter, int]:
    """Make the set of the first packets, of as many as fit: see :func:`build_hashed`.

    Args:
        ids: ids of packets, those first that matter most.
        size: bytes that the set may have.
        false_positives: how often something else may be taken for a member, 10^-6 to 0.25.

    Returns:
        The set, and how many of the ids are in it.
    """
    return build_hashed([hashed(one) for one in ids], size=size, false_positives=false_positives)


def build_hashed(
    hashes: Sequence[int], *, size: int = 400, false_positives: float = 0.01
) -> tuple[Filter, int]:
    """The same of hashes of ids (:func:`hashed`), for whoever has them at hand."""
    p = max(1, ceil(log2(1 / min(max(false_positives, 1e-6), 0.25))))
    count = min(len(hashes), max(1, 8 * size // (p + 2)))
    m = max(1, min(count << p, MAX_M))
    data = b""
    while count:
        data = _codes(sorted({place(one, m) for one in hashes[:count]}), p)
        if len(data) <= size:
            break
        data, count = b"", count * 9 // 10
    return Filter(p, m, data), count


def hashed(packet_id: bytes) -> int:
    """The hash of a packet's id, 63 bits."""
    return int.from_bytes(hashlib.sha256(packet_id).digest()[:8], "big") & (1 << 63) - 1


def place(hashed_id: int, m: int) -> int:
    """Where a hash falls in the range."""
    return hashed_id % m or 1


def _codes(values: Sequence[int], p: int) -> bytes:
    """Golomb-Rice codes of the differences between numbers that grow."""
    codes: list[str] = []
    former = 0
    for value in values:
        quotient, remainder = divmod(value - former - 1, 1 << p)
        codes.append("1" * quotient + "0" + format(remainder, f"0{p}b"))
        former = value
    bits = "".join(codes)
    size = (len(bits) + 7) // 8
    return int(bits.ljust(8 * size, "0") or "0", 2).to_bytes(size, "big")
