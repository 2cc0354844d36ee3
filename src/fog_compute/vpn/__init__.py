"""Message channels and circuits over the mixnet.

Import :mod:`fog_compute.vpn.betanet` and :mod:`fog_compute.vpn.clients` by name: they load the
native core, which the rest of this package does not need.
"""

from __future__ import annotations

from fog_compute.vpn.channel import REPLY_PACKET_BYTES, MessageChannel, Received

__all__ = ["REPLY_PACKET_BYTES", "MessageChannel", "Received"]
