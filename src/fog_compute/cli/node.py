"""``fog node``: list, show."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from cyclopts import Parameter

from fog_compute.cli.client import Backend
from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import CommandError, JsonFlag, print_fields, print_json, print_table
from fog_compute.client.answers import Node, NodeList
from fog_compute.client.nodes import NODES, NodePages

__all__ = ["ls", "show"]

ID_DIGITS: Final = 64
SHOWN_DIGITS: Final = 16
UNLISTED: Final = "-"


def ls(
    *,
    role: Annotated[
        Literal["entry", "middle", "exit"] | None, Parameter(help="Only nodes of this role.")
    ] = None,
    use: Annotated[
        Literal["edge", "excluded"] | None,
        Parameter(help="Only edges that keep mailboxes of ours, or only nodes that are left out."),
    ] = None,
    json: JsonFlag = False,
) -> int:
    """List the nodes of the network's consensus, and what each is to this fog.

    It has mailboxes at some edges, and leaves out nodes for a while that lost its packets. All
    others are used alike, and nothing is kept of them. The net's name, the consensus and the
    numbers of nodes are those of all, whichever are listed.

    For example: `fog node ls --role middle`
    """
    pages = NodePages(role, use)
    with Backend() as backend:
        while (found := pages.take(backend.get(NODES, NodeList, **pages.query))) is None:
            pass
    if json:
        print_json(found)
        return 0
    roles = ", ".join(f"{count} {role}" for role, count in found["roles"].items())
    alone = "; one operator runs all of them: no anonymity" if found["one_operator"] else ""
    print_fields(
        [
            ("net", found["network"]),
            ("consensus", _consensus(found)),
            ("nodes", f"{sum(found['roles'].values())}: {roles}{alone}"),
        ]
    )
    if found["nodes"]:
        print_table(
            ("NODE", "ROLE", "OPERATOR", "PREFIX", "KEYS", "EDGE OF OURS", "LEFT OUT"),
            [
                (
                    node["id"][:SHOWN_DIGITS],
                    node["role"] or UNLISTED,
                    node["operator"] or UNLISTED,
                    node["prefix"] or UNLISTED,
                    _epochs(node),
                    _edge(node),
                    _left_out(node),
                )
                for node in found["nodes"]
            ],
        )
    return 0


def show(
    node_id: Annotated[
        str,
        Parameter(help="A node's id in `fog node ls`, or how that alone begins or ends."),
    ],
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Show one node: what the directory says of it, what it is to this fog, what speaks against it.

    For example: `fog node show 4f2a`
    """
    name = node_id.lower()
    if not name or len(name) > ID_DIGITS or set(name) - set("0123456789abcdef"):
        raise CommandError(f"{node_id[:80]!r} is no id of a node: see `fog node ls`", USAGE)
    with Backend() as backend:
        node = backend.get(f"{NODES}/{name}", Node)
    if json:
        print_json(node)
        return 0
    expires = node["expires_at"]
    print_fields(
        [
            ("node", node["id"]),
            ("role", node["role"] or "none: the consensus does not list it now"),
            ("operator", node["operator"] or UNLISTED),
            ("prefix", node["prefix"] or UNLISTED),
            ("link address", node["link_address"] or UNLISTED),
            ("keys of epochs", _epochs(node)),
            ("described until", UNLISTED if expires is None else _time(expires)),
            ("edge of ours", _edge(node)),
            ("left out", _left_out(node)),
        ]
    )
    return 0


def _consensus(found: NodeList) -> str:
    until = _time(found["valid_until"])
    held = f"until {until}" if found["in_force"] else f"not in force: it holds until {until}"
    return f"of epoch {found['epoch']}, revision {found['revision']}, {held}"


def _epochs(node: Node) -> str:
    """The epochs of a node's keys; of several that follow each other the first and the last."""
    epochs = node["key_epochs"]
    if len(epochs) > 1 and epochs == list(range(epochs[0], epochs[0] + len(epochs))):
        return f"{epochs[0]}-{epochs[-1]}"
    return ",".join(map(str, epochs)) or UNLISTED


def _time(text: str) -> str:
    return text[:19].replace("T", " ") + " UTC"


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
