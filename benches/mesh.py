"""The Bluetooth mesh in simulation: who is reached, how soon, and how often anything is shown.

Two tiers. *Floods* are nodes that only flood, by this package's policy or by those of BitChat's
apps, without gossip. *Engines* are whole nodes: the code that drives a radio. Time is virtual and
all is seeded, so that the figures are the same on every machine, up to changes of the code.

``python -m benches.mesh`` runs all parts and ``python -m benches.mesh floods`` one;
``python -m benches.mesh page`` only draws `docs/benchmarks/mesh.md` and its plots.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

from benches.mesh_page import LOSS_NAMES, SHARES, plots, render
from benches.origin import origin
from fog_compute.p2p.bitchat.mesh.news import TextHeard
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.testing.mesh.air import AirModel
from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.moving import Walk
from fog_compute.testing.mesh.policies import POLICIES, FloodNode
from fog_compute.testing.mesh.runs import Run, flood
from fog_compute.testing.mesh.topologies import (
    LINE_500_M,
    Topology,
    grid,
    hops_from,
    scattered,
)

APP_QUESTION: Final = 22 + 8 + 64 + 4 + 7 + 3 + 5
"""Bytes of a question of the app with an empty set: header, recipient, signature, fields."""
APP_SET: Final = 400
APP_BITS: Final = 9

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benches" / "results" / "mesh.json"
PAGE = ROOT / "docs" / "benchmarks" / "mesh.md"

LOSSES: Final = dict(
    zip(
        LOSS_NAMES,
        (
            AirModel(),
            AirModel(loss=0.05),
            AirModel(loss=0.05, told=0.0),
            AirModel(loss=0.1),
            AirModel(loss=0.1, told=0.0),
        ),
        strict=True,
    )
)

SEED: Final = 1

LARGE: Final = ("random 500", "random 1,000")
"""Meshes in which engines say little, because so many nodes take long to simulate."""


def meshes() -> dict[str, Topology]:
    """All meshes that stand still."""
    return {
        "8 nodes on 500 m": LINE_500_M,
        "grid 7×7": grid(7),
        "random 50, sparse": scattered(50, 5.5, seed=2),
        "random 50, dense": scattered(50, 8.0, seed=3),
        "random 100": scattered(100, 5.8, seed=4),
        "random 200": scattered(200, 5.8, seed=5),
        "random 500": scattered(500, 5.8, seed=8),
        "random 1,000": scattered(1_000, 6.0, seed=6),
    }


def told(run: Run) -> dict[str, Any]:
    """The figures of a run."""
    return {
        "share": round(run.share, 5),
        "pairs": run.expected,
        "p50_s": round(run.quantile(0.5), 3),
        "p99_s": round(run.quantile(0.99), 3),
        "max_s": round(max(run.seconds, default=0.0), 3),
        "frames_each": round(run.frames_each, 1),
        "shown_twice": run.shown_twice,
    }


def air_time(run: Run, topology: Topology) -> dict[str, Any]:
    """What engines sent, in bytes for each node: a message, and a second for what goes on anyway.

    The app asks each neighbour five questions every half minute, the first of them with a set of
    what was said and of who is near (``GossipSyncManager.swift``).
    """
    nodes = len(topology.places)
    said = run.bytes[Kind.MESSAGE] / run.messages / nodes
    sets = min(APP_SET, (run.messages + nodes) * APP_BITS // 8)
    app = topology.degree * (5 * APP_QUESTION + sets) / 30
    return {
        "said_bytes": round(said, 1),
        "asked_bytes_s": round(run.bytes[Kind.REQUEST_SYNC] / run.lasted_s / nodes, 1),
        "app_asks_bytes_s": round(app, 1),
        "announced_bytes_s": round(run.bytes[Kind.ANNOUNCE] / run.lasted_s / nodes, 1),
    }


def floods() -> dict[str, Any]:
    """Each policy on each mesh, by flood alone."""
    found: dict[str, Any] = {}
    for name, topology in meshes().items():
        found[name] = {"nodes": len(topology.places), "degree": round(topology.degree, 1)}
        for loss in LOSSES:
            found[name][loss] = {
                policy: told(
                    flood(
                        topology,
                        node,
                        SEED,
                        messages=20 if len(topology.places) > 500 else 60,
                        model=LOSSES[loss],
                    )
                )
                for policy, node in POLICIES.items()
            }
        say(f"floods: {name}")
    return found


def mixed() -> dict[str, Any]:
    """Some nodes of ours among phones, by flood alone: what they do for all."""
    found: dict[str, Any] = {}
    for name in ("grid 7×7", "random 100"):
        topology, found[name] = meshes()[name], {"nodes": len(meshes()[name].places)}
        for app in ("iOS", "Android"):
            found[name][app] = {
                f"{share} %": told(flood(topology, among(app, share), SEED, messages=60))
                for share in SHARES
            }
        say(f"mixed: {name}")
    return found


def among(app: str, share: int) -> Callable[[Random, int], FloodNode]:
    """Makes nodes of an app, and of each hundred so many of ours, drawn."""
    drawn = Random(SEED)

    def node(rng: Random, peers: int) -> FloodNode:
        ours = drawn.randrange(100) < share
        return POLICIES["ours" if ours else app](rng, peers)

    return node


def engines() -> dict[str, Any]:
    """Whole nodes on each mesh of up to 200 nodes."""
    found: dict[str, Any] = {}
    for name, topology in meshes().items():
        nodes = len(topology.places)
        if name in LARGE:
            continue
        found[name] = {"nodes": nodes, "degree": round(topology.degree, 1)}
        for loss in LOSSES:
            if nodes > 50 and loss == "10 % lost in silence":
                continue
            messages = 200 if nodes < 20 else 40 if nodes < 100 else 20
            found[name][loss] = engines_on(topology, loss, messages)
            say(f"engines: {name}, {loss}: {found[name][loss]['share']:.5f}")
    return found


def large() -> dict[str, Any]:
    """Whole nodes on the meshes beyond that."""
    found: dict[str, Any] = {}
    for name in LARGE:
        topology = meshes()[name]
        nodes = len(topology.places)
        found[name] = {"nodes": nodes, "degree": round(topology.degree, 1)}
        for loss in ("no loss", "5 % lost in silence"):
            if nodes > 500 and loss == "no loss":
                continue
            begun = time.monotonic()
            found[name][loss] = engines_on(topology, loss, 10, limit_s=10.0)
            say(f"large: {name}, {loss}: {time.monotonic() - begun:.0f} s")
    return found


def engines_on(
    topology: Topology, loss: str, messages: int, limit_s: float = 30.0
) -> dict[str, Any]:
    """Whole nodes on one mesh."""
    world = World(topology, SEED, model=LOSSES[loss])
    world.run(10.0)
    run = world.talk(messages, 0.5, SEED, limit_s)
    return told(run) | air_time(run, topology) | {"messages": messages}


def busy() -> dict[str, Any]:
    """Fifty messages a second in a mesh of fifty nodes."""
    world = World(meshes()["random 50, sparse"], SEED)
    world.run(10.0)
    before = world.counts()
    run = world.talk(1_000, 0.02, SEED)
    after = world.counts()
    known = after["duplicates"] - before["duplicates"]
    late = after["dropped_shown"] - before["dropped_shown"]
    return told(run) | {
        "messages_s": 50,
        "messages": 1_000,
        "duplicates": known + late,
        "suppressed": round(known / max(1, known + late), 6),
        "forgotten_young": after["forgotten_young"],
        "frames_refused": after["refused"],
    }


def moving() -> dict[str, Any]:
    """Fifty nodes that walk at 1.4 m/s: whole ones, and what they reach by flood alone."""
    found: dict[str, Any] = {}
    for loss in ("no loss", "5 % lost in silence", "10 % lost, told"):
        topology = scattered(50, 6.5, seed=7)
        world = World(topology, SEED, model=LOSSES[loss])
        walk = Walk(world.air, topology, SEED)
        world.run(10.0)
        walk.begin()
        run = world.talk(60, 1.0, SEED)
        found[loss] = told(run) | {"links_changed": walk.changes, "seconds": 90}
        found[loss]["floods"] = {
            policy: round(
                flood(topology, node, SEED, messages=60, model=LOSSES[loss], walking=True).share,
                5,
            )
            for policy, node in POLICIES.items()
        }
        say(f"moving: {loss}")
    return found


def parted() -> dict[str, Any]:
    """Two halves that hear nothing of each other for two minutes, and what they said then."""
    topology = meshes()["random 50, sparse"]
    middle = sorted(x for x, _ in topology.places)[len(topology.places) // 2]
    left = {number for number, (x, _) in enumerate(topology.places) if x < middle}
    halves = frozenset(pair for pair in topology.links if (pair[0] in left) == (pair[1] in left))
    world = World(topology, SEED)
    world.air.lay(halves)
    world.run(5.0)
    texts = [f"text {number}" for number in range(20)]
    neighbours, pairs = topology.neighbours(), 0
    for number, text in enumerate(texts):
        sender = number * 7 % len(topology.places)
        pairs += sum(hops is not None for hops in hops_from(neighbours, sender)) - 1
        world.say(sender, text)
        world.run(6.0)
    world.air.lay(topology.links)
    healed = world.time
    world.run(90.0)
    seconds = []
    for news in world.news:
        for at, one in news:
            if isinstance(one, TextHeard):
                seconds.append(max(0.0, at - healed))
    seconds.sort()
    return {
        "pairs": pairs,
        "reached": round(len(seconds) / pairs, 5),
        **{
            f"reached_after_{limit}_s": round(sum(one <= limit for one in seconds) / pairs, 5)
            for limit in (2, 5, 10, 30, 60)
        },
        "last_s": round(seconds[-1], 1),
    }


PARTS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "floods": floods,
    "mixed": mixed,
    "engines": engines,
    "large": large,
    "busy": busy,
    "moving": moving,
    "parted": parted,
}


def as_text(report: dict[str, Any]) -> str:
    """The report as JSON, a line for each run."""
    text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    return re.sub(r"{[^{}]*}", lambda found: " ".join(found.group().split()), text)


def say(line: str) -> None:
    """Show how far it is."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def main() -> None:
    """Run the parts named on the command line, or all, and draw the page."""
    chosen = sys.argv[1:] or list(PARTS)
    report: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    for name in chosen:
        if name != "page":
            report[name] = PARTS[name]()
            measured = origin("src/fog_compute/p2p", "src/fog_compute/testing/mesh")
            report.setdefault("origins", {})[name] = measured
            RESULTS.write_text(as_text(report), "utf-8")
            say(f"{name}: done")
    if set(PARTS) <= set(report):
        PAGE.write_text(render(report), "utf-8")
        for name, svg in plots(report).items():
            (PAGE.parent / name).write_text(svg, "utf-8")


if __name__ == "__main__":
    main()
