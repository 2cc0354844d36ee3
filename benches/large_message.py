"""One end of a large message from Python, for `lossy --python`: from a file and into one.

`python -m benches.large_message send NET DIR TO FILE HOPS`, or `… receive NET DIR FILE`; both print
JSON objects, one a line, as the ends in Rust do.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Final

import betanet

PART: Final = 64 * 1024


def say(**figures: object) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


def peak_mib() -> float:
    """The most resident memory that this process has had."""
    status = Path("/proc/self/status").read_text("ascii")
    [kib] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return round(int(kib) / 1024, 1)


async def send(net: Path, folder: Path, to: str, file: Path, hops: int) -> None:
    """Send a file."""
    async with betanet.Client.open(dir=folder, bootstrap=net, bulk=True) as client:
        await client.send(to, file, hops=hops)
        say(peak_mib=peak_mib(), resent=client.status().packets_resent)


async def receive(net: Path, folder: Path, file: Path) -> None:
    """Receive into a file and compare it with another."""
    async with betanet.Client.open(dir=folder, bootstrap=net, bulk=True) as client:
        say(address=client.address)
        message = await client.receive()
        received = folder.with_name("received")
        await client.save(message, received)
        with received.open("rb") as found, file.open("rb") as wanted:
            part = wanted.read(PART)
            while part:
                if found.read(PART) != part:
                    sys.exit("the message is another one")
                part = wanted.read(PART)
            if found.read(1):
                sys.exit("the message is longer")
        await client.commit(message.id)
        say(peak_mib=peak_mib())
        # The sender may still ask whether all of it came.
        await asyncio.Event().wait()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["send", net, folder, to, file, hops]:
            asyncio.run(send(Path(net), Path(folder), to, Path(file), int(hops)))
        case ["receive", net, folder, file]:
            asyncio.run(receive(Path(net), Path(folder), Path(file)))
        case _:
            sys.exit(__doc__)
