"""Which driver a machine has."""

from __future__ import annotations

import platform

from fog_compute.p2p.bitchat.radio.interface import Radio

__all__ = ["system_radio"]


def system_radio(name: str = "") -> Radio:
    """The driver for an adapter; nothing is touched before it is started.

    Args:
        name: empty for what the system offers; ``hci0`` for an adapter of BlueZ's; what has a
            colon, such as ``hci-socket:0`` or ``usb:0``, is raw HCI, taken from the system.
    """
    if ":" in name:
        from fog_compute.p2p.bitchat.radio.bumble import BumbleRadio, open_hci

        return BumbleRadio(open_hci(name))
    if platform.system() == "Linux":
        from fog_compute.p2p.bitchat.radio.bluez import BluezRadio

        return BluezRadio(name)
    from fog_compute.p2p.bitchat.radio.bless import BlessRadio

    return BlessRadio()
