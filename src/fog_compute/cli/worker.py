"""``fog worker``: list."""

from __future__ import annotations

from fog_compute.cli.client import Backend
from fog_compute.cli.common import JsonFlag, print_json, print_table
from fog_compute.client.answers import Status
from fog_compute.units import format_bytes

__all__ = ["ls"]


def ls(*, json: JsonFlag = False) -> int:
    """List the workers of the network as this fog sees them.

    For example: `fog worker ls`
    """
    with Backend() as backend:
        workers = backend.get("/api/v1/status", Status)["workers"]
    if json:
        print_json(workers)
        return 0
    print_table(
        ("WORKER", "LEVEL", "STATE", "KINDS", "SLOTS", "OURS", "MEMORY", "GROUPS"),
        [
            (
                worker["name"],
                worker["level"] or "any",
                worker["state"],
                ",".join(worker["kinds"]),
                worker["slots"],
                worker["leased"],
                format_bytes(worker["memory_bytes"]),
                ",".join(worker["groups"]) or "none of ours",
            )
            for worker in workers
        ],
    )
    return 0
