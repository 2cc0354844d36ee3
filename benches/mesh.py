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

from benches.origin import origin
from benches.plots import plot
from fog_compute.p2p.bitchat.mesh.news import TextHeard
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

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benches" / "results" / "mesh.json"
PAGE = ROOT / "docs" / "benchmarks" / "mesh.md"

LOSSES: Final = {
    "no loss": AirModel(),
    "5 % lost, told": AirModel(loss=0.05),
    "5 % lost in silence": AirModel(loss=0.05, told=0.0),
    "10 % lost, told": AirModel(loss=0.1),
}

SEED: Final = 1

SHARES: Final = (0, 10, 25, 50, 75, 100)
"""Of each hundred nodes, so many are ours."""


def meshes() -> dict[str, Topology]:
    """The meshes of both tiers, and one that is too large for engines."""
    return {
        "8 nodes on 500 m": LINE_500_M,
        "grid 7×7": grid(7),
        "random 50, sparse": scattered(50, 5.5, seed=2),
        "random 50, dense": scattered(50, 8.0, seed=3),
        "random 100": scattered(100, 5.8, seed=4),
        "random 200": scattered(200, 5.8, seed=5),
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


def floods() -> dict[str, Any]:
    """Each policy on each mesh, by flood alone."""
    found: dict[str, Any] = {}
    for name, topology in meshes().items():
        found[name] = {"nodes": len(topology.places), "degree": round(topology.degree, 1)}
        for loss in ("no loss", "5 % lost, told", "5 % lost in silence"):
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
    """Whole nodes on each mesh up to 200 nodes."""
    found: dict[str, Any] = {}
    for name, topology in meshes().items():
        nodes = len(topology.places)
        if nodes > 200:
            continue
        found[name] = {"nodes": nodes, "degree": round(topology.degree, 1)}
        for loss, model in LOSSES.items():
            world = World(topology, SEED, model=model)
            world.run(10.0)
            messages = 200 if nodes < 20 else 40 if nodes < 100 else 20
            run = world.talk(messages, 0.5, SEED)
            found[name][loss] = told(run) | {"messages": messages}
            say(f"engines: {name}, {loss}: {run.share:.5f}")
    return found


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
    """Fifty nodes that walk at 1.4 m/s, with loss."""
    found: dict[str, Any] = {}
    for loss in ("no loss", "5 % lost in silence"):
        topology = scattered(50, 6.5, seed=7)
        world = World(topology, SEED, model=LOSSES[loss])
        walk = Walk(world.air, topology, SEED)
        world.run(10.0)
        walk.begin()
        run = world.talk(60, 1.0, SEED)
        found[loss] = told(run) | {"links_changed": walk.changes, "seconds": 90}
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
            for limit in (10, 30, 60)
        },
        "last_s": round(seconds[-1], 1),
    }


PARTS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "floods": floods,
    "mixed": mixed,
    "engines": engines,
    "busy": busy,
    "moving": moving,
    "parted": parted,
}


def plots(report: dict[str, Any]) -> dict[str, str]:
    """The plots by file name."""
    found: dict[str, str] = {}
    for file, loss, title in (
        ("mesh-floods.svg", "no loss", "Nodes within seven hops reached by flood alone"),
        ("mesh-floods-loss.svg", "5 % lost, told", "The same where links lose 5 %"),
    ):
        found[file] = plot(
            title,
            "%; longer is better",
            [
                (f"{mesh}, {policy}", 100 * one["share"], policy == "ours")
                for mesh, each in by_size(report["floods"])
                for policy in ("ours", "iOS", "Android")
                for one in (each[loss][policy],)
            ],
        )
    found["mesh-seconds.svg"] = plot(
        "Whole nodes: until 99 % of those within seven hops have it",
        "s; shorter is better",
        [
            (f"{mesh}, {loss}", each[loss]["p99_s"], True)
            for mesh, each in by_size(report["engines"])
            for loss in ("no loss", "5 % lost, told", "5 % lost in silence")
        ],
    )
    return found


