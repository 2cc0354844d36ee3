"""Groups over the mesh: one sealed packet that every member near reads, and rosters in sessions.

A text to a group floods once, whoever of its members is asked to be sent it: under the key of the
group's roster, signed inside. A roster goes to each member: inside a session, as the app's
invitation to people with the app, and as any other message to those of this program, who answer
with a receipt. What is no text, is long, or had no receipt before goes to each member, too.
"""

from __future__ import annotations

import dataclasses
import enum
import secrets
from collections import OrderedDict
from typing import Final

from fog_compute.p2p.bitchat.ble_messages import PLAIN, checked
from fog_compute.p2p.bitchat.ble_peers import NearPeers
from fog_compute.p2p.bitchat.ble_sendings import Sendings
from fog_compute.p2p.bitchat.mesh.news import SayGroup, SayTo
from fog_compute.p2p.bitchat.wire.errors import Malformed, Reason
from fog_compute.p2p.bitchat.wire.groups import NONCE_BYTES, GroupEnvelope, GroupMessage
from fog_compute.p2p.bitchat.wire.private import PrivateKind, within
from fog_compute.p2p.core.groups import Groups
from fog_compute.p2p.core.identity import Identity
from fog_compute.p2p.core.messages import MAX_LIFE_MS, DecentralizedMessage, MessageKind
from fog_compute.p2p.core.outbox import Key
from fog_compute.p2p.core.rosters import Member, Roster, is_roster
from fog_compute.p2p.core.transport import Outcome, OutcomeState

__all__ = ["GroupTalk", "Way"]

MAX_TEXT: Final = 16_000
"""Bytes of a text that floods; the app takes 60,000 characters, of which a group needs few."""

FLOOD_MS: Final = 30_000
"""For so long a text that flooded is not said again for another member."""

REMEMBERED: Final = 1_024
"""Texts of which it is known when they flooded, and messages that wait for a session."""


class Way(enum.Enum):
    """How somebody near is told a message of a group."""

    FLOOD = "flood"  # all members near read it
    INVITATION = "invitation"  # as the app's invitation, in a session
    SESSION = "session"  # as any other message, in a session
    NONE = "none"  # not now


