"""How long a packet of BitChat takes to write and to read, beside bitchat-protocol.

Prints one JSON object: microseconds for each kind of packet, the best of many turns in which both
take part, and the ratio. Of fragments the other one tries to compress the pieces, and we do not.
With `--keep` it goes to `benches/results/bitchat.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import bitchat_protocol as theirs

from benches.origin import origin
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet, decode, packet

RESULTS = Path(__file__).parent / "results" / "bitchat.json"
TURNS = 21
CALLS = 2_000
SENDER = b"\1" * 8
WORDS = b"the train stands still where the river bends and nobody knows when it goes on".split()


def samples() -> dict[str, Packet]:
    """What travels most."""
    rng = Random(1)
    text = b" ".join(rng.choices(WORDS, k=90))[:400]
    return {
        "text_60": packet(Kind.MESSAGE, SENDER, 1, text[:60], signature=b"s" * 64),
        "text_400": packet(Kind.MESSAGE, SENDER, 1, text, signature=b"s" * 64),
        "announce": packet(Kind.ANNOUNCE, SENDER, 1, rng.randbytes(85), signature=b"s" * 64),
        "fragment": packet(Kind.FRAGMENT, SENDER, 1, rng.randbytes(482)),
    }


def both(sample: Packet) -> dict[str, Callable[[], object]]:
    """Writing and reading, ours and theirs."""
    record = theirs.BitchatPacket(
        version=1,
        type=sample.kind,
        ttl=7,
        timestamp=1,
        flags=0,
        sender_id=SENDER,
        payload=sample.payload,
        signature=sample.signature,
    )
    kind, payload, signature = sample.kind, sample.payload, sample.signature
    return {
        "encode": lambda: packet(kind, SENDER, 1, payload, signature=signature),
        "decode": lambda: decode(sample.wire),
        "peer_encode": lambda: theirs.encode(record),
        "peer_decode": lambda: theirs.decode(sample.wire),
    }


def microseconds(call: Callable[[], object]) -> float:
    """What one call takes, over many."""
    started = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - started) / CALLS * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="keep the figures among the results")
    keep = parser.parse_args().keep
    found: dict[str, float] = {}
    for name, sample in samples().items():
        calls = both(sample)
        turns = [{what: microseconds(call) for what, call in calls.items()} for _ in range(TURNS)]
        best = {what: min(turn[what] for turn in turns) for what in calls}
        found |= {f"{name}_{what}_us": round(took, 2) for what, took in best.items()}
        peer = best["peer_encode"] + best["peer_decode"]
        found[f"{name}_ratio"] = round(peer / (best["encode"] + best["decode"]), 2)
    report = {**origin("src/fog_compute/p2p/bitchat"), "turns": TURNS, "summary": found}
    if keep:
        RESULTS.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
