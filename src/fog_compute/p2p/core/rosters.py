"""Rosters: who is in a group and with which key it speaks, signed by its maker.

They have the bytes of the BitChat app's group state, so that a group is one for programs of both
kinds. Fields of tag (1 byte), length (2 bytes) and value: 01 group id (16), 02 name, 03 key (32),
04 epoch (4), 05 members, 06 the maker's fingerprint (32), 07 signature (64) over
``bitchat-group-v1`` ‖ group id ‖ epoch ‖ SHA-256 of each of key, members and name. The members:
their number (1 byte), and of each fingerprint (32), signing key (32), length of the nickname
(1 byte), nickname. The maker's signing key is the one among the members.

A field of another tag is passed over, and so is one of a length that it cannot have.

Source: ``Services/Groups/GroupProtocol.swift`` of the app.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from typing import Final, Self

import msgspec

from fog_compute.p2p.core.identity import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    Identity,
    as_name,
    fingerprint_of,
    is_fingerprint,
    noise_key_of,
    verifies,
)
from fog_compute.p2p.core.messages import (
    LATEST_MS,
    DecentralizedMessage,
    InvalidMessage,
    MessageKind,
)

__all__ = ["MAX_MEMBERS", "NO_KEY", "ROSTER", "Member", "Roster", "is_roster"]

MAX_MEMBERS: Final = 16
MAX_NAME_BYTES: Final = 255
MAX_NICKNAME_BYTES: Final = 64
MAX_BYTES: Final = 8_192
"""Of a roster; the largest that this module makes has 2,887."""

GROUP_ID_BYTES: Final = 16
FINGERPRINT_BYTES: Final = 32
PERSON_BYTES: Final = FINGERPRINT_BYTES + KEY_BYTES + 1

ROSTER: Final = "application/vnd.bitchat.group"
"""The media type of a message that brings a roster."""

NO_KEY: Final = bytes(KEY_BYTES)
"""What stands for the key where somebody learns that they are in the group no more."""

_CONTEXT: Final = b"bitchat-group-v1"
_LENGTHS: Final = {
    1: GROUP_ID_BYTES,
    3: KEY_BYTES,
    4: 4,
    6: FINGERPRINT_BYTES,
    7: SIGNATURE_BYTES,
}


class Member(msgspec.Struct, frozen=True):
    """Somebody in a group.

    Attributes:
        fingerprint: 64 hexadecimal digits.
        signing_public: Ed25519, 32 bytes; what they say in the group is signed with it.
        name: what they called themselves when they came in.
    """

    fingerprint: str
    signing_public: bytes
    name: str = ""

    @property
    def is_derived(self) -> bool:
        """Whether the Noise key follows from the signing key, as with everybody of this program.

        Then nobody can have put another signing key there, and there are receipts.
        """
        try:
            return fingerprint_of(noise_key_of(self.signing_public)) == self.fingerprint
        except ValueError:
            return False


class Roster(msgspec.Struct, frozen=True):
    """A group, as its maker says it is.

    Attributes:
        id: 32 hexadecimal digits, the room of its messages.
        name: what its maker calls it.
        maker: their fingerprint; always a member.
        people: the members.
        epoch: counts the rosters of the group.
        key: of this epoch, 32 bytes; `NO_KEY` for who is in the group no more.
        encoded: all of it, signed.
    """

    id: str
    name: str
    maker: str
    people: tuple[Member, ...]
    epoch: int
    key: bytes
    encoded: bytes

    @property
    def members(self) -> tuple[str, ...]:
        """The fingerprints of all."""
        return tuple(one.fingerprint for one in self.people)

    def member(self, fingerprint: str) -> Member | None:
        """Who has this fingerprint."""
        return next((one for one in self.people if one.fingerprint == fingerprint), None)

    def by_key(self, signing_public: bytes) -> Member | None:
        """Who signs with this key."""
        return next((one for one in self.people if one.signing_public == signing_public), None)

    @classmethod
    def make(
        cls,
        maker: Identity,
        group: str,
        name: str,
        members: Iterable[Member],
        epoch: int = 1,
        *,
        as_maker: str = "",
        key: bytes | None = None,
    ) -> Self:
        """Sign a roster.

        Args:
            maker: signs it, and is a member.
            group: its id, 32 hexadecimal digits.
            name: what it is called.
            members: the others.
            epoch: higher than in any roster of the group before.
            as_maker: the maker's nickname.
            key: 32 bytes that were never used before; drawn without one.

        Raises:
            InvalidMessage: there are too many members, or one has no fingerprint or key.
        """
        others = {one.fingerprint: one for one in members if one.fingerprint != maker.fingerprint}
        people = (
            Member(maker.fingerprint, maker.signing_public, as_maker),
            *(others[one] for one in sorted(others)),
        )
        if len(people) > MAX_MEMBERS:
            raise InvalidMessage(
                f"a group has {MAX_MEMBERS} members at most, and not {len(people)}"
            )
        fields = {
            1: bytes.fromhex(group),
            2: _short(name, MAX_NAME_BYTES),
            3: secrets.token_bytes(KEY_BYTES) if key is None else key,
            4: epoch.to_bytes(4, "big"),
            5: b"%c%b" % (len(people), b"".join(_of_person(one) for one in people)),
            6: bytes.fromhex(maker.fingerprint),
        }
        fields[7] = maker.sign(_signed_form(fields))
        return cls.parse(
            b"".join(b"%c%b%b" % (t, len(v).to_bytes(2, "big"), v) for t, v in fields.items())
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a roster and check its signature.

        That the maker has the signing key that stands there, it does not show: see `Groups.newer`.

        Raises:
            InvalidMessage: it is none.
        """
        fields = _fields(data)
        people = _people(fields[5])
        name, maker = _text(fields[2], MAX_NAME_BYTES), fields[6].hex()
        roster = cls(
            fields[1].hex(),
            as_name(name),
            maker,
            people,
            int.from_bytes(fields[4], "big"),
            fields[3],
            data,
        )
        signer = roster.member(maker)
        if signer is None:
            raise InvalidMessage("a roster has its maker among its members")
        if not verifies(signer.signing_public, _signed_form(fields), fields[7]):
            raise InvalidMessage("a roster is signed by its maker")
        return roster

    def message(self, receiver: str | None = None) -> DecentralizedMessage:
        """What brings it to the members; with a ``receiver``, to that person alone.

        It waits as long as anything may: without it, nothing in the group is read.
        """
        return DecentralizedMessage(
            body=self.encoded,
            receiver_id=receiver,
            room=self.id,
            kind=MessageKind.CONTROL,
            media_type=ROSTER,
            expires_ms=LATEST_MS,
        )

    def __repr__(self) -> str:
        return f"Roster({self.id}, epoch {self.epoch}, {len(self.people)} members)"


