"""How many packets per second Python unwraps through the pipeline, by worker threads.

Prints one JSON object: the machine, and packets per second for each number of workers. Packets
carry full payloads and go on to a next hop, so that both scalar multiplications are paid.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time

import betanet

PACKETS_PER_ROUND = 4_000
SECONDS = 5.0


def measure(workers: int) -> float:
    """Packets per second with so many workers; making the packets is not counted."""
    with betanet.PacketPipeline(workers) as pipeline:
        following = betanet.Hop(os.urandom(32), betanet.SecretKey.generate().public)
        path = [betanet.Hop(os.urandom(32), pipeline.public_key), following]
        payload = os.urandom(betanet.Geometry.native().user_payload_len)
        spent, packets = 0.0, 0
        while spent < SECONDS:
            batch = [
                betanet.create_packet(path, bytes(16), payload) for _ in range(PACKETS_PER_ROUND)
            ]
            started = time.perf_counter()
            outcomes = pipeline.process_batch(batch)
            spent += time.perf_counter() - started
            packets += len(outcomes)
            if any(outcome.kind != "forward" for outcome in outcomes):
                sys.exit("a valid packet was refused: these numbers would mean nothing")
        return packets / spent


def main() -> None:
    """Measure and print."""
    report = {
        "machine": {"cpus": os.cpu_count(), "system": platform.platform()},
        "version": betanet.__version__,
        "summary": {f"python_batch_per_s_{n}": round(measure(n)) for n in (1, 2)},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
