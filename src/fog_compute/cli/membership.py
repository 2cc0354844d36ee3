"""The network and groups that a home belongs to, and the tokens that it gave out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from fog_compute.cli.common import CommandError
from fog_compute.cli.tokens import BootstrapToken, read_net
from fog_compute.errors import ConfigError
from fog_compute.layout import HomeLayout
from fog_compute.reading import read_state
from fog_compute.tasks.groups import Keyring
from fog_compute.tasks.keyring import KeyringFile
from fog_compute.writing import write_private

__all__ = ["GivenToken", "GivenTokens", "join"]

MAX_TOKENS: Final = 1024


class GivenToken(msgspec.Struct, frozen=True):
    """A token that was given out; what it opens is not kept here.

    Attributes:
        id: names it.
        groups: groups that it lets into.
        given: Unix seconds.
        expires: Unix seconds.
        revoked: whether the keys in it open nothing any more.
    """

    id: str
    groups: tuple[str, ...]
    given: int
    expires: int
    revoked: bool = False

    def state(self, now: datetime) -> str:
        """What it is worth now, for people."""
        if self.revoked:
            return "revoked"
        if self.expires <= now.timestamp():
            return "expired; who joined stays"
        until = datetime.fromtimestamp(self.expires, UTC)
        return f"until {until:%Y-%m-%d %H:%M} UTC"


class GivenTokens:
    """The file that lists the tokens of a home."""

    __slots__ = ("_path",)

    def __init__(self, layout: HomeLayout) -> None:
        """Read nothing yet."""
        self._path: Final = layout.given_tokens

    def load(self) -> list[GivenToken]:
        """All of them, the oldest first.

        Raises:
            ConfigError: the file cannot be read.
        """
        try:
            return msgspec.json.decode(read_state(self._path), type=list[GivenToken])
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigError(f"{self._path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError):
            raise ConfigError(f"{self._path} is damaged: move it away") from None

    def add(self, token: BootstrapToken, now: datetime) -> None:
        """Note a token before it is shown to anybody."""
        names = tuple(group.name for group in token.groups)
        given = GivenToken(token.id, names, int(now.timestamp()), token.expires)
        kept = [one for one in self.load() if not one.revoked and one.expires > now.timestamp()]
        if len(kept) >= MAX_TOKENS:
            raise CommandError(f"{MAX_TOKENS} tokens are in force: revoke some (`fog net revoke`)")
        self._write([*self.load()[-MAX_TOKENS:], given])

    def revoke(self, groups: frozenset[str]) -> list[str]:
        """Note that the keys of these groups were replaced; return the tokens that end with it."""
        tokens = self.load()
        over = [one.id for one in tokens if groups & set(one.groups) and not one.revoked]
        self._write(
            [msgspec.structs.replace(one, revoked=one.revoked or one.id in over) for one in tokens]
        )
        return over

    def _write(self, tokens: list[GivenToken]) -> None:
        _write(self._path, msgspec.json.encode(tokens))


def join(layout: HomeLayout, token: BootstrapToken, now: datetime) -> None:
    """Make a home a member of a token's network and groups; to do it again changes nothing.

    Raises:
        ConfigError: the token has expired, or the home belongs to another network.
    """
    if token.expires <= now.timestamp():
        raise ConfigError("the bootstrap token has expired: ask for another one")
    if layout.net.exists():
        raise ConfigError(
            f"{layout.root} has a network of its own: choose another home with FOG_HOME"
        )
    known = layout.joined.exists() and read_net(layout.joined).authority.id
    if known and known != token.net.authority.id:
        raise ConfigError(
            f"{layout.root} belongs to another network: choose another home with FOG_HOME"
        )
    groups = KeyringFile(layout.groups_file)
    keyring = groups.load() if layout.groups_file.exists() else None
    if keyring is None:
        fresh = Keyring(token.groups)
    else:
        # Within one network it is the token that tells a group's present key.
        fresh = (keyring.replaced(token.groups) if known else keyring).joined(token.groups)
    layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    groups.write(fresh)
    _write(layout.joined, msgspec.json.encode(token.net))


def _write(path: Path, data: bytes) -> None:
    try:
        write_private(path, data)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
