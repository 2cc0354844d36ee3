"""``fog circuit``: list, show."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from fog_compute.cli.client import Backend
from fog_compute.cli.common import JsonFlag, print_fields, print_json, print_table
from fog_compute.cli.status import excluded_line
from fog_compute.client.answers import Client, LevelCircuits, LevelDetail, LevelList
from fog_compute.levels import PrivacyLevel
from fog_compute.text import counted
from fog_compute.units import format_bytes

__all__ = ["ls", "show"]


def ls(*, json: JsonFlag = False) -> int:
    """Show the circuits of all levels, and how the packets of each level's client fare.

    Loss and times are those of the client's own packets and loops.

    For example: `fog circuit ls`
    """
    with Backend() as backend:
        levels = backend.get("/api/v1/circuits", LevelList)["levels"]
    if json:
        print_json(levels)
        return 0
    head = ("LEVEL", "SESSIONS", "IN USE", "DRAINING", "UNDER WAY")
    print_table(
        (*head, "LOST", "ROUND TRIP", "LOOP", "EDGES", "LEFT OUT"),
        [
            (
                level["level"],
                level["sessions"],
                _in_use(level),
                level["circuits"].get("draining", 0),
                level["in_flight"],
                *_fares(level["client"]),
            )
            for level in levels
        ],
    )
    return 0


def show(
    level: Annotated[PrivacyLevel, Parameter(help="A privacy level.")], *, json: JsonFlag = False
) -> int:
    """Show one level's client, whom it leaves out and on which evidence, and each circuit.

    For example: `fog circuit show private`
    """
    with Backend() as backend:
        found = backend.get(f"/api/v1/circuits/{level.value}", LevelDetail)
    if json:
        print_json(found)
        return 0
    in_use = f"{_in_use(found)} in use, {found['circuits'].get('draining', 0)} draining"
    lines = [
        ("level", f"{found['level']}, {counted(found['hops'], 'hop')}"),
        ("sessions", f"{found['sessions']}, {found['by_token']} of them by token"),
        ("circuits", f"{in_use}; {found['made']} made, {found['rotations']} rotated"),
        (
            "sent",
            f"{format_bytes(found['bytes_sent'])} in {counted(found['packets_sent'], 'packet')}",
        ),
        ("received", format_bytes(found["bytes_received"])),
        *_client_lines(found["client"]),
    ]
    print_fields(lines)
    if found["each"]:
        print_table(
            ("CIRCUIT", "STATE", "AGE", "IDLE", "UNDER WAY", "PACKETS", "SENT", "RECEIVED"),
            [
                (
                    circuit["id"],
                    circuit["state"],
                    f"{circuit['age_s']:.0f} s",
                    f"{circuit['idle_s']:.0f} s",
                    circuit["in_flight"],
                    circuit["packets_sent"],
                    format_bytes(circuit["bytes_sent"]),
                    format_bytes(circuit["bytes_received"]),
                )
                for circuit in found["each"]
            ],
        )
    return 0


def _in_use(level: LevelCircuits) -> int:
    return level["circuits"].get("fresh", 0) + level["circuits"].get("active", 0)


def _fares(client: Client | None) -> tuple[str, ...]:
    if client is None:
        return ("-",) * 5
    attached = sum(edge["attached"] for edge in client["edges"])
    return (
        f"{client['lost']} of {client['tries']}",
        _time(client["round_trip_ms"]),
        _time(client["loop_ms"]),
        f"{attached} of {len(client['edges'])}",
        str(len(client["excluded"])),
    )


def _client_lines(client: Client | None) -> list[tuple[str, str]]:
    if client is None:
        return [("client", "not open: nothing was sent at this level yet")]
    lost = f"{client['lost']} of {client['tries']} packets lost"
    times = ((client["round_trip_ms"], "there and back"), (client["loop_ms"], "a loop"))
    known = [f"{_time(value)} {what}" for value, what in times if value is not None]
    lines = [("client", ", ".join([lost, *known]))]
    if client["trouble"]:
        lines.append(("", client["trouble"]))
    for edge in client["edges"]:
        state = "attached" if edge["attached"] else edge["reason"] or "away"
        former = "" if edge["current"] else ", of a former address"
        lines.append(("edge", f"{edge['id']}: {state}{former}"))
    lines += [("", excluded_line(node)) for node in client["excluded"]]
    return lines


def _time(milliseconds: int | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds} ms"
