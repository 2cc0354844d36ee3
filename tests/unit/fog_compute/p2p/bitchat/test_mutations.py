"""Whatever is done to what travels, it is read or refused with one error, and in bounded space.

One list has all parsers of what strangers send, each with bytes that it takes. They are cut,
joined, flipped, and their lengths made large; long runs are for `make test-long`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fog_compute.p2p.bitchat.wire.announce import Announce, Capability, peer_id, verified_announce
from fog_compute.p2p.bitchat.wire.courier import CourierEnvelope
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.files import File
from fog_compute.p2p.bitchat.wire.fragments import Assembly, AssemblyPolicy, Fragment, cut
from fog_compute.p2p.bitchat.wire.gcs import build
from fog_compute.p2p.bitchat.wire.groups import GroupEnvelope, GroupMessage
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import decode, packet, wire_length
from fog_compute.p2p.bitchat.wire.ping import Ping
from fog_compute.p2p.bitchat.wire.prekeys import Prekey, PrekeyBundle, signed_bundle
from fog_compute.p2p.bitchat.wire.private import PeerState, PrivateMessage, decode_id, inside
from fog_compute.p2p.bitchat.wire.signing import sign
from fog_compute.p2p.bitchat.wire.sync import SYNCED, SyncRequest, packet_id
from tests.unit.fog_compute.p2p.bitchat.packets import SENDER, hello, some_packet, text

KEY: Final = Ed25519PrivateKey.from_private_bytes(b"\2" * 32)
PUBLIC: Final = KEY.public_key().public_bytes_raw()
NOISE: Final = b"n" * 32
RNG: Final = Random(1)
BODY: Final = text(RNG, 300)
ANNOUNCE: Final = Announce("Ada", NOISE, PUBLIC, (SENDER,), Capability.GROUPS, "u33")
SAID: Final = GroupMessage("id", PUBLIC, "Ada", 1, "at six").seal(
    b"g" * 16, 1, NOISE, b"n" * 12, KEY
)
SYNC: Final = SyncRequest(
    build([RNG.randbytes(16) for _ in range(40)])[0],
    frozenset(SYNCED[:3]),
    5,
    frozenset({SENDER}),
)

BUNDLE: Final = signed_bundle(NOISE, (Prekey(1, b"p" * 32), Prekey(7, b"q" * 32)), 5, KEY)

Parser = Callable[[bytes], object]


def assembled(data: bytes) -> object:
    """A fragment of a stranger, put to others."""
    assembly = Assembly(AssemblyPolicy(sets=3, link_sets=2, sender_sets=1, link_bytes=1 << 21))
    for part in cut(hello(body=BODY * 3), SENDER, frame=300)[:-1]:
        assembly.take(part, 1, 0.0)
    return assembly.take(packet(Kind.FRAGMENT, SENDER, 1, data, version=2), 2, 0.0)


def announced(data: bytes) -> object:
    """A packet of a stranger, taken for an announce."""
    return verified_announce(decode(data))


def opened(data: bytes) -> object:
    return GroupEnvelope.decode(data).open(NOISE)


def bundle(data: bytes) -> object:
    return PrekeyBundle.decode(data).verifies(PUBLIC)


def members(data: bytes) -> object:
    found = SyncRequest.decode(data).has.members()
    assert len(found) <= 4_096
    return SENDER in found


def id_of(data: bytes) -> object:
    return packet_id(decode(data))


PARSERS: Final[tuple[tuple[Parser, tuple[bytes, ...]], ...]] = (
    (decode, tuple(some_packet(RNG).wire for _ in range(30))),
    (id_of, (hello(body=BODY).wire, hello(version=2, route=(SENDER,)).wire)),
    (wire_length, (hello(version=2, route=(SENDER,)).wire, hello().wire)),
    (announced, (sign(packet(Kind.ANNOUNCE, peer_id(NOISE), 1, ANNOUNCE.encode()), KEY).wire,)),
    (Announce.decode, (ANNOUNCE.encode(),)),
    (inside, (b"\1hi",)),
    (decode_id, (b"5F0C",)),
    (PrivateMessage.decode, (PrivateMessage("5F0C", "hi").encode(),)),
    (PeerState.decode, (PeerState(Capability.GROUPS, PUBLIC).encode(),)),
    (Ping.decode, (Ping(SENDER, 7).encode(),)),
    (Fragment.decode, tuple(one.payload for one in cut(hello(body=BODY * 3), SENDER))),
    (assembled, tuple(one.payload for one in cut(hello(body=BODY * 3), SENDER, frame=300))),
    (File.decode, (File(BODY, "a.txt", "text/plain").encode(),)),
    (SyncRequest.decode, (SYNC.encode(),)),
    (members, (SYNC.encode(),)),
    (CourierEnvelope.decode, (CourierEnvelope(b"t" * 16, 5, BODY, 4, 7).encode(),)),
    (GroupEnvelope.decode, (SAID.encode(),)),
    (opened, (SAID.encode(),)),
    (bundle, (BUNDLE.encode(),)),
)


def mutated(rng: Random, known: tuple[bytes, ...]) -> bytes:
    """Something that once was right."""
    data = bytearray(rng.choice(known))
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(6):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
            case 2:
                del data[at:]
            case 3:
                del data[at : at + rng.randrange(1, 20)]
            case 4:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case _:
                other = rng.choice(known)
                data[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(data)


def run(rounds: int, seed: int) -> Counter[str]:
    """What became of so many mutations for each parser."""
    found: Counter[str] = Counter()
    for parser, known in PARSERS:
        rng = Random(f"{seed} {parser.__name__}")
        for number in range(rounds):
            data = mutated(rng, known)
            try:
                parser(data)
            except Malformed as malformed:
                found[malformed.reason] += 1
                continue
            except Exception as error:
                error.add_note(f"{parser.__name__}, seed {seed}, number {number}: {data.hex()}")
                raise
            found["read"] += 1
    return found


def test_what_was_changed_is_read_or_refused() -> None:
    # INV-BITCHAT-04
    found = run(300, seed=1)

    assert found["read"] > 1_000
    assert set(found) == {"read", *Reason}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_was_changed_is_read_or_refused_many_times() -> None:
    # INV-BITCHAT-04
    seed = Random().randrange(1 << 32)

    assert set(run(50_000, seed)) == {"read", *Reason}, seed


def test_what_each_parser_is_given_is_right_to_begin_with() -> None:
    for parser, known in PARSERS:
        for data in known:
            parser(data)
