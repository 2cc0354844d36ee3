"""What was given to the mesh and waits there: questions, their answers, and what comes later.

The mesh answers a command at once, and may have later news of it. A message may be several
commands; each has a token, by which its news finds the message.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from fog_compute.p2p.bitchat.mesh.news import (
    PartSent,
    PostMail,
    SayAll,
    SayGroup,
    SayTo,
    Sent,
    SentState,
    ShareFile,
)
from fog_compute.p2p.core.outbox import Key
from fog_compute.p2p.core.transport import Outcome, OutcomeState, PartLeft, TransportType

__all__ = ["SendCommand", "Sendings", "failed"]

LONG: Final = 16_384
"""Bytes of the shortest message of which it is told how far it has come: a second's worth."""

LONG_SENDINGS: Final = 256
"""Such messages; of more, nothing is told of the oldest."""

SENDINGS: Final = 4_096
"""Messages of whose further fate is told; of more, the oldest is taken for gone."""

STATES: Final = {
    SentState.ACCEPTED: OutcomeState.ACCEPTED,
    SentState.QUEUED: OutcomeState.QUEUED,
    SentState.FAILED: OutcomeState.FAILED,
}

WORSE: Final = (SentState.ACCEPTED, SentState.QUEUED, SentState.FAILED)
"""The later, the worse."""

SendCommand: TypeAlias = SayTo | SayGroup | PostMail | SayAll | ShareFile
"""Commands that the mesh answers with `Sent`."""


def failed(copy: Key, reason: str, *, permanent: bool = False) -> Outcome:
    """A message to somebody did not go out."""
    return Outcome(*copy, OutcomeState.FAILED, reason, permanent=permanent)


class Sendings:
    """Messages that the mesh was given and has more to say of."""

    __slots__ = ("_answers", "_copies", "_long", "_step", "_tell", "_tokens")

    def __init__(
        self, step: Callable[[SendCommand], None], tell: Callable[[Outcome | PartLeft], None]
    ) -> None:
        """Nothing waits.

        Args:
            step: lets the mesh decide about a command; its answers come to `sent` meanwhile.
            tell: called with later news of a message.
        """
        self._step: Final = step
        self._tell: Final = tell
        self._tokens: Final = itertools.count(1)
        self._answers: dict[str, Sent | None] = {}
        self._copies: Final[OrderedDict[str, Key]] = OrderedDict()
        self._long: Final[OrderedDict[str, tuple[Key, int]]] = OrderedDict()

    def token(self, copy: Key, size: int) -> str:
        """A name for one command of a message of so many bytes to somebody."""
        token = f"{next(self._tokens)}"
        if size >= LONG:
            self._long[token] = (copy, size)
            while len(self._long) > LONG_SENDINGS:
                self._long.popitem(last=False)
        self._copies[token] = copy
        while len(self._copies) > SENDINGS:
            self._copies.popitem(last=False)
        return token

    def ask(self, copy: Key, commands: Sequence[SendCommand]) -> Outcome:
        """Ask the mesh, which answers at once; the worst of several answers counts."""
        answers: dict[str, Sent | None] = dict.fromkeys(one.token for one in commands)
        self._answers = answers
        try:
            for command in commands:
                self._step(command)
        finally:
            self._answers = {}
        worst: Sent | None = None
        for command in commands:
            sent = answers[command.token]
            if sent is None or sent.state is not SentState.QUEUED:
                self._copies.pop(command.token, None)
            sent = sent or Sent(command.token, SentState.FAILED, reason="the mesh did not answer")
            if worst is None or WORSE.index(sent.state) > WORSE.index(worst.state):
                worst = sent
        if worst is None:
            return failed(copy, "there is nothing to send", permanent=True)
        return Outcome(*copy, STATES[worst.state], worst.reason)

    def sent(self, sent: Sent) -> None:
        """The mesh answers, or has news of what it answered for before: that may come meanwhile."""
        if sent.token in self._answers:
            self._answers[sent.token] = sent
            return
        copy = self._copies.get(sent.token)
        if copy is not None:
            if sent.state is not SentState.QUEUED:
                del self._copies[sent.token]
            self._tell(Outcome(*copy, STATES[sent.state], sent.reason))

    def left(self, part: PartSent) -> None:
        """Part of a long message was handed to the links."""
        copy, size = self._long.get(part.token, (None, 0))
        if copy is not None:
            if part.pieces == part.of:
                del self._long[part.token]
            sent = size * part.pieces // part.of
            self._tell(PartLeft(TransportType.BITCHAT_BLE, *copy, sent, size))

    def clear(self) -> None:
        """The mesh is over, and what waited in it with it."""
        self._copies.clear()
        self._long.clear()
