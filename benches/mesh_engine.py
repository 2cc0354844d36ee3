"""What the engine of a Bluetooth mesh costs: processor time for each thing that comes and goes.

Prints one JSON object. Microseconds are of one engine with eight links and a hundred peers: for
what came first, for a copy of it, for passing it on over one link, and for a neighbour's question
where a thousand packets are kept; the best of some turns. Beside them, what another implementation
(``bitchat-protocol``) and the same library's Ed25519 take to read and check an announce. KiB are
of an engine that has heard of 200 peers and keeps a thousand packets. Percents of one processor are
of fifty engines together, quiet and with a message a second, over a simulated air whose own share
is in them. With ``--keep`` it goes to ``benches/results/mesh_engine.json``.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Final

import bitchat_protocol as theirs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benches.origin import origin
from fog_compute.p2p.bitchat.events import (
    FrameReceived,
    FrameSent,
    LinkEvent,
    LinkUp,
    SendFrame,
    Wake,
    WakeAt,
)
from fog_compute.p2p.bitchat.mesh.engine import Mesh
from fog_compute.p2p.bitchat.wire.announce import Announce, peer_id, verified_announce
from fog_compute.p2p.bitchat.wire.gcs import build
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet, decode, packet
from fog_compute.p2p.bitchat.wire.padding import pad
from fog_compute.p2p.bitchat.wire.signing import sign
from fog_compute.p2p.bitchat.wire.sync import SyncRequest
from fog_compute.p2p.core.identity import Identity
from fog_compute.testing.mesh.meshes import START, World
from fog_compute.testing.mesh.topologies import scattered

RESULTS = Path(__file__).parent / "results" / "mesh_engine.json"

LINKS: Final = 8
PEERS: Final = 100
TURNS: Final = 7
EACH: Final = 200
"""Packets of a kind in one turn."""
KEPT: Final = 1_000
KIND_AT: Final = 1
"""Where a frame says its kind."""


class Bench:
    """One engine, its neighbours' side of the links, and the time that it takes."""

    def __init__(self, peers: int = PEERS) -> None:
        rng = Random(1)
        self.now = START
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.count: defaultdict[str, int] = defaultdict(int)
        self.mesh = Mesh(Identity(rng.randbytes(32)), "bench", Random(2))
        self.peers = [Identity(rng.randbytes(32)) for _ in range(peers)]
        self.wake = START
        for link in range(1, LINKS + 1):
            self.give("link", LinkUp(link, 512, True))
        for peer in self.peers:
            self.flood("first", self.announce(peer))
        self.spent.clear()
        self.count.clear()

    def announce(self, by: Identity) -> Packet:
        """What a peer says of itself now."""
        names = tuple(peer_id(one.noise_public) for one in self.peers[:LINKS])
        said = Announce("somebody", by.noise_public, by.signing_public, names)
        return self.made(Kind.ANNOUNCE, said.encode(), by)

    def made(self, kind: Kind, payload: bytes, by: Identity) -> Packet:
        """A packet of a peer, signed, with one hop behind it."""
        stamp = int(self.now * 1000)
        return sign(packet(kind, peer_id(by.noise_public), stamp, payload, ttl=6), by)

    def give(self, what: str, event: LinkEvent) -> list[SendFrame]:
        """Let something happen, and count the time for it; the frames that it led to."""
        begun = time.process_time()
        actions = self.mesh.handle(event, self.now)
        took = time.process_time() - begun
        frames = [one for one in actions if isinstance(one, SendFrame)]
        if what == "leave" and any(one.data[KIND_AT] == Kind.REQUEST_SYNC for one in frames):
            what = "ask"
        self.spent[what] += took
        self.count[what] += 1
        self.wake = next((one.at for one in actions if isinstance(one, WakeAt)), self.wake)
        return frames

    def flood(self, what: str, one: Packet) -> None:
        """A packet comes over one link, its copies over some, and it leaves over the others."""
        self.now += 0.05
        frames = self.give(what, FrameReceived(1, one.wire))
        for link in range(2, LINKS - 2):
            frames += self.give("copy", FrameReceived(link, one.wire))
        until = self.now + 0.1
        while self.wake <= until or frames:
            while frames:
                sent = frames.pop()
                frames += self.give("sent", FrameSent(sent.link, sent.token, ok=True))
            if self.wake <= until:
                self.now = max(self.now, self.wake)
                frames = self.give("leave", Wake())
        self.now = until

    def turn(self) -> dict[str, float]:
        """Microseconds for each thing."""
        self.spent.clear()
        self.count.clear()
        rng = Random(3)
        for number in range(EACH):
            self.flood("announce", self.announce(self.peers[number % PEERS]))
            text = rng.randbytes(30).hex().encode()
            self.flood("message", self.made(Kind.MESSAGE, text, rng.choice(self.peers)))
        us = {what: took / self.count[what] * 1e6 for what, took in self.spent.items()}
        relay = (self.spent["leave"] + self.spent["sent"]) / self.count["sent"] * 1e6
        return {
            "announce_us": us["announce"],
            "message_us": us["message"],
            "copy_us": us["copy"],
            "relay_us": relay,
            "ask_us": us["ask"] / LINKS,
        }

    def fill(self, packets: int) -> None:
        """Let messages come until so many packets are kept."""
        rng = Random(4)
        while self.mesh.counts["kept"] < packets:
            text = rng.randbytes(30).hex().encode()
            self.flood("message", self.made(Kind.MESSAGE, text, rng.choice(self.peers)))

    def question(self) -> dict[str, float]:
        """Microseconds to answer a neighbour that lacks a good part."""
        self.fill(KEPT)
        rng = Random(4)
        self.spent.clear()
        self.count.clear()
        kinds = frozenset({Kind.ANNOUNCE, Kind.MESSAGE})
        for number in range(8):
            self.now += 40
            self.give("others", Wake())
            has, _ = build([rng.randbytes(16) for _ in range(250)])
            request = SyncRequest(has, kinds).encode()
            asked = self.made(Kind.REQUEST_SYNC, request, self.peers[number])
            frames = self.give("question", FrameReceived(1, asked.with_ttl(0).wire))
            while frames:
                sent = frames.pop()
                self.now += 0.02
                frames += self.give("answer", FrameSent(sent.link, sent.token, ok=True))
        return {"question_us": self.spent["question"] / self.count["question"] * 1e6}


