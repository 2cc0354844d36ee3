"""How a message goes out over the mesh: to one person, to a group, or to all who are near.

To one person it goes over a session, or by couriers where that person is not near.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fog_compute.p2p.bitchat.ble_groups import GroupTalk, Way
from fog_compute.p2p.bitchat.ble_messages import PLAIN, write_file, write_private
from fog_compute.p2p.bitchat.ble_peers import NearPeers
from fog_compute.p2p.bitchat.ble_sendings import SendCommand, Sendings, failed
from fog_compute.p2p.bitchat.mail.sealed_mail import MAX_MAIL
from fog_compute.p2p.bitchat.mesh.news import PostMail, SayAll, SayTo, ShareFile
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.core.messages import DecentralizedMessage, MessageKind
from fog_compute.p2p.core.outbox import Key
from fog_compute.p2p.core.transport import EVERYBODY, Outcome, OutcomeState

__all__ = ["Outgoing"]

NOBODY: Final = "they are not near, and nobody is who could carry it to them"


class Outgoing:
    """Gives messages to the mesh."""

    __slots__ = ("_groups", "_near", "_now_ms", "_sendings")

    def __init__(
        self, near: NearPeers, groups: GroupTalk, sendings: Sendings, now_ms: Callable[[], int]
    ) -> None:
        """Send by what is known of who is near, and of groups."""
        self._near: Final = near
        self._groups: Final = groups
        self._sendings: Final = sendings
        self._now_ms: Final = now_ms

    def to_one(self, message: DecentralizedMessage, destination: str, attempt: int) -> Outcome:
        """Send to one person; see `TransportInterface.send`."""
        copy, size = Key(message.id, destination), len(message.body)
        if message.requires_privacy:
            return failed(copy, "over Bluetooth others see who is near whom", permanent=True)
        way = self._groups.way(message, destination, attempt)
        if way is not Way.SESSION:
            return self._to_group(message, copy, way)
        near = self._near.is_near(destination)
        try:
            # Mail can be handed in again whenever a courier likes: it says when it is over.
            payloads = write_private(message, dated=not near and self._near.is_ours(destination))
        except Malformed as error:
            return failed(copy, str(error), permanent=True)
        commands: list[SendCommand]
        if near:
            peer_id = bytes.fromhex(destination)[:8]
            commands = [
                # No receipt came by the best way: everybody is asked.
                SayTo(self._sendings.token(copy, size), peer_id, payload, wide=attempt > 0)
                for payload in payloads
            ]
        else:
            noise_key = self._near.noise_key(destination)
            carried = all(len(payload) <= MAX_MAIL for payload in payloads)
            if noise_key is None or not self._near.links or not carried:
                return failed(copy, NOBODY)
            commands = [
                PostMail(self._sendings.token(copy, size), message.id, noise_key, payload)
                for payload in payloads
            ]
        outcome = self._sendings.ask(copy, commands)
        return self._groups.asked(message, outcome, way, self._now_ms())

    def _to_group(self, message: DecentralizedMessage, copy: Key, way: Way) -> Outcome:
        """Say a text to a group, or show somebody with the app who is in it."""
        groups, now_ms = self._groups, self._now_ms()
        if way is Way.NONE:
            return failed(copy, groups.why(copy.receiver))
        if groups.has_gone(message, way, now_ms):
            return groups.asked(message, Outcome(*copy, OutcomeState.ACCEPTED), way, now_ms)
        try:
            command = groups.command(message, copy, way, self._sendings)
        except Malformed as error:
            return failed(copy, str(error), permanent=True)
        return groups.asked(message, self._sendings.ask(copy, [command]), way, now_ms)

    def to_all(self, message: DecentralizedMessage) -> Outcome:
        """Say a text to all who are near, or give them a file."""
        copy = Key(message.id, EVERYBODY)
        token = self._sendings.token(copy, len(message.body))
        command: SendCommand
        if message.kind is MessageKind.FILE and not message.room:
            command = ShareFile(token, *write_file(message))
        elif message.kind is MessageKind.TEXT and message.media_type == PLAIN and not message.room:
            # With the same time it has the same id as over the mixnet, and is shown once.
            command = SayAll(token, message.text, message.created_ms or None)
        else:
            why = "over Bluetooth only plain text and files go to all who are near"
            return failed(copy, why, permanent=True)
        return self._sendings.ask(copy, [command])
