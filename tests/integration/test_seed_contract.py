"""The calls of the first design's examples, on the real core."""

from __future__ import annotations

import os

import pytest

import betanet
from fog_compute.vpn.betanet import BetanetService

pytestmark = pytest.mark.asyncio

MAILBOX = bytes(16)


def valid_packets(service: BetanetService, count: int) -> list[bytes]:
    following = betanet.Hop(os.urandom(32), betanet.SecretKey.generate().public)
    own = betanet.Hop(os.urandom(32), service.pipeline.public_key)
    return [betanet.create_packet([own, following], MAILBOX, b"hello") for _ in range(count)]


async def test_a_submitted_packet_is_counted() -> None:
    async with BetanetService(num_workers=2) as service:
        await service.submit_packet(b"test_packet_data")
        assert (await service.get_stats())["packets_processed"] == 1
        await service.submit_packet(valid_packets(service, 1)[0])
        stats = await service.get_stats()
        assert (stats["packets_processed"], stats["packets_dropped"]) == (2, 1)


@pytest.mark.parametrize("valid", [False, True])
async def test_every_result_of_a_batch_has_its_fields(valid: bool) -> None:
    async with BetanetService(num_workers=2) as service:
        packets = valid_packets(service, 3) if valid else [b"packet1", b"packet2", b"packet3"]
        results = await service.process_batch(packets)
        assert len(results) == 3
        for result in results:
            assert "next_hop" in result
            assert "payload" in result
            assert "delay_ms" in result
            assert (result["next_hop"] is not None) is valid
            assert (result["reason"] is None) is valid
        assert (await service.get_stats())["packets_dropped"] == (0 if valid else 3)


@pytest.mark.parametrize("valid", [False, True])
async def test_a_thousand_packets_show_in_the_stats(valid: bool) -> None:
    async with BetanetService(num_workers=4) as service:
        packets = valid_packets(service, 1000) if valid else [b"test_packet" * 100] * 1000
        await service.process_batch(packets)
        stats = await service.get_stats()
        assert stats["packets_processed"] == 1000
        assert stats["packets_dropped"] == (0 if valid else 1000)
        assert stats["throughput_pps"] > 1000
