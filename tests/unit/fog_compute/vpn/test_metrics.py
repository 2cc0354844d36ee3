"""What is counted of circuits and of messages: by level and outcome, when it happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any, cast

import pytest
import pytest_asyncio

import betanet
from betanet._aio import Bridge
from fog_compute.errors import ChannelError, ChannelTimeout, ChannelUnanswered
from fog_compute.levels import PrivacyLevel
from fog_compute.observability.metrics import BackendMetrics
from fog_compute.testing import ManualClock, MemoryChannel
from fog_compute.vpn.circuits import LARGEST, Circuit, Cost
from fog_compute.vpn.plans import SMALLEST, PoolPolicy
from fog_compute.vpn.pools import CircuitPool
from fog_compute.vpn.sendings import CountedClient, MessageEnd
from tests.unit.fog_compute.vpn.sources import Source

pytestmark = pytest.mark.asyncio

LEVEL = PrivacyLevel.CONFIDENTIAL
POLICY = PoolPolicy(lifetime_s=40, earliest=0.5, latest=0.75, budget=LARGEST + Cost(100, 45))


async def test_messages_packets_and_rotations_of_circuits_are_counted_at_their_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """fog_circuit_sends_total, fog_circuit_packets_total, fog_circuit_rotations_total."""
    metrics, clock, source = BackendMetrics(), ManualClock(), Source()
    pool = CircuitPool(
        LEVEL, source, policy=POLICY, clock=clock, rng=Random(7), metrics=metrics.circuits
    )
    await pool.join("a")

    async def send(circuit: Circuit, to: str | None = None) -> None:
        await circuit.send(to, b"x" * 4000)

    def counted(name: str, **labels: str) -> float | None:
        return metrics.registry.value(f"fog_circuit_{name}_total", privacy="confidential", **labels)

    def sends() -> list[float | None]:
        outcomes = ("acknowledged", "lost", "failed")
        return [counted("sends", outcome=outcome) for outcome in outcomes]

    await pool.carry("a", SMALLEST, send)
    assert (sends(), counted("packets")) == ([1, 0, 0], 3)
    source.network.loss = 1.0
    with pytest.raises(ChannelTimeout):
        await pool.carry("a", SMALLEST, send)
    assert (sends(), counted("packets")) == ([1, 1, 0], 6)
    source.network.loss = 0.0
    with pytest.raises(ChannelError, match="nobody"):
        await pool.carry("a", SMALLEST, lambda circuit: send(circuit, "nobody"))
    assert (sends(), counted("packets")) == ([1, 1, 1], 9)

    monkeypatch.setattr(MemoryChannel, "request", unanswered)
    with pytest.raises(ChannelUnanswered):
        await pool.carry("a", SMALLEST, ask)
    assert sends() == [2, 1, 1]  # the circuit has done its part
    monkeypatch.undo()

    asking = asyncio.ensure_future(pool.carry("a", SMALLEST, ask))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert sends() == [2, 1, 1]  # nobody knows what became of what was given up

    assert counted("rotations") == 0
    await clock.advance(30)
    await pool.carry("a", SMALLEST, send)
    assert counted("rotations") == 1
    assert metrics.registry.value("fog_circuit_packets_total", privacy="private") == 0


async def unanswered(*_: object, **__: object) -> bytes:
    raise ChannelUnanswered("no answer in time, though it has arrived")


async def ask(circuit: Circuit) -> None:
    await circuit.request(circuit.address, b"question", timeout=1000)


class Core:
    """What a client does its work with: each call ends as the test says."""

    def __init__(self) -> None:
        self.ends: list[object] = []

    async def run(self, start: object, *_: object) -> Any:
        end = self.ends.pop()
        if isinstance(end, BaseException):
            raise end
        return end

    def __getattr__(self, name: str) -> str:
        return name

    def check(self) -> None:
        pass

    async def close(self, _: object) -> None:
        pass


@pytest.fixture
def core() -> Core:
    return Core()


@pytest_asyncio.fixture
async def client(core: Core) -> AsyncIterator[CountedClient]:
    async with CountedClient(cast("Bridge", core), cast("Any", core)) as client:
        yield client


ENDS = [
    ("as it should be", MessageEnd.ACKNOWLEDGED),
    (betanet.Timeout("a part was never acknowledged"), MessageEnd.EXPIRED),
    (betanet.Unanswered("no answer, though the request has arrived"), MessageEnd.ACKNOWLEDGED),
    (betanet.Offline("no edge answers"), MessageEnd.FAILED),
    (betanet.InvalidAddress("none"), None),
    (betanet.Closed("closed"), None),
    (betanet.NetworkError("too long"), None),
    (asyncio.CancelledError(), None),
]


@pytest.mark.parametrize(("end", "told"), ENDS)
async def test_each_message_of_a_client_ends_in_one_way(
    core: Core, client: CountedClient, end: object, told: MessageEnd | None
) -> None:
    """INV-MON-15, fog_messages_total."""
    metrics = BackendMetrics()
    client.on_end = lambda end: metrics.network.messages.labels(end.value).inc()
    core.ends = [end, end]

    for call in (client.send("fog1you", b"x"), client.request("fog1you", b"x")):
        if isinstance(end, BaseException):
            with pytest.raises(type(end)):
                await call
        else:
            await call

    for each in MessageEnd:
        counted = metrics.registry.value("fog_messages_total", outcome=each.value)
        assert counted == 2 * (each is told)
