"""Messages between people over several transports: the mixnet, Bluetooth, or both in turn.

Layers, high to low, imports only downwards: ``unified`` → ``mobile | htx | bitchat`` → ``core``.
``core`` knows no transport: it has what all share, and every decision of it is a function of events
and a time. Importing this package imports none of them: what it shows is imported when it is first
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fog_compute.exports import load_export

if TYPE_CHECKING:
    from fog_compute.p2p.core.manager import TransportManager
    from fog_compute.p2p.core.messages import (
        DecentralizedMessage,
        DeliveryState,
        MessageKind,
        Priority,
    )
    from fog_compute.p2p.core.transport import (
        Arrival,
        Outcome,
        TransportCapabilities,
        TransportInterface,
        TransportType,
    )
    from fog_compute.p2p.unified import UnifiedDecentralizedSystem, UnifiedP2PConfig

__all__ = [
    "TRANSPORTS_AVAILABLE",
    "Arrival",
    "DecentralizedMessage",
    "DeliveryState",
    "MessageKind",
    "Outcome",
    "Priority",
    "TransportCapabilities",
    "TransportInterface",
    "TransportManager",
    "TransportType",
    "UnifiedDecentralizedSystem",
    "UnifiedP2PConfig",
]

TRANSPORTS_AVAILABLE: Final = True
"""Both transports are part of the package; whether one can be used now, its capabilities say."""

_MODULES: Final = ("core.messages", "core.transport", "core.manager", "unified")
"""Where public names are from; the light ones first."""


def __getattr__(name: str) -> object:
    """Import what is public when it is first used."""
    return load_export(__name__, _MODULES, name, globals())


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
