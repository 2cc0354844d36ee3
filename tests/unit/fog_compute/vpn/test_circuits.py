"""One circuit: its table of states, and what it refuses to carry."""

from __future__ import annotations

import asyncio

import pytest

from fog_compute.errors import CircuitError
from fog_compute.levels import PrivacyLevel
from fog_compute.testing import ManualClock, MemoryNetwork
from fog_compute.vpn.circuits import Circuit, CircuitEvent, CircuitState, Cost, Span, after


def made(clock: ManualClock, network: MemoryNetwork, span: Span) -> Circuit:
    channel = network.channel("me")
    return Circuit("c" * 32, PrivacyLevel.PRIVATE, "s", channel, span, clock)


STEPS = {
    ("fresh", "use"): "active",
    ("fresh", "drain"): "draining",
    ("fresh", "close"): "closed",
    ("active", "use"): "active",
    ("active", "drain"): "draining",
    ("active", "close"): "closed",
    ("draining", "close"): "closed",
}


@pytest.mark.parametrize("state", CircuitState)
@pytest.mark.parametrize("event", CircuitEvent)
def test_only_the_steps_of_the_table_happen(state: CircuitState, event: CircuitEvent) -> None:
    """INV-VPN-01"""
    following = STEPS.get((state.value, event.value))
    if following is None:
        with pytest.raises(CircuitError, match=state.value):
            after(state, event)
    else:
        assert after(state, event) == following


@pytest.mark.parametrize(
    ("size", "surbs", "packets"), [(0, 0, 1), (1499, 0, 1), (1500, 0, 2), (1000, 2, 2)]
)
def test_cost_counts_the_packets_that_a_message_and_its_reply_blocks_need(
    size: int, surbs: int, packets: int
) -> None:
    assert Cost.of(size, surbs) == Cost(packets, surbs)


@pytest.mark.asyncio
async def test_circuit_begins_nothing_once_its_lifetime_is_over() -> None:
    """INV-VPN-02"""
    clock = ManualClock()
    circuit = made(clock, MemoryNetwork(), Span(5, 9, Cost(99, 99)))

    await circuit.send(None, b"x")
    await clock.advance(8.9)
    await circuit.send(None, b"x")
    await clock.advance(0.1)

    with pytest.raises(CircuitError, match="too old"):
        await circuit.send(None, b"x")
    assert circuit.status().packets_sent == 2


@pytest.mark.asyncio
async def test_circuit_carries_no_more_packets_or_reply_blocks_than_its_budget() -> None:
    """INV-VPN-02: what failed has been spent all the same."""
    network = MemoryNetwork()
    circuit = made(ManualClock(), network, Span(5, 9, Cost(5, 3)))
    network.loss = 1.0
    with pytest.raises(Exception, match="receipt"):
        await circuit.send(None, b"x" * 4000)
    network.loss = 0.0

    with pytest.raises(CircuitError, match="budget"):
        await circuit.send(None, b"x" * 4000)
    with pytest.raises(CircuitError, match="budget"):
        await circuit.request("me", b"", reply_packets=4)
    await circuit.send(None, b"x")

    assert circuit.view().left == Cost(1, 3)
    assert circuit.status().bytes_sent == 1


@pytest.mark.asyncio
async def test_what_is_under_way_on_a_draining_circuit_ends_as_it_would_have() -> None:
    """INV-VPN-06"""
    network = MemoryNetwork()
    other = network.channel("other")
    circuit = made(ManualClock(), network, Span(5, 9, Cost(99, 99)))

    asking = asyncio.create_task(circuit.request("other", b"question"))
    message = await other.receive()
    circuit.drain()
    circuit.close()
    await other.reply(message, b"answer")

    assert await asking == b"answer"
    assert (circuit.in_flight, circuit.state) == (0, CircuitState.CLOSED)
    assert circuit.address == "me"
