"""Two people in two processes, over the mixnet and from hand to hand, whatever goes in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Self

import pytest

from fog_compute.p2p.core.identity import IdentityFile
from fog_compute.p2p.core.messages import DeliveryState
from fog_compute.p2p.store_book import StoreBook
from fog_compute.store import Store
from tests.integration.conftest import scripts_folder

pytestmark = pytest.mark.asyncio

ROOT = Path(__file__).resolve().parents[2]


class Air:
    """Forwards what is said from hand to hand, unless they are apart, and loses some of it."""

    def __init__(self, path: Path, rng: Random, lost: float) -> None:
        self.path = path
        self.rng = rng
        self.lost = lost
        self.near = True
        self.carried = 0
        self._there: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=2**24)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        for writer in self._there:
            writer.close()
        self._server.close()

    def set_near(self, near: bool) -> None:
        self.near = near
        self._say()

    def _say(self) -> None:
        both = len(self._there) == 2
        for writer in self._there:
            line = {"type": "Frame", "near": self.near and both}
            writer.write(json.dumps(line).encode() + b"\n")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._there.append(writer)
        self._say()
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                for other in self._there:
                    if other is not writer and self.near and self.rng.random() >= self.lost:
                        other.write(line)
                        self.carried += 1
        self._there.remove(writer)
        writer.close()
        self._say()


class Talker:
    """One of the two, who can be killed and started again."""

    def __init__(self, folder: Path, name: str, other: str, net: Path, air: Air, pause: float):
        self.home = folder / name
        self.words: list[str | Path] = [
            *(sys.executable, "-m", "tests.integration.talker", self.home, net, air.path),
            folder / other / "card",
        ]
        self.pause = pause
        self.said = -1
        self.shown: list[int] = []
        self.deaths = 0
        self.process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, count: int) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *self.words,
            str(count),
            str(self.pause),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reading = asyncio.create_task(self._read(self.process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        self.shown = []
        while line := await process.stdout.readline():
            told = json.loads(line)
            self.said = told.get("said", self.said)
            if "shown" in told:
                self.shown.append(told["shown"])

    def order(self, what: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(what.encode() + b"\n")

    async def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        assert self.process is not None
        assert self._reading is not None
        self.process.send_signal(how)
        await self.process.wait()
        await self._reading
        self.deaths += 1

    async def log(self) -> tuple[list[int], list[int], list[DeliveryState]]:
        """What it said, what it was shown, and how what it said ended; it must not run."""
        identity, _ = IdentityFile(self.home / "identity.json").load_or_make()
        async with await Store.open(self.home / "fog.db") as store:
            book = StoreBook(store.messages, identity.fingerprint)
            log = await book.log(0, 100_000)
        said = [int(one.message.text) for one in log if one.outgoing]
        shown = [int(one.message.text) for one in log if not one.outgoing]
        return said, shown, [state for one in log for state in one.states.values()]


async def until(what: str, condition: Callable[[], bool], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"{what} took longer than {seconds} s")


@contextlib.asynccontextmanager
async def two(
    folder: Path, net: Path, count: int, pause: float, lost: float
) -> AsyncIterator[tuple[Talker, Talker, Air]]:
    async with Air(folder / "radio", Random(7), lost) as air:
        people = (
            Talker(folder, "ann", "bob", net, air, pause),
            Talker(folder, "bob", "ann", net, air, pause),
        )
        try:
            for person in people:
                await person.start(count)
            yield (*people, air)
        finally:
            for person in people:
                if person.process is not None and person.process.returncode is None:
                    await person.end()


async def check(people: tuple[Talker, Talker], count: int) -> None:
    expected = list(range(count))
    for person in people:
        said, shown, states = await person.log()
        assert said == expected
        assert shown == expected
        # The last receipts may have been on their way when both were ended.
        assert states.count(DeliveryState.DELIVERED) >= count - 64


async def test_conversation_goes_on_over_what_there_is(localnet: Path, tmp_path: Path) -> None:
    """INV-P2P-04, INV-P2P-05, INV-P2P-06: the mixnet goes, then the radio, and one is killed."""
    count = 60
    async with two(tmp_path, localnet, count, 0.01, lost=0.1) as (ann, bob, air):
        await until("the first messages", lambda: min(ann.said, bob.said) >= 10, 60)
        ann.order("internet off")
        await until("more", lambda: ann.said >= 25, 30)
        air.set_near(False)
        await bob.end()
        await bob.start(count)
        ann.order("internet on")
        await until("the rest", lambda: min(ann.said, bob.said) >= count - 1, 30)
        air.set_near(True)

        def arrived() -> bool:
            return len(ann.shown) == len(bob.shown) == count

        await until("all messages to arrive", arrived, 60)
    await check((ann, bob), count)


class OwnNet:
    """A local net that can be killed, and comes back where it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            scripts_folder() / "betanet",
            *("localnet", "run", "--dir", self.folder, "--mean-delay", "2ms"),
            *("--die-with-parent", "--json"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            assert json.loads(await self._process.stdout.readline())["event"] == "ready"

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        await asyncio.sleep(2)  # until its nodes have seen that their parent is gone


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
async def test_thousand_messages_survive_the_loss_of_the_internet_and_of_everybody(
    tmp_path: Path, seed: int
) -> None:
    """INV-P2P-04, INV-P2P-05, INV-P2P-06."""
    count, rng = 1000, Random(seed)
    net = OwnNet(tmp_path / "net")
    await net.start()
    try:
        async with two(tmp_path, tmp_path / "net" / "net.json", count, 0.05, lost=0.1) as (
            ann,
            bob,
            air,
        ):

            def said() -> int:
                return min(ann.said, bob.said)

            await until("the start", lambda: said() >= 100, 60)
            await net.kill()  # nobody has internet; the radio goes on
            await until("more by radio", lambda: said() >= 300, 120)
            air.set_near(False)  # and now nothing
            await until("more into the outbox", lambda: said() >= 450, 120)
            await net.start()
            for person in (ann, bob, ann, bob):
                await asyncio.sleep(rng.uniform(1, 5))
                await person.end()
                await asyncio.sleep(rng.uniform(0, 2))
                await person.start(count)
            await until("more by the mixnet", lambda: said() >= 700, 240)
            air.set_near(True)
            await net.kill()
            await ann.end()
            await ann.start(count)
            await until("all to be said", lambda: said() >= count - 1, 240)
            await net.start()

            def arrived() -> bool:
                return len(ann.shown) == len(bob.shown) == count

            await until("all messages to arrive", arrived, 240)
            deaths = ann.deaths + bob.deaths
        await check((ann, bob), count)
        assert deaths == 5
    finally:
        await net.kill()
