from __future__ import annotations

import array
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import betanet
from tests.unit.betanet.chains import MAILBOX, Chain

GEOMETRY = betanet.Geometry.native()


@pytest.mark.parametrize("hops", range(1, GEOMETRY.max_hops + 1))
def test_a_packet_reaches_the_mailbox_over_any_number_of_hops(hops: int) -> None:
    chain = Chain.of(hops)
    packet = betanet.create_packet(chain.path, MAILBOX, b"hello")
    assert len(packet) == GEOMETRY.packet_len
    delivered = chain.carry(packet)
    assert (delivered.kind, delivered.mailbox, delivered.payload) == ("deliver", MAILBOX, b"hello")
    assert delivered.next_hop is None
    assert delivered.surb_id is None


@pytest.mark.parametrize("hops", range(1, GEOMETRY.max_hops + 1))
def test_a_reply_comes_back_over_any_number_of_hops(hops: int) -> None:
    chain = Chain.of(hops)
    surb, opener = betanet.create_surb(chain.path, MAILBOX)
    carried = betanet.Surb.parse(surb.to_bytes())
    assert carried.first == chain.path[0].node
    reply = chain.carry(carried.reply(b"answer"))
    assert (reply.kind, reply.mailbox, reply.surb_id) == ("reply", MAILBOX, opener.surb_id)
    assert opener.open(reply.payload) == b"answer"


@given(payload=st.binary(max_size=GEOMETRY.user_payload_len))
def test_any_payload_arrives_unchanged(payload: bytes) -> None:
    chain = Chain.of(1)
    packet = betanet.create_packet(chain.path, MAILBOX, payload)
    assert chain.carry(packet).payload == payload


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda b: array.array("B", b)])
def test_any_bytes_like_object_is_a_packet(wrap: Callable[[bytes], bytes], chain: Chain) -> None:
    packet = betanet.create_packet(chain.path, wrap(MAILBOX), wrap(b"hello"))
    given_packet = wrap(packet)
    processed = betanet.SphinxProcessor(chain.secrets[0]).process_packet(given_packet)
    assert processed.next_hop == chain.path[1].node
    assert bytes(given_packet) == packet, "the caller's buffer stays as it was"


def test_a_strided_view_is_read_in_its_own_order(chain: Chain) -> None:
    packet = betanet.create_packet(chain.path, MAILBOX, b"hello")
    spread = bytearray(2 * len(packet))
    spread[::2] = packet
    processor = betanet.SphinxProcessor(chain.secrets[0])
    assert processor.process_packet(memoryview(spread)[::2]).next_hop == chain.path[1].node


@pytest.mark.parametrize("thing", ["text", 7, None, [1, 2]])
def test_what_is_not_bytes_like_is_a_type_error(thing: object, chain: Chain) -> None:
    processor = betanet.SphinxProcessor()
    with pytest.raises(TypeError, match="bytes-like"):
        processor.process_packet(thing)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bytes-like"):
        betanet.create_packet(chain.path, MAILBOX, thing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda p: p[:-1], betanet.WrongLength),
        (lambda p: b"", betanet.WrongLength),
        (lambda p: bytes(10_000_000), betanet.WrongLength),
        (lambda p: b"\x02" + p[1:], betanet.UnknownVersion),
        (lambda p: p[:1] + b"\x02" + p[2:], betanet.BadParity),
        (lambda p: p[:2] + b"\xff" * 32 + p[34:], betanet.BadAlpha),
        (lambda p: p[:2] + bytes(32) + p[34:], betanet.WeakSecret),
        (lambda p: p[:60] + bytes([p[60] ^ 1]) + p[61:], betanet.BadMac),
        (lambda p: p[:-1] + bytes([p[-1] ^ 1]), betanet.BadPayload),
    ],
)
def test_a_damaged_packet_is_refused_for_the_right_reason(
    damage: Callable[[bytes], bytes], error: type[betanet.PacketError]
) -> None:
    chain = Chain.of(1)
    packet = damage(betanet.create_packet(chain.path, MAILBOX, b"hello"))
    with pytest.raises(error) as caught:
        betanet.SphinxProcessor(chain.secrets[0]).process_packet(packet)
    assert betanet.PACKET_ERRORS[caught.value.reason] is error


@given(garbage=st.binary(min_size=GEOMETRY.packet_len, max_size=GEOMETRY.packet_len))
def test_garbage_of_the_right_length_is_refused(garbage: bytes) -> None:
    with pytest.raises(betanet.PacketError):
        betanet.SphinxProcessor().process_packet(garbage)


def test_a_replayed_packet_is_dropped(chain: Chain) -> None:
    packet = betanet.create_packet(chain.path, MAILBOX, b"hello")
    processor = betanet.SphinxProcessor(chain.secrets[0])
    processor.process_packet(packet)
    with pytest.raises(betanet.Replay):
        processor.process_packet(packet)


def test_a_full_replay_cache_refuses_and_does_not_forget(chain: Chain) -> None:
    processor = betanet.SphinxProcessor(chain.secrets[0], replay_capacity=1)
    first, second = (betanet.create_packet(chain.path, MAILBOX, b"") for _ in range(2))
    processor.process_packet(first)
    with pytest.raises(betanet.ReplayCacheFull):
        processor.process_packet(second)
    with pytest.raises(betanet.Replay):
        processor.process_packet(first)


