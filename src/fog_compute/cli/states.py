"""The states of tasks as a person says them; JSON has them as they are."""

from __future__ import annotations

from typing import Final

from fog_compute.tasks import TaskState

__all__ = ["asked_state", "shown_state"]

DONE: Final = "done"


def shown_state(state: str) -> str:
    """Return the word for a state of the backend's, which may be one that is not known here."""
    return DONE if state == TaskState.ACCEPTED else state


def asked_state(word: str) -> str:
    """Return the state that a person means by a word."""
    return TaskState.ACCEPTED.value if word == DONE else TaskState(word).value
