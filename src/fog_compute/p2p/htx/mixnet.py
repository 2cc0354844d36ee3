"""What HTX needs of the mixnet: a client with a folder of its own, which others provide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import betanet
from fog_compute.levels import PrivacyLevel

__all__ = ["Incoming", "MixnetClient", "MixnetService"]


class Incoming(Protocol):
    """A message that came; `betanet.Incoming` is one."""

    @property
    def id(self) -> str:
        """Names it in `MixnetClient.commit`."""
        ...

    @property
    def body(self) -> bytes:
        """All of it; a large one is read from a file."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the body, without reading it."""
        ...


class MixnetClient(Protocol):
    """What is needed of `betanet.Client`."""

    @property
    def address(self) -> str:
        """Where others reach it."""
        ...

    async def send(
        self,
        to: str,
        body: bytes,
        *,
        hops: int = 3,
        id: str | None = None,  # noqa: A002
        on_progress: Callable[[betanet.Progress], object] | None = None,
    ) -> str:
        """Return once the recipient's edge has stored it; tell on the way how far it is."""
        ...

    async def receive(self) -> Incoming:
        """Wait for the next message."""
        ...

    async def commit(self, id: str) -> None:  # noqa: A002 - as it is published
        """Let the edges forget a message."""
        ...

    async def ping(self, hops: int = 3) -> float:
        """Send a packet to oneself; the seconds it took."""
        ...

    def status(self) -> betanet.ClientStatus:
        """The network as the client sees it now."""
        ...


class MixnetService(Protocol):
    """What is needed of `fog_compute.vpn.betanet.BetanetService`."""

    async def client(self, level: PrivacyLevel, owner: str = "") -> MixnetClient:
        """A client of one level, opened if it is not."""
        ...
