"""What `fog up` writes to ``fog.json`` of its processes, and other commands read there."""

from __future__ import annotations

from typing import Final, NotRequired, TypedDict

import msgspec

from fog_compute.cli.common import note
from fog_compute.layout import HomeLayout
from fog_compute.reading import read_state

__all__ = ["FogState", "Restart", "read_fog_state", "troubles_of"]

_NOT_SHOWN: Final = "the processes are not shown"


class Restart(TypedDict):
    """That a part of a fog ended and was started again: how often, and when and why last."""

    count: int
    at: str
    why: str


class FogState(TypedDict):
    """The processes of a fog.

    ``troubles`` says by name why a worker can run no task now, or what only watches does not;
    ``restarts`` what ended by itself;
    ``database_given`` whether a setting names the database, which is in the home folder otherwise;
    ``monitoring`` where Prometheus and Alertmanager answer, if they were asked for.
    """

    pid: int
    url: str
    started_at: str
    version: str
    children: dict[str, int | None]
    troubles: dict[str, str]
    restarts: NotRequired[dict[str, Restart]]
    database_given: NotRequired[bool]
    monitoring: NotRequired[dict[str, str]]


def read_fog_state(layout: HomeLayout) -> FogState | None:
    """Read what a fog wrote of itself; None where nothing is, or, said, nothing usable."""
    path = layout.state_file
    try:
        return msgspec.json.decode(read_state(path), type=FogState)
    except FileNotFoundError:
        return None
    except OSError as error:
        note(f"{path} cannot be read ({error.strerror}): {_NOT_SHOWN}")
    except (ValueError, RecursionError):
        note(f"{path} is damaged: {_NOT_SHOWN}")
    return None


def troubles_of(state: FogState | None) -> list[str]:
    """Say why each part of this fog that does not do its work does not."""
    troubles = {} if state is None else state["troubles"]
    return [
        f"{name} can run no task: {reason}" if name.startswith("worker-") else reason
        for name, reason in troubles.items()
    ]
