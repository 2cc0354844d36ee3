"""The Bluetooth mesh of the BitChat app: its wire format, and the rules of a mesh that speaks it.

Nothing here opens a socket or a radio but ``radio`` and ``ble_transport``. The wire format has one
module for each thing that travels, and all of them refuse bytes with one error,
:class:`~fog_compute.p2p.bitchat.errors.Malformed`. What is spoken, and where it differs from the
app and why, is in ``docs/spec/bitchat.md``.
"""

from __future__ import annotations
