"""What a transport over the mesh tells: messages as the router has them, and news, in their order.

What was heard becomes a message here, or is dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Final, TypeAlias

from fog_compute.p2p.bitchat.ble_groups import GroupTalk
from fog_compute.p2p.bitchat.ble_messages import public_file, public_message, read_private
from fog_compute.p2p.bitchat.ble_peers import NearPeers
from fog_compute.p2p.bitchat.mail.sealed_mail import NAME_BYTES
from fog_compute.p2p.bitchat.mesh.news import (
    FileHeard,
    GroupHeard,
    HeardPrivately,
    MailHeard,
    MailTaken,
    TextHeard,
)
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.core.identity import fingerprint_of
from fog_compute.p2p.core.messages import DecentralizedMessage
from fog_compute.p2p.core.transport import Arrival, TransportEvent, TransportType

__all__ = ["Heard", "Told", "taken"]

ARRIVALS: Final = 512
"""Messages that were heard and not taken; whoever sent one that is dropped hears of no receipt."""

Heard: TypeAlias = TextHeard | FileHeard | GroupHeard | HeardPrivately | MailHeard


def taken(token: str) -> MailTaken | None:
    """What the mesh is told once an arrival with this token is kept; None of most."""
    name = bytes.fromhex(token)
    return MailTaken(name[:NAME_BYTES], name[NAME_BYTES:]) if name else None


class Told:
    """Events that wait to be taken.

    Attributes:
        dropped: what was heard and not shown, by reason.
        woken: set when there may be something new.
    """

    __slots__ = ("_arrivals", "_events", "_groups", "_me", "_near", "dropped", "woken")

    def __init__(self, me: str, near: NearPeers, groups: GroupTalk, dropped: Counter[str]) -> None:
        """Nothing was heard.

        Args:
            me: one's own fingerprint.
            near: who is near, and whose key is proved.
            groups: opens what is said in groups.
            dropped: counts what is dropped.
        """
        self._me: Final = me
        self._near: Final = near
        self._groups: Final = groups
        self._events: Final[deque[TransportEvent]] = deque()
        self._arrivals = 0
        self.dropped: Final = dropped
        self.woken: Final = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether so many messages wait that no more are taken."""
        return self._arrivals >= ARRIVALS

    def say(self, event: TransportEvent) -> None:
        """Let the router know something."""
        self._events.append(event)
        self.woken.set()

    def take(self) -> TransportEvent | None:
        """What comes next; None where there is nothing."""
        if not self._events:
            return None
        event = self._events.popleft()
        self._arrivals -= isinstance(event, Arrival)
        return event

    def hear(self, heard: Heard, now_ms: int) -> DecentralizedMessage | None:
        """Take in what somebody said.

        Args:
            heard: what.
            now_ms: the time, in ms since 1970.

        Returns:
            The message, also where too many wait for one more; None where it is none.
        """
        match heard:
            case TextHeard(peer_id, message_id, text, sent_ms):
                sender = self._sender(peer_id)
                if sender is None:
                    return None
                message = public_message(message_id, text, sender, sent_ms)
                return self._arrived(message, self._near.proved(sender))
            case FileHeard():
                return self._file(heard)
            case GroupHeard(payload):
                return self._in_group(payload, now_ms)
            case HeardPrivately(_, noise_key, kind, body, sent_ms):
                return self._private(noise_key, kind, body, sent_ms or now_ms)
            case MailHeard(noise_key, kind, body, envelope):
                return self._private(noise_key, kind, body, now_ms, envelope)

    def _sender(self, peer_id: bytes) -> str | None:
        sender = self._near.sender(peer_id)
        if sender is None:
            self.dropped["unknown"] += 1
        return sender

    def _file(self, heard: FileHeard) -> DecentralizedMessage | None:
        sender = self._sender(heard.peer_id)
        if sender is None:
            return None
        recipient = self._me if heard.directed else None
        name, file, others = heard.message_id, heard.file, heard.others
        try:
            message = public_file(name, file, others, sender, heard.sent_ms, recipient)
        except Malformed as error:
            self.dropped[error.reason.value] += 1
            return None
        return self._arrived(message, self._near.proved(sender))

    def _in_group(self, payload: bytes, now_ms: int) -> DecentralizedMessage | None:
        try:
            opened = self._groups.open(payload, now_ms)
        except Malformed as error:
            self.dropped[f"group-{error.reason.value}"] += 1
            return None
        return None if opened is None else self._arrived(*opened)

    def _private(
        self, noise_key: bytes, kind: int, body: bytes, sent_ms: int, envelope: bytes = b""
    ) -> DecentralizedMessage | None:
        sender = fingerprint_of(noise_key)
        try:
            message = read_private(kind, body, sender, self._me, sent_ms, envelope)
        except Malformed as error:
            self.dropped[error.reason.value] += 1
            return None
        if message is None:
            self.dropped["kind"] += 1
            return None
        token = (envelope + noise_key).hex() if envelope else ""
        return self._arrived(message, proved=True, token=token)

    def _arrived(
        self, message: DecentralizedMessage, proved: bool, token: str = ""
    ) -> DecentralizedMessage:
        if self.full:
            self.dropped["full"] += 1
        else:
            self._arrivals += 1
            self.say(Arrival(TransportType.BITCHAT_BLE, message, proved, token))
        return message
