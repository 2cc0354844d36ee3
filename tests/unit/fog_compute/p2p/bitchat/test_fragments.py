"""Fragments: whole again in any order, and bounded whatever strangers send."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.errors import ConfigError
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.fragments import Assembly, AssemblyPolicy, Fragment, cut
from fog_compute.p2p.bitchat.wire.kinds import BROADCAST, Kind
from fog_compute.p2p.bitchat.wire.packet import Packet, decode, packet
from tests.unit.fog_compute.p2p.bitchat.packets import SENDER, hello, some_packet

POLICY = AssemblyPolicy(
    life_s=9, longest_s=70, sets=12, link_sets=5, link_bytes=40_000, set_bytes=20_000,
    sender_sets=3, stalled_s=2, done=6,
)  # fmt: skip
LONG = hello(body=Random(1).randbytes(1_700))


def set_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def piece(
    number: int,
    *,
    sender: bytes = SENDER,
    index: int = 0,
    total: int = 2,
    size: int = 400,
    kind: Kind = Kind.FILE_TRANSFER,
) -> Packet:
    body = Fragment(set_id(number), index, total, kind, b"x" * size).encode()
    return packet(Kind.FRAGMENT, sender, 1, body, packed=False)


def name(number: int) -> bytes:
    return number.to_bytes(8, "little")


@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_fragments_in_any_order_make_the_packet(seed: int, shuffle: Random) -> None:
    # INV-BITCHAT-21
    whole = some_packet(Random(seed))
    if whole.kind == Kind.FRAGMENT:
        return
    parts = cut(whole, set_id(seed), frame=200)
    assembly = Assembly()

    order = [*parts, *parts]
    shuffle.shuffle(order)
    found = [one for part in order if (one := assembly.take(decode(part.wire), 1, 0.0))]

    assert found == [whole.with_ttl(0)]
    assert assembly.size == len(assembly) == 0


def test_fragments_are_like_their_packet_and_fit_a_frame() -> None:
    # INV-BITCHAT-21
    whole = hello(
        body=Random(2).randbytes(1_500), version=2, route=(b"a" * 8, b"b" * 8), recipient=b"c" * 8
    )
    for made, version in ((LONG, 1), (whole, 2)):
        parts = cut(made, set_id(1))
        assert len(parts) == 4
        assert max(len(one.wire) for one in parts) in range(480, 513)
        for one in parts:
            assert (one.version, one.route, one.ttl, one.timestamp) == (
                version, made.route, made.ttl, made.timestamp,
            )  # fmt: skip
            assert (one.sender, one.recipient, one.signature) == (SENDER, made.recipient, None)


@pytest.mark.parametrize(("frame", "piece"), [(None, 467), (512, 469), (182, 139)])
def test_pieces_for_one_recipient_fill_their_frames(frame: int | None, piece: int) -> None:
    whole = hello(body=Random(3).randbytes(1_000), recipient=BROADCAST)
    parts = cut(whole, set_id(1)) if frame is None else cut(whole, set_id(1), frame=frame)

    assert len(Fragment.decode(parts[0].payload).piece) == piece


def test_a_fragment_has_these_bytes() -> None:
    # INV-BITCHAT-21
    made = Fragment(b"setid..8", 1, 300, Kind.MESSAGE, b"piece")

    assert made.encode() == b"setid..8\0\1\x01\x2c\2piece"
    assert Fragment.decode(made.encode()) == made


def test_a_set_of_more_pieces_than_all_programs_take_is_refused_when_cut() -> None:
    # INV-BITCHAT-21
    large = hello(Kind.FILE_TRANSFER, Random(4).randbytes(130_000), version=2)

    with pytest.raises(Malformed):
        cut(large, set_id(1))

    parts = cut(large, set_id(1), pieces=10_000)
    assembly = Assembly()
    assert [assembly.take(one, 1, 0.0) for one in parts][-1] == large.with_ttl(0)


def test_the_largest_file_fits() -> None:
    large = hello(Kind.FILE_TRANSFER, Random(5).randbytes(1 << 20), version=2)
    assembly = Assembly()

    # 60 s of pieces at the app's pace: longer than a set may stand still, but it does not.
    found = None
    for number, one in enumerate(cut(large, set_id(1), pieces=10_000)):
        found = assembly.take(one, 1, number * 0.027)

    assert found == large.with_ttl(0)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (Fragment(b"12345678", 0, 1, 2, b"").encode(), Reason.TRUNCATED),
        (Fragment(b"12345678", 0, 0, 2, b"x").encode(), Reason.FIELD),
        (Fragment(b"12345678", 2, 2, 2, b"x").encode(), Reason.FIELD),
        (Fragment(b"12345678", 2, 10_001, 2, b"x").encode(), Reason.TOO_LONG),
        (Fragment(b"12345678", 0, 2, Kind.FRAGMENT, b"x").encode(), Reason.KIND),
    ],
)
def test_what_is_no_fragment_is_refused(payload: bytes, why: Reason) -> None:
    # INV-BITCHAT-04
    for size in range(len(payload)):
        with pytest.raises(Malformed):
            Fragment.decode(payload[: min(size, 13)])
    with pytest.raises(Malformed) as caught:
        Fragment.decode(payload)

    assert caught.value.reason is why


def test_the_first_piece_counts_and_others_must_fit_it() -> None:
    # INV-BITCHAT-22
    assembly = Assembly(POLICY)
    parts = cut(LONG, set_id(1))
    forged = msgspec.structs.replace(Fragment.decode(parts[0].payload), piece=b"!" * 9)

    for part in parts[:-1]:
        assert assembly.take(part, 1, 0.0) is None
    late = packet(Kind.FRAGMENT, SENDER, 1, forged.encode())
    assert assembly.take(late, 2, 0.0) is None
    other = msgspec.structs.replace(forged, index=3, total=9)
    with pytest.raises(Malformed):
        assembly.take(packet(Kind.FRAGMENT, SENDER, 1, other.encode()), 2, 0.0)

    assert assembly.take(parts[-1], 1, 0.0) == LONG.with_ttl(0)


def test_a_set_that_makes_no_packet_is_charged_only_to_a_link_that_brought_all_of_it() -> None:
    # INV-BITCHAT-22
    assembly = Assembly(POLICY)

    assembly.take(piece(1), 1, 0.0)
    assert assembly.take(piece(1, index=1), 2, 0.0) is None
    assembly.take(piece(2), 1, 0.0)
    with pytest.raises(Malformed):
        assembly.take(piece(2, index=1), 1, 0.0)

    assert assembly.dropped == {"spoiled": 2}
    assert assembly.size == len(assembly) == 0


def test_the_packet_inside_is_of_the_kind_and_sender_that_its_fragments_say() -> None:
    # INV-BITCHAT-22
    for changed in ({"kind": int(Kind.PING)}, {"sender": b"another."}):
        inner = LONG.wire
        part = Fragment(set_id(1), 0, 1, changed.get("kind", Kind.MESSAGE), inner)  # type: ignore[arg-type]
        sender = changed.get("sender", SENDER)
        with pytest.raises(Malformed):
            Assembly().take(
                packet(Kind.FRAGMENT, sender, 1, part.encode(), version=2),  # type: ignore[arg-type]
                1,
                0.0,
            )


def test_a_set_that_stands_still_is_forgotten() -> None:
    # INV-BITCHAT-23
    assembly = Assembly(POLICY)
    assembly.take(piece(1, total=3), 1, 0.0)
    assembly.take(piece(2, total=3), 1, 4.0)
    assembly.take(piece(1, total=3, index=1), 1, 8.0)
    assert assembly.next_due == 13.0

    assert assembly.stalled(13.5) == [set_id(1)]
    assert (len(assembly), assembly.dropped) == (1, {"expired": 1})
    assert assembly.stalled(17.5) == []
    assert assembly.next_due is None


def test_a_set_that_grows_slowly_ends_too() -> None:
    # INV-BITCHAT-23
    assembly = Assembly(POLICY)

    for index in range(20):
        assembly.take(piece(1, index=index, total=99), 1, index * 5.0)

    assert assembly.dropped["expired"] == 1
    assert assembly.size < 20 * 600


def test_a_flood_of_sets_crowds_out_none_of_another_link() -> None:
    # INV-BITCHAT-23
    assembly = Assembly(POLICY)
    parts = cut(LONG, set_id(1))
    assembly.take(parts[0], 1, 0.0)

    rng = Random(6)
    for number in range(1_000):
        assembly.take(piece(number, sender=name(rng.randrange(40)), size=9), 2, 0.0)
        assert len(assembly) <= 1 + POLICY.link_sets

    found = [assembly.take(one, 1, 0.1) for one in parts[1:]]
    assert found[-1] == LONG.with_ttl(0)


def test_a_flood_of_one_sender_crowds_out_none_of_another() -> None:
    # INV-BITCHAT-23
    assembly = Assembly(POLICY)
    parts = cut(LONG, set_id(1))
    assembly.take(parts[0], 1, 0.0)

    for number in range(100):
        assembly.take(piece(number, sender=b"flooding"), 1, 0.0)
        assert len(assembly) <= 1 + POLICY.sender_sets

    assert [assembly.take(one, 1, 0.1) for one in parts[1:]][-1] == LONG.with_ttl(0)


def test_many_links_together_have_a_bound_and_the_greedy_one_pays() -> None:
    # INV-BITCHAT-23
    assembly = Assembly(POLICY)

    for link in range(5):
        for number in range(5 if link == 0 else 3):
            assembly.take(piece(number, sender=name(100 * link + number)), link, 0.0)
    assert len(assembly) == POLICY.sets

    assert assembly.dropped == {"crowded": 5 + 4 * 3 - POLICY.sets}
    with pytest.raises(Malformed):  # what other links began is still there, and no packet
        assembly.take(piece(0, sender=name(400), index=1), 4, 0.0)


def until_refused(
    assembly: Assembly, size: int, kind: Kind = Kind.FILE_TRANSFER, pieces: int = 200
) -> Reason | None:
    """Why a set that goes on and on is refused."""
    for index in range(pieces):
        made = piece(1, index=index, total=9_000, size=size, kind=kind)
        try:
            assembly.take(made, 1, 0.0)
        except Malformed as malformed:
            return malformed.reason
        assert assembly.size <= POLICY.set_bytes
    return None


def test_bytes_are_bounded_by_set_and_by_link() -> None:
    # INV-BITCHAT-23
    assembly = Assembly(POLICY)

    assert until_refused(assembly, size=400) is Reason.TOO_LONG
    assert (len(assembly), assembly.dropped) == (0, {"large": 1})

    for index in range(30):
        for number in range(4):
            assembly.take(piece(number, sender=name(number), index=index, total=99), 1, 0.0)
            assert assembly.size <= POLICY.link_bytes
    assert assembly.dropped["crowded"] > 0


def test_what_is_no_file_has_less_room() -> None:
    # INV-BITCHAT-23
    assert until_refused(Assembly(POLICY), 400, Kind.MESSAGE, pieces=5) is Reason.TOO_LONG
    assert until_refused(Assembly(POLICY), 400, pieces=30) is None
    large = hello(body=Random(8).randbytes(65_535))
    assembly = Assembly()
    for part in cut(large, set_id(1), frame=100, pieces=10_000)[:-1]:
        assert assembly.take(part, 1, 0.0) is None


def test_tiny_pieces_cost_more_than_their_bytes() -> None:
    # INV-BITCHAT-23
    assert until_refused(Assembly(POLICY), size=1) is Reason.TOO_LONG


def test_late_pieces_of_a_whole_set_begin_none() -> None:
    assembly = Assembly(POLICY)
    for number in range(10):
        for part in cut(LONG, set_id(number)):
            assembly.take(part, 1, 0.0)

    assert assembly.take(cut(LONG, set_id(9))[0], 1, 1.0) is None
    assert len(assembly) == 0
    # Of ten whole sets the last six are remembered, for a while.
    assembly.take(cut(LONG, set_id(2))[0], 1, 1.0)
    assembly.take(cut(LONG, set_id(9))[0], 1, 20.0)
    assert len(assembly) == 1


def test_what_stalls_is_asked_for_again_after_a_while_and_only_if_it_is_for_everybody() -> None:
    assembly = Assembly(POLICY)
    assembly.take(piece(7), 1, 0.0)
    assembly.take(piece(7, sender=b"another."), 1, 0.0)
    assembly.take(piece(8, sender=b"a third."), 1, 1.0)
    directed = cut(hello(body=Random(7).randbytes(900), recipient=b"somebody"), set_id(3))[0]
    assembly.take(directed, 1, 0.0)

    assert assembly.stalled(1.0) == []
    assert assembly.stalled(3.0, most=2) == [set_id(7), set_id(7)]
    assert assembly.stalled(3.1) == [set_id(8)]
    assert assembly.stalled(4.0) == []
    assert assembly.stalled(5.2) == [set_id(7), set_id(7), set_id(8)]


def test_a_policy_has_room_for_a_set() -> None:
    with pytest.raises(ConfigError):
        AssemblyPolicy(link_bytes=5, set_bytes=6)
