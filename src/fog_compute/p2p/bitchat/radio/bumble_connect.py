"""Connections that this side begins, in the words of bumble's controllers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bumble.device import Connection, Device
    from bumble.hci import HCI_AsyncCommand

__all__ = ["bounded", "reach", "said"]

_SCAN: Final = 96
"""How long an attempt listens at a time, in units of 0.625 ms: 60 ms."""

_INTERVALS: Final = (12, 24)
"""Shortest and longest connection interval, in units of 1.25 ms: 15 to 30 ms."""

_SUPERVISION: Final = 400
"""Silence after which a connection is lost, in units of 10 ms: 4 s."""


async def reach(device: Device, address: str) -> Connection:
    """Connect as central.

    bumble's own method takes the next connection for its own, whoever made it.

    Raises:
        BaseBumbleError: the controller refuses, or nobody answers it.
    """
    from bumble.core import BaseBumbleError
    from bumble.hci import HCI_LE_Create_Connection_Cancel_Command, OwnAddressType, Role

    reached: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    def arrived(connection: Connection) -> None:
        if connection.role == Role.CENTRAL and not reached.done():
            reached.set_result(connection)

    def failed(error: BaseBumbleError) -> None:
        if not reached.done():
            reached.set_exception(error)

    device.on(device.EVENT_CONNECTION, arrived)
    device.on(device.EVENT_CONNECTION_FAILURE, failed)
    device.connect_own_address_type = OwnAddressType.RANDOM
    asked = asyncio.ensure_future(device.send_async_command(_creation(device, address)))
    try:
        await asyncio.shield(asked)
        return await reached
    except asyncio.CancelledError:
        with contextlib.suppress(BaseBumbleError, TimeoutError):
            await bounded(asked)
            await bounded(device.send_sync_command(HCI_LE_Create_Connection_Cancel_Command()))
        raise
    finally:
        device.remove_listener(device.EVENT_CONNECTION, arrived)
        device.remove_listener(device.EVENT_CONNECTION_FAILURE, failed)


def _creation(device: Device, address: str) -> HCI_AsyncCommand:
    """The command that begins an attempt, in the words that the controller knows."""
    from bumble import hci
    from bumble.core import PhysicalTransport

    peer = hci.Address.from_string_for_transport(address, PhysicalTransport.LE)
    if device.host.supports_command(hci.HCI_LE_EXTENDED_CREATE_CONNECTION_COMMAND):
        return hci.HCI_LE_Extended_Create_Connection_Command(
            initiator_filter_policy=0,
            own_address_type=hci.OwnAddressType.RANDOM,
            peer_address_type=peer.address_type,
            peer_address=peer,
            initiating_phys=1 << hci.HCI_LE_1M_PHY_BIT,
            scan_intervals=(_SCAN,),
            scan_windows=(_SCAN,),
            connection_interval_mins=(_INTERVALS[0],),
            connection_interval_maxs=(_INTERVALS[1],),
            max_latencies=(0,),
            supervision_timeouts=(_SUPERVISION,),
            min_ce_lengths=(0,),
            max_ce_lengths=(0,),
        )
    return hci.HCI_LE_Create_Connection_Command(
        le_scan_interval=_SCAN,
        le_scan_window=_SCAN,
        initiator_filter_policy=0,
        peer_address_type=peer.address_type,
        peer_address=peer,
        own_address_type=hci.OwnAddressType.RANDOM,
        connection_interval_min=_INTERVALS[0],
        connection_interval_max=_INTERVALS[1],
        max_latency=0,
        supervision_timeout=_SUPERVISION,
        min_ce_length=0,
        max_ce_length=0,
    )


async def bounded(work: Awaitable[Any]) -> None:
    """Wait for what a controller may never answer, and let it be after a second.

    Raises:
        TimeoutError: it was not done by then.
    """
    done, _ = await asyncio.wait({asyncio.ensure_future(work)}, timeout=1.0)
    if not done:
        raise TimeoutError
    for one in done:
        one.result()


def said(error: Exception) -> str:
    """What an error says; a time that ran out says nothing."""
    return str(error) or "no answer"
