"""What messages between people take over the mixnet, beside the delays that its nodes owe.

Starts a local network and two people in this process, each with a store on disk. One writes, one
message after the other, and each is timed from before it is sent until it is in the other's log;
so do two clients of the mixnet alone, with nothing kept. Then a thousand go at once, and a file of
10 MB. Prints one JSON object; `--keep` adds it to `benches/results/messaging.json`, too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Final

import betanet
from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.core.manager import TransportPhase
from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState, MessageKind
from fog_compute.p2p.core.transport import TransportType
from fog_compute.p2p.htx.client import HtxClient
from fog_compute.p2p.unified import UnifiedDecentralizedSystem, UnifiedP2PConfig
from fog_compute.store import Store
from fog_compute.vpn.betanet import BetanetService

LEVEL: Final = PrivacyLevel.PRIVATE
MEAN_DELAY_MS: Final = 15.0
MESSAGES: Final = 500
"""Delays of 15 ms scatter the median of so many by 1.4 ms."""

FLOOD: Final = 1000
FILE_BYTES: Final = 10_000_000
RUNS: Final = 5
"""Of which the figures are kept."""

RESULTS: Final = Path(__file__).with_name("results") / "messaging.json"


def owed_median_ms(hops: int, mean_ms: float) -> float:
    """The median of the delays of a path: of a sum of so many exponential ones."""
    low, high = 0.0, 100.0
    for _ in range(100):
        x = (low + high) / 2
        below = 1 - math.exp(-x) * sum(x**k / math.factorial(k) for k in range(hops))
        low, high = (x, high) if below < 0.5 else (low, x)
    return mean_ms * low


def start(folder: Path) -> subprocess.Popen[str]:
    """The network, once it is ready."""
    program = Path(sys.executable).with_name("betanet")
    command = [
        *(str(program), "localnet", "run", "--dir", str(folder), "--json", "--die-with-parent"),
        *("--mean-delay", f"{MEAN_DELAY_MS:g}ms"),
    ]
    net = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if net.stdout is None or '"ready"' not in net.stdout.readline():
        net.kill()
        sys.exit("the local network did not come up")
    return net


@contextlib.asynccontextmanager
async def person(folder: Path, bootstrap: Path) -> AsyncIterator[UnifiedDecentralizedSystem]:
    """Somebody with a home."""
    config = UnifiedP2PConfig(folder / "identity.json", folder / "card", level=LEVEL)
    async with (
        await Store.open(folder / "fog.db") as store,
        BetanetService(folder=folder / "clients", bootstrap=bootstrap) as service,
        UnifiedDecentralizedSystem(service, config, store=store) as system,
    ):
        yield system


async def meet(one: UnifiedDecentralizedSystem, other: UnifiedDecentralizedSystem) -> None:
    """Let each know the other's card, once there is one."""
    for mine, theirs in ((one, other), (other, one)):
        htx = theirs.manager.get_transport(TransportType.BETANET_HTX)
        if not isinstance(htx, HtxClient):
            sys.exit("the transport of the mixnet is another one")
        async with asyncio.timeout(60):
            while theirs.manager.health()[htx.type].phase is not TransportPhase.RUNNING:
                await asyncio.sleep(0.05)
        if htx.card is not None:
            mine.contacts.add(htx.card, htx.card.issued_ms)


async def clients_alone(folder: Path, bootstrap: Path) -> list[float]:
    """Milliseconds from send to receive, without anything above the mixnet's client."""
    took = []
    async with (
        betanet.Client.open(dir=folder / "x", bootstrap=bootstrap, hops=LEVEL.hops) as sender,
        betanet.Client.open(dir=folder / "y", bootstrap=bootstrap, hops=LEVEL.hops) as receiver,
    ):
        for number in range(MESSAGES):
            began = time.perf_counter()
            sending = asyncio.create_task(sender.send(receiver.address, b"%d" % number))
            message = await receiver.receive()
            took.append((time.perf_counter() - began) * 1000)
            await receiver.commit(message.id)
            await sending
    return took


