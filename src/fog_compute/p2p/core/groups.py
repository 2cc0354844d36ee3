"""Groups: up to 16 people who all get the same, as their maker's signed roster says.

A roster is the MessagePack array [version 1, group id, name, maker, members, epoch, the maker's
signing key, signature]; ids and people are bytes, members are sorted. The signature is over
``fog-roster-v1`` ‖ 00 ‖ the array without it. It travels as the first message of the group's
stream, and again whenever it changes; the highest epoch counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Final, Self

import msgspec

from fog_compute.errors import FogError
from fog_compute.p2p.core.identity import (
    Identity,
    as_name,
    fingerprint_of,
    is_fingerprint,
    noise_key_of,
    verifies,
)
from fog_compute.p2p.core.messages import DecentralizedMessage, InvalidMessage, MessageKind

__all__ = ["MAX_MEMBERS", "ROSTER", "Groups", "NotMaker", "Roster"]

MAX_MEMBERS: Final = 16
MAX_GROUPS: Final = 256
MAX_OF_STRANGERS: Final = 32
"""Groups that strangers made: they leave room for those of people whom one knows."""

ROSTER: Final = "application/vnd.fog.roster"
"""The media type of a message that brings a roster."""

_CONTEXT: Final = b"fog-roster-v1\x00"
_Id = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Person = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class NotMaker(FogError):
    """A group is changed by its maker alone."""


class _Wire(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    id: _Id
    name: Annotated[str, msgspec.Meta(max_length=255)]
    maker: _Person
    members: Annotated[tuple[_Person, ...], msgspec.Meta(min_length=1, max_length=MAX_MEMBERS)]
    epoch: Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
    signing_public: _Person
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]

    @property
    def signed(self) -> bytes:
        """What the signature is over."""
        fields = (getattr(self, name) for name in self.__struct_fields__[:-1])
        return _CONTEXT + msgspec.msgpack.encode(tuple(fields))


class Roster(msgspec.Struct, frozen=True):
    """Who is in a group.

    Attributes:
        id: 32 hexadecimal digits, the room of its messages.
        name: what its maker calls it.
        maker: their fingerprint; always a member.
        members: fingerprints, in order.
        epoch: counts the rosters of the group, from 1.
        signing_public: the maker's, 32 bytes.
        encoded: all of it, signed.
    """

    id: str
    name: str
    maker: str
    members: tuple[str, ...]
    epoch: int
    signing_public: bytes
    encoded: bytes

    @classmethod
    def make(
        cls, maker: Identity, group: str, name: str, members: Iterable[str], epoch: int = 1
    ) -> Self:
        """Sign a roster.

        Raises:
            InvalidMessage: there are too many members, or one is no fingerprint.
        """
        everybody = sorted({*members, maker.fingerprint})
        if len(everybody) > MAX_MEMBERS:
            raise InvalidMessage(
                f"a group has {MAX_MEMBERS} members at most, and not {len(everybody)}"
            )
        if not all(is_fingerprint(one) for one in everybody):
            raise InvalidMessage("a member is no fingerprint: give 64 hexadecimal digits")
        wire = _Wire(
            1,
            bytes.fromhex(group),
            as_name(name),
            bytes.fromhex(maker.fingerprint),
            tuple(bytes.fromhex(one) for one in everybody),
            epoch,
            maker.signing_public,
            bytes(64),
        )
        wire = msgspec.structs.replace(wire, signature=maker.sign(wire.signed))
        return cls.parse(msgspec.msgpack.encode(wire))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a roster and check its signature.

        Raises:
            InvalidMessage: it is none.
        """
        try:
            wire = msgspec.msgpack.decode(data, type=_Wire)
        except (msgspec.MsgspecError, ValueError):
            raise InvalidMessage("these bytes are no roster") from None
        in_order = list(wire.members) == sorted(set(wire.members))
        if not in_order or wire.maker not in wire.members or as_name(wire.name) != wire.name:
            raise InvalidMessage("a roster names its members in order, its maker among them")
        if msgspec.msgpack.encode(wire) != data:
            raise InvalidMessage("a roster has one form")
        if not _is_of(wire.maker, wire.signing_public) or not verifies(
            wire.signing_public, wire.signed, wire.signature
        ):
            raise InvalidMessage("a roster is signed by its maker")
        return cls(
            wire.id.hex(),
            wire.name,
            wire.maker.hex(),
            tuple(one.hex() for one in wire.members),
            wire.epoch,
            wire.signing_public,
            data,
        )

    def message(self) -> DecentralizedMessage:
        """What brings it to the members."""
        return DecentralizedMessage(
            body=self.encoded, room=self.id, kind=MessageKind.CONTROL, media_type=ROSTER
        )


class Groups(Mapping[str, tuple[str, ...]]):
    """The groups that are known: of each its members. It keeps the newest roster of each."""

    def __init__(self, own: str = "") -> None:
        """Begin with none; ``own`` is our fingerprint."""
        self._own: Final = own
        self._rosters: Final[dict[str, Roster]] = {}

    def __getitem__(self, group: str) -> tuple[str, ...]:
        return self._rosters[group].members

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._rosters))

    def __len__(self) -> int:
        return len(self._rosters)

    def roster(self, group: str) -> Roster | None:
        """A group's roster."""
        return self._rosters.get(group)

    def put(self, roster: Roster) -> None:
        """Keep one of ours, or one that was kept before."""
        self._rosters[roster.id] = roster

    def load(self, rosters: Iterable[bytes]) -> None:
        """Put rosters that were written down; the next one of its maker replaces a damaged one."""
        for encoded in rosters:
            with contextlib.suppress(InvalidMessage):
                self.put(Roster.parse(encoded))

    def clear(self) -> None:
        """Forget all."""
        self._rosters.clear()

    def take(
        self, message: DecentralizedMessage, is_stranger: Callable[[str], bool] = lambda _: False
    ) -> Roster | None:
        """Keep the roster that a message brings, if it is one and is newer; None if not.

        It comes from the maker, or from a member who passes it on. Who is not in it does not get to
        know the group by it.

        Args:
            message: what came.
            is_stranger: whether nobody by this fingerprint is known.
        """
        if message.kind is not MessageKind.CONTROL or message.media_type != ROSTER:
            return None
        try:
            roster = Roster.parse(message.body)
        except InvalidMessage:
            return None
        known = self._rosters.get(roster.id)
        if roster.id != message.room or (known is None and len(self) >= MAX_GROUPS):
            return None
        if known is not None and (known.maker != roster.maker or known.epoch >= roster.epoch):
            return None
        if message.sender not in roster.members:
            return None
        if known is None and self._own not in roster.members:
            return None
        if known is None and is_stranger(roster.maker):
            makers = [one.maker for one in self._rosters.values() if one.maker != self._own]
            theirs = sum(is_stranger(maker) for maker in makers)
            if theirs >= MAX_OF_STRANGERS:
                return None
        self.put(roster)
        return roster


def _is_of(fingerprint: bytes, signing_public: bytes) -> bool:
    """Whether somebody's Noise key follows from a signing key, as that of every maker does."""
    try:
        return fingerprint_of(noise_key_of(signing_public)) == fingerprint.hex()
    except ValueError:
        return False
