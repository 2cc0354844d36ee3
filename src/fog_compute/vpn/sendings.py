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
        with self._told():
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
        """As in `betanet.Client`; an answer that does not come is none of the mixnet's faults."""
        with self._told():
            return await super().request(
                to,
                body,
                hops=hops,
                reply_packets=reply_packets,
                timeout=timeout,
                on_progress=on_progress,
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except betanet.Unanswered:
            self.on_end(MessageEnd.ACKNOWLEDGED)
            raise
        except betanet.Timeout:
            self.on_end(MessageEnd.EXPIRED)
            raise
        except (betanet.Offline, betanet.NotEnoughNodes):
            self.on_end(MessageEnd.FAILED)
            raise
        self.on_end(MessageEnd.ACKNOWLEDGED)
