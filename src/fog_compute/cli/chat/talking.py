"""Asking the backend for what a conversation needs, by the words that a person uses."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from fog_compute.cli.chat.lines import Target
from fog_compute.cli.client import Backend
from fog_compute.cli.codes import USAGE
from fog_compute.cli.common import CommandError
from fog_compute.cli.peer import find
from fog_compute.client.people import (
    Cancelled,
    ChatEvents,
    Group,
    GroupMade,
    Groups,
    Log,
    Me,
    Message,
    Near,
    Peer,
    Peers,
    Sent,
    Trace,
    group_called,
)
from fog_compute.errors import Unreadable
from fog_compute.reading import TooLarge, read_file
from fog_compute.rooms import NEAR
from fog_compute.text import as_named

__all__ = ["AT_ONCE", "CHAT", "LONGEST_TEXT", "Talk", "names_of"]

CHAT: Final = "/api/v1/chat"
_CHECK: Final[Mapping[str, str]] = {"check": "true"}
LONGEST_TEXT: Final = 20_000
AT_ONCE: Final = 1000
"""Messages that one request gives, at most."""


class Talk:
    """One backend, asked as a person talks."""

    def __init__(self, backend: Backend) -> None:
        """Ask this backend."""
        self._backend: Final = backend

    def me(self, *, check: bool = False) -> Me:
        """Who one is; ``check`` sees whether the mixnet answers."""
        return self._backend.get(CHAT, Me, **_CHECK if check else {})

    def near(self) -> Near:
        """Who can be reached, as far as the mixnet answers."""
        return self._backend.get(f"{CHAT}/near", Near, **_CHECK)

    def trace(self, who: str) -> Trace:
        """How a message to somebody would go."""
        peer = find(self._backend, who)
        return self._backend.get(f"{CHAT}/trace/{peer['fingerprint']}", Trace)

    def names(self) -> dict[str, str]:
        """What people are called, by fingerprint, and groups, by id."""
        people = names_of(self._backend.get("/api/v1/peers", Peers))
        groups = self.groups()
        # Who is in a group and no contact is called as they call themselves there, with a mark.
        members = {who: f"{name}#{who[:4]}" for one in groups for who, name in one["names"].items()}
        return members | people | {one["id"]: one["name"] for one in groups}

    def groups(self) -> list[Group]:
        """The groups that one is in."""
        return self._backend.get(f"{CHAT}/groups", Groups)["groups"]

    def people(self, names: Sequence[str]) -> list[Peer]:
        """Who is meant by some names."""
        return [find(self._backend, one) for one in names]

    def make_group(self, name: str, members: Sequence[Peer]) -> GroupMade:
        """Make a group of some people."""
        body = {"name": name, "members": [one["fingerprint"] for one in members]}
        return self._backend.post(f"{CHAT}/groups", GroupMade, body)

    def change_group(self, group: Group, name: str, members: Sequence[str]) -> Group:
        """Give a group another name, or other members by their fingerprints; what it is then."""
        body = {"name": name, "members": list(members)}
        found = self._backend.post(f"{CHAT}/groups/{group['id']}", Groups, body)["groups"]
        return next(one for one in found if one["id"] == group["id"])

    def leave_group(self, group: Group) -> list[Group]:
        """Be in a group no more; return the others."""
        return self._backend.delete(f"{CHAT}/groups/{group['id']}", Groups)["groups"]

    def cancel(self, *, message: str = "", target: Target | None = None) -> list[str]:
        """Give up a message, or all that waits for a person or a room; return the ids."""
        body: dict[str, object] = {}
        if message:
            body["ids"] = [message]
        elif target is not None and target.person:
            body["to"] = find(self._backend, target.person)["fingerprint"]
        elif target is not None:
            body["room"] = self.room(target.room)
        return self._backend.post(f"{CHAT}/cancel", Cancelled, body)["ids"]

    def room(self, text: str) -> str:
        """The room that a person means: a group by its name or id; "" for all who are near."""
        return "" if text.lower() == NEAR else self.group(text)["id"]

    def group(self, text: str) -> Group:
        """The group that a person means, by its name or its id."""
        return group_called(text, self.groups())

    def log(self, target: Target, after: int, limit: int) -> Log:
        """The last messages of a conversation, or of all, after a position."""
        query: dict[str, str | float] = {"after": after, "limit": limit}
        if target.person:
            query["peer"] = find(self._backend, target.person)["fingerprint"]
        elif target.room:
            query["room"] = self.room(target.room)
        near = query.get("room") == ""
        if near:
            query["limit"] = AT_ONCE  # what is for one person alone has no room either
        found = self._backend.get(f"{CHAT}/messages", Log, **query)
        if near:
            found["messages"] = [one for one in found["messages"] if one["to"] is None][-limit:]
        return found

    def events(self, since: str, wait_s: float) -> ChatEvents:
        """What happened after a cursor; "" begins now."""
        query: dict[str, str | float] = {"wait": wait_s}
        if since:
            query["since"] = since
        return self._backend.get(f"{CHAT}/events", ChatEvents, **query)

    def say(
        self,
        target: Target,
        text: str,
        *,
        options: Mapping[str, object] | None = None,
        file: Path | None = None,
    ) -> Sent:
        """Send a text, or a file, to a person or a room."""
        body: dict[str, object] = dict(options or {})
        if target.person:
            body["to"] = find(self._backend, target.person)["fingerprint"]
        elif target.room:
            body["room"] = self.room(target.room)
        else:
            raise CommandError("say to whom: /msg NAME, or /room NAME", USAGE)
        if file is None:
            body["text"] = _text(text)
        else:
            body |= _content(file, self.me()["max_file_bytes"])
        return self._backend.post(f"{CHAT}/messages", Sent, body)

    def mark_read(self, messages: list[Message]) -> None:
        """Tell senders that their messages were seen."""
        seen: dict[str, list[str]] = {}
        for one in messages:
            if not one["outgoing"] and one["to"] is not None and one["known"]:
                seen.setdefault(one["sender"], []).append(one["id"])
        for sender, ids in seen.items():
            body = {"sender": sender, "ids": ids[-100:]}
            self._backend.post(f"{CHAT}/read", Me, body)


def names_of(found: Peers) -> dict[str, str]:
    """What people are called, by fingerprint."""
    return {one["fingerprint"]: one["shown"] for one in found["peers"]}


def _text(text: str) -> str:
    """What one message takes of text; what is not UTF-8 came from a pipe or an argument."""
    if len(text) > LONGEST_TEXT:
        raise CommandError(
            f"the text has {len(text):,} characters, and {LONGEST_TEXT:,} fit: send a file, --file",
            USAGE,
        )
    if not text.isascii() and any("\ud800" <= one <= "\udfff" for one in text):
        raise CommandError(f"{as_named(text[:40])} is no UTF-8 text, and was not sent", USAGE)
    return text


def _content(file: Path, most: int) -> dict[str, object]:
    try:
        data = read_file(file, most)
    except TooLarge as error:
        raise Unreadable(f"{file} cannot be sent: {error.strerror}") from error
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}") from error
    return {"file": base64.b64encode(data).decode("ascii"), "name": file.name}
