"""Streams of ours: which message gets which place, and when another stream begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from random import Random
from typing import Final

from fog_compute.p2p.core.book import NO_PLACE, OutStream
from fog_compute.p2p.core.messages import (
    DecentralizedMessage,
    MessageId,
    new_stream,
    public_id,
)

__all__ = ["OutStreams"]


class OutStreams:
    """The streams of all conversations and lanes."""

    def __init__(self, streams: Iterable[OutStream], rng: Random) -> None:
        """Go on with what was written down; ``rng`` names those that begin."""
        self._rng: Final = rng
        self._streams: Final = {(one.receiver, one.room, one.lane): one for one in streams}

    def next(self, message: DecentralizedMessage, receivers: tuple[str, ...]) -> OutStream | None:
        """A message's stream, counted on; another one where the group has other members now."""
        if not message.ordered:
            return None
        key = _key(message)
        before = self._streams.get(key)
        members = receivers if message.room else ()
        if before is None or before.members != members or before.next >= NO_PLACE:
            before = OutStream(*key, new_stream(self._rng), 0, members)
        self._streams[key] = dataclasses.replace(before, next=before.next + 1)
        return self._streams[key]

    def name(self, message: DecentralizedMessage, stream: OutStream | None) -> str:
        """The id of a message, with its place in the stream if it has one."""
        if stream is not None:
            return str(MessageId(stream.stream, stream.next - 1))
        if message.receiver_id is None:
            return public_id(message)
        return f"{self._rng.getrandbits(128):032x}"

    def end(self, message: DecentralizedMessage) -> OutStream | None:
        """A message will not come: begin anew, or its recipient waits for it.

        Returns:
            The stream, as it is to be written down; None if another one began before.
        """
        key, place = _key(message), MessageId.parse(message.id)
        now = self._streams.get(key)
        if now is None or place is None or now.stream != place.stream or now.next == NO_PLACE:
            return None
        self._streams[key] = dataclasses.replace(now, next=NO_PLACE)
        return self._streams[key]


def _key(message: DecentralizedMessage) -> tuple[str, str, str]:
    return (message.receiver_id or "", message.room, message.lane)
