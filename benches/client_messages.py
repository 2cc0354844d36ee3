"""How many messages per second Python sends through a local network, each of them acknowledged.

Starts `betanet localnet run` beside the interpreter, opens two clients, and keeps many messages of
1 KiB under way with `asyncio.gather` until the time is over. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import betanet

SECONDS = 10.0
UNDER_WAY = 512
BODY = bytes(1024)
HOPS = 3
PATIENCE = 30.0


def start(folder: Path) -> subprocess.Popen[str]:
    """The network, once it is ready."""
    program = Path(sys.executable).with_name("betanet")
    command = [str(program), "localnet", "run", "--dir", str(folder), "--json", "--die-with-parent"]
    net = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if net.stdout is None or '"ready"' not in net.stdout.readline():
        net.kill()
        sys.exit("the local network did not come up")
    return net


async def keep_sending(client: betanet.Client, to: str, until: float) -> list[str]:
    """Send one message after the other."""
    sent = []
    while time.monotonic() < until:
        sent.append(await client.send(to, BODY, hops=HOPS))
    return sent


async def keep_count(client: betanet.Client, received: set[str], news: asyncio.Event) -> None:
    """Note what comes, and give it back."""
    while True:
        message = await client.receive()
        received.add(message.id)
        news.set()
        await client.commit(message.id)


async def measure(folder: Path, bootstrap: Path) -> dict[str, float]:
    """Messages per second and how many of them were lost."""
    received: set[str] = set()
    news = asyncio.Event()
    async with (
        betanet.Client.open(dir=folder / "to", bootstrap=bootstrap) as receiver,
        betanet.Client.open(dir=folder / "from", bootstrap=bootstrap) as sender,
    ):
        counting = asyncio.create_task(keep_count(receiver, received, news))
        started = time.monotonic()
        sending = (
            keep_sending(sender, receiver.address, started + SECONDS) for _ in range(UNDER_WAY)
        )
        sent = {name for names in await asyncio.gather(*sending) for name in names}
        took = time.monotonic() - started
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not sent <= received:
                    news.clear()
                    await news.wait()
        counting.cancel()
    return {
        "py_client_msgs_per_s": round(len(sent) / took, 3),
        "py_client_lost": len(sent - received),
    }


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        net = start(Path(folder) / "net")
        try:
            figures = asyncio.run(measure(Path(folder), Path(folder) / "net" / "net.json"))
        finally:
            if net.stdin is not None:
                net.stdin.close()
            net.wait()
    json.dump({"summary": figures}, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
