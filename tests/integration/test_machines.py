"""A network over several machines: three network namespaces, joined by veth pairs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.machines import COMMAND_S, Machines, Network, NoMachines, until

BETANET: Final = Path(sys.executable).with_name("betanet")
NODES: Final = (
    # machine, role; the machine's number is its operator's and its prefix' as well
    *((1, "entry"), (1, "middle"), (1, "middle"), (1, "middle")),
    *((2, "middle"), (2, "middle"), (2, "middle")),
    *((3, "exit"), (3, "middle"), (3, "middle")),
)


class Clients:
    """Alice on machine 2, Bob on 3."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.machines = network.machines

    def client(self, name: str) -> tuple[str, ...]:
        return ("--net", str(self.network.net), "--dir", str(self.network.folder / name), "--json")

    def send(self, to: str, hops: int, body: str) -> subprocess.CompletedProcess[str]:
        words = ("send", *self.client("alice"), "--to", to, "--hops", str(hops), body)
        return self.machines.try_out(2, BETANET, *words)

    def receive(self, timeout: str = "30s") -> subprocess.CompletedProcess[str]:
        words = ("recv", *self.client("bob"), "--count", "1", "--timeout", timeout)
        return self.machines.try_out(3, BETANET, *words)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with contextlib.ExitStack() as stack:
        try:
            machines = Machines(stack, tmp_path)
        except NoMachines as missing:
            pytest.skip(str(missing.__doc__))
        yield Network(machines, tmp_path, [BETANET], NODES)


def test_strangers_on_three_machines_reach_each_other(network: Network) -> None:
    """INV-LINK-72."""
    clients = Clients(network)
    until(lambda: len(list(network.show()["edges"])) == 2, network.logs())  # type: ignore[call-overload]
    to = json.loads(network.machines.run(3, BETANET, "address", *clients.client("bob")))["address"]

    sent = clients.send(to, 7, "over three machines")
    assert sent.returncode == 0, (sent.stderr, network.logs())
    received = clients.receive()
    assert json.loads(received.stdout)["body"] == "over three machines", received.stderr

    # A message that was sent while the recipient's machine was away arrives when it is back.
    network.machines.link(3, up=False)
    words = ("send", *clients.client("alice"), "--to", to, "--hops", "7", "while you were away")
    with subprocess.Popen(network.machines.command(2, BETANET, *words)) as sending:
        missing = clients.receive("2s")
        assert "no message came in time" in missing.stderr, (missing, network.logs())
        assert sending.poll() is None
        network.machines.link(3, up=True)
        received = clients.receive()
        assert json.loads(received.stdout)["body"] == "while you were away", network.logs()
        assert sending.wait(COMMAND_S) == 0

    # Once the operators are told apart, none of the three stands on a path twice.
    network.restart_authority()
    until(lambda: network.show()["one_operator"] is False, network.logs())
    until(lambda: clients.send(to, 7, "too far").returncode == 1, network.logs())
    refused = clients.send(to, 7, "too far")
    assert "middle nodes of different operators and address prefixes" in refused.stderr, refused
    sent = clients.send(to, 3, "by three operators")
    assert sent.returncode == 0, (sent.stderr, network.logs())
    bodies = iter(lambda: json.loads(clients.receive().stdout)["body"], "by three operators")
    assert set(bodies) <= {"too far"}
