"""Controllers of the ether, as their hosts see them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from bumble import hci

from fog_compute.testing.ether import Ether


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("mask", "kind"),
    [
        (0b01_1111_1111, hci.HCI_LE_Connection_Complete_Event),
        (0b10_0000_0001, hci.HCI_LE_Enhanced_Connection_Complete_Event),
    ],
)
async def test_a_connection_is_told_in_the_form_that_the_host_asked_for(
    mask: int, kind: type[hci.HCI_LE_Meta_Event]
) -> None:
    heard: list[bytes] = []
    controller = Ether().controller(3)
    controller.host = SimpleNamespace(on_packet=heard.append)
    controller.le_event_mask = mask
    controller.send_hci_packet(
        hci.HCI_LE_Connection_Complete_Event(
            status=0,
            connection_handle=5,
            role=hci.Role.PERIPHERAL,
            peer_address_type=hci.Address.RANDOM_DEVICE_ADDRESS,
            peer_address=hci.Address("C0:00:00:00:00:07"),
            connection_interval=24,
            peripheral_latency=0,
            supervision_timeout=42,
            central_clock_accuracy=0,
        )
    )
    await asyncio.sleep(0)
    (told,) = map(hci.HCI_Packet.from_bytes, heard)
    assert isinstance(told, kind)
    assert isinstance(
        told,
        hci.HCI_LE_Connection_Complete_Event | hci.HCI_LE_Enhanced_Connection_Complete_Event,
    )
    assert (told.connection_handle, str(told.peer_address)) == (5, "C0:00:00:00:00:07")
