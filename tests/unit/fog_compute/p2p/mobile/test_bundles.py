"""What two bridges say to each other, as bytes."""

from __future__ import annotations

import contextlib
import random

import pytest

from fog_compute.p2p.mobile.bundles import (
    LONGEST_PACKET,
    MAX_BUNDLE,
    MAX_PACKETS,
    Bundle,
    BundleInvalid,
    Saying,
    room_for,
)


def test_a_bundle_has_these_bytes_and_comes_back_from_them() -> None:
    assert Bundle(Saying.HELLO).encode().hex() == "0101"
    whole = Bundle(Saying.PACKETS, (b"ab", b"c"))
    assert whole.encode().hex() == "010300026162000163"
    for saying in (Saying.HELLO, Saying.HEARD, Saying.BYE):
        assert Bundle.decode(Bundle(saying).encode()) == Bundle(saying)
    assert Bundle.decode(whole.encode()) == whole


def test_what_is_cut_off_or_out_of_bounds_is_refused_whole() -> None:
    packets = (b"a", b"b" * LONGEST_PACKET, b"c" * 300)
    whole = Bundle(Saying.PACKETS, packets).encode()
    between = {5, 5 + 2 + LONGEST_PACKET}
    for length in range(len(whole)):
        if length not in between:
            with pytest.raises(BundleInvalid):
                Bundle.decode(whole[:length])
    for bad in (
        b"\x02\x01",
        b"\x01\x05",
        b"\x01\x01\x00\x01a",
        b"\x01\x03",
        b"\x01\x03\x00\x00",
        b"\x01\x03" + bytes(MAX_BUNDLE),
        b"\x01\x03" + b"\x00\x01a" * (MAX_PACKETS + 1),
        b"\x01\x03" + (LONGEST_PACKET + 1).to_bytes(2) + bytes(LONGEST_PACKET + 1),
    ):
        with pytest.raises(BundleInvalid):
            Bundle.decode(bad)


def test_no_bytes_are_any_other_fault() -> None:
    rng = random.Random(1)
    for _ in range(3000):
        data = bytes((1, rng.randrange(6))) + rng.randbytes(rng.randrange(60))
        with contextlib.suppress(BundleInvalid):
            assert Bundle.decode(data).encode() == data


def test_as_many_packets_go_into_a_bundle_as_it_may_have() -> None:
    assert room_for([10] * 200) == MAX_PACKETS
    assert room_for([]) == 0
    lengths = [4000] * 9
    count = room_for(lengths)
    assert 0 < count < 9
    Bundle.decode(Bundle(Saying.PACKETS, tuple(bytes(one) for one in lengths[:count])).encode())
    with pytest.raises(BundleInvalid):
        Bundle.decode(
            Bundle(Saying.PACKETS, tuple(bytes(one) for one in lengths[: count + 1])).encode()
        )