def test_a_packet_for_another_key_is_refused(chain: Chain) -> None:
    packet = betanet.create_packet(chain.path, MAILBOX, b"hello")
    with pytest.raises(betanet.BadMac):
        betanet.SphinxProcessor(chain.secrets[1]).process_packet(packet)


def test_delays_stay_within_ten_means(chain: Chain) -> None:
    processor = betanet.SphinxProcessor(chain.secrets[0], mean_delay_ms=2.0)
    packets = [betanet.create_packet(chain.path, MAILBOX, b"") for _ in range(200)]
    delays = [processor.process_packet(packet).delay_ms for packet in packets]
    assert all(0 <= delay <= 20.0 for delay in delays)
    assert len(set(delays)) > 100


def test_no_delay_can_be_asked_for(chain: Chain) -> None:
    processor = betanet.SphinxProcessor(chain.secrets[0], mean_delay_ms=0.0)
    packet = betanet.create_packet(chain.path, MAILBOX, b"")
    assert processor.process_packet(packet).delay_ms == 0.0


@pytest.mark.parametrize("mean", [-1.0, float("nan"), float("inf"), 1e300])
def test_an_impossible_mean_delay_is_refused(mean: float) -> None:
    with pytest.raises(ValueError, match="mean_delay_ms"):
        betanet.SphinxProcessor(mean_delay_ms=mean)


@pytest.mark.parametrize(
    ("hops", "payload", "parity"),
    [(0, b"", 0), (8, b"", 0), (1, bytes(GEOMETRY.user_payload_len + 1), 0), (1, b"", 2)],
)
def test_a_packet_out_of_bounds_is_not_built(hops: int, payload: bytes, parity: int) -> None:
    with pytest.raises(betanet.BuildError):
        betanet.create_packet(Chain.of(hops).path, MAILBOX, payload, parity=parity)


def test_a_mailbox_has_sixteen_bytes(chain: Chain) -> None:
    with pytest.raises(ValueError, match="expected 16 bytes, got 15"):
        betanet.create_packet(chain.path, MAILBOX[1:], b"")


def test_a_surb_is_used_once(chain: Chain) -> None:
    surb, opener = betanet.create_surb(chain.path, MAILBOX, surb_id=b"i" * 16)
    assert opener.surb_id == b"i" * 16
    with pytest.raises(betanet.BuildError):
        surb.reply(bytes(GEOMETRY.user_payload_len + 1))
    reply = chain.carry(surb.reply(b"answer"))
    with pytest.raises(betanet.InvalidSurb):
        surb.reply(b"again")
    with pytest.raises(betanet.InvalidSurb):
        surb.to_bytes()
    assert opener.open(reply.payload) == b"answer"
    with pytest.raises(betanet.InvalidSurb):
        opener.open(reply.payload)


def test_an_altered_reply_is_not_opened(chain: Chain) -> None:
    surb, opener = betanet.create_surb(chain.path, MAILBOX)
    delta = bytearray(chain.carry(surb.reply(b"answer")).payload)
    delta[-1] ^= 1
    with pytest.raises(betanet.BadPayload):
        opener.open(delta)


@pytest.mark.parametrize("data", [b"", bytes(456), bytes(458), bytes(457)])
def test_bytes_that_are_no_surb_are_refused(data: bytes) -> None:
    with pytest.raises(betanet.InvalidSurb):
        betanet.Surb.parse(data)


def test_keys_come_from_bytes_and_go_to_bytes() -> None:
    secret = betanet.SecretKey.generate()
    again = betanet.SecretKey(secret.to_bytes())
    assert again.public == secret.public
    assert hash(again.public) == hash(secret.public)
    assert betanet.PublicKey(bytes(secret.public)) == secret.public
    assert betanet.SphinxProcessor(secret.to_bytes()).public_key == secret.public


def test_a_secret_is_not_shown() -> None:
    secret = betanet.SecretKey(b"\xaa" * 32)
    assert "aa" not in repr(secret)


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_bytes_that_are_no_public_key_are_refused(data: bytes) -> None:
    with pytest.raises(betanet.InvalidKey):
        betanet.PublicKey(data)


def test_a_key_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="SecretKey, 32 bytes, or None"):
        betanet.SphinxProcessor("secret")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected 32 bytes"):
        betanet.SphinxProcessor(b"short")


def test_hops_compare_by_node_and_key() -> None:
    key = betanet.SecretKey.generate().public
    node = os.urandom(32)
    assert betanet.Hop(node, key) == betanet.Hop(bytearray(node), key)
    assert betanet.Hop(node, key) != betanet.Hop(os.urandom(32), key)


def test_a_closed_processor_says_so(chain: Chain) -> None:
    packet = betanet.create_packet(chain.path, MAILBOX, b"hello")
    with betanet.SphinxProcessor(chain.secrets[0]) as processor:
        processor.process_packet(packet)
    processor.close()
    with pytest.raises(betanet.Closed, match="SphinxProcessor is closed"):
        processor.process_packet(packet)
    with pytest.raises(betanet.Closed), processor:
        pass


def test_the_geometry_adds_up() -> None:
    g = GEOMETRY
    assert g.header_len == g.prefix_len + g.alpha_len + g.gamma_len + g.beta_len
    assert g.packet_len == g.header_len + g.delta_len == 2475
    assert g == betanet.Geometry.native()
