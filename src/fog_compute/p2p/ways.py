"""The ways on which one person's messages go: the mixnet, the mesh, and what joins the mesh."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fog_compute.clock import Clock
from fog_compute.errors import HomeUnusable
from fog_compute.observability import get_logger
from fog_compute.p2p.bitchat.mail.couriers import MailState
from fog_compute.p2p.bitchat.mail.mail_file import MailFile
from fog_compute.p2p.core.background import background
from fog_compute.p2p.core.contacts import PeerBook
from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.transport import TransportInterface
from fog_compute.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fog_compute.levels import PrivacyLevel
    from fog_compute.p2p.bitchat.ble_transport import BitChatTransport
    from fog_compute.p2p.bitchat.events import LinkSource
    from fog_compute.p2p.bitchat.radio.interface import Radio
    from fog_compute.p2p.htx.client import HtxClient
    from fog_compute.p2p.htx.mixnet import MixnetService
    from fog_compute.p2p.mobile.web_links import WebLinks

__all__ = ["MailKeeper", "Ways", "make_ways"]

_log = get_logger("fog_compute.p2p")


class MailKeeper:
    """Keeps what the mesh carries for others between two runs: of several states the newest.

    A state that cannot be written is told in the log, and is tried again with the next one.
    """

    def __init__(self, file: MailFile) -> None:
        """Read nothing yet."""
        self._file: Final = file
        self._newest: MailState | None = None
        self._writing: asyncio.Task[None] | None = None

    async def load(self) -> MailState | None:
        """What was kept; nothing, if that is damaged or cannot be read."""
        try:
            return await in_thread(self._file.load)
        except HomeUnusable as error:
            _log.warning("mail.unreadable", reason=str(error))
            return None

    def keep(self, mail: MailState) -> None:
        """Keep this state, soon."""
        self._newest = mail
        if self._writing is None or self._writing.done():
            self._writing = background(self._write(), "mail-keep")

    async def close(self) -> None:
        """See the newest state on disk."""
        if self._writing is not None:
            await asyncio.wait({self._writing})

    async def _write(self) -> None:
        while (mail := self._newest) is not None:
            self._newest = None
            try:
                await in_thread(self._file.save, mail)
            except (HomeUnusable, OSError) as error:
                _log.warning("mail.not_kept", error=type(error).__name__)


@dataclass(slots=True)
class Ways:
    """What `make_ways` made.

    Attributes:
        htx: over the mixnet, if there is one.
        mesh: over Bluetooth, and what joins its mesh, if that is wanted.
        web: browsers in that mesh.
        mail: keeps what the mesh carries.
    """

    htx: HtxClient | None = None
    mesh: BitChatTransport | None = None
    web: WebLinks | None = None
    mail: MailKeeper | None = None

    @property
    def transports(self) -> list[TransportInterface]:
        """All transports."""
        return [one for one in (self.htx, self.mesh) if one is not None]

    def settled(self, message_id: str, receiver: str) -> None:
        """A message has arrived: nobody needs to carry it there any longer."""
        if self.mesh is not None:
            self.mesh.settled(message_id, receiver)

    async def close(self) -> None:
        """See on disk what is to be kept."""
        if self.mail is not None:
            await self.mail.close()


async def make_ways(
    service: MixnetService | None,
    identity: Identity,
    name: str,
    contacts: PeerBook,
    groups: Groups,
    clock: Clock,
    *,
    level: PrivacyLevel,
    card_file: Path,
    ble: bool,
    adapter: str = "",
    mail_file: Path | None = None,
    islands: Sequence[str] = (),
    radio: Radio | None = None,
) -> Ways:
    """Make the transports of one person; nothing of them starts.

    Args:
        service: gives the mixnet's client; None for no mixnet.
        identity: whose they are.
        name: as whom others see the person.
        contacts: whom one knows.
        groups: those that one is in.
        clock: the time.
        level: of messages over the mixnet.
        card_file: where one's own card is kept.
        ble: whether Bluetooth is used.
        adapter: which; see `fog_compute.p2p.bitchat.radio.system.system_radio`.
        mail_file: where it is kept what the mesh carries; nowhere without one.
        islands: whose islands of the mesh ours is joined with through the mixnet, by fingerprint.
        radio: instead of the system's driver, which is touched only with ``ble``.
    """
    # Here, because they load the native core, and what speaks to the system's Bluetooth.
    ways = Ways()
    if service is not None:
        from fog_compute.p2p.htx.client import HtxClient
        from fog_compute.p2p.htx.own_card import OwnCard

        card = OwnCard(identity, card_file)
        ways.htx = HtxClient(service, identity, contacts, card, name=name, level=level, clock=clock)
    if ble or islands:
        from fog_compute.p2p.bitchat.ble_transport import BitChatTransport
        from fog_compute.p2p.bitchat.radio.off import OffRadio
        from fog_compute.p2p.bitchat.radio.system import system_radio

        if mail_file is not None:
            ways.mail = MailKeeper(MailFile(mail_file))
        ways.mesh = BitChatTransport(
            identity,
            name=name or "anon",
            book=contacts,
            groups=groups,
            radio=radio or (system_radio(adapter) if ble else OffRadio()),
            mail=None if ways.mail is None else await ways.mail.load(),
            clock=clock,
        )
        if ways.mail is not None:
            ways.mesh.on_mail = ways.mail.keep
        _join(ways, ways.mesh, islands, clock)
    return ways


def _join(ways: Ways, mesh: BitChatTransport, islands: Sequence[str], clock: Clock) -> None:
    """Let browsers into the mesh, and join islands of it through the mixnet."""
    from fog_compute.p2p.mobile.island_links import IslandLinks
    from fog_compute.p2p.mobile.unified_mobile_bridge import UnifiedMobileBridge
    from fog_compute.p2p.mobile.web_links import WebLinks

    ways.web = WebLinks(mesh.tell, clock=clock)
    sources: list[LinkSource] = [ways.web]
    if islands and ways.htx is not None:
        links = IslandLinks(mesh.tell, ways.htx, islands, clock=clock)
        ways.htx.on_carried = links.take
        sources.append(links)
    mesh.join(UnifiedMobileBridge(sources))
