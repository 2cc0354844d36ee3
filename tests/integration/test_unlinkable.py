"""Who asked is known to the requester's own machine and to nobody else.

Each role has a machine and an address of its own. What only the requester may know is looked for in
the memory, the state and the logs of all others.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.machines import Machines, Network, NoMachines
from tests.memory import Canary, address_canary, in_folder, in_memory, text_canary
from tests.unit.fog_compute.worker import guests

from .fogs import FOG
from .lending import FogOn, Lender, stopping

BETANET: Final = FOG.with_name("betanet")
REQUESTER: Final = 2
WORKER: Final = 3
EDGES: Final = tuple(range(4, 12))
MIDDLES: Final = (12, 13, 14)
NODES: Final = (
    *((number, "entry" if number % 2 else "exit") for number in EDGES),
    *((number, "middle") for number in MIDDLES),
)
TASKS: Final = 3
LENDERS: Final = 6


@dataclass(frozen=True, slots=True)
class Role:
    """A node or another part that is searched: its processes and its folder."""

    name: str
    pids: tuple[int, ...]
    folder: Path

    def holds(self, canaries: Iterable[Canary]) -> frozenset[str]:
        wanted = list(canaries)
        found = in_folder(self.folder, wanted)
        for pid in self.pids:
            found |= in_memory(pid, wanted)
        return found


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with contextlib.ExitStack() as stack:
        try:
            machines = Machines(stack, tmp_path, count=MIDDLES[-1], host="173.59")
        except NoMachines as missing:
            pytest.skip(str(missing.__doc__))
        (tmp_path / "net").mkdir()
        yield Network(machines, tmp_path / "net", [BETANET], NODES)


def edges_of(client: Path) -> set[str]:
    """The edges of a client, by their ids."""
    return {one["id"] for one in json.loads((client / "edges.json").read_text())["current"]}


def node_of(network: Network, index: int) -> tuple[str, Role]:
    """A node's id, and what of it is searched."""
    folder = network.folder / f"node-{index}"
    record = json.loads((folder / "node.json").read_text())
    # Its log lies beside its folder.
    (folder / "copy.log").write_bytes((network.folder.parent / f"node-{index}.log").read_bytes())
    return record["id"], Role(f"{record['role']} {index}", (record["pid"],), folder)


def module_with(word: str) -> bytes:
    """A module that gives back its input, with a word in it that says whose it is."""
    section = bytes([1]) + b"w" + word.encode()
    return guests.ECHO + bytes([0, len(section)]) + section


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nobody_else_holds_what_tells_who_asked(network: Network, tmp_path: Path) -> None:
    """INV-TASK-112."""
    user, host = f"user-{secrets.token_hex(8)}", f"host-{secrets.token_hex(8)}"
    home = tmp_path / "requester"
    address = network.machines.address(REQUESTER)
    environment = {
        "FOG_NET": str(network.net),
        **dict.fromkeys(("USER", "LOGNAME"), user),
        # As a login over the network leaves it.
        "HOSTNAME": host,
        "SSH_CLIENT": f"{address} 50022 22",
    }
    fog = FogOn(
        *(network.machines, REQUESTER, home, "--workers", "0"), environment=environment, host=host
    )
    with stopping(fog):
        clients = home / "daemon" / "clients"
        lender = lent_elsewhere(network, fog, tmp_path)
        try:
            asked = {name: text_canary(name, secrets.token_hex(16)) for name in ("input", "module")}
            tasks = run_tasks(fog, *(one.forms[0] for one in asked.values()))
            identity = {
                "address": address_canary("address", address),
                "user": text_canary("user", user),
                "host": text_canary("host", host),
                **{one.name: one for one in keys_of(clients / "private")},
                **{one.name: one for one in ids_of(fog, tasks)},
            }
            daemon = Role("backend", (fog.pid("backend"),), home / "daemon")
            everything = {**asked, **identity}
            assert daemon.holds(everything.values()) == set(everything)

            lender.await_finished(TASKS)
            worker = Role("worker", lender.pids(), lender.home)
            assert worker.holds(identity.values()) == set()
            authority = Role("authority", (network.authority.pid,), network.folder / "authority")
            assert authority.holds(everything.values()) == set()

            requesters = set.union(*map(edges_of, clients.iterdir()))
            workers = set.union(*map(edges_of, served(lender).iterdir()))
            nodes = dict(node_of(network, index) for index in range(len(NODES)))
            assert edges_of(served(lender) / "private") - requesters
            there = address_canary("worker", network.machines.address(WORKER))
            for node, role in nodes.items():
                unknown = dict(everything)
                if node in requesters:
                    # It sees who is linked to it, and holds nothing of what is asked of whom.
                    del unknown["address"]
                if node not in workers:
                    unknown["worker"] = there
                assert not (found := role.holds(unknown.values())), (role.name, found)
        finally:
            lender.lose_power()


def lent_elsewhere(network: Network, fog: FogOn, folder: Path) -> Lender:
    """A machine whose edges, at the level of the tasks, are not all the requester's as well."""
    token = folder / "token"
    token.write_text(fog.run("net", "token").stdout)
    requesters = edges_of(fog.home / "daemon" / "clients" / "private")
    for number in range(LENDERS):
        lender = Lender(network.machines, WORKER, folder / f"worker-{number}")
        try:
            lender.lend("--token", token)
        except BaseException:
            lender.lose_power()
            raise
        if edges_of(served(lender) / "private") - requesters:
            return lender
        lender.lose_power()
    raise AssertionError("all edges that workers draw are the requester's")


def served(lender: Lender) -> Path:
    """The clients of a lent machine, by level."""
    return lender.home / "lent" / "worker-0" / "clients"


def run_tasks(fog: FogOn, word: bytes, module: bytes) -> list[str]:
    """Run some tasks and return their ids."""
    path = fog.home / "module.wasm"
    path.write_bytes(module_with(module.decode()))
    text = fog.home / "input.txt"
    tasks = []
    for number in range(TASKS):
        text.write_bytes(word + str(number).encode())
        done = fog.json("run", path, "--stdin", text, "--privacy", "private")
        tasks.append(str(done["id"]))
    path.unlink()
    text.unlink()
    return tasks


def keys_of(client: Path) -> Iterator[Canary]:
    """The keys of a mixnet client: of its mailboxes and of the messages that it gets."""
    edges = json.loads((client / "edges.json").read_text())["current"]
    for number, edge in enumerate(edges):
        yield text_canary(f"mailbox key {number}", bytes.fromhex(edge["link_secret"]))
    # Curves set some bits of the first and the last byte.
    yield text_canary("sealing key", (client / "sealing.key").read_bytes()[1:-1])


def ids_of(fog: FogOn, tasks: list[str]) -> Iterator[Canary]:
    """The token of the interface, and the ids of tasks and circuits."""
    token = (fog.home / "daemon" / "token").read_text().strip()
    yield text_canary("API token", token)
    for number, task in enumerate(tasks):
        yield text_canary(f"task {number}", task)
    level = fog.json("circuit", "show", "private")
    for number, circuit in enumerate(level["each"]):
        yield text_canary(f"circuit {number}", str(circuit["id"]))
