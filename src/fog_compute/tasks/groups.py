"""Groups: who may run tasks on which workers, proved by a key that all members share.

Every request to a worker begins with a proof of one of the worker's groups, which binds the bytes
that follow to that worker. All members make equal proofs, so a worker learns the group and no more.
A worker says in the public list which groups it serves by tags, which only members can read: nobody
else learns a group's name, sees that two entries belong to one worker, or can claim to serve it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import msgspec

from fog_compute.errors import ConfigError, FogError
from fog_compute.text import one_line

__all__ = [
    "LOCAL",
    "MAX_GROUPS",
    "PROOF_BYTES",
    "Group",
    "GroupKey",
    "Keyring",
    "NotAMember",
    "check_group_name",
]

LOCAL: Final = "local"
"""The group that a home makes for itself where it was given none."""

MAX_GROUPS: Final = 32
"""Groups of one machine; an entry of the worker list has room for as many."""

KEY_BYTES: Final = 32
PROOF_BYTES: Final = 32
_TAG_BYTES: Final = 16
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
_PROOF: Final = b"fog-compute group proof\0"
_TAG: Final = b"fog-compute group tag\0"


class NotAMember(FogError):
    """A request that no group of this worker vouches for."""


@dataclass(frozen=True, slots=True, eq=False)
class GroupKey:
    """The secret that the members of a group share; it shows itself nowhere."""

    _secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse what has the wrong length."""
        if len(self._secret) != KEY_BYTES:
            raise ConfigError(f"a group's key has {KEY_BYTES} bytes, and this has another length")

    @classmethod
    def new(cls, random: Callable[[int], bytes] = secrets.token_bytes) -> Self:
        """A key that nobody else has."""
        return cls(random(KEY_BYTES))

    def reveal(self) -> bytes:
        """The bytes, for a file that only its owner can read or for a token."""
        return self._secret

    def __eq__(self, other: object) -> bool:
        """Compare in a time that tells nothing."""
        return isinstance(other, GroupKey) and hmac.compare_digest(self._secret, other._secret)

    def proof(self, address: str, digest: bytes) -> bytes:
        """What shows the worker at ``address`` that a member made what has this SHA-256."""
        return hmac.digest(self._secret, _PROOF + address.encode() + b"\0" + digest, "sha256")

    def tag(self, address: str) -> str:
        """What shows members that the worker at ``address`` serves the group; 32 hex digits."""
        return hmac.digest(self._secret, _TAG + address.encode(), "sha256")[:_TAG_BYTES].hex()


@dataclass(frozen=True, slots=True)
class Group:
    """A group by its name, which is its members' affair, and its key."""

    name: str
    key: GroupKey

    def __post_init__(self) -> None:
        """Refuse a name that is none."""
        check_group_name(self.name)

    @classmethod
    def new(cls, name: str) -> Self:
        """A group that has no other member yet."""
        return cls(name, GroupKey.new())


class _GroupRecord(msgspec.Struct, frozen=True):
    name: str
    key: str


class _KeyringRecord(msgspec.Struct, frozen=True):
    groups: tuple[_GroupRecord, ...]


@dataclass(frozen=True, slots=True)
class Keyring:
    """The groups that a machine is a member of; the first is the one of tasks that name none."""

    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        """Refuse two groups of one name, and too many."""
        if len(self.groups) > MAX_GROUPS:
            raise ConfigError(f"{len(self.groups)} groups: a machine is a member of {MAX_GROUPS}")
        if len(set(self.names)) < len(self.groups):
            raise ConfigError("two groups of one machine have the same name")

    @property
    def names(self) -> tuple[str, ...]:
        """The groups' names, the first first."""
        return tuple(group.name for group in self.groups)

    def key(self, name: str) -> GroupKey:
        """The key of a group.

        Raises:
            NotAMember: this machine is no member of it.
        """
        for group in self.groups:
            if group.name == name:
                return group.key
        known = ", ".join(self.names) or "none"
        shown = one_line(repr(name), 40)
        raise NotAMember(f"this machine is no member of the group {shown}: its groups are {known}")

    def seal(self, name: str, address: str, body: bytes) -> bytes:
        """A request to the worker at ``address``, with the proof of a group in front.

        Raises:
            NotAMember: this machine is no member of it.
        """
        return self.key(name).proof(address, hashlib.sha256(body).digest()) + body

    def open(self, data: bytes, addresses: Iterable[str]) -> tuple[str, bytes]:
        """A request that came to a worker which has, or had, these addresses: its group and bytes.

        One hash of the bytes, whatever they are, and one short one for each group and address.

        Raises:
            NotAMember: no group of this machine vouches for it.
        """
        digest = hashlib.sha256(memoryview(data)[PROOF_BYTES:]).digest()
        shown = data[:PROOF_BYTES]
        found = ""
        for address in addresses:
            for group in self.groups:
                # All are compared, whichever it is.
                if hmac.compare_digest(group.key.proof(address, digest), shown):
                    found = group.name
        if not found:
            raise NotAMember("this worker serves groups, and the request proves none of them")
        return found, data[PROOF_BYTES:]

    def tags(self, address: str) -> tuple[str, ...]:
        """What the worker at ``address`` publishes of its groups, in an order that says nothing."""
        return tuple(sorted(group.key.tag(address) for group in self.groups))

    def read_tags(self, tags: Iterable[str], address: str) -> tuple[str, ...]:
        """The groups of this machine that the worker at ``address`` shows to serve."""
        shown = frozenset(tags)
        return tuple(group.name for group in self.groups if group.key.tag(address) in shown)

    def joined(self, others: Sequence[Group]) -> Self:
        """These groups and others, the others first.

        Raises:
            ConfigError: there is another group of a name, or there are too many.
        """
        for group in others:
            if group.name in self.names and self.key(group.name) != group.key:
                raise ConfigError(
                    f"there is another group named {group.name!r} here: use another home (FOG_HOME)"
                )
        names = {group.name for group in others}
        kept = (group for group in self.groups if group.name not in names)
        return type(self)((*others, *kept))

    def replaced(self, fresh: Iterable[Group]) -> Self:
        """These groups, of which some have new keys."""
        by_name = {group.name: group for group in fresh}
        return type(self)(tuple(by_name.get(group.name, group) for group in self.groups))

    def encode(self) -> bytes:
        """The bytes of the file that keeps them, which nobody else may read."""
        return msgspec.json.encode(
            _KeyringRecord(
                tuple(_GroupRecord(group.name, group.key.reveal().hex()) for group in self.groups)
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read such a file.

        Raises:
            ConfigError: it is none; nothing of it is repeated.
        """
        try:
            record = msgspec.json.decode(data, type=_KeyringRecord)
            return cls(tuple(Group(one.name, _key_of(one.key)) for one in record.groups))
        except (ValueError, RecursionError):
            raise ConfigError("it holds no groups with their keys") from None


def check_group_name(name: str) -> None:
    """Raise `ConfigError` unless this can be a group's name."""
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{one_line(repr(name), 40)} is no name of a group: 1 to 32 of a-z, 0-9, '.', '_' and"
            " '-', of which the first is a letter or digit"
        )


def _key_of(text: str) -> GroupKey:
    return GroupKey(bytes.fromhex(text))
