"""The engine, and payloads that once were right, in packets that are: signed, timely, for it."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from fog_compute.p2p.bitchat.events import FrameReceived, LinkDown, LinkUp, Wake
from fog_compute.p2p.bitchat.wire.announce import Announce, Capability
from fog_compute.p2p.bitchat.wire.courier import CourierEnvelope, day_of, recipient_tag
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.files import File
from fog_compute.p2p.bitchat.wire.fragments import cut
from fog_compute.p2p.bitchat.wire.gcs import build
from fog_compute.p2p.bitchat.wire.kinds import BROADCAST, Kind
from fog_compute.p2p.bitchat.wire.ping import Ping
from fog_compute.p2p.bitchat.wire.prekeys import Prekey, signed_bundle
from fog_compute.p2p.bitchat.wire.sync import SyncRequest
from tests.unit.fog_compute.p2p.bitchat.neighbours import Person, Tried
from tests.unit.fog_compute.p2p.bitchat.test_mutations import mutated

ANN, BEN = Person(1), Person(2)


def payloads(rng: Random, now: float, me: Person) -> dict[int, tuple[bytes, ...]]:
    """For each kind what may be in it."""
    noise, signing = ANN.keys.noise_public, ANN.keys.signing_public
    announce = Announce("ann", noise, signing, (BEN.peer_id,), Capability.GROUPS, "u33")
    tag = recipient_tag(me.keys.noise_public, day_of(int(now * 1000)))
    envelope = CourierEnvelope(tag, int(now * 1000) + 5_000, rng.randbytes(150), 4)
    long = ANN.text("long " * 300, now, packed=False)
    asked = SyncRequest(build([rng.randbytes(16)])[0], None, 5, frozenset({b"12345678"}))
    return {
        Kind.ANNOUNCE: (announce.encode(),),
        Kind.MESSAGE: (b"hello", "zwölf".encode()),
        Kind.LEAVE: (b"",),
        Kind.COURIER_ENVELOPE: (envelope.encode(),),
        Kind.NOISE_HANDSHAKE: (rng.randbytes(32), rng.randbytes(96), rng.randbytes(64)),
        Kind.NOISE_ENCRYPTED: (b"\0\0\0\1" + rng.randbytes(40),),
        Kind.FRAGMENT: tuple(one.payload for one in cut(long, b"12345678")),
        Kind.REQUEST_SYNC: (asked.encode(),),
        Kind.PING: (Ping(b"12345678", 7).encode(),),
        Kind.PONG: (Ping(b"12345678", 7).encode(),),
        Kind.GROUP_MESSAGE: (rng.randbytes(60),),
        Kind.FILE_TRANSFER: (File(rng.randbytes(60), "../a", "text/plain").encode(),),
        Kind.PREKEY_BUNDLE: (
            signed_bundle(noise, (Prekey(1, rng.randbytes(32)),), 5, ANN.keys).encode(),
        ),
        0x7E: (rng.randbytes(60),),
    }


def run(rounds: int, seed: int) -> Counter[str]:
    """Let two neighbours send what was changed; what the engine counted."""
    rng = Random(seed)
    me = Person(99)
    tried = Tried(1, 2, 3)
    tried.get(1, ANN.announce(tried.now))
    known = payloads(rng, tried.now, me)
    for number in range(rounds):
        tried.now += rng.choice((0.0, 0.01, 0.3))
        kind = rng.choice(list(known))
        try:
            made = rng.choice((ANN, ANN, BEN)).make(
                kind,
                mutated(rng, known[kind]),
                tried.now + rng.choice((0.0, 0.0, -100.0, 500.0)),
                signed=rng.random() < 0.8,
                recipient=rng.choice((None, BROADCAST, me.peer_id, me.peer_id, ANN.peer_id)),
                ttl=rng.choice((0, 1, 7, 255)),
                sync_answer=rng.random() < 0.2,
                version=rng.choice((1, 2)),
            )
        except Malformed:
            continue
        try:
            tried.do(FrameReceived(rng.choice((1, 1, 2, 9)), made.on_air))
            match rng.randrange(50):
                case 0:
                    tried.do(LinkDown(2))
                    tried.do(LinkUp(2, rng.choice((23, 185, 512)), False))
                case 1:
                    tried.do(Wake())
                case _:
                    pass
        except Exception as error:
            error.add_note(f"seed {seed}, number {number}: {made!r}")
            raise
    tried.sent.clear()
    return Counter(tried.mesh.counts)


def test_no_payload_of_a_neighbour_ends_the_engine() -> None:
    # INV-BITCHAT-04
    counts = run(1_500, seed=1)

    for reason in ("content", "time", "signature", "unasked", "not-opened"):
        assert counts[f"dropped_{reason}"] > 0, reason


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_payload_of_a_neighbour_ends_the_engine_many_times() -> None:
    # INV-BITCHAT-04
    for seed in range(40):
        run(3_000, seed=Random().randrange(1 << 32) + seed)
