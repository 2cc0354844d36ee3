"""What a person types to name something that has an id: the last one, or a few letters of it."""

from __future__ import annotations

from collections.abc import Sequence

from fog_compute.cli.client import Backend
from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import LINE_LENGTH, CommandError
from fog_compute.client.answers import Named
from fog_compute.tasks.ids import TASK_ID_LENGTH, is_name, named
from fog_compute.text import one_line

__all__ = ["chosen", "task_id_of", "whole_id"]


def task_id_of(text: str) -> str:
    """Return what a person calls a task; capitals are no other letters.

    Raises:
        CommandError: nothing can be called so.
    """
    name = text.lower()
    if not is_name(name):
        raise CommandError(
            f"{text!r} is no id of a task, nor @last, nor @2 for the last but one: see `fog task"
            " ls`",
            USAGE,
        )
    return name


def whole_id(backend: Backend, name: str) -> str:
    """Return the id of the one task that is meant; only the backend can tell of a short one."""
    if len(name) == TASK_ID_LENGTH:
        return name
    return backend.get(f"/api/v1/tasks/named/{name}", Named)["id"]


def chosen(text: str, newest_first: Sequence[str], what: str, see: str) -> str:
    """Return the one of some ids, of ``what`` things, that is meant; errors are as the backend's.

    Raises:
        CommandError: it is none of them, or could be several; the text says where to ``see`` them.
    """
    name = text.lower()
    found = named(name, newest_first) if is_name(name) else []
    if not found:
        raise CommandError(
            f"{text!r} is no {what}, nor how an id of one begins or ends: {see}", kind="not-found"
        )
    if len(found) > 1:
        ids = one_line(", ".join(found), LINE_LENGTH // 2)
        raise CommandError(
            f"ids of several {what}s begin or end with {name}: {ids}: give more of one",
            kind="conflict",
        )
    return found[0]
