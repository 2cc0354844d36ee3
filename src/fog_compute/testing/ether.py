"""The ether between virtual radios: who hears whom, and how long it takes.

:class:`Ether` is bumble's link in memory with a range: nodes are numbers, and an adapter hears
those that are near. Everything above is real: HCI, ACL, ATT, GATT, in real time. Bits are not lost,
as a real link layer repeats them; links are. Needs bumble.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from bumble import att, hci, ll
from bumble import controller as bumble_controller
from bumble import host as bumble_host
from bumble.controller import Controller
from bumble.core import PhysicalTransport
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink

from fog_compute.p2p.bitchat.radio.bumble import BumbleRadio, Hci

__all__ = ["Ether"]

_WRITTEN: Final = (
    hci.HCI_Packet,
    hci.HCI_Command,
    hci.HCI_Event,
    hci.HCI_AclDataPacket,
    att.ATT_PDU,
)

_ENHANCED: Final = 1 << (hci.HCI_LE_ENHANCED_CONNECTION_COMPLETE_EVENT - 1)
"""What a host's mask of events says that wants the longer form of *connected*."""

_ACL_BYTES: Final = 251
"""What an adapter takes at once, as real ones with long packets do; bumble's takes a tenth."""


@dataclass(slots=True)
class _Memory:
    """The way to a controller in this process."""

    source: Any
    sink: Any

    async def close(self) -> None:
        """There is nothing to let go of."""


class _Adapter(Controller):
    """A controller of bumble's that tells its host of connections as real ones do.

    It can be told to give up an attempt to connect, and says in the event that its host asked for
    that there is a connection. Linux waits for that one: 4 s later it takes an attempt that came to
    a connection for one that failed, and never ends the connection, whoever asks it to.
    """

    def send_hci_packet(self, packet: hci.HCI_Packet) -> None:
        """Say that there is a connection, in the longer form if the host wants that (7.7.65.10)."""
        wanted = self.le_event_mask & _ENHANCED
        if wanted and isinstance(packet, hci.HCI_LE_Connection_Complete_Event):
            packet = hci.HCI_LE_Enhanced_Connection_Complete_Event(
                status=packet.status,
                connection_handle=packet.connection_handle,
                role=packet.role,
                peer_address_type=packet.peer_address_type,
                peer_address=packet.peer_address,
                local_resolvable_private_address=hci.Address.ANY,
                peer_resolvable_private_address=hci.Address.ANY,
                connection_interval=packet.connection_interval,
                peripheral_latency=packet.peripheral_latency,
                supervision_timeout=packet.supervision_timeout,
                central_clock_accuracy=packet.central_clock_accuracy,
            )
        super().send_hci_packet(packet)

    def on_hci_le_create_connection_cancel_command(
        self, _command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        """End the attempt, and say that it failed, as the specification has it (7.8.13)."""
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is not None:
            self.send_hci_packet(
                hci.HCI_LE_Connection_Complete_Event(
                    status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
                    connection_handle=0,
                    role=hci.Role.CENTRAL,
                    peer_address_type=pending.peer_address.address_type,
                    peer_address=pending.peer_address,
                    connection_interval=0,
                    peripheral_latency=0,
                    supervision_timeout=0,
                    central_clock_accuracy=0,
                )
            )
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)


