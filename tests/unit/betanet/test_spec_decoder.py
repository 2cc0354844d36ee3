"""INV-SPHINX-15, a hop's side: a decoder written from the specification reads our packets."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import betanet
from tests.unit.betanet import spec_decoder as spec
from tests.unit.betanet.chains import MAILBOX, Chain

GEOMETRY = betanet.Geometry.native()
HOPS = range(1, GEOMETRY.max_hops + 1)
LENGTHS = (0, 1, 13, GEOMETRY.user_payload_len - 1, GEOMETRY.user_payload_len)


def carry(chain: Chain, packet: bytes) -> spec.Step:
    """Unwrap at every node by the specification and by ours; both must say the same throughout."""
    for hop, secret in enumerate(chain.secrets):
        step = spec.unwrap(secret.to_bytes(), packet)
        ours = betanet.SphinxProcessor(secret).process_packet(packet)
        assert (ours.payload, ours.next_hop or b"") == (step.payload, step.node)
        assert (ours.mailbox or b"", ours.surb_id or b"") == (step.mailbox, step.surb_id)
        if hop + 1 < len(chain.secrets):
            assert (step.kind, step.node) == (0, chain.path[hop + 1].node)
            packet = step.payload
        else:
            return step
    raise AssertionError("a path has a last hop")


@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize("hops", HOPS)
def test_it_unwraps_our_packets_at_every_hop(hops: int, parity: int) -> None:
    chain = Chain.of(hops)
    payload = os.urandom(LENGTHS[(hops + parity) % len(LENGTHS)])
    packet = betanet.create_packet(chain.path, MAILBOX, payload, parity=parity)
    step = carry(chain, packet)
    assert (step.kind, step.mailbox, step.payload) == (1, MAILBOX, payload)


@pytest.mark.parametrize("hops", HOPS)
def test_it_unwraps_replies_over_our_surbs_at_every_hop(hops: int) -> None:
    chain = Chain.of(hops)
    payload = os.urandom(LENGTHS[hops % len(LENGTHS)])
    surb, opener = betanet.create_surb(chain.path, MAILBOX)
    encoded = surb.to_bytes()
    packet = surb.reply(payload)
    assert packet == spec.reply(encoded, payload), "both make the same reply"
    step = carry(chain, packet)
    assert (step.kind, step.mailbox, step.surb_id) == (2, MAILBOX, opener.surb_id)
    shared = spec.header_secrets([key.to_bytes() for key in chain.secrets], packet)
    assert spec.open_reply(encoded[425:], shared, step.payload) == payload
    assert opener.open(step.payload) == payload


@settings(max_examples=25)
@given(at=st.integers(0, 8 * GEOMETRY.packet_len - 1))
def test_it_drops_an_altered_packet_for_the_reason_that_ours_gives(at: int) -> None:
    secret = betanet.SecretKey.generate()
    hop = betanet.Hop(os.urandom(32), secret.public)
    packet = bytearray(betanet.create_packet([hop], MAILBOX, b"hello"))
    packet[at // 8] ^= 1 << at % 8
    with pytest.raises(spec.Dropped) as theirs:
        spec.unwrap(secret.to_bytes(), bytes(packet))
    with pytest.raises(betanet.PacketError) as ours:
        betanet.SphinxProcessor(secret).process_packet(packet)
    assert str(theirs.value) == ours.value.reason


def test_its_replay_tags_and_delay_inputs_are_those_of_the_path() -> None:
    chain = Chain.of(3)
    packet = betanet.create_packet(chain.path, MAILBOX, b"hello")
    seen = set[bytes]()
    for secret in chain.secrets:
        step = spec.unwrap(secret.to_bytes(), packet)
        seen |= {step.replay_tag, step.delay_input}
        packet = step.payload
    assert {len(tag) for tag in seen} == {16}
    assert len(seen) == 6, "no two of them are equal"
