"""Circuits: counters, isolation of levels, and errors."""

from __future__ import annotations

import asyncio

import pytest

from fog_compute.errors import CircuitError
from fog_compute.levels import PrivacyLevel
from fog_compute.testing import ManualClock
from fog_compute.vpn.onion import OnionCircuitService
from tests.unit.fog_compute.vpn.sources import Source

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(("level", "hops"), list(zip(PrivacyLevel, (1, 3, 5, 7), strict=True)))
async def test_level_has_its_path_length(level: PrivacyLevel, hops: int) -> None:
    assert level.hops == hops


async def test_circuit_is_found_in_the_pool_of_its_level_alone() -> None:
    service = OnionCircuitService(Source())

    circuit_id = await service.create_circuit(PrivacyLevel.PRIVATE)

    found = service.circuit_pools[PrivacyLevel.PRIVATE].get_circuit(circuit_id)
    assert found.privacy_level is PrivacyLevel.PRIVATE
    for level in PrivacyLevel:
        if level is not PrivacyLevel.PRIVATE:
            with pytest.raises(CircuitError, match=level.value):
                service.circuit_pools[level].get_circuit(circuit_id)


async def test_message_without_recipient_is_a_loop() -> None:
    source = Source()
    service = OnionCircuitService(source)
    circuit_id = await service.create_circuit(PrivacyLevel.SECRET)

    await service.send_through_circuit(circuit_id, b"hello", PrivacyLevel.SECRET)

    mine = source.open[PrivacyLevel.SECRET, ""]
    assert (await mine.receive()).body == b"hello"


async def test_request_brings_the_answer_and_is_counted() -> None:
    clock = ManualClock()
    source = Source()
    service = OnionCircuitService(source, clock=clock)
    other = source.network.channel("other")
    circuit_id = await service.create_circuit(PrivacyLevel.PRIVATE)
    circuit = service.circuit_pools[PrivacyLevel.PRIVATE].get_circuit(circuit_id)

    asking = asyncio.create_task(
        service.request_through_circuit(circuit_id, b"q" * 3001, PrivacyLevel.PRIVATE, to="other")
    )
    message = await other.receive()
    assert circuit.in_flight == 1
    await clock.advance(5)
    await other.reply(message, b"answer")
    answer = await asking
    await clock.advance(2)

    status = circuit.status()
    assert answer == b"answer"
    assert (status.bytes_sent, status.bytes_received) == (3001, 6)
    assert (status.packets_sent, status.surbs_sent) == (4, 4)
    assert (status.age_s, status.idle_s, status.in_flight) == (7, 2, 0)


async def test_failed_message_is_not_counted_as_sent() -> None:
    source = Source()
    service = OnionCircuitService(source)
    circuit_id = await service.create_circuit(PrivacyLevel.PRIVATE)
    source.network.loss = 1.0

    with pytest.raises(Exception, match="lost"):
        await service.request_through_circuit(
            circuit_id, b"q", PrivacyLevel.PRIVATE, to="me-private"
        )

    status = service.circuit_pools[PrivacyLevel.PRIVATE].get_circuit(circuit_id).status()
    assert (status.bytes_sent, status.in_flight) == (0, 0)


async def test_wrong_level_or_unknown_circuit_is_an_error() -> None:
    service = OnionCircuitService(Source())
    circuit_id = await service.create_circuit(PrivacyLevel.PUBLIC)

    with pytest.raises(CircuitError):
        await service.send_through_circuit(circuit_id, b"x", PrivacyLevel.SECRET)
    with pytest.raises(CircuitError):
        await service.send_through_circuit("f" * 32, b"x", PrivacyLevel.PUBLIC)


async def test_closed_circuit_refuses_further_use() -> None:
    service = OnionCircuitService(Source())
    circuit_id = await service.create_circuit(PrivacyLevel.PRIVATE)
    circuit = service.circuit_pools[PrivacyLevel.PRIVATE].get_circuit(circuit_id)

    service.close_circuit(circuit_id, PrivacyLevel.PRIVATE)

    with pytest.raises(CircuitError, match="closed"):
        await circuit.send(None, b"x")
    with pytest.raises(CircuitError):
        service.close_circuit(circuit_id, PrivacyLevel.PRIVATE)
