"""Signatures: over the bytes that came, whatever a relay may change on the way."""

from __future__ import annotations

import zlib
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet, decode, packet
from fog_compute.p2p.bitchat.wire.signing import as_signed, preimage, sign, verify
from tests.unit.fog_compute.p2p.bitchat.packets import SENDER, hello, some_packet, text

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
TEXT = text(Random(1), 300)


@pytest.mark.parametrize(("size", "signed"), [(24, 256), (3, 256), (218, 256), (230, 252)])
def test_the_signed_form_is_padded_whatever_the_kind(size: int, signed: int) -> None:
    # INV-BITCHAT-10; 46 bytes sign as 256, of which 210 are D2: the app's own vector
    made = hello(body=bytes(range(size)))
    data = preimage(made)

    assert len(data) == signed
    assert data[2] == 0
    if size == 24:
        assert len(made.wire) == 46
        assert data[46:] == b"\xd2" * 210


@given(st.integers(0, 2**32))
def test_a_signature_is_good_at_every_hop(seed: int) -> None:
    # INV-BITCHAT-09
    signed = sign(some_packet(Random(seed)), KEY)

    assert decode(signed.wire) == signed
    for goes in (signed, signed.with_ttl(0), signed.with_ttl(255), signed.as_sync_answer()):
        assert verify(decode(goes.wire), PUBLIC)
    assert sign(signed, KEY) == signed


def flipped(made: Packet) -> list[tuple[int, bytes]]:
    """The packet with each of its bits changed, and where."""
    wire = made.wire
    return [
        (bit, wire[: bit // 8] + bytes([wire[bit // 8] ^ 1 << bit % 8]) + wire[bit // 8 + 1 :])
        for bit in range(8 * len(wire))
    ]


@pytest.mark.parametrize("body", [b"hello", TEXT])
def test_a_changed_bit_is_refused_where_it_changes_what_is_read(body: bytes) -> None:
    # INV-BITCHAT-11
    signed = sign(hello(body=body, recipient=SENDER), KEY)
    free = {2 * 8 + i for i in range(8)} | {11 * 8 + 4}  # TTL, and the flag of a sync answer

    for bit, wire in flipped(signed):
        try:
            changed = decode(wire)
        except ValueError:
            continue
        form = as_signed(changed, PUBLIC)
        if bit in free:
            assert form is changed
        elif form is not None:
            # Of DEFLATE more than one string of bits may mean the same; ours goes on.
            assert changed.payload == body
            assert form == signed
            assert body == TEXT


def test_a_relay_that_compresses_again_leaves_the_signature_good() -> None:
    # INV-BITCHAT-12: the app makes the bytes of what it passes on anew
    ours = sign(hello(body=TEXT), KEY)
    plain = sign(packet(Kind.MESSAGE, SENDER, 1, TEXT, packed=False), KEY)
    assert plain.signature is not None

    relayed = packet(Kind.MESSAGE, SENDER, 1, TEXT, signature=plain.signature)
    wrapped = decode(_compressed_otherwise(ours))

    assert relayed.wire[11] & 0x04
    assert as_signed(relayed, PUBLIC) == plain
    assert wrapped.wire != ours.wire
    assert as_signed(wrapped, PUBLIC) == ours


def _compressed_otherwise(made: Packet) -> bytes:
    """The same packet as another encoder has it."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
    body = len(made.payload).to_bytes(2, "big") + deflate.compress(made.payload) + deflate.flush()
    signature = made.signature or b""
    return made.wire[:12] + len(body).to_bytes(2, "big") + made.wire[14:22] + body + signature


def test_no_signature_another_key_and_no_key_are_refused() -> None:
    other = Ed25519PrivateKey.from_private_bytes(b"\7" * 32).public_key().public_bytes_raw()
    signed = sign(hello(), KEY)

    assert verify(signed, PUBLIC)
    assert not verify(hello(), PUBLIC)
    assert not verify(signed, other)
    assert not verify(signed, b"no key")
