"""What becomes of the messages that this machine hands to the mixnet: counts, and nothing finer."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import betanet

if TYPE_CHECKING:
    import os

__all__ = ["CountedClient", "MessageEnd", "OnEnd"]


class MessageEnd(enum.StrEnum):
    """How the sending of a message ended, as far as the mixnet is concerned."""

    ACKNOWLEDGED = "acknowledged"
    """The recipient has it, or the edge that keeps it for the recipient."""
    EXPIRED = "expired"
    """Nothing said so in time."""
    FAILED = "failed"
    """There was no way into the network, or no path in it."""


OnEnd: TypeAlias = Callable[[MessageEnd], object]


class _Stored:
    """Whether all of a message was acknowledged, as far as it was told on the way."""

    __slots__ = ("_tell", "whole")

    def __init__(self, tell: Callable[[betanet.Progress], object]) -> None:
        self._tell = tell
        self.whole = False

    def __call__(self, progress: betanet.Progress) -> None:
        self.whole = progress.done >= progress.total
        self._tell(progress)


class CountedClient(betanet.Client):
    """A client that tells how each of its messages ended.

    Not told is the end of what its caller gave up, or should not have asked for: a recipient that
    is none, a message that is too long.
    """

    __slots__ = ("on_end",)

    on_end: OnEnd
    """Called with each end; set once, after the client was opened."""

    async def send(
        self,
        to: str,
        body: bytes | os.PathLike[str],
        *,
        hops: int = 3,
        id: str | None = None,  # noqa: A002 - the published name
        delivered: bool = False,
        on_progress: Callable[[betanet.Progress], object] | None = None,
    ) -> str:
        """As in `betanet.Client`."""
        with self._told(None):
            return await super().send(
                to, body, hops=hops, id=id, delivered=delivered, on_progress=on_progress
            )

    async def request(
        self,
        to: str,
        body: bytes,
        *,
        hops: int = 3,
        reply_packets: int = 4,
        timeout: float = 30.0,
        on_progress: Callable[[betanet.Progress], object] | None = None,
    ) -> bytes:
        """As in `betanet.Client`; an answer that does not come is no fault of a stored question."""
        stored = None if on_progress is None else _Stored(on_progress)
        with self._told(stored):
            return await super().request(
                to,
                body,
                hops=hops,
                reply_packets=reply_packets,
                timeout=timeout,
                on_progress=stored,
            )

    @contextmanager
    def _told(self, stored: _Stored | None) -> Iterator[None]:
        try:
            yield
        except betanet.Timeout:
            whole = stored is not None and stored.whole
            self.on_end(MessageEnd.ACKNOWLEDGED if whole else MessageEnd.EXPIRED)
            raise
        except (betanet.Offline, betanet.NotEnoughNodes):
            self.on_end(MessageEnd.FAILED)
            raise
        self.on_end(MessageEnd.ACKNOWLEDGED)
