"""The Bluetooth mesh of the BitChat app: its wire format, and the rules of a mesh that speaks it.

From below: ``wire`` has one module for each thing that travels, and all of them refuse bytes with
one error, :class:`~fog_compute.p2p.bitchat.wire.errors.Malformed`; ``sessions`` and ``mail`` decide
whose keys and whose mail; ``mesh`` is one node, of which ``events`` are the records to its driver
and ``managed_flood`` says whom a packet goes to; the ``ble_…`` modules drive it, and ``radio`` has
the drivers of adapters. Only these two open anything. What is spoken, and where it differs from the
app and why, is in ``docs/spec/bitchat.md``.
"""

from __future__ import annotations
