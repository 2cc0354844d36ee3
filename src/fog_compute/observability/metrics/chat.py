"""Metrics of people's messages: counts, and no names."""

from __future__ import annotations

from typing import Final

from fog_compute.observability.metrics.registry import Registry

__all__ = ["ChatMetrics"]

_TRANSPORTS: Final = ("htx", "ble")
_WAITING: Final = ("queued", "sending", "accepted", "stored")
_OVER: Final = ("delivered", "read", "failed", "expired")


class ChatMetrics:
    """What becomes of people's messages."""

    __slots__ = ("deliveries", "links", "moves", "received", "refused", "transport_up")

    def __init__(self, registry: Registry) -> None:
        self.deliveries: Final = registry.gauge(
            "fog_chat_deliveries",
            "Deliveries of people's messages that are not over.",
            state=_WAITING,
        )
        self.moves: Final = registry.counter(
            "fog_chat_moves",
            "Deliveries of people's messages that came to a state.",
            transport=(*_TRANSPORTS, "none"),
            state=(*_WAITING, *_OVER),
        )
        self.received: Final = registry.counter(
            "fog_chat_received", "Messages of other people that came."
        )
        self.refused: Final = registry.counter(
            "fog_chat_refused",
            "What was refused of what others sent.",
            part=("router", "htx", "ble", "browsers", "mesh"),
            reason="a word of the code",
        )
        self.transport_up: Final = registry.gauge(
            "fog_chat_transport_up",
            "1 where a transport of people's messages can be used, else 0.",
            transport=_TRANSPORTS,
        )
        self.links: Final = registry.gauge(
            "fog_chat_links", "Links of the mesh.", kind=("browser", "other")
        )
