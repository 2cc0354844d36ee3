"""More messages than a small net can carry, until it is killed.

``python -m … NET FOLDER MESSAGES`` says ``{"event": "begun"}`` once both clients have joined.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Final

import betanet

BODY_BYTES: Final = 30_000  # in about twenty packets
SEND_S: Final = 1.0


async def send_all_the_while(alice: betanet.Client, to: str) -> None:
    """Send one message after the other, whatever becomes of them."""
    while True:
        with contextlib.suppress(betanet.BetanetError, TimeoutError):
            async with asyncio.timeout(SEND_S):
                await alice.send(to, os.urandom(BODY_BYTES), hops=3)
        await asyncio.sleep(0)


async def main(net: Path, folder: Path, messages: int) -> None:
    """Have so many messages on their way at once."""
    bob = await betanet.Client.open(dir=folder / "bob", bootstrap=net)
    alice = await betanet.Client.open(dir=folder / "alice", bootstrap=net)
    sys.stdout.write('{"event": "begun"}\n')
    sys.stdout.flush()
    async with asyncio.TaskGroup() as group:
        for _ in range(messages):
            group.create_task(send_all_the_while(alice, bob.address))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
