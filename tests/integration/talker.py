"""A person in a process of its own: says numbers to another one, and hears theirs.

Run by tests as ``python -m tests.integration.talker HOME NET RADIO PEER_CARD COUNT PAUSE``. It
counts on from what its log says, so that it may be killed and started again at any time. RADIO is a
socket on which messages go from hand to hand while somebody forwards them; lines on standard input,
``internet off`` and ``internet on``, take the mixnet away and give it back.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from fog_compute.p2p.core.cards import ContactCard
from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.core.transport import (
    Arrival,
    Outcome,
    OutcomeState,
    Reach,
    Reachability,
    TransportCapabilities,
    TransportEvent,
    TransportType,
    TransportUnavailable,
)
from fog_compute.p2p.unified import UnifiedDecentralizedSystem, UnifiedP2PConfig
from fog_compute.store import Store
from fog_compute.vpn.betanet import BetanetService

BLE, HTX = TransportType.BITCHAT_BLE, TransportType.BETANET_HTX


class Frame(msgspec.Struct, tag=True):
    """What goes over the socket: a message, or whether the other one is near."""

    message: DecentralizedMessage | None = None
    near: bool | None = None


class SocketRadio:
    """Stands for Bluetooth: whatever is written may be lost, and there is no word of it."""

    def __init__(self, path: str, peer: str) -> None:
        self._path = path
        self._peer = peer
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None
        self._near = False

    @property
    def type(self) -> TransportType:
        return BLE

    async def initialize(self) -> None:
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(self._path, limit=2**24)
        except OSError as error:
            raise TransportUnavailable(f"no radio: {error}") from error

    async def send(
        self, message: DecentralizedMessage, destination: str, *, attempt: int = 0
    ) -> Outcome:
        if self._writer is None or not self._near:
            return Outcome(message.id, destination, OutcomeState.FAILED, "nobody is near")
        self._writer.write(msgspec.json.encode(Frame(message)) + b"\n")
        await self._writer.drain()
        return Outcome(message.id, destination, OutcomeState.ACCEPTED)

    async def broadcast(self, message: DecentralizedMessage) -> int:
        return int((await self.send(message, "")).state is OutcomeState.ACCEPTED)

    async def receive(self) -> TransportEvent:
        assert self._reader is not None
        while line := await self._reader.readline():
            frame = msgspec.json.decode(line, type=Frame)
            if frame.message is not None:
                return Arrival(BLE, frame.message, sender_verified=True)
            self._near = bool(frame.near)
            return Reachability(BLE, self._peer, Reach.DIRECT if self._near else Reach.NONE)
        raise TransportUnavailable("the radio is gone")

    async def confirm(self, arrival: Arrival) -> None:
        pass

    async def shutdown(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def get_capabilities(self) -> TransportCapabilities:
        return TransportCapabilities(True, 2**20, True, False, "low", mtu=517)


async def card_of(path: Path) -> ContactCard:
    while True:
        try:
            return ContactCard.parse((await asyncio.to_thread(path.read_bytes)).decode("ascii"))
        except (OSError, ValueError):
            await asyncio.sleep(0.02)


def tell(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def obey(system: UnifiedDecentralizedSystem) -> None:
    """Take orders from standard input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    mixnet = system.manager.get_transport(HTX)
    while line := await reader.readline():
        if line == b"internet off\n":
            await system.manager.unregister_transport(HTX)
        elif line == b"internet on\n":
            system.manager.register_transport(HTX, mixnet)


async def talk(system: UnifiedDecentralizedSystem, peer: str, count: int, pause: float) -> None:
    log = await system.log(limit=100_000)
    said = [int(one.message.text) for one in log if one.outgoing]
    for number in range(max(said, default=-1) + 1, count):
        await system.send_message(DecentralizedMessage(body=b"%d" % number, receiver_id=peer))
        tell(said=number)
        await asyncio.sleep(pause)
    tell(done=True)


async def main(
    home: Path, net: Path, radio: str, peer_card: Path, count: int, pause: float
) -> None:
    config = UnifiedP2PConfig(home / "identity.json", home / "card")
    async with (
        await Store.open(home / "fog.db") as store,
        BetanetService(folder=home / "clients", bootstrap=net) as service,
        UnifiedDecentralizedSystem(service, config, store=store) as system,
    ):
        obeying = asyncio.create_task(obey(system))
        card = await card_of(peer_card)
        system.contacts.add(card, card.issued_ms)
        system.manager.register_transport(BLE, SocketRadio(radio, card.fingerprint))
        talking = asyncio.create_task(talk(system, card.fingerprint, count, pause))
        async for entry in system.arrivals(after=0):
            tell(shown=int(entry.message.text), position=entry.position, late=entry.late)
        await asyncio.gather(talking, obeying)


if __name__ == "__main__":
    place, bootstrap, socket, card_file, number, seconds = sys.argv[1:]
    Path(place).mkdir(exist_ok=True)
    asyncio.run(
        main(Path(place), Path(bootstrap), socket, Path(card_file), int(number), float(seconds))
    )
