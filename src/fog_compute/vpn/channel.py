"""The one seam between the fog and the network that carries it.

``coordinator`` and ``worker`` know a :class:`MessageChannel` and nothing below it.
:mod:`fog_compute.vpn.betanet` implements it on the mixnet, :mod:`fog_compute.testing` in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

__all__ = ["REPLY_PACKET_BYTES", "MessageChannel", "OnSent", "Received"]

REPLY_PACKET_BYTES = 2042
"""Bytes of answer that one reply packet carries on the mixnet."""

OnSent: TypeAlias = Callable[[int], object]
"""Called by the event loop when more of a message has arrived, with how many bytes that are."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message that arrived.

    Attributes:
        id: names this message for :meth:`MessageChannel.commit`; equal for a repeated delivery.
        body: what the sender wrote.
        reply_capacity: bytes that a reply can hold; 0 where the sender wants none.
        reply_handle: the channel's own name for the way back; None where there is none.
    """

    id: str
    body: bytes = field(repr=False)
    reply_capacity: int = 0
    reply_handle: int | None = None


@runtime_checkable
class MessageChannel(Protocol):
    """Sends, asks and receives messages of any size under one address.

    A message may be lost, repeated or overtaken by another; what is built on top must bear that.
    """

    @property
    def address(self) -> str:
        """Where others reach this channel; stays the same over a restart."""
        ...

    async def request(
        self,
        to: str,
        body: bytes,
        *,
        reply_packets: int = 4,
        timeout: float = 30.0,
        on_sent: OnSent | None = None,
    ) -> bytes:
        """Send ``body`` with a way back for ``reply_packets`` packets and wait for the answer.

        A long message tells ``on_sent`` on its way how far it is. Cancellation forgets the answer;
        the message itself may still arrive.

        Raises:
            ChannelTimeout: nothing came back within ``timeout`` seconds.
            ChannelDown: this machine cannot use the network now.
            ChannelError: the message could not be sent.
        """
        ...

    async def send(self, to: str, body: bytes) -> None:
        """Send without a way back; returns once the message is stored at the recipient's edge.

        Raises:
            ChannelDown: this machine cannot use the network now.
            ChannelError: the message could not be sent.
        """
        ...

    async def receive(self) -> Received:
        """Wait for the next message; cancellation loses none.

        Raises:
            ChannelError: the channel is closed.
        """
        ...

    async def reply(self, incoming: Received, body: bytes) -> None:
        """Answer a message within its ``reply_capacity``; at most once per message.

        Raises:
            ChannelError: there is no way back, it is used up, or the body is too large.
        """
        ...

    async def commit(self, incoming: Received) -> None:
        """Say that the message's effect is kept, so that it is never delivered again."""
        ...
