"""The calls of the first design's examples, on the real core."""

from __future__ import annotations

import asyncio
import os
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

import betanet
from fog_compute.config import Settings
from fog_compute.levels import PrivacyLevel
from fog_compute.server.services import ServiceManager, get_service
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


async def test_the_example_of_the_guide_runs_as_it_is_printed(
    localnet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    monkeypatch.setenv("FOG_NET", str(localnet))
    page = Path(__file__).parents[2] / "docs/guides/migrate.md"
    example = page.read_text().split("```python\n", 1)[1].split("```", 1)[0]
    names: dict[str, Any] = {}
    exec("async def example():\n" + textwrap.indent(example, "    "), names)

    await names["example"]()

    assert re.search(r"Throughput: [0-9.]+ pkt/s", capsys.readouterr().out)


async def test_services_by_name_send_through_circuits_of_every_level(
    localnet: Path, tmp_path: Path
) -> None:
    async with ServiceManager(Settings(home=tmp_path, net=localnet)) as services:
        async with asyncio.timeout(60):
            await services.until_healthy()
        betanet_service = get_service("betanet")
        circuit_service = get_service("onion_circuit")
        for level in PrivacyLevel:
            circuit_id = await circuit_service.create_circuit(level)
            circuit = circuit_service.circuit_pools[level].get_circuit(circuit_id)
            assert circuit.privacy_level == level

        circuit_id = await circuit_service.create_circuit()
        await circuit_service.send_through_circuit(circuit_id, b"secret_message")
        assert isinstance(betanet_service, BetanetService)
        async with asyncio.timeout(60):
            while (await betanet_service.get_stats())["packets_processed"] == 0:
                await asyncio.sleep(0.02)
