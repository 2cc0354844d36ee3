"""Packets of other projects at our hops, from Python."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import betanet

HERE = Path(__file__).parent
OUTSIDE = Path(os.environ.get("FOG_VECTORS", HERE.parents[3] / "shared" / "vectors"))
KATZENPOST = OUTSIDE / "katzenpost_sphinx_x25519_forward.json"


def test_a_nym_packet_is_unwrapped_at_every_hop() -> None:
    vector: dict[str, Any] = json.loads((HERE / "nym.json").read_text("utf-8"))
    packet = bytes.fromhex(vector["packet"])
    path = vector["path"]
    for hop, node in enumerate(path):
        processor = betanet.SphinxProcessor(bytes.fromhex(node["secret"]), "nym")
        processed = processor.process_packet(packet)
        if hop + 1 < len(path):
            following = bytes.fromhex(path[hop + 1]["node"])
            assert (processed.kind, processed.next_hop) == ("forward", following)
            assert processed.delay_ms == node["delay_ms"]
        else:
            assert processed.kind == "deliver"
            assert processed.mailbox == bytes.fromhex(vector["destination"])
            assert processed.surb_id == bytes.fromhex(vector["identifier"])
        with pytest.raises(betanet.Replay):
            processor.process_packet(packet)
        packet = processed.payload
    assert packet == bytes.fromhex(vector["payload"])


@pytest.mark.skipif(not KATZENPOST.exists(), reason="no outside vectors (set FOG_VECTORS)")
def test_every_header_of_katzenposts_vectors_is_unwrapped() -> None:
    steps = 0
    header_len = betanet.Geometry.of_suite("katzenpost").header_len
    for case in json.loads(KATZENPOST.read_text("utf-8")):
        nodes, path = case["Nodes"], case["Path"]
        for hop in range(len(path)):
            key = bytes.fromhex(nodes[hop]["PrivateKey"])
            packet = bytes.fromhex(case["Packets"][hop])
            processed = betanet.SphinxProcessor(key, "katzenpost").process_packet(packet)
            command = bytes.fromhex(path[hop]["Commands"][0])
            if hop + 1 < len(path):
                following = bytes.fromhex(path[hop + 1]["ID"])
                assert (processed.kind, processed.next_hop) == ("forward", following)
                assert processed.delay_ms == int.from_bytes(command[1:])
                onward = bytes.fromhex(case["Packets"][hop + 1])
                assert processed.payload[:header_len] == onward[:header_len]
            else:
                assert (processed.kind, processed.mailbox) == ("deliver", command[1:])
                assert processed.payload == packet[header_len:]
            steps += 1
    assert steps == 9


@pytest.mark.parametrize(
    ("suite", "packet_len"), [("native", 2475), ("nym", 2413), ("katzenpost", 611)]
)
def test_packets_of_a_suite_have_its_length(suite: Any, packet_len: int) -> None:
    assert betanet.Geometry.of_suite(suite).packet_len == packet_len
    with betanet.SphinxProcessor(suite=suite) as processor:
        assert processor.suite == suite
        for length in (packet_len - 1, packet_len + 1, 0):
            with pytest.raises(betanet.WrongLength):
                processor.process_packet(bytes(length))
        with pytest.raises(betanet.PacketError) as caught:
            processor.process_packet(bytes(packet_len))
        assert not isinstance(caught.value, betanet.WrongLength)


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(ValueError, match="choose native, nym or katzenpost"):
        betanet.SphinxProcessor(suite="loopix")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'loopix'"):
        betanet.Geometry.of_suite("loopix")
