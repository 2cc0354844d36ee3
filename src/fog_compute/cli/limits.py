"""The limits of a task as commands take them."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from fog_compute.cli.common import whole
from fog_compute.units import parse_bytes, parse_duration

__all__ = [
    "FuelFlag",
    "GroupFlag",
    "MemoryFlag",
    "OutputFlag",
    "ScratchFlag",
    "WaitFlag",
    "WallFlag",
    "read_limits",
]

WallFlag = Annotated[str | None, Parameter(name="--wall", help="How long each task may run.")]

MemoryFlag = Annotated[
    str | None,
    Parameter(name="--memory", help="Memory that the module may use, such as 64MiB."),
]

FuelFlag = Annotated[
    int | None,
    Parameter(name="--fuel", help="Instructions that the module may use.", converter=whole),
]

OutputFlag = Annotated[
    str | None,
    Parameter(
        name="--output",
        help="Bytes that it may write to standard output, to standard error and below out/,"
        " each, such as 100MiB.",
    ),
]

ScratchFlag = Annotated[
    str | None,
    Parameter(name="--scratch", help="Bytes that its working directory may hold, inputs included."),
]

GroupFlag = Annotated[
    str,
    Parameter(name="--group", help="Group whose workers may run it; by default your fog's first."),
]


WaitFlag = Annotated[
    bool,
    Parameter(
        name="--wait-for-worker",
        negative=(),
        help="Queue it also where no listed worker can take it as it is; by default that is said,"
        " and ends.",
    ),
]


def read_limits(
    wall: str | None,
    memory: str | None,
    fuel: int | None,
    output: str | None,
    scratch: str | None,
) -> dict[str, Any]:
    """Read the flags that were given; what was not keeps the backend's default.

    Raises:
        FogError: one is no duration, or no number of bytes.
    """
    sizes = {"memory_bytes": memory, "output_bytes": output, "scratch_bytes": scratch}
    limits: dict[str, Any] = {n: parse_bytes(text) for n, text in sizes.items() if text is not None}
    if wall is not None:
        limits["wall_s"] = parse_duration(wall)
    if fuel is not None:
        limits["fuel"] = fuel
    return limits
