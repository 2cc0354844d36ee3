"""BitChat with programs that others wrote, over bleak and a mock of BlueZ."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fog_compute.p2p.bitchat.ble_transport import BitChatTransport
from fog_compute.p2p.bitchat.radio.bluez import BluezRadio
from fog_compute.p2p.bitchat.radio.bluez_bus import ADAPTER, DEVICE, BluezBus
from fog_compute.p2p.bitchat.radio.bluez_reasons import CallFailed
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import (
    DecentralizedMessage,
    DeliveryState,
    MessageKind,
    Receipt,
)
from fog_compute.p2p.core.transport import (
    Arrival,
    Outcome,
    OutcomeState,
    Reach,
    Reachability,
    TransportEvent,
    TransportUnavailable,
)
from tests.interop.bluez_mock import ADAPTERS, BluezMock

OURS, THEIRS = "hci0", "hci1"
SIMPLE = Path(__file__).parent / "simple_client.py"


class Us:
    """Our transport, and a transcript of what happened."""

    def __init__(self) -> None:
        self.identity = Identity.new()
        self.book = PeerBook(own=self.identity.fingerprint)
        self.transport = BitChatTransport(
            self.identity, name="fog", book=self.book, radio=BluezRadio(OURS)
        )
        self.told: list[TransportEvent] = []
        self.reader: asyncio.Task[None] | None = None
        self.begun = time.perf_counter()

    async def start(self) -> None:
        async with asyncio.timeout(20):
            while True:
                try:
                    await self.transport.initialize()
                    break
                except TransportUnavailable:
                    await asyncio.sleep(0.05)
        self.reader = asyncio.create_task(self._read())
        self.note("we are on the air")

    async def shown(self) -> None:
        """Let the mock forget us until we are connected to.

        It tells of a device once, and bleak may not be listening yet; BlueZ tells of it again and
        again.
        """
        bus = BluezBus(lambda: None)
        await bus.open()
        async with asyncio.timeout(30):
            while not any(isinstance(event, Reachability) for event in self.told):
                await asyncio.sleep(0.7)
                with contextlib.suppress(CallFailed):
                    device = f"/org/bluez/{THEIRS}/dev_{ADAPTERS[0].replace(':', '_')}"
                    if not bus.get(device, DEVICE, "Connected"):
                        await bus.call(f"/org/bluez/{THEIRS}", ADAPTER, "RemoveDevice", "o", device)
        await bus.close()

    def note(self, what: str) -> None:
        print(f"{time.perf_counter() - self.begun:6.2f} s  {what}")  # noqa: T201 - a transcript

    async def _read(self) -> None:
        while True:
            event = await self.transport.receive()
            self.note(f"we hear {event}")
            self.told.append(event)

    async def hears(self, kind: type[TransportEvent], **wanted: object) -> Any:
        async with asyncio.timeout(45):
            while True:
                for event in self.told:
                    if isinstance(event, kind) and all(
                        getattr(getattr(event, "message", event), name) == value
                        for name, value in wanted.items()
                    ):
                        return event
                await asyncio.sleep(0.02)

    def message(self, body: bytes, number: int, **more: Any) -> DecentralizedMessage:
        now_ms = int(time.time() * 1000)
        return DecentralizedMessage(
            body=body,
            id=f"{self.identity.fingerprint[:24]}{number:08x}",
            sender=self.identity.fingerprint,
            created_ms=now_ms,
            expires_ms=now_ms + 600_000,
            **more,
        )


@pytest_asyncio.fixture
async def us(bluez: BluezMock) -> AsyncIterator[Us]:
    ours = Us()
    await ours.start()
    yield ours
    if ours.reader is not None:
        ours.reader.cancel()
    await ours.transport.shutdown()


class Simple:
    """python-bitchat-client."""

    def __init__(self, bluez: BluezMock) -> None:
        self.process = bluez.run(SIMPLE, name="simple", seed=bluez.seed(THEIRS))
        self.told: list[dict[str, Any]] = []

    def ask(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := await asyncio.to_thread(self.process.stdout.readline):
            self.told.append(json.loads(line))

    async def says(self, us: Us, **wanted: object) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while True:
                for one in self.told:
                    if all(one.get(name) == value for name, value in wanted.items()):
                        us.note(f"they say {one}")
                        return one
                await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_python_bitchat_client_announces_and_talks_with_us(us: Us, bluez: BluezMock) -> None:
    them = Simple(bluez)
    reading = asyncio.create_task(them.read())
    await us.shown()
    await them.says(us, kind="status", code="connected")
    near = await us.hears(Reachability, reach=Reach.DIRECT)
    peer = us.book.get(near.peer)
    assert peer is not None
    assert peer.name == "simple", "an announce of theirs whose signature holds"

    them.ask("say hello from elsewhere")
    arrival: Arrival = await us.hears(Arrival, body=b"hello from elsewhere")
    assert arrival.message.sender == near.peer
    assert not arrival.sender_verified  # an announce alone shows nobody

    assert await us.transport.broadcast(us.message(b"hello from here", 0)) >= 1
    await them.says(us, kind="message", text="hello from here")
    us_there = [us.identity.peer_id, "fog"]
    async with asyncio.timeout(30):
        while not any(us_there in one["peers"] for one in them.told if "peers" in one):
            them.ask("peers")
            await asyncio.sleep(0.2)
    us.note("they know us by our announce")

    secret = us.message(b"a secret", 1)
    for _ in range(3):  # as the outbox does
        us.told = [event for event in us.told if not isinstance(event, Outcome)]
        await us.transport.send(secret, near.peer)
        outcome: Outcome = await us.hears(Outcome, message_id=secret.id)
        if outcome.state is OutcomeState.ACCEPTED:
            break
    assert (await them.says(us, kind="message", text="a secret"))["private"]
    them.ask("dm fog a secret of theirs")
    arrival = await us.hears(Arrival, body=b"a secret of theirs")
    assert arrival.message.receiver_id == us.identity.fingerprint
    them.ask("end")
    reading.cancel()


class Agents:
    """bitchat4agents: a daemon, and commands that ask it."""

    def __init__(self, bluez: BluezMock) -> None:
        self.bluez = bluez
        (bluez.folder / "shim").mkdir()
        (bluez.folder / "shim" / "libdispatch.py").touch()  # it is Apple's, and not used
        self.seed = bluez.seed(THEIRS)
        self.daemon = self._run("daemon-run", "--nickname", "agent", "--scan-interval", "1")

    def _run(self, *arguments: str) -> subprocess.Popen[str]:
        return self.bluez.run(
            "-m", "bitchat_cli.cli", *arguments, name=f"agents-{arguments[0]}", seed=self.seed
        )

    async def ask(self, *arguments: str) -> str:
        process = self._run(*arguments)
        out, _ = await asyncio.to_thread(process.communicate, None, 20)
        return out

    async def has(self, us: Us, text: str, *arguments: str) -> str:
        async with asyncio.timeout(40):
            while True:
                out = await self.ask(*arguments)
                if text in out:
                    us.note(f"they show {text!r} for `{' '.join(arguments)}`")
                    return out
                await asyncio.sleep(0.2)


@pytest.mark.asyncio
async def test_bitchat4agents_talks_in_private_with_receipts(
    us: Us, bluez: BluezMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(bluez.folder / "shim"))
    them = Agents(bluez)
    await us.shown()
    near = await us.hears(Reachability, reach=Reach.DIRECT)
    peer = us.book.get(near.peer)
    assert peer is not None
    assert peer.name == "agent"
    await them.has(us, "fog", "peers", "--json")

    await us.transport.broadcast(us.message(b"public from here", 0))
    await them.has(us, "public from here", "inbox", "--json")
    us.note(f"they answer {(await them.ask('send', 'public from elsewhere')).strip()}")
    await us.hears(Arrival, body=b"public from elsewhere")

    said = us.message(b"private from here", 1)
    await us.transport.send(said, near.peer)
    await us.hears(Outcome, message_id=said.id, state=OutcomeState.ACCEPTED)
    await them.has(us, "private from here", "dm", "history", "@fog", "--json")
    receipt = Receipt(DeliveryState.DELIVERED, (said.id,)).encode()
    arrival: Arrival = await us.hears(Arrival, body=receipt)
    assert (arrival.message.kind, arrival.message.sender) == (MessageKind.RECEIPT, near.peer)

    us.note(f"they answer {(await them.ask('dm', 'send', '@fog', 'private reply')).strip()}")
    arrival = await us.hears(Arrival, body=b"private reply")
    assert arrival.message.receiver_id == us.identity.fingerprint
    back = Receipt(DeliveryState.DELIVERED, (arrival.message.id,)).encode()
    answer = us.message(back, 2, kind=MessageKind.RECEIPT)
    assert (await us.transport.send(answer, near.peer)).state is OutcomeState.ACCEPTED
    await them.has(us, "delivered", "dm", "history", "@fog", "--json")
