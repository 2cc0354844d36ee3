"""What carries the messages between a coordinator and workers."""

from __future__ import annotations

from typing import Protocol

from fog_compute.levels import PrivacyLevel
from fog_compute.vpn.channel import OnSent

__all__ = ["Carrier"]


class Carrier(Protocol):
    """Carries messages through circuits; ``OnionCircuitService`` is one."""

    async def create_circuit(self, privacy_level: PrivacyLevel) -> str:
        """Make a circuit and return its id."""
        ...

    async def send_through_circuit(
        self,
        circuit_id: str,
        data: bytes,
        privacy_level: PrivacyLevel = ...,
        *,
        to: str | None = None,
    ) -> None:
        """Send without a way back."""
        ...

    async def request_through_circuit(
        self,
        circuit_id: str,
        data: bytes,
        privacy_level: PrivacyLevel = ...,
        *,
        to: str,
        reply_packets: int = 4,
        timeout: float = 30.0,
        on_sent: OnSent | None = None,
    ) -> bytes:
        """Ask and wait for the answer; tell on the way how many bytes have arrived."""
        ...

    def close_circuit(self, circuit_id: str, privacy_level: PrivacyLevel) -> None:
        """Close a circuit."""
        ...