def is_roster(message: DecentralizedMessage) -> bool:
    """Whether a message brings a roster."""
    return message.kind is MessageKind.CONTROL and message.media_type == ROSTER


def _signed_form(fields: dict[int, bytes]) -> bytes:
    hashes = (hashlib.sha256(fields[tag]).digest() for tag in (3, 5, 2))
    return b"".join((_CONTEXT, fields[1], fields[4], *hashes))


def _fields(data: bytes) -> dict[int, bytes]:
    """The fields by tag; all that a roster has are there."""
    if len(data) > MAX_BYTES:
        raise InvalidMessage(f"a roster has {MAX_BYTES} bytes at most, and not {len(data)}")
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        if at + 3 > len(data) or end > len(data):
            raise InvalidMessage("a roster ends within a field")
        value = data[at + 3 : end]
        if len(value) == _LENGTHS.get(data[at], len(value)):
            found[data[at]] = value
        at = end
    if not {1, 2, 3, 4, 5, 6, 7} <= found.keys():
        raise InvalidMessage("these bytes are no roster")
    return found


def _people(data: bytes) -> tuple[Member, ...]:
    """The members, each of them once and with a key of their own."""
    people = tuple(_each_person(data))
    names = {one.fingerprint for one in people}
    if len(names | {one.signing_public for one in people}) < 2 * len(people):
        raise InvalidMessage("a roster names each member once, with a key of their own")
    return people


def _each_person(data: bytes) -> Iterator[Member]:
    if not data or not 0 < data[0] <= MAX_MEMBERS:
        raise InvalidMessage(f"a group has 1 to {MAX_MEMBERS} members")
    at = 1
    for _ in range(data[0]):
        name = at + PERSON_BYTES
        end = name + (data[name - 1] if name <= len(data) else 0)
        if name > len(data) or end > len(data):
            raise InvalidMessage("a roster ends within a member")
        yield Member(
            data[at : at + FINGERPRINT_BYTES].hex(),
            data[at + FINGERPRINT_BYTES : name - 1],
            as_name(_text(data[name:end], MAX_NAME_BYTES)),
        )
        at = end
    if at != len(data):
        raise InvalidMessage("a roster goes on behind its last member")


def _of_person(person: Member) -> bytes:
    if not is_fingerprint(person.fingerprint) or len(person.signing_public) != KEY_BYTES:
        raise InvalidMessage("a member has a fingerprint of 64 hexadecimal digits, and a key")
    name = _short(person.name, MAX_NICKNAME_BYTES)
    return b"%b%b%c%b" % (
        bytes.fromhex(person.fingerprint),
        person.signing_public,
        len(name),
        name,
    )


def _short(text: str, most: int) -> bytes:
    """A name as UTF-8, cut between two characters."""
    return as_name(text).encode()[:most].decode(errors="ignore").encode()


def _text(data: bytes, most: int) -> str:
    if len(data) > most:
        raise InvalidMessage(f"a name in a roster has {most} bytes at most, and not {len(data)}")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidMessage("a name in a roster is not UTF-8") from None
