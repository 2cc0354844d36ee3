"""Two clients of a network that talk until they are told to leave.

``python -m … NET FOLDER FIRST``: Alice sends numbers from FIRST on, each under an id of its own,
again until it is sent; Bob commits what he receives. One JSON object a line says ``{"sent": n}``
and ``{"got": n}``. The end of standard input ends Alice's sending; both leave when Bob has waited
in vain for a while.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import betanet

PAUSE_S = 0.1
AGAIN_S = 0.2
QUIET_S = 2.0


def say(what: str, value: object) -> None:
    """Write one event."""
    sys.stdout.write(json.dumps({what: value}) + "\n")
    sys.stdout.flush()


async def send_all(alice: betanet.Client, to: str, first: int, leave: asyncio.Event) -> None:
    """Send number after number."""
    number = first
    while not leave.is_set():
        identity = os.urandom(16).hex()
        while True:
            try:
                await alice.send(to, str(number).encode(), id=identity)
            except betanet.BetanetError as error:
                say("trouble", f"{type(error).__name__}: {error}")
                await asyncio.sleep(AGAIN_S)
            else:
                break
        say("sent", number)
        number += 1
        await asyncio.sleep(PAUSE_S)


async def receive_all(bob: betanet.Client, leave: asyncio.Event) -> None:
    """Commit what comes, then say so."""
    while True:
        try:
            message = await asyncio.wait_for(bob.receive(), QUIET_S)
        except TimeoutError:
            if leave.is_set():
                return
            continue
        await bob.commit(message.id)
        say("got", int(message.body))


async def main(net: Path, folder: Path, first: int) -> None:
    """Talk until the end of standard input."""
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(0, leave_at_end_of_input, leave)
    bob = await betanet.Client.open(dir=folder / "bob", bootstrap=net)
    alice = await betanet.Client.open(dir=folder / "alice", bootstrap=net)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(receive_all(bob, leave))
            group.create_task(send_all(alice, bob.address, first, leave))
    finally:
        await alice.close()
        await bob.close()


def leave_at_end_of_input(leave: asyncio.Event) -> None:
    """Nothing is ever written to standard input."""
    if not os.read(0, 1):
        asyncio.get_running_loop().remove_reader(0)
        leave.set()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
