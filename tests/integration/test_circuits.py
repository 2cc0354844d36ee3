"""Circuits and sessions over the real clients of a real local net."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from fog_compute.errors import CircuitError, ServiceUnavailable
from fog_compute.levels import PrivacyLevel
from fog_compute.vpn.betanet import BetanetChannel, BetanetService
from fog_compute.vpn.circuits import CircuitState
from fog_compute.vpn.onion import OnionCircuitService
from fog_compute.vpn.plans import PoolPolicy
from fog_compute.vpn.sessions import SessionManager

pytestmark = pytest.mark.asyncio

DEADLINE_S = 60.0
PRIVATE = PrivacyLevel.PRIVATE


@pytest_asyncio.fixture
async def service(localnet: Path, tmp_path: Path) -> AsyncIterator[BetanetService]:
    async with BetanetService(folder=tmp_path / "mine", bootstrap=localnet) as service:
        yield service


@pytest_asyncio.fixture
async def other(localnet: Path, tmp_path: Path) -> AsyncIterator[BetanetService]:
    async with BetanetService(folder=tmp_path / "other", bootstrap=localnet) as service:
        yield service


async def echo(channel: BetanetChannel) -> None:
    while True:
        message = await channel.receive()
        await channel.reply(message, message.body.upper())
        await channel.commit(message)


async def test_circuits_of_every_level_ask_and_loop_over_clients_that_share_nothing(
    service: BetanetService, other: BetanetService, tmp_path: Path
) -> None:
    """INV-VPN-08"""
    onion = OnionCircuitService(service, rng=Random(1))
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        echoes = []
        for level in PrivacyLevel:
            theirs = await other.channel(level)
            echoes.append(group.create_task(echo(theirs)))
            circuit = await onion.create_circuit(level)
            answer = await onion.request_through_circuit(
                circuit, b"ask", level, to=theirs.address, timeout=DEADLINE_S
            )
            await onion.send_through_circuit(circuit, b"loop", level)
            mine = await service.channel(level)
            looped = await mine.receive()
            await mine.commit(looped)

            assert (answer, looped.body) == (b"ASK", b"loop")
            status = onion.get_circuit(circuit).status()
            assert (status.bytes_sent, status.bytes_received) == (7, 3)
            assert status.state is CircuitState.ACTIVE
            while not (health := onion.status(level).health) or not health.tries:
                await asyncio.sleep(0.01)
            assert health.attached > 0
            assert health.trouble is None
        for task in echoes:
            task.cancel()

    addresses = {(await service.channel(level)).address for level in PrivacyLevel}
    assert len(addresses) == len(PrivacyLevel)
    network = await service.status()
    assert {path.hops for path in network.paths} >= {level.hops for level in PrivacyLevel}
    assert {path.name for path in (tmp_path / "mine").iterdir()} == set(PrivacyLevel)


async def test_closed_client_is_opened_again_at_its_address_and_the_message_goes_on(
    service: BetanetService,
) -> None:
    """INV-VPN-07"""
    onion = OnionCircuitService(service)
    circuit = await onion.create_circuit(PRIVATE)
    before = await service.channel(PRIVATE)
    await before.client.close()
    assert service.health(PRIVATE) is None
    assert (await service.status()).edges_attached >= 0  # opens it

    async with asyncio.timeout(DEADLINE_S):
        await onion.send_through_circuit(circuit, b"again", PRIVATE)
        after = await service.channel(PRIVATE)
        message = await after.receive()

    assert after is not before
    assert after.address == before.address
    assert message.body == b"again"
    assert onion.get_circuit(circuit).channel is after
    await service.close()
    with pytest.raises(ServiceUnavailable, match="closed"):
        await onion.create_circuit(PRIVATE)


async def test_session_apart_has_keys_of_its_own_that_are_deleted_with_it(
    service: BetanetService, tmp_path: Path
) -> None:
    """INV-VPN-16"""
    own = tmp_path / "mine" / "sessions"
    (own / "private-of-a-process-that-was-killed").mkdir(parents=True)
    onion = OnionCircuitService(service, policy=PoolPolicy(lifetime_s=3600))
    manager = SessionManager(onion)
    first = await manager.open(PRIVATE, apart=True)
    second = await manager.open(PRIVATE, apart=True)
    shared = await manager.open(PRIVATE)

    async with asyncio.timeout(DEADLINE_S):
        for token in (first, second, shared):
            await manager.send(token, b"loop")
    addresses = {circuit.address for circuit in onion.circuit_pools[PRIVATE]}

    assert len(addresses) == 3
    assert len(list(own.iterdir())) == 2
    await manager.close(first)
    assert len(list(own.iterdir())) == 1
    await service.close()
    assert not own.exists()
    with pytest.raises((CircuitError, ServiceUnavailable)):
        await manager.send(second, b"x")
