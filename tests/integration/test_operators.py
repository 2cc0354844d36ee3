"""A network of several operators, as clients and the fog see which levels it has a path for."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import betanet
from fog_compute.errors import PrivacyUnavailable
from fog_compute.levels import PrivacyLevel
from fog_compute.vpn.betanet import BetanetService
from tests.integration.conftest import scripts_folder
from tests.machines import until

DEADLINE_S = 60.0
NODES = 4  # that the first operator runs


class Operators:
    """An authority on loopback that lets in nodes with tokens; each node has a range of its own."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self._folder, self._opened = folder, opened
        self._ranges = iter(range(1, 250))
        self.authority = folder / "authority"
        self.net = self.authority / "net.json"
        words = ("--network", "several", "--expect", str(NODES), "--epoch", "167h")
        self._start("authority", "run", "--dir", self.authority, *words)
        until(self.net.exists, "the authority did not start")

    def run(self, operator: str, *roles: str) -> None:
        """Have an operator run nodes, one of each role."""
        words = ("--dir", self.authority, "--operator", operator, "--uses", str(len(roles)))
        command: list[str | Path] = [scripts_folder() / "betanet", "authority", "token", *words]
        token = self._folder / f"{operator}.token"
        token.write_bytes(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        for role in roles:
            number = next(self._ranges)
            folder = self._folder / f"node-{number}"
            places = ("--dir", folder, "--bootstrap", self.net, "--token", token)
            listen = ("--listen", f"127.{number}.0.1:0", "--http-port", "0", "--workers", "1")
            self._start("node", "--role", role, *places, *listen)

    def _start(self, *words: str | Path) -> None:
        process = subprocess.Popen(
            [scripts_folder() / "betanet", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._opened.enter_context(process)
        self._opened.callback(process.kill)


@pytest.fixture
def operators(tmp_path: Path) -> Iterator[Operators]:
    with ExitStack() as opened:
        yield Operators(tmp_path, opened)


@pytest.mark.asyncio
async def test_enough_nodes_of_one_operator_are_no_path_and_what_is_short_is_said(
    operators: Operators, tmp_path: Path
) -> None:
    """INV-MSG-79, INV-VPN-10"""
    operators.run("anna", "entry", "entry", "middle", "middle")

    async def shows(told: Callable[[str | None], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                short = (await service.status()).shortages.get(PrivacyLevel.PRIVATE.hops)
                if told(None if short is None else short.text):
                    return
                await asyncio.sleep(0.05)

    # Until the network has edges there is no client.
    until(lambda: bool(json.loads(operators.net.read_bytes())["edges"]), "no edge is listed")
    async with BetanetService(folder=tmp_path / "fog", bootstrap=operators.net) as service:
        edges = "too few edges of different operators and address prefixes"
        await shows(lambda text: text == f"{edges} for a path of 3 hops: 1 of 2")
        with pytest.raises(
            PrivacyUnavailable, match=f"privacy private has no path .*{edges}"
        ) as no:
            await service.channel(PrivacyLevel.PRIVATE)
        assert (no.value.needed, no.value.available) == (2, 1)
        await service.channel(PrivacyLevel.PUBLIC)

        operators.run("bert", "entry")
        all_nodes = "too few nodes of different operators and address prefixes"
        await shows(lambda text: text == f"{all_nodes} for a path of 3 hops: 2 of 3")
        operators.run("carl", "middle")
        await shows(lambda text: text is None)
        channel = await service.channel(PrivacyLevel.PRIVATE)
        assert isinstance(channel.client, betanet.Client)
        with pytest.raises(PrivacyUnavailable, match="middle nodes of different operators"):
            await service.channel(PrivacyLevel.CONFIDENTIAL)
