"""Bootstrap tokens: one line of text that lets a machine join a network and groups.

A token is ``fogt1`` and base32 of MessagePack and a checksum: it survives line breaks, spaces and
capitals on its way. Whoever reads it can join, so it is kept like a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from pathlib import Path
from typing import Final

import msgspec

from fog_compute.errors import ConfigError
from fog_compute.reading import read_state
from fog_compute.tasks.groups import MAX_GROUPS, Group, GroupKey
from fog_compute.units import KIB

__all__ = ["TOKEN_BYTES", "BootstrapToken", "Net", "looks_like_token", "read_net"]

TOKEN_BYTES: Final = 64 * KIB
"""What a file with a token may have at most."""

PREFIX: Final = "fogt"
VERSION: Final = "1"
CHECKSUM_BYTES: Final = 4
MAX_EDGES: Final = 16
"""Edges that a token names; a newcomer needs one that answers, and learns the others from it."""

_MAX_TEXT: Final = 256
_ID_BYTES: Final = 32
_TOKEN_ID_BYTES: Final = 8


class Endpoint(msgspec.Struct, frozen=True):
    """A key, in hex, and where its owner is reached."""

    id: str
    address: str


class Net(msgspec.Struct, frozen=True):
    """A bootstrap file (``net.json``): what a newcomer has to trust and to try first."""

    network: str
    authority: Endpoint
    edges: tuple[Endpoint, ...]
    one_operator: bool

    @property
    def on_loopback(self) -> bool:
        """Whether it can be reached on its own machine alone."""
        return self.authority.address.startswith(("127.", "[::1]"))


class _Endpoint(msgspec.Struct, frozen=True, array_like=True):
    id: bytes
    address: str


class _Group(msgspec.Struct, frozen=True, array_like=True):
    name: str
    key: bytes


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """A token's content; arrays, to keep the text short."""

    id: bytes
    expires: int  # Unix seconds
    network: str
    authority: _Endpoint
    edges: tuple[_Endpoint, ...]
    one_operator: bool
    groups: tuple[_Group, ...]


_decoder: Final = msgspec.msgpack.Decoder(_Body)


class BootstrapToken(msgspec.Struct, frozen=True):
    """What a token says.

    Attributes:
        id: names it in `fog net tokens`; 16 hex digits.
        expires: Unix seconds, from which on it is used no more.
        net: the network that it leads into.
        groups: groups whose member the machine becomes, with their keys.
    """

    id: str
    expires: int
    net: Net
    groups: tuple[Group, ...]

    @classmethod
    def new(cls, net: Net, groups: tuple[Group, ...], expires: int) -> BootstrapToken:
        """A token with an id that no other has."""
        shown = msgspec.structs.replace(net, edges=net.edges[:MAX_EDGES])
        return cls(secrets.token_hex(_TOKEN_ID_BYTES), expires, shown, groups)

    def encode(self) -> str:
        """The token as text, in one line."""
        net = self.net
        body = msgspec.msgpack.encode(
            _Body(
                bytes.fromhex(self.id),
                self.expires,
                net.network,
                _packed(net.authority),
                tuple(map(_packed, net.edges)),
                net.one_operator,
                tuple(_Group(group.name, group.key.reveal()) for group in self.groups),
            )
        )
        text = base64.b32encode(body + _checksum(body)).decode().rstrip("=").lower()
        return f"{PREFIX}{VERSION}{text}"

    @classmethod
    def parse(cls, text: str) -> BootstrapToken:
        """Read a token; spaces and line breaks in it do not matter.

        Raises:
            ConfigError: it is none, is damaged, or of a later version; nothing of it is repeated.
        """
        packed = "".join(text.split()).lower()
        if not packed.startswith(PREFIX):
            raise ConfigError(f"this is no bootstrap token: one begins with {PREFIX}{VERSION}")
        if not packed.startswith(PREFIX + VERSION):
            raise ConfigError("the bootstrap token is of another version: use a newer fog-compute")
        try:
            digits = packed.removeprefix(PREFIX + VERSION).upper()
            data = base64.b32decode(digits + "=" * (-len(digits) % 8))
            body, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
            if checksum != _checksum(body):
                raise ConfigError("a checksum")
            return _token_of(_decoder.decode(body))
        except (binascii.Error, ValueError, RecursionError, ConfigError):
            raise ConfigError(
                "the bootstrap token is damaged: copy all of it once more, from its first letter to"
                " its last"
            ) from None


def looks_like_token(text: str) -> bool:
    """Whether a text is meant as a token and not as the name of a file."""
    return text.strip().lower().startswith(PREFIX + VERSION)


def read_net(path: Path) -> Net:
    """Read a bootstrap file that a network wrote.

    Raises:
        ConfigError: it cannot be read, or names no edge yet.
    """
    try:
        net = msgspec.json.decode(read_state(path), type=Net)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no network yet ({path} does not exist): start one with `fog up`"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} is no bootstrap file of a network") from None
    if not net.edges:
        raise ConfigError(f"{path} names no edges yet: wait for the network, or get a newer one")
    return net


def _token_of(body: _Body) -> BootstrapToken:
    if len(body.id) != _TOKEN_ID_BYTES or not 1 <= len(body.edges) <= MAX_EDGES:
        raise ConfigError("bounds")
    if not 1 <= len(body.groups) <= MAX_GROUPS:
        raise ConfigError("bounds")
    _check_text(body.network)
    net = Net(
        body.network,
        _unpacked(body.authority),
        tuple(map(_unpacked, body.edges)),
        body.one_operator,
    )
    groups = tuple(Group(group.name, GroupKey(group.key)) for group in body.groups)
    return BootstrapToken(body.id.hex(), body.expires, net, groups)


def _packed(endpoint: Endpoint) -> _Endpoint:
    return _Endpoint(bytes.fromhex(endpoint.id), endpoint.address)


def _unpacked(endpoint: _Endpoint) -> Endpoint:
    if len(endpoint.id) != _ID_BYTES:
        raise ConfigError("bounds")
    _check_text(endpoint.address)
    return Endpoint(endpoint.id.hex(), endpoint.address)


def _check_text(text: str) -> None:
    if not (text.isprintable() and len(text) <= _MAX_TEXT):
        raise ConfigError("bounds")


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(b"fog-compute token\0" + body).digest()[:CHECKSUM_BYTES]
