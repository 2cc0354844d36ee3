"""The mesh over virtual adapters in real time: many nodes, long files, and several processes."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio
from bumble.transport.tcp_server import open_tcp_server_transport_with_socket

from fog_compute.p2p.bitchat.ble_transport import BitChatTransport
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import DecentralizedMessage, MessageKind
from fog_compute.p2p.core.transport import Arrival, OutcomeState, Reach, Reachability
from fog_compute.testing.ether import Ether

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]

ROOT = Path(__file__).resolve().parents[2]
HOPS = 5
"""How far nodes are apart at most: fewer than a packet goes, as not all links are up at once."""


class Node:
    """A transport that is read all the time."""

    def __init__(self, ether: Ether, number: int) -> None:
        self.identity = Identity.new()
        self.number = number
        self.transport = BitChatTransport(
            self.identity,
            name=f"node {number}",
            radio=ether.radio(number, interval_ms=300.0, timeout_s=30.0),
            rng=Random(number),
        )
        self.heard: list[DecentralizedMessage] = []
        self.near: dict[str, Reach] = {}
        self.reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.transport.initialize()
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            match await self.transport.receive():
                case Arrival(_, message, True, _):
                    self.heard.append(message)
                case Reachability(_, peer, reach):
                    self.near[peer] = reach

    async def stop(self) -> None:
        if self.reader is not None:
            self.reader.cancel()
        await self.transport.shutdown()


async def until(condition: Callable[[], object], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


def hops_from(start: int, near: list[list[int]]) -> dict[int, int]:
    hops, todo = {start: 0}, deque([start])
    while todo:
        one = todo.popleft()
        for other in near[one]:
            if other not in hops:
                hops[other] = hops[one] + 1
                todo.append(other)
    return hops


def scattered(count: int, degree: float) -> list[list[int]]:
    """Who hears whom of nodes in a square, such that nobody is further than five hops away."""
    for seed in range(100):
        rng = Random(seed)
        places = [(rng.random(), rng.random()) for _ in range(count)]
        reach = math.sqrt(degree / math.pi / count)
        near: list[list[int]] = [
            [other for other in range(count) if 0 < math.dist(place, places[other]) < reach]
            for place in places
        ]
        if all(len(hops_from(one, near)) == count for one in range(count)) and all(
            max(hops_from(one, near).values()) <= HOPS for one in range(count)
        ):
            return near
    raise AssertionError("no such place in a hundred")


@pytest_asyncio.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    made: list[Node] = []
    yield made
    await asyncio.gather(*(node.stop() for node in made))


async def test_fifty_virtual_nodes_get_a_hundred_messages_each(nodes: list[Node]) -> None:
    near = scattered(50, 12.0)
    ether = Ether(lambda one, other: other in near[one], again_s=2.0)
    nodes.extend(Node(ether, number) for number in range(50))
    await asyncio.gather(*(node.start() for node in nodes))
    # Everybody has heard of everybody: what comes from strangers is parked, not shown.
    await until(lambda: all(len(node.near) == 49 for node in nodes), 600)
    rng, sent = Random(1), dict[str, Node]()

    def have(text: str) -> bool:
        others = (node for node in nodes if node is not sent[text])
        return all(any(one.text == text for one in node.heard) for node in others)

    for number in range(100):
        # Some at a time: how many this machine carries a second depends on what else it does.
        for earlier in list(sent)[-5:-4]:
            await until(partial(have, earlier), 120)
        by = rng.choice(nodes)
        text = f"message {number} " + "x" * 100
        sent[text] = by
        await by.transport.broadcast(DecentralizedMessage(body=text.encode(), id=f"{number}"))
    await until(lambda: all(have(text) for text in sent), 120)
    for node in nodes:
        got = [message.text for message in node.heard]
        assert sorted(got) == sorted(text for text, by in sent.items() if by is not node)


@pytest.mark.parametrize("hops", [1, 3])
async def test_file_of_500_kb_arrives_whole(nodes: list[Node], hops: int) -> None:
    ether = Ether(lambda one, other: abs(one - other) == 1)
    nodes.extend(Node(ether, number) for number in range(hops + 1))
    for node in nodes:
        await node.start()
    first, last = nodes[0], nodes[-1]
    await until(lambda: last.identity.fingerprint in first.near, 60)
    body = Random(hops).randbytes(500_000)
    file = DecentralizedMessage(
        body=body,
        id="f" * 32,
        kind=MessageKind.FILE,
        media_type="image/png",
        name="cat.png",
        created_ms=1_700_000_000_000,
        expires_ms=1_700_000_600_000,
    )
    outcome = await first.transport.send(file, last.identity.fingerprint)
    assert outcome.state is not OutcomeState.FAILED, outcome.reason
    await until(lambda: last.heard, 240)
    assert last.heard[0].body == body
    assert (last.heard[0].name, last.heard[0].id) == ("cat.png", file.id)


class Process:
    """A person in a process of its own."""

    def __init__(self, port: int, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.bluetooth_node", str(port), name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.told: list[dict[str, Any]] = []
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await asyncio.to_thread(self.process.stdout.readline):
            self.told.append(json.loads(line))

    def ask(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    async def says(self, **wanted: object) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [one for one in self.told if wanted.items() <= one.items()]
            return bool(found)

        await until(there, 60)
        return found[0]

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.reader.cancel()


async def test_three_processes_talk_over_one_virtual_link() -> None:
    ether = Ether(lambda one, other: abs(one - other) == 1)
    people: list[Process] = []
    doors = []
    try:
        for number in range(3):
            listening = socket.create_server(("127.0.0.1", 0))
            port = listening.getsockname()[1]
            door = await open_tcp_server_transport_with_socket(listening)
            doors.append((door, listening))
            ether.controller(number, door.source, door.sink)
            people.append(Process(port, f"person {number}"))
        first, middle, last = people
        names = [(await person.says(kind="here"))["fingerprint"] for person in people]
        await first.says(kind="reach", peer=names[1], reach="DIRECT")
        await first.says(kind="reach", peer=names[2], reach="MESH")
        await last.says(kind="reach", peer=names[0])
        for number in range(5):
            first.ask(f"all hello {number}")
            heard = await last.says(kind="heard", text=f"hello {number}")
            assert (heard["sender"], heard["verified"], heard["direct"]) == (names[0], True, False)
        last.ask(f"to {names[0]} for you alone")
        heard = await first.says(kind="heard", text="for you alone")
        assert (heard["sender"], heard["direct"]) == (names[2], True)
        assert not [one for one in middle.told if one.get("text") == "for you alone"]
        for person in people:
            person.ask("end")
            assert await asyncio.to_thread(person.process.wait, 20) == 0
    finally:
        for person in people:
            person.end()
        for door, listening in doors:
            await door.close()
            listening.close()
