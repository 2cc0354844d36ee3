"""A rule that no linter knows: crates depend one way only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

LAYERS: Final[dict[str, set[str]]] = {
    "betanet-sphinx": set(),
    "betanet-mix": {"betanet-sphinx"},
    "betanet-noise": {"betanet-sphinx"},
    "betanet-stdio": set(),
    "betanet-node": {"betanet-mix", "betanet-sphinx", "betanet-stdio"},
    "betanet-py": {"betanet-mix", "betanet-node", "betanet-noise", "betanet-sphinx"},
    "betanet-testkit": {"betanet-mix", "betanet-sphinx"},
    "betanet-fuzz": {"betanet-mix", "betanet-node", "betanet-noise", "betanet-sphinx"},
    "betanet-bench": {"betanet-mix", "betanet-node", "betanet-sphinx"},
}
"""What each crate may build on. Tests may use the testkit beside that."""

SANS_IO: Final = {"betanet-sphinx", "betanet-mix", "betanet-noise"}
IO_CRATES: Final = {"getrandom", "mio", "rand", "redb", "rustix", "rustls", "socket2", "tokio"}
"""Crates that bring sockets, files, clocks or a global generator."""


def layer_breaches(packages: list[dict[str, Any]]) -> list[str]:
    """Dependencies that point the wrong way, among the packages of `cargo metadata`."""
    breaches = []
    for package in packages:
        name = package["name"]
        if name not in LAYERS:
            breaches.append(f"crate {name} has no layer: give it one in {Path(__file__).name}")
            continue
        allowed = LAYERS[name]
        for dependency in package["dependencies"]:
            target, kind = dependency["name"], dependency["kind"]
            if target in LAYERS and target not in allowed:
                if not (kind == "dev" and target == "betanet-testkit"):
                    breaches.append(f"crate {name} must not depend on {target}")
            elif name in SANS_IO and target in IO_CRATES and kind != "dev":
                breaches.append(f"crate {name} does no I/O and must not depend on {target}")
    return breaches


def main() -> int:
    """Print every breach; 1 if there is one."""
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version=1"],
        check=True,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parent,
    ).stdout
    breaches = layer_breaches(json.loads(metadata)["packages"])
    for breach in breaches:
        print(breach, file=sys.stderr)  # noqa: T201 - the report of a command-line check
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
