"""What a stranger with a radio can do to a node: little, to whoever he says he is."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable
from random import Random

import msgspec
import pytest

from fog_compute.p2p.bitchat.events import FrameReceived, FrameSent, SendFrame, Wake
from fog_compute.p2p.bitchat.mesh.engine import MeshPolicy
from fog_compute.p2p.bitchat.mesh.gossip import GossipPolicy
from fog_compute.p2p.bitchat.mesh.kept import KeptPolicy
from fog_compute.p2p.bitchat.mesh.news import TextHeard
from fog_compute.p2p.bitchat.wire.announce import Announce
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.files import File
from fog_compute.p2p.bitchat.wire.fragments import cut
from fog_compute.p2p.bitchat.wire.gcs import build
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet, decode, packet
from fog_compute.p2p.bitchat.wire.signing import sign
from fog_compute.p2p.bitchat.wire.sync import SyncRequest
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW, Person, Tried

ANN, EVE = Person(1), Person(3)


def bomb(kind: int, size: int, number: int, *, recipient: bytes | None, version: int = 2) -> Packet:
    """A short frame that says a lot."""
    payload = number.to_bytes(4, "big") + b"\0" * (size - 4)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = size.to_bytes(2 * version, "big") + deflate.compress(payload) + deflate.flush()
    made = packet(
        kind, EVE.peer_id, int(NOW * 1000), body, recipient=recipient, version=version, packed=False
    )
    wire = made.wire[:11] + bytes([made.wire[11] | 0x04]) + made.wire[12:]
    return msgspec.structs.replace(made, wire=wire)


@pytest.mark.parametrize("kind", [Kind.MESSAGE, Kind.ANNOUNCE, Kind.FRAGMENT, 0x7E])
def test_only_what_may_be_large_becomes_large(kind: int) -> None:
    # INV-BITCHAT-05
    with pytest.raises(Malformed) as caught:
        decode(bomb(kind, 1_000_000, 1, recipient=None).wire)

    assert caught.value.reason is Reason.TOO_LONG
    assert len(decode(bomb(Kind.FILE_TRANSFER, 1_000_000, 1, recipient=None).wire).payload) == 10**6


def memory_after(frames: list[bytes]) -> int:
    """Bytes that an engine keeps of what a neighbour brought."""
    tried = Tried(1, 2)
    tried.get(1, EVE.announce(NOW))
    tracemalloc.start()
    try:
        for number, data in enumerate(frames):
            tried.now = NOW + number / 100
            for action in tried.mesh.handle(FrameReceived(1, data), tried.now):
                if isinstance(action, SendFrame):
                    tried.mesh.handle(FrameSent(action.link, action.token, True), tried.now)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [Kind.FILE_TRANSFER, Kind.NOISE_ENCRYPTED])
def test_bombs_that_are_passed_on_are_kept_as_they_came(kind: Kind) -> None:
    # INV-BITCHAT-80
    frames = [bomb(kind, 900_000, i, recipient=b"somebody").wire for i in range(40)]

    assert memory_after(frames) < 2_000_000


def test_texts_that_say_a_lot_are_kept_as_they_came() -> None:
    # INV-BITCHAT-80
    frames = [
        sign(bomb(Kind.MESSAGE, 60_000, i, recipient=None, version=1), EVE.keys).wire
        for i in range(100)
    ]

    assert memory_after(frames) < 2_000_000


def test_texts_of_somebody_unknown_wait_as_they_came() -> None:
    # INV-BITCHAT-80
    other = Person(4)
    frames = [
        sign(
            msgspec.structs.replace(
                bomb(Kind.MESSAGE, 60_000, i, recipient=None, version=1),
                wire=bomb(Kind.MESSAGE, 60_000, i, recipient=None, version=1).wire[:14]
                + other.peer_id
                + bomb(Kind.MESSAGE, 60_000, i, recipient=None, version=1).wire[22:],
            ),
            other.keys,
        ).wire
        for i in range(40)
    ]

    assert memory_after(frames) < 1_500_000


def test_a_flood_of_handshakes_for_nobody_leaves_way_for_what_people_say() -> None:
    # INV-BITCHAT-81: a slow link, which takes 20 frames a second
    tried = Tried(1, 2, 3)
    tried.get(1, ANN.announce(NOW))
    tried.wait(0.5)
    rng = Random(5)
    out: list[tuple[float, SendFrame]] = []
    waiting: list[SendFrame] = []

    def do(event: object) -> None:
        for action in tried.mesh.handle(event, tried.now):  # type: ignore[arg-type]
            if isinstance(action, SendFrame):
                if action.link == 2:
                    waiting.append(action)
                else:
                    do(FrameSent(action.link, action.token, True))

    said_at = None
    for tick in range(600):  # 6 s
        tried.now += 0.01
        for _ in range(3):  # 300 a second, over another link
            made = packet(
                Kind.NOISE_HANDSHAKE, rng.randbytes(8), int(tried.now * 1000), rng.randbytes(32),
                recipient=rng.randbytes(8),
            )  # fmt: skip
            do(FrameReceived(3, made.on_air))
        if tick == 100:
            said_at = tried.now
            do(FrameReceived(1, ANN.text("is anybody there", tried.now).wire))
        do(Wake())
        if tick % 5 == 0 and waiting:
            sent = waiting.pop(0)
            out.append((tried.now, sent))
            do(FrameSent(2, sent.token, True))

    texts = [at for at, sent in out if decode(sent.data).kind == Kind.MESSAGE]
    assert said_at is not None
    assert texts
    assert texts[0] - said_at < 2.0


def test_text_heard_is_shown_as_it_is() -> None:
    tried = Tried(1)
    tried.get(1, ANN.announce(NOW))

    (heard,) = tried.get(1, ANN.text("\x1b[2J", tried.now))

    assert isinstance(heard, TextHeard)
    assert heard.text == "\x1b[2J"


@pytest.mark.parametrize("in_pieces", [False, True])
def test_bombs_cost_a_link_what_they_become(in_pieces: bool) -> None:
    # INV-BITCHAT-82
    tried = Tried(1, 2)
    tried.get(2, ANN.announce(NOW))
    frames: list[bytes] = []
    for number in range(60):
        made = bomb(Kind.FILE_TRANSFER, 900_000, number, recipient=None)
        parts = cut(made, number.to_bytes(8, "big")) if in_pieces else [made]
        frames += [part.wire for part in parts]

    for data in frames:
        tried.mesh.handle(FrameReceived(1, data), tried.now)

    refused = tried.mesh.counts["dropped_too-many"]
    # 1,200 frames at once, of which each bomb takes 55: it becomes as much as a file may.
    assert len(frames) - refused in range(20, 3 * 24)
    assert tried.get(2, ANN.text("still heard", tried.now)) != []


def test_what_is_honestly_compressed_costs_little() -> None:
    tried = Tried(1)
    tried.get(1, ANN.announce(NOW))

    for number in range(200):
        tried.get(1, ANN.text(f"{number} " + "as ever " * 60, NOW + number / 1000))

    assert "dropped_too-many" not in tried.mesh.counts


def asked(tried: Tried, link: int) -> list[Packet]:
    """What a neighbour gets that asks and has nothing."""
    tried.take()
    nothing, _ = build([])
    kinds = frozenset({Kind.ANNOUNCE, Kind.MESSAGE, Kind.GROUP_MESSAGE})
    request = SyncRequest(nothing, kinds).encode()
    tried.get(link, ANN.make(Kind.REQUEST_SYNC, request, tried.now, ttl=0))
    tried.wait(3.0)
    return [one for to, one in tried.take() if to == link and one.sync_answer]


@pytest.mark.parametrize("what", ["groups", "announces", "texts"])
def test_a_flood_over_one_link_leaves_room_in_what_is_given_to_others(what: str) -> None:
    # INV-BITCHAT-83
    tried = Tried(
        1, 2, 3, policy=MeshPolicy(gossip=GossipPolicy(kept=KeptPolicy(packets=80), packets=20))
    )
    tried.get(1, ANN.announce(tried.now), ANN.text("from before", tried.now))
    tried.get(3, EVE.announce(tried.now))
    tried.wait(1.0)
    rng = Random(6)
    for number in range(200):
        at = tried.now + number / 1000
        if what == "announces":
            made = Person(10 + number % 180).announce(at)
        elif what == "texts":
            made = EVE.text(f"buy {number}", at)
        else:
            made = packet(Kind.GROUP_MESSAGE, rng.randbytes(8), int(at * 1000), rng.randbytes(40))
        tried.get(3, made)

    given = asked(tried, 2)

    assert "from before" in [one.payload.decode() for one in given if one.kind == Kind.MESSAGE]
    assert ANN.peer_id in [one.sender for one in given if one.kind == Kind.ANNOUNCE]
    assert len(given) == 20


@pytest.mark.parametrize(
    ("read", "whole", "empty"),
    [
        (File.decode, File(b"x").encode(), b"\x7f\0\0"),
        (Announce.decode, Announce("a", bytes(32), bytes(32)).encode(), b"\x7f\0"),
        (SyncRequest.decode, SyncRequest(build([])[0]).encode(), b"\x7f\0\0"),
    ],
)
def test_a_payload_of_nothing_but_fields_is_refused_before_they_are_read(
    read: Callable[[bytes], object], whole: bytes, empty: bytes
) -> None:
    # INV-BITCHAT-84: a kilobyte unpacks to 390,000 of them, which take a tenth of a second
    read(whole + 30 * empty)
    with pytest.raises(Malformed) as caught:
        read(whole + 300_000 * empty)

    assert caught.value.reason is Reason.TOO_LONG


def test_what_is_no_packet_is_counted_by_what_is_wrong_with_it() -> None:
    # INV-BITCHAT-04
    tried = Tried(1)
    good = ANN.text("hello", tried.now).wire

    for data in (
        good[:-1],
        good[:9],
        b"\3" + good[1:],
        bomb(Kind.PING, 10**6, 1, recipient=None).wire,
    ):
        tried.mesh.handle(FrameReceived(1, data), tried.now)

    counts = tried.mesh.counts
    assert counts["dropped_malformed"] == 4
    assert counts["malformed_truncated"] == 2
    assert counts["malformed_version"] == counts["malformed_too-long"] == 1
