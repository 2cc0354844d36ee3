"""What an API key may be allowed to do. Light to import, as commands do."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Final

__all__ = ["DEFAULT_SCOPES", "Scope", "allows", "enough"]


class Scope(enum.StrEnum):
    """One thing that a key allows; a key has one or several."""

    READ = "read"
    METRICS = "metrics"
    SUBMIT = "submit"
    CHAT = "chat"
    OPERATE = "operate"
    ADMIN = "admin"

    @property
    def allowed(self) -> str:
        """What it allows, in one line."""
        return _ALLOWED[self]


_ALLOWED: Final = {
    Scope.READ: "see tasks, results, workers, nodes, circuits, events, metrics and the status",
    Scope.METRICS: "see the metrics, and nothing else",
    Scope.SUBMIT: "upload files, make and cancel tasks, open and close sessions",
    Scope.CHAT: "read and write messages between people, and change who is known; nobody else sees"
    " any of that",
    Scope.OPERATE: "restart the services of the backend",
    Scope.ADMIN: "do all of that, make and revoke keys, and erase messages with the person's keys",
}

DEFAULT_SCOPES: Final = (Scope.READ, Scope.SUBMIT)
"""What somebody needs who runs tasks."""


def enough(needed: Scope) -> tuple[Scope, ...]:
    """The scopes of which one is enough for what needs ``needed``, beside `Scope.ADMIN`."""
    return (needed, Scope.READ) if needed is Scope.METRICS else (needed,)


def allows(held: Collection[Scope], needed: Scope) -> bool:
    """Say whether these scopes allow what needs ``needed``: `Scope.ADMIN` allows everything."""
    return Scope.ADMIN in held or any(one in held for one in enough(needed))
