"""Fifty nodes of the Bluetooth mesh over virtual adapters, in real time, on one processor.

Each node is all that a person runs, at the pace that the app has, over bumble's HCI, ACL and GATT.
Some neighbours hear each other, up to six hops apart; then a hundred messages are said to all, one
in so many seconds. Prints one JSON object: seconds until everybody had heard of everybody, of the
messages the share of pairs of message and node that arrived and seconds from word to ear, and
percents of one processor. With ``--keep`` it goes to ``benches/results/bluetooth.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from random import Random
from typing import Final

from benches.origin import origin
from fog_compute.p2p.bitchat.ble_transport import BitChatTransport
from fog_compute.p2p.bitchat.mesh.engine import Mesh
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.core.transport import Arrival, Reach, Reachability
from fog_compute.testing.ether import Ether
from fog_compute.testing.mesh.topologies import RangeModel, hops_from, scattered

RESULTS = Path(__file__).parent / "results" / "bluetooth.json"
NODES: Final = 50
MESSAGES: Final = 100
HOPS: Final = 6
LIMIT_S: Final = 60.0


class Node:
    """A transport that is read all the time, and when it heard what."""

    def __init__(self, ether: Ether, number: int) -> None:
        self.transport = BitChatTransport(
            Identity.new(), name=f"node {number}", radio=ether.radio(number, interval_ms=250.0)
        )
        self.near: set[str] = set()
        self.heard: dict[str, float] = {}
        self.twice = 0
        self.reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        await self.transport.initialize()
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            match await self.transport.receive():
                case Arrival(_, message, _, _):
                    self.twice += int(message.text in self.heard)
                    self.heard[message.text] = time.monotonic()
                case Reachability(_, peer, reach):
                    (self.near.discard if reach is Reach.NONE else self.near.add)(peer)

    async def stop(self) -> None:
        """End."""
        if self.reader is not None:
            self.reader.cancel()
        await self.transport.shutdown()


def meshes(nodes: list[Node]) -> list[Mesh]:
    """The engines."""
    return [node.transport.mesh for node in nodes if node.transport.mesh is not None]


def counted(nodes: list[Node], what: str) -> int:
    """A counter of all engines together."""
    return sum(mesh.counts[what] for mesh in meshes(nodes))


async def measured(every_s: float) -> dict[str, float]:
    """Form the mesh, and let it talk."""
    near = scattered(NODES, 12.0, seed=1, model=RangeModel(links=14)).neighbours()
    far = max(hops or 0 for one in range(NODES) for hops in hops_from(near, one))
    if far > HOPS:
        raise SystemExit(f"the nodes are {far} hops apart")
    ether = Ether(lambda one, other: other in near[one], again_s=2.0)
    nodes = [Node(ether, number) for number in range(NODES)]
    begun, processor = time.monotonic(), time.process_time()
    await asyncio.gather(*(node.start() for node in nodes))
    while any(len(node.near) < NODES - 1 for node in nodes):
        await asyncio.sleep(0.1)
    formed, forming = time.monotonic(), time.process_time()
    frames, rng, said = counted(nodes, "sent"), Random(1), dict[str, float]()
    for number in range(MESSAGES):
        text = f"message {number} " + rng.randbytes(40).hex()
        said[text] = time.monotonic()
        body = DecentralizedMessage(body=text.encode(), id=f"{number}")
        await rng.choice(nodes).transport.broadcast(body)
        await asyncio.sleep(max(0.0, formed + (number + 1) * every_s - time.monotonic()))
    expected, limit = MESSAGES * (NODES - 1), time.monotonic() + LIMIT_S
    while sum(len(node.heard) for node in nodes) < expected and time.monotonic() < limit:
        await asyncio.sleep(0.1)
    ended, talking = time.monotonic(), time.process_time()
    frames = counted(nodes, "sent") - frames
    took = sorted(at - said[text] for node in nodes for text, at in node.heard.items())
    found = {
        "forming_s": formed - begun,
        "forming_percent": (forming - processor) / (formed - begun) * 100,
        "links": sum(len(mesh.peers.linked) for mesh in meshes(nodes)) / 2,
        "talking_s": ended - formed,
        "talking_percent": (talking - forming) / (ended - formed) * 100,
        "arrived": len(took) / expected,
        "twice": sum(node.twice for node in nodes),
        "p50_s": took[len(took) // 2],
        "p99_s": took[len(took) * 99 // 100],
        "slowest_s": took[-1],
        "frames_per_s": frames / (ended - formed),
        "frame_us": (talking - forming) / frames * 1e6,
    }
    await asyncio.gather(*(node.stop() for node in nodes))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two messages")
    parser.add_argument("--keep", action="store_true", help="keep the figures among the results")
    options = parser.parse_args()
    found = asyncio.run(measured(options.every))
    summary = {what: round(value, 3) for what, value in found.items()}
    report = {**origin("src/fog_compute"), "every_s": options.every, "summary": summary}
    if options.keep:
        RESULTS.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
