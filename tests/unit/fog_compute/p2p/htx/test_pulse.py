"""Whether the mixnet answers, seen by a packet to oneself."""

from __future__ import annotations

import asyncio

import pytest

import betanet
from fog_compute.levels import PrivacyLevel
from fog_compute.p2p.htx.pulse import FRESH_S, PATIENCE_S, Pulse
from fog_compute.testing import ManualClock
from fog_compute.testing.mixnet import MemoryMixnet, MemoryMixnetClient
from fog_compute.vpn.clients import MESSAGES

pytestmark = pytest.mark.asyncio

HOPS = PrivacyLevel.PRIVATE.hops


async def client_of(network: MemoryMixnet) -> MemoryMixnetClient:
    return await network.service("ada").client(PrivacyLevel.PRIVATE, MESSAGES)


async def test_silent_network_is_said_to_all_who_ask_and_one_that_answers_is_not_asked_again() -> (
    None
):
    network, clock = MemoryMixnet(), ManualClock()
    client, pulse = await client_of(network), Pulse(clock)
    assert await pulse.check(client, HOPS) is None

    network.silent = True
    assert await pulse.check(client, HOPS) is None  # it was there a moment ago
    await clock.advance(FRESH_S)
    asking = [asyncio.create_task(pulse.check(client, HOPS)) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    asking[0].cancel()  # others go on
    await clock.advance(PATIENCE_S)
    said = await asyncio.gather(*asking[1:])

    assert said == ["the mixnet does not answer: no packet came back for 3.0 s"] * 2
    network.silent = False
    assert await pulse.check(client, HOPS) is None


async def test_network_that_cannot_be_reached_says_why() -> None:
    network, clock = MemoryMixnet(), ManualClock()
    client, pulse = await client_of(network), Pulse(clock)
    network.trouble = "the cable is out"

    said = await pulse.check(client, HOPS)

    assert said == "the mixnet does not answer: the cable is out"
    await client.close()
    with pytest.raises(betanet.Closed):
        client.status()
    assert "does not answer" in str(await pulse.check(client, HOPS))
