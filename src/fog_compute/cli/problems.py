"""The types of problem that commands have beside those of the backend, for ``--json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["OWN_PROBLEMS"]

OWN_PROBLEMS: Final[Mapping[str, str]] = {
    "backend-error": "The backend does not answer, or what answers is none.",
    "failed": "What was asked cannot be done; the message says why.",
    "folder-unusable": "Results cannot go to the folder that was named.",
    "home-unusable": "The home folder, or a file of the fog in it, cannot be used.",
    "interrupted": "A signal ended the command; a task that it followed goes on.",
    "not-delivered": "A message failed, or its time was over before it arrived.",
    "not-ready": "A fog runs, and its backend is not up yet: try again.",
    "not-running": "No fog runs in the home folder, or none listens at the address.",
    "not-written": (
        "The task went well, and files that it left could not be written; `not_written` names them."
    ),
    "store-unusable": "The database cannot be opened or is damaged, or does not do what was asked.",
    "system": "The operating system refused something; the message has its words.",
    "task-failed": (
        "The task, or one of a map, failed or was cancelled; its fields stand beside the error."
    ),
    "timed-out": (
        "The time that the command was given is over; a task that it "
        "followed goes on, and `id` names it."
    ),
    "unmet-needs": "This machine lacks something that a fog needs.",
    "unreadable": "A file that was to go with a task cannot be read.",
    "usage": "The command cannot be understood: an option, an argument or a value is wrong.",
}
"""What each means, by the last word of its type."""