async def one_by_one(
    ann: UnifiedDecentralizedSystem, bob: UnifiedDecentralizedSystem
) -> list[float]:
    """Milliseconds from before a message is sent until the other's log has it."""
    took = []
    log = bob.arrivals()
    for number in range(MESSAGES):
        began = time.perf_counter()
        waiting = asyncio.ensure_future(anext(log))
        await ann.send_message(
            DecentralizedMessage(body=b"%d" % number, receiver_id=bob.identity.fingerprint)
        )
        await waiting
        took.append((time.perf_counter() - began) * 1000)
    await log.aclose()
    return took


async def many(ann: UnifiedDecentralizedSystem, bob: UnifiedDecentralizedSystem) -> float:
    """Messages a second when all are said at once, until each sender was told of its delivery."""
    began = time.perf_counter()
    seen = ann.progress()
    message = DecentralizedMessage(body=b"x" * 100, receiver_id=bob.identity.fingerprint)
    await asyncio.gather(*(ann.send_message(message) for _ in range(FLOOD)))
    delivered = 0
    async for step in seen:
        delivered += step.state is DeliveryState.DELIVERED
        if delivered == FLOOD:
            break
    return FLOOD / (time.perf_counter() - began)


async def file(ann: UnifiedDecentralizedSystem, bob: UnifiedDecentralizedSystem) -> float:
    """Seconds until a file is in the other's log."""
    body = Random(7).randbytes(FILE_BYTES)
    log = bob.arrivals()
    waiting = asyncio.ensure_future(anext(log))
    began = time.perf_counter()
    await ann.send_message(
        DecentralizedMessage(
            body=body,
            receiver_id=bob.identity.fingerprint,
            kind=MessageKind.FILE,
            media_type="application/octet-stream",
            name="film.bin",
        )
    )
    entry = await waiting
    took = time.perf_counter() - began
    if entry.message.body != body:
        sys.exit("the file is another one")
    await log.aclose()
    return took


async def measure(folder: Path) -> dict[str, float]:
    """All figures."""
    bootstrap = folder / "net" / "net.json"
    alone = await clients_alone(folder, bootstrap)
    for name in ("ann", "bob"):
        (folder / name).mkdir()
    async with person(folder / "ann", bootstrap) as ann, person(folder / "bob", bootstrap) as bob:
        await meet(ann, bob)
        took = await one_by_one(ann, bob)
        rate = await many(ann, bob)
        seconds = await file(ann, bob)
    owed = owed_median_ms(LEVEL.hops, MEAN_DELAY_MS)
    hundredths = statistics.quantiles(took, n=100)
    p50, alone_p50 = statistics.median(took), statistics.median(alone)
    return {
        "chat_owed_p50_ms": round(owed, 2),
        "chat_p50_ms": round(p50, 2),
        "chat_p90_ms": round(hundredths[89], 2),
        "chat_p99_ms": round(hundredths[98], 2),
        "chat_beside_owed_ms_a_hop": round((p50 - owed) / LEVEL.hops, 2),
        "chat_client_beside_owed_ms_a_hop": round((alone_p50 - owed) / LEVEL.hops, 2),
        "chat_delivered_per_s": round(rate, 1),
        "chat_file_mb_per_s": round(FILE_BYTES / 1e6 / seconds, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help=f"write {RESULTS.name}")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as place:
        net = start(Path(place) / "net")
        try:
            figures = asyncio.run(measure(Path(place)))
        finally:
            net.kill()
            net.wait()
    if keep:
        from benches.origin import origin  # started by its path, this is no module of a package

        runs = json.loads(RESULTS.read_text("utf-8"))["runs"] if RESULTS.exists() else []
        load = {"load_average": round(os.getloadavg()[0], 2)}
        runs.append({**origin("crates", "src", "Cargo.lock"), **load, "summary": figures})
        found = {"command": "python -m benches.messaging --keep", "runs": runs[-RUNS:]}
        RESULTS.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    sys.stdout.write(json.dumps({"summary": figures}) + "\n")


if __name__ == "__main__":
    main()
