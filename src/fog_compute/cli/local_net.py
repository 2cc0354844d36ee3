"""What a home's own net says of itself, also where the backend cannot reach it."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from fog_compute import spawn
from fog_compute.cli.common import CommandError
from fog_compute.cli.needs import find_betanet
from fog_compute.layout import HomeLayout
from fog_compute.text import one_line

__all__ = ["net_trouble", "trouble_in"]

ASK_S: Final = 5.0


class _Health(msgspec.Struct):
    trouble: str | None = None


class _Node(msgspec.Struct):
    name: str
    pid: int | None = None
    health: _Health | None = None


class _Net(msgspec.Struct):
    nodes: list[_Node]


def net_trouble(layout: HomeLayout) -> str:
    """Why a home's own net carries nothing, as its nodes see it.

    Empty where it does, where the home has none, and where it cannot be asked.
    """
    if not layout.net.is_dir():
        return ""
    command = ("localnet", "status", "--dir", str(layout.net), "--json")
    try:
        return trouble_in(spawn.output_of([str(find_betanet()), *command], ASK_S))
    except (OSError, CommandError, msgspec.MsgspecError):
        return ""


def trouble_in(report: bytes) -> str:
    """What most nodes of a net complain of, or which do not run, by what the net reports.

    Raises:
        msgspec.MsgspecError: it is no such report.
    """
    net = msgspec.json.decode(report, type=_Net)
    troubles = Counter(node.health.trouble for node in net.nodes if node.health is not None)
    troubles.pop(None, None)
    if troubles:
        return one_line(str(troubles.most_common(1)[0][0]))
    if gone := [node.name for node in net.nodes if node.pid is None]:
        return one_line(f"not running now: {', '.join(gone)}")
    return ""