def memory() -> dict[str, float]:
    """KiB that an engine takes which has heard of 200 peers and keeps a thousand packets."""
    tracemalloc.start()
    bench = Bench(200)
    bench.fill(KEPT)
    gc.collect()
    with_engine, _ = tracemalloc.get_traced_memory()
    bench.mesh = Mesh(Identity(bytes(32)), "nobody", Random(1))
    gc.collect()
    without, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"engine_kib": (with_engine - without) / 1024}


def reading() -> dict[str, float]:
    """Microseconds to read and check an announce, ours and theirs."""
    by = Identity(bytes(32))
    rng = Random(5)
    near = tuple(rng.randbytes(8) for _ in range(LINKS))
    said = Announce("somebody", by.noise_public, by.signing_public, near)
    made = sign(packet(Kind.ANNOUNCE, peer_id(by.noise_public), 1, said.encode()), by)

    def ours() -> None:
        verified_announce(decode(made.wire))

    def peer() -> None:
        read = theirs.decode(made.wire)
        keys = None if read is None else theirs.decode_announcement(read.payload)
        if read is None or keys is None:
            raise SystemExit("bitchat-protocol does not read our announce")
        unsigned = theirs.BitchatPacket(
            version=1,
            type=read.type,
            ttl=0,
            timestamp=read.timestamp,
            flags=0,
            sender_id=read.sender_id,
            payload=read.payload,
        )
        key = Ed25519PublicKey.from_public_bytes(keys.signing_public_key)
        key.verify(made.signature or b"", pad(theirs.encode(unsigned)))  # it does not pad itself

    return {"announce_read_us": best(ours), "peer_announce_read_us": best(peer)}


def best(call: Callable[[], None]) -> float:
    """Microseconds of a call, the best of some turns."""
    turns = []
    for _ in range(TURNS):
        begun = time.process_time()
        for _ in range(EACH):
            call()
        turns.append((time.process_time() - begun) / EACH * 1e6)
    return min(turns)


def fifty() -> dict[str, float]:
    """Percents of a processor that fifty engines take, and frames a second between them."""
    world = World(scattered(50, 12.0, seed=1), 1)
    world.run(10)
    found = {}
    for what, messages in (("quiet", 0), ("talking", 60)):
        frames, begun = world.air.frames, time.process_time()
        if messages:
            world.talk(messages, 1.0, 1, limit_s=0.0)
        else:
            world.run(60)
        found[f"fifty_{what}_percent"] = (time.process_time() - begun) / 60 * 100
        found[f"fifty_{what}_frames_per_s"] = (world.air.frames - frames) / 60
    return found


def least(turns: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of each figure the least."""
    return {what: min(turn[what] for turn in turns) for what in turns[0]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="keep the figures among the results")
    keep = parser.parse_args().keep
    bench = Bench()
    found = least([bench.turn() for _ in range(TURNS)]) | bench.question() | reading()
    found |= memory() | fifty()
    summary = {what: round(value, 1) for what, value in found.items()}
    report = {**origin("src/fog_compute/p2p/bitchat"), "turns": TURNS, "summary": summary}
    if keep:
        RESULTS.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