class GroupTalk:
    """What is said in groups: which way it goes, and sealed and opened.

    Attributes:
        name: our nickname.
    """

    __slots__ = ("_flooded", "_groups", "_identity", "_near", "_rosters", "_waiting", "name")

    def __init__(self, identity: Identity, name: str, groups: Groups, near: NearPeers) -> None:
        """Nothing was said.

        Args:
            identity: who speaks.
            name: our nickname.
            groups: those that we are in.
            near: who is near, and whose key is proved.
        """
        self._identity: Final = identity
        self._groups: Final = groups
        self._near: Final = near
        self._flooded: Final[OrderedDict[str, int]] = OrderedDict()
        self._waiting: Final[OrderedDict[Key, bool]] = OrderedDict()
        self._rosters: Final[dict[str, str]] = {}
        self.name = name

    def way(self, message: DecentralizedMessage, fingerprint: str, attempt: int) -> Way:
        """How somebody is told a message.

        Args:
            message: what.
            fingerprint: whom.
            attempt: see `TransportInterface.send`.
        """
        if not message.room:
            return Way.SESSION
        answers = self.answers(message.room, fingerprint)
        near = self._near.is_near(fingerprint)
        if is_roster(message):
            if answers:
                return Way.SESSION
            return Way.INVITATION if near else Way.NONE
        if not self._may_flood(message, fingerprint):
            return Way.SESSION
        if answers:
            again = attempt > 0 or self._is_invited(fingerprint)
            return Way.SESSION if again or not self._near.takes_groups(fingerprint) else Way.FLOOD
        return Way.FLOOD if near and not self._is_invited(fingerprint) else Way.NONE

    def why(self, fingerprint: str) -> str:
        """Why there is no way now."""
        if self._is_invited(fingerprint):
            return "the group's key is on its way to them"
        return "they are not near"

    def answers(self, group: str, fingerprint: str) -> bool:
        """Whether somebody's program gives receipts for what is said in a group."""
        roster = self._groups.roster(group)
        member = None if roster is None else roster.member(fingerprint)
        return self._near.is_ours(fingerprint) or (member is not None and member.is_derived)

    def has_gone(self, message: DecentralizedMessage, way: Way, now_ms: int) -> bool:
        """Whether a text was said a moment ago, or a newer roster took the place of this one."""
        if way is Way.FLOOD:
            return now_ms - self._flooded.get(message.id, -FLOOD_MS) < FLOOD_MS
        return way is Way.INVITATION and not message.body

    def command(
        self, message: DecentralizedMessage, copy: Key, way: Way, sendings: Sendings
    ) -> SayTo | SayGroup:
        """What the mesh is to be given.

        Raises:
            Malformed: it cannot be said.
        """
        if way is Way.INVITATION:
            payload = within(PrivateKind.GROUP_INVITE, message.body)
            peer_id = bytes.fromhex(copy.receiver)[:8]
            return SayTo(sendings.token(copy, len(payload)), peer_id, payload)
        sealed = self.seal(message)
        return SayGroup(sendings.token(copy, len(sealed)), sealed)

    def _may_flood(self, message: DecentralizedMessage, fingerprint: str) -> bool:
        roster = self._groups.roster(message.room)
        return (
            roster is not None
            and roster.member(fingerprint) is not None
            and message.receiver_id is None
            and message.kind is MessageKind.TEXT
            and message.media_type == PLAIN
            and len(message.body) <= MAX_TEXT
        )

    def _is_invited(self, fingerprint: str) -> bool:
        """Whether a roster waits for a session with somebody."""
        return Key(self._rosters.get(fingerprint, ""), fingerprint) in self._waiting

    def asked(
        self, message: DecentralizedMessage, outcome: Outcome, way: Way, now_ms: int
    ) -> Outcome:
        """The mesh answered for a message of a group; what the router is told of it.

        Args:
            message: the message.
            outcome: the answer.
            way: which way it went.
            now_ms: the time.
        """
        failed = outcome.state is OutcomeState.FAILED
        if way is Way.FLOOD and not failed and not self.has_gone(message, way, now_ms):
            self._flooded[message.id] = now_ms
            self._flooded.move_to_end(message.id)
            while len(self._flooded) > REMEMBERED:
                self._flooded.popitem(last=False)
        quiet = way is not Way.SESSION and not self.answers(message.room, outcome.receiver)
        if outcome.state is OutcomeState.QUEUED and message.room:
            self._waiting[Key(message.id, outcome.receiver)] = quiet
            if is_roster(message):
                self._rosters[outcome.receiver] = message.id
            while len(self._waiting) > REMEMBERED:
                old, _ = self._waiting.popitem(last=False)
                self._rosters.pop(old.receiver, None)
        return dataclasses.replace(outcome, unanswered=quiet)

    def told(self, outcome: Outcome) -> Outcome:
        """The mesh has more to say of a message."""
        key = Key(outcome.message_id, outcome.receiver)
        quiet = self._waiting.get(key, False)
        if outcome.state is not OutcomeState.QUEUED and key in self._waiting:
            del self._waiting[key]
        return dataclasses.replace(outcome, unanswered=quiet)

    def clear(self) -> None:
        """The mesh is over, and what waited in it, or could be asked for, with it."""
        self._flooded.clear()
        self._waiting.clear()
        self._rosters.clear()

    def seal(self, message: DecentralizedMessage) -> bytes:
        """The payload of the packet that says a text to its group.

        Raises:
            Malformed: it is not for a group that we are in, or no text.
        """
        roster = self._groups.roster(message.room)
        if roster is None:
            raise Malformed(Reason.FIELD, "the message is for no group that one is in")
        try:
            text = message.body.decode()
        except UnicodeDecodeError:
            raise Malformed(Reason.TEXT, "a message to a group is not UTF-8") from None
        said = GroupMessage(
            message.id, self._identity.signing_public, self.name, message.created_ms, text
        )
        nonce = secrets.token_bytes(NONCE_BYTES)
        group = bytes.fromhex(roster.id)
        return said.seal(group, roster.epoch, roster.key, nonce, self._identity).encode()

    def open(self, payload: bytes, now_ms: int) -> tuple[DecentralizedMessage, bool] | None:
        """What somebody said in a group of ours, and whether it is proved that they did.

        The maker of a group says whose a signing key is. It is proved where that person's Noise key
        follows from it, or showed it in a session.

        Returns:
            None of what is for other groups, and of what we said ourselves.

        Raises:
            Malformed: it is none, of another key or epoch, or by nobody who is in the group.
        """
        envelope = GroupEnvelope.decode(payload)
        roster = self._groups.roster(envelope.group_id.hex())
        if roster is None:
            return None
        if envelope.epoch != roster.epoch:
            raise Malformed(Reason.VERSION, "a message to a group is of another epoch")
        said = envelope.open(roster.key)
        if said.signing_key == self._identity.signing_public:
            return None
        member = roster.by_key(said.signing_key)
        if member is None:
            raise Malformed(Reason.SIGNATURE, "a message to a group is by nobody who is in it")
        return self._message(said, roster, member, now_ms), self._is_proved(member)

    def _is_proved(self, member: Member) -> bool:
        known = self._near.signs(member.fingerprint)
        if known is not None and known != member.signing_public:
            raise Malformed(Reason.SIGNATURE, "a member of a group is known with another key")
        return known is not None or member.is_derived

    def _message(
        self, said: GroupMessage, roster: Roster, member: Member, now_ms: int
    ) -> DecentralizedMessage:
        created_ms = min(said.created_ms, now_ms)
        return checked(
            DecentralizedMessage(
                body=said.text.encode(),
                room=roster.id,
                id=said.id,
                sender=member.fingerprint,
                created_ms=created_ms,
                expires_ms=created_ms + MAX_LIFE_MS,
            )
        )
