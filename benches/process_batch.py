"""How many packets per second Python unwraps through the pipeline, and what that leaves in memory.

Prints one JSON object: packets per second for one and for two workers, processor time per packet,
and by how much the resident memory grows over a million packets. Packets carry full payloads and go
on to a next hop, so that both scalar multiplications are paid. Both numbers of workers take turns;
a rate is that of the best turn, as whatever else runs on the machine only ever takes away.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path

import betanet

PACKETS = 2_048
TURNS = 151
MEMORY_ROUNDS = 489
"""Rounds over which memory may not grow: with PACKETS in each, a million and some."""


def batch_for(key: betanet.SecretKey) -> list[bytes]:
    """Packets for one key, on the way to a next hop."""
    following = betanet.Hop(os.urandom(32), betanet.SecretKey.generate().public)
    path = [betanet.Hop(os.urandom(32), key.public), following]
    payload = os.urandom(betanet.Geometry.native().user_payload_len)
    return betanet.create_packets([(path, bytes(16), payload)] * PACKETS)


def once(workers: int, key: betanet.SecretKey, batch: list[bytes]) -> tuple[float, float]:
    """Seconds on the wall and of processor time, with a replay cache that is empty."""
    with betanet.PacketPipeline(workers, key, replay_capacity=PACKETS) as pipeline:
        started, busy = time.perf_counter(), time.process_time()
        outcomes = pipeline.process_batch(batch)
        took = time.perf_counter() - started, time.process_time() - busy
        # One new packet in some millions is taken for an old one.
        if any(outcome.kind == "rejected" and outcome.reason != "replay" for outcome in outcomes):
            sys.exit("a valid packet was refused: these numbers would mean nothing")
    return took


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure and print."""
    key = betanet.SecretKey.generate()
    batch = batch_for(key)
    once(2, key, batch)
    turns = [(once(1, key, batch), once(2, key, batch)) for _ in range(TURNS)]
    summary: dict[str, float] = {}
    details: dict[str, float] = {}
    for place, workers in enumerate((1, 2)):
        wall = [turn[place][0] for turn in turns]
        busy = [turn[place][1] for turn in turns]
        summary[f"python_batch_per_s_{workers}"] = round(PACKETS / min(wall))
        details[f"python_batch_per_s_{workers}_median"] = round(PACKETS / statistics.median(wall))
        details[f"python_processor_us_{workers}"] = round(
            statistics.median(busy) / PACKETS * 1e6, 3
        )
    summary["python_batch_per_s"] = summary["python_batch_per_s_2"]
    summary["python_batch_scaling_2"] = round(
        summary["python_batch_per_s_2"] / summary["python_batch_per_s_1"], 3
    )
    one, two = (details[f"python_processor_us_{workers}"] for workers in (1, 2))
    details["python_batch_scaling_2_by_processor_time"] = round(2 * one / two, 3)
    before = resident()
    for _ in range(MEMORY_ROUNDS):
        once(2, key, batch)
    summary["rss_growth_bytes_1e6"] = resident() - before
    json.dump({"summary": summary, "details": {**details, "batch": PACKETS}}, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