def render(report: dict[str, Any]) -> str:
    """The text of the page."""
    lines = [
        "# The Bluetooth mesh in simulation",
        "",
        "Generated by `python -m benches.mesh`; raw figures are in `benches/results/mesh.json`.",
        "",
        "Time is virtual and all is seeded.",
        "",
        (
            "A link is possible where `27 · log10(80 m / distance)` decibels and some luck with σ ="
            " 4 dB, drawn once for each pair, are not below zero; a node keeps up to 8."
        ),
        (
            "A hop takes 15 to 30 ms and up to 5 ms more. Loss is a share of the frames of each"
            " link, of which the sender is *told*, or not."
        ),
        "",
        "## By flood alone, beside BitChat's own policies",
        "",
        (
            "Share of the nodes within seven hops, in %, and frames a message. BitChat's policies"
            " are written anew from their sources, without the gossip that mends some of it later."
        ),
        "",
        *(f"![{name.removesuffix('.svg')}]({name})" for name in plots(report) if "floods" in name),
        "",
    ]
    policies = list(POLICIES)
    for loss in ("no loss", "5 % lost, told", "5 % lost in silence"):
        lines += [
            f"| {loss} | links a node | {' | '.join(policies)} |",
            "|---" * (2 + len(policies)) + "|",
        ]
        for mesh, each in by_size(report["floods"]):
            cells = [
                f"{percent(each[loss][one]['share'])} ({each[loss][one]['frames_each']:.0f})"
                for one in policies
            ]
            lines.append(f"| {mesh} | {each['degree']} | {' | '.join(cells)} |")
        lines.append("")
    lines += [
        "## Ours among phones",
        "",
        "By flood alone, without loss: what all of the mesh gets where some of its nodes are ours.",
        "",
        f"| of each hundred, ours | {' | '.join(map(str, SHARES))} |",
        "|---" * (1 + len(SHARES)) + "|",
        *(
            f"| {mesh}, the others {app} | "
            + " | ".join(percent(each[app][f"{share} %"]["share"]) for share in SHARES)
            + " |"
            for mesh, each in by_size(report["mixed"])
            for app in ("iOS", "Android")
        ),
        "",
        "## Whole nodes",
        "",
        (
            "Announces, signatures and gossip included: messages that random nodes send every half"
            " second. Share of the nodes within seven hops that show it within 30 s, and seconds"
            " until half, 99 % and all of those did. *Twice* counts what was shown again."
        ),
        "",
        "![mesh-seconds](mesh-seconds.svg)",
        "",
        "| mesh | loss | messages × nodes | share, % | p50 | p99 | last | twice |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for mesh, each in by_size(report["engines"]):
        for loss in LOSSES:
            one = each[loss]
            lines.append(
                f"| {mesh} | {loss} | {one['pairs']:,} | {percent(one['share'])} |"
                f" {one['p50_s']:.2f} | {one['p99_s']:.2f} | {one['max_s']:.2f} |"
                f" {one['shown_twice']} |"
            )
    fast, walk, halves = report["busy"], report["moving"], report["parted"]
    lines += [
        "",
        "## Much said, walking, parted",
        "",
        "| what | found |",
        "|---|---|",
        (
            f"| 50 messages a second for 20 s, 50 nodes | {percent(fast['share'])} % reached, p99"
            f" {fast['p99_s']:.2f} s; {fast['duplicates']:,} duplicates, of which"
            f" {percent(fast['suppressed'])} % were known at once;"
            f" {fast['shown_twice']} shown twice |"
        ),
    ]
    for loss, one in walk.items():
        lines.append(
            f"| 50 nodes that walk at 1.4 m/s for {one['seconds']} s, {loss} |"
            f" {percent(one['share'])} % of those within seven hops when it was said, p99"
            f" {one['p99_s']:.2f} s; {one['links_changed']} links made or ended;"
            f" {one['shown_twice']} shown twice |"
        )
    lines += [
        (
            "| two halves of 50 nodes that meet after two minutes | of what was said meanwhile,"
            f" everybody has {percent(halves['reached_after_10_s'])} % after 10 s,"
            f" {percent(halves['reached_after_30_s'])} % after 30 s and"
            f" {percent(halves['reached_after_60_s'])} % after 60 s; the last after"
            f" {halves['last_s']:.0f} s |"
        ),
        "",
        "## Where the figures are from",
        "",
        "| part | commit | measured |",
        "|---|---|---|",
        *(
            f"| {name} | `{where['commit']}` | {where['measured']} |"
            for name, where in sorted(report["origins"].items())
        ),
        "",
    ]
    return "\n".join(lines)


def as_text(report: dict[str, Any]) -> str:
    """The report as JSON, a line for each run."""
    text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    return re.sub(r"{[^{}]*}", lambda found: " ".join(found.group().split()), text)


def by_size(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """The meshes of a part, the smallest first."""
    return sorted(found.items(), key=lambda item: (item[1]["nodes"], item[0]))


def percent(share: float) -> str:
    """A share in percent, never rounded up to all."""
    text = f"{100 * share:.2f}"
    return "99.99" if text == "100.00" and share < 1 else text.replace("100.00", "100")


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
