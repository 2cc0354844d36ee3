"""``fog node``: list, show."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import Parameter

from fog_compute.cli.client import Backend
from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import CommandError, JsonFlag, print_fields, print_json, print_table
from fog_compute.client.answers import Node, NodeList

__all__ = ["ls", "show"]

ID_DIGITS: Final = 64


def ls(*, json: JsonFlag = False) -> int:
    """Count the nodes of the network by role, and list those that this fog has to do with.

    They are its edges, which keep its mailboxes, and the nodes that it leaves out for a while
    because they lost its packets. All others are used alike, and nothing is kept of them.

    For example: `fog node ls`
    """
    with Backend() as backend:
        found = backend.get("/api/v1/nodes", NodeList)
    if json:
        print_json(found)
        return 0
    roles = ", ".join(f"{count} {role}" for role, count in found["roles"].items())
    alone = "; one operator runs all of them: no anonymity" if found["one_operator"] else ""
    print_fields(
        [
            ("net", f"{found['network']}, epoch {found['epoch']}"),
            ("nodes", f"{sum(found['roles'].values())}: {roles}{alone}"),
        ]
    )
    if found["nodes"]:
        print_table(
            ("NODE", "EDGE OF OURS", "LEFT OUT"),
            [(node["id"], _edge(node), _left_out(node)) for node in found["nodes"]],
        )
    return 0


def show(
    node_id: Annotated[str, Parameter(help="A node's id in `fog node ls`, or how it begins.")],
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Show what this fog knows of one node: what it is to it, and what speaks against it.

    For example: `fog node show 4f2a`
    """
    begin = node_id.lower()
    if not begin or len(begin) > ID_DIGITS or set(begin) - set("0123456789abcdef"):
        raise CommandError(f"{node_id[:80]!r} is no id of a node: see `fog node ls`", USAGE)
    with Backend() as backend:
        node = backend.get(f"/api/v1/nodes/{begin}", Node)
    if json:
        print_json(node)
        return 0
    print_fields(
        [
            ("node", node["id"]),
            ("edge of ours", _edge(node)),
            ("left out", _left_out(node)),
        ]
    )
    return 0


def _edge(node: Node) -> str:
    edge = node["edge"]
    if edge is None:
        return "no"
    state = "attached" if edge["attached"] else edge["reason"] or "away"
    return state if edge["current"] else f"{state}, of a former address"


def _left_out(node: Node) -> str:
    excluded = node["excluded"]
    if excluded is None:
        return "no"
    lost = f"lost {excluded['lost']} of {excluded['tries']}, {excluded['expected']} by chance"
    return f"{lost}; tried again in {round(excluded['seconds_left'])} s"
