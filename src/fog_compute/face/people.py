"""Messages between people from an event loop: sent, read, followed and given up."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

from fog_compute.client import people as answers
from fog_compute.client.asking import WAIT_S
from fog_compute.client.loops import AsyncBackend
from fog_compute.errors import FogError, InvalidTask
from fog_compute.face.records import records
from fog_compute.rooms import NEAR

__all__ = ["ChatMessage", "NotDelivered", "People", "Person"]

CHAT: Final = "/api/v1/chat"
PEERS: Final = "/api/v1/peers"
AT_ONCE: Final = 1000
LONGEST_FILE: Final = 2**26
"""Bytes of a file that is fetched; what can be sent is less."""


class NotDelivered(FogError):
    """A message failed or expired; the text says why."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom one knows, or has met.

    Attributes:
        fingerprint: names them everywhere: 64 hexadecimal digits.
        shown: what people call them.
        trust: ``stranger``, ``contact`` or ``verified``.
        blocked: whether nothing of theirs is shown.
    """

    fingerprint: str
    shown: str
    trust: str
    blocked: bool


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message in the log.

    Attributes:
        position: its place: a later one has a higher number.
        id: names it, with its sender.
        sender: a fingerprint; one's own of what one sent.
        shown: what people call the sender.
        outgoing: whether one sent it.
        to: the recipient's fingerprint; None of a room.
        room: the id of a group; "" of what goes to one person, or to all who are near.
        text: None of a file.
        name: of a file.
        at: when it was made, or came.
        verified: whether it is proved that the sender sent it.
        known: whether the sender is oneself or a contact.
        states: of what one sent, where it stands with each recipient.
        reasons: of what one sent, why it failed, expired or waits, by recipient.
    """

    position: int
    id: str
    sender: str
    shown: str
    outgoing: bool
    to: str | None
    room: str
    text: str | None
    name: str
    at: datetime
    verified: bool
    known: bool
    states: Mapping[str, str]
    reasons: Mapping[str, str]


class People:
    """The messages of the fog's owner; `Fog.people` is one. Its key needs the scope ``chat``.

    People are named as on the command line: by one's own name for them, by theirs, or by how their
    fingerprint begins; groups by their name or id, and ``near`` is all who are near by Bluetooth.
    """

    def __init__(self, backend: AsyncBackend) -> None:
        """Ask this backend."""
        self._backend: Final = backend

    async def known(self) -> tuple[Person, ...]:
        """Tell whom one knows, or has met; contacts first."""
        found = await self._backend.get(PEERS, answers.Peers)
        return records(found["peers"], Person)

    async def send(
        self,
        to: str = "",
        text: str | None = None,
        *,
        room: str = "",
        file: bytes | None = None,
        name: str = "",
        private: bool = False,
        timeout: float | None = None,
    ) -> str:
        """Send a text or a file to a person or a room; return its id once it is kept here.

        Args:
            to: a person.
            text: what to say.
            room: a group, or ``near``, instead of a person.
            file: instead of a text, the content of a file.
            name: of the file.
            private: let it go only where nobody sees who writes to whom.
            timeout: wait for so many seconds until it is delivered to all.

        Raises:
            NotFound: nobody, or several, are called so.
            InvalidTask: it cannot be sent as it is.
            NotDelivered: it failed or expired while it was waited for.
            TimeoutError: it is not delivered in time; it still goes out.
        """
        body: dict[str, object] = {"requires_privacy": private}
        if bool(to) == bool(room):
            raise InvalidTask("a message goes to a person or to a room: give one of them")
        if to:
            body["to"] = await self._fingerprint(to)
        else:
            body["room"] = await self._room(room)
        if text is not None:
            body["text"] = text
        if file is not None:
            body |= {"file": base64.b64encode(file).decode("ascii"), "name": name}
        events = None if timeout is None else await self._events("", 0)
        sent = await self._backend.post(f"{CHAT}/messages", answers.Sent, body)
        if timeout is not None and events is not None:
            async with asyncio.timeout(timeout):
                await self._delivered(sent, events["next"])
        return sent["id"]

    async def messages(
        self, person: str = "", *, room: str = "", limit: int = 100
    ) -> tuple[ChatMessage, ...]:
        """Tell the newest messages, oldest first: with a person, in a room, or all."""
        query: dict[str, str | float] = {"limit": limit}
        if person:
            query["peer"] = await self._fingerprint(person)
        if room:
            query["room"] = await self._room(room)
        near = query.get("room") == ""
        if near:
            query["limit"] = AT_ONCE  # what is for one person has no room either
        found = (await self._backend.get(f"{CHAT}/messages", answers.Log, **query))["messages"]
        if near:
            found = [one for one in found if one["to"] is None][-limit:]
        return records(found, ChatMessage)

    async def arrivals(self) -> AsyncGenerator[ChatMessage]:
        """Give what others send from now on, as it comes."""
        events = await self._events("", 0)
        while True:
            events = await self._events(events["next"], WAIT_S)
            came = [one["message"] for one in events["events"] if one["message"] is not None]
            for message in records([one for one in came if not one["outgoing"]], ChatMessage):
                yield message

    async def content(self, message: ChatMessage) -> bytes:
        """Fetch what is in a message, such as a file."""
        path = f"{CHAT}/messages/{message.sender}/{quote(message.id, safe='')}"
        return await self._backend.whole(path, LONGEST_FILE)

    async def cancel(self, message_id: str) -> bool:
        """Give up a message that is not delivered yet; False if nothing of it waits any more."""
        body = {"ids": [message_id]}
        done = await self._backend.post(f"{CHAT}/cancel", answers.Cancelled, body)
        return bool(done["ids"])

    async def _delivered(self, sent: answers.Sent, cursor: str) -> None:
        left = set(sent["receivers"])
        while left:
            events = await self._events(cursor, WAIT_S)
            cursor = events["next"]
            for one in events["events"]:
                told = one["delivery"]
                if told is None or told["id"] != sent["id"]:
                    continue
                if told["state"] in ("failed", "expired"):
                    raise NotDelivered(f"message {sent['id']} {told['state']}: {told['reason']}")
                if answers.has_it(told):
                    left.discard(told["receiver"])

    async def _events(self, since: str, wait_s: float) -> answers.ChatEvents:
        query: dict[str, str | float] = {"wait": wait_s}
        if since:
            query["since"] = since
        return await self._backend.get(f"{CHAT}/events", answers.ChatEvents, **query)

    async def _fingerprint(self, person: str) -> str:
        found = await self._backend.get(f"{PEERS}/find", answers.Peer, name=person[:200])
        return found["fingerprint"]

    async def _room(self, room: str) -> str:
        if room.lower() == NEAR:
            return ""
        found = await self._backend.get(f"{CHAT}/groups", answers.Groups)
        return answers.group_called(room, found["groups"])["id"]
