"""One person with a virtual Bluetooth adapter behind a socket, in a process of its own.

Run by tests as ``python -m tests.integration.bluetooth_node PORT NAME``: lines of JSON out,
commands in: ``all TEXT``, ``to FINGERPRINT TEXT``, ``end``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from fog_compute.p2p.bitchat.ble_scanner import ScanPolicy
from fog_compute.p2p.bitchat.ble_transport import BitChatTransport
from fog_compute.p2p.bitchat.radio.bumble import BumbleRadio, open_hci
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.core.transport import Arrival, Reachability


def tell(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main(port: str, name: str) -> None:
    identity = Identity.new()
    radio = BumbleRadio(open_hci(f"tcp-client:127.0.0.1:{port}"), interval_ms=50.0)
    transport = BitChatTransport(
        identity, name=name, radio=radio, scan=ScanPolicy(gap_s=(0.0, 0.1))
    )
    await transport.initialize()
    tell(kind="here", fingerprint=identity.fingerprint)

    async def read() -> None:
        while True:
            match await transport.receive():
                case Reachability(_, peer, reach):
                    tell(kind="reach", peer=peer, reach=reach.name)
                case Arrival(_, message, verified, _):
                    tell(
                        kind="heard",
                        text=message.text,
                        sender=message.sender,
                        direct=message.receiver_id == identity.fingerprint,
                        verified=verified,
                    )

    reading = asyncio.create_task(read())
    number = 0
    while line := (await asyncio.to_thread(sys.stdin.readline)).rstrip("\n"):
        command, _, rest = line.partition(" ")
        number += 1
        now_ms = int(time.time() * 1000)
        to, _, text = rest.partition(" ") if command == "to" else ("", "", rest)
        message = DecentralizedMessage(
            body=text.encode(),
            id=f"{identity.fingerprint[:24]}{number:08x}",
            sender=identity.fingerprint,
            created_ms=now_ms,
            expires_ms=now_ms + 60_000,
        )
        if command == "all":
            await transport.broadcast(message)
        elif command == "to":
            await transport.send(message, to)
        else:
            break
    reading.cancel()
    await transport.shutdown()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