class Ether(LocalLink):
    """A link between controllers of which not all hear each other."""

    def __init__(
        self,
        near: Callable[[int, int], bool] | None = None,
        *,
        delay_s: float = 0.0,
        again_s: float = 0.0,
    ) -> None:
        """Make an empty one.

        Args:
            near: whether two nodes hear each other; None for all. Asked anew each time.
            delay_s: seconds that everything takes from adapter to adapter.
            again_s: seconds before a scan tells of the same neighbour again.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        _hush()
        self._near: Final = near
        self._delay_s: Final = delay_s
        self._again_s: Final = again_s
        self._told: Final[dict[tuple[Controller, Controller], float]] = {}
        self._numbers: Final[dict[Controller, int]] = {}
        self._owners: Final[dict[hci.Address, Controller]] = {}

    def adapter(self, number: int) -> Callable[[], Awaitable[Hci]]:
        """What opens the adapter of a node: a new controller with each opening."""

        async def attach() -> Hci:
            controller = self.controller(number)
            return _Memory(controller, AsyncPipeSink(controller))

        return attach

    def controller(
        self, number: int, source: Any = None, sink: Any = None, public: str = ""
    ) -> Controller:
        """A new controller for a node, in place of the one that it had.

        Args:
            number: of the node.
            source: where its host's packets come from, if that is elsewhere;
            sink: and where its own go to.
            public: its public address, which the host may use in place of a random one.
        """
        made = _Adapter(
            f"node {number}",
            host_source=source,
            host_sink=sink,
            link=self,
            public_address=public or None,
        )
        if public:
            self._owners[made.public_address] = made
        made.le_acl_data_packet_length = _ACL_BYTES
        made.total_num_le_acl_data_packets = 64
        for other, known in tuple(self._numbers.items()):
            if known == number:
                self.unplug(other)
        self._numbers[made] = number
        return made

    def radio(
        self, number: int, *, interval_ms: float = 60.0, timeout_s: float = 8.0
    ) -> BumbleRadio:
        """A driver for a node's adapter, whose address tells its number."""
        address = f"C0:00:00:00:{number >> 8:02X}:{number & 0xFF:02X}"
        return BumbleRadio(
            self.adapter(number), address=address, interval_ms=interval_ms, timeout_s=timeout_s
        )

    def part(self, one: int, other: int) -> None:
        """End the connections between two nodes, as when they lose each other."""
        for controller, number in tuple(self._numbers.items()):
            if number not in (one, other):
                continue
            for connection in tuple(controller.le_connections.values()):
                owner = self._owners.get(connection.peer_address)
                if owner is not None and self._numbers[owner] in (one, other):
                    controller.on_le_disconnected(
                        connection, hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR
                    )

    def unplug(self, controller: Controller) -> None:
        """Take a controller away, with its connections."""
        number = self._numbers[controller]
        for other in set(self._numbers.values()) - {number}:
            self.part(number, other)
        self._numbers.pop(controller)
        self.controllers.discard(controller)
        controller.le_legacy_advertiser.stop()
        if not controller.terminated.done():
            controller.terminated.set_result(None)

    def find_le_controller(self, address: hci.Address) -> Controller | None:
        """Who has an address, without a walk through all."""
        return self._owners.get(address)

    def on_address_changed(self, controller: Controller) -> None:
        """Remember whose an address is; connections keep the one they began with."""
        self._owners[controller.random_address] = controller

    def send_acl_data(
        self,
        sender_controller: Controller,
        destination_address: hci.Address,
        transport: PhysicalTransport,
        data: bytes,
    ) -> None:
        """Carry data, in the name of the address that the connection was made with."""
        receiver = self._owners.get(destination_address)
        connection = sender_controller.le_connections.get(destination_address)
        if receiver is None or connection is None:
            return
        self._after(receiver.on_link_acl_data, connection.self_address, transport, data)

    def send_advertising_pdu(
        self, sender_controller: Controller, packet: ll.AdvertisingPdu
    ) -> None:
        """Let those hear an advertisement who are near and listen."""
        if isinstance(packet, ll.ConnectInd):
            self._after(self._connect, sender_controller, packet)
            return
        for controller in self._numbers:
            connects = self._connects(controller, sender_controller)
            listens = controller.le_scan_enable and self._is_news(sender_controller, controller)
            if (connects or listens) and self._hears(sender_controller, controller):
                self._after(controller.on_ll_advertising_pdu, packet)

    def _is_news(self, sender: Controller, listener: Controller) -> bool:
        """Whether a scan tells of somebody (again): adapters leave out what comes too often."""
        now, pair = asyncio.get_running_loop().time(), (sender, listener)
        news = now - self._told.get(pair, float("-inf")) >= self._again_s
        if news:
            self._told[pair] = now
        return news

    def _connect(self, central: Controller, packet: ll.ConnectInd) -> None:
        """Let an advertiser hear that somebody connects; who does not listen any more does not."""
        owner = self._owners.get(packet.advertiser_address)
        by = packet.initiator_address
        if owner is not None and by not in owner.le_connections and self._hears(central, owner):
            owner.on_ll_advertising_pdu(packet)
            if by in owner.le_connections:
                return
        connection = central.le_connections.get(packet.advertiser_address)
        if connection is not None:
            central.on_le_disconnected(
                connection, hci.HCI_ErrorCode.CONNECTION_FAILED_TO_BE_ESTABLISHED_ERROR
            )

    def _hears(self, one: Controller, other: Controller) -> bool:
        if one is other or one not in self._numbers or other not in self._numbers:
            return False
        return self._near is None or self._near(self._numbers[one], self._numbers[other])

    @staticmethod
    def _connects(one: Controller, other: Controller) -> bool:
        """Whether one may connect to the other now: of two who want to, one does."""
        if one.pending_le_connection is None:
            return False
        ours, theirs = _address(one), _address(other)
        if theirs in one.le_connections or ours in other.le_connections:
            return False
        crossing = other.pending_le_connection
        return crossing is None or crossing.peer_address != ours or bytes(ours) < bytes(theirs)

    def _after(self, call: Callable[..., None], *args: object) -> None:
        loop = asyncio.get_running_loop()
        if self._delay_s:
            loop.call_later(self._delay_s, call, *args)
        else:
            loop.call_soon(call, *args)


def _address(controller: Controller) -> hci.Address:
    """The address with which a host of ours, or BlueZ, connects and is connected to."""
    public = controller.public_address
    return public if any(bytes(public)) else controller.random_address


def _hush() -> None:
    """Keep bumble from writing down every packet in colours for a log that nobody reads.

    It does so before it asks whether somebody does, which takes two fifths of the time.
    """
    for module in (bumble_controller, bumble_host):
        vars(module)["color"] = lambda text, *_: text
    for kind in (
        hci.HCI_Packet,
        hci.HCI_Command,
        hci.HCI_Event,
        hci.HCI_AclDataPacket,
        att.ATT_PDU,
    ):
        kind.__str__ = object.__repr__  # type: ignore[method-assign]
