"""The mixnet clients of one machine: one for each level, and those that sessions have.

A client has its own folder, link keys, mailboxes and sealing key, so nothing that an edge sees ties
two of them together but the machine's network address. A level's shared client keeps its folder,
and with it its edges, for good: new edges are new chances for somebody who wants to be one of them.
A session's own client has fresh ones, and leaves nothing behind. Messages between people have one
of theirs, kept for good, so that no edge sees that who runs tasks is who talks to whom.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, TypeAlias

import betanet
from fog_compute.descriptors import why
from fog_compute.errors import ConfigError, ServiceUnavailable
from fog_compute.levels import PrivacyLevel
from fog_compute.reading import read_state
from fog_compute.text import one_line
from fog_compute.threads import in_thread
from fog_compute.vpn.sendings import CountedClient, OnEnd

__all__ = ["MESSAGES", "Clients", "edges_of", "open_client", "view_of"]

MESSAGES: Final = "messages"
"""The owner of the client for messages between people, of which no session has the name."""

EDGES_NAMED: Final = 3

_Key: TypeAlias = tuple[PrivacyLevel, str]


class Clients:
    """Opens clients when they are first asked for, and closes all of them at the end."""

    def __init__(self, folder: Path, bootstrap: Path, on_end: OnEnd | None = None) -> None:
        """Open none yet; ``on_end`` is called with the end of each message."""
        self._folder: Final = folder
        self._bootstrap: Final = bootstrap
        self._on_end: Final = on_end
        self._open: Final[dict[_Key, betanet.Client]] = {}
        self._turns: Final[dict[_Key, asyncio.Lock]] = {}
        self._own_swept = False
        self._closed = False

    async def get(self, level: PrivacyLevel, owner: str = "") -> betanet.Client:
        """A client of one level, opened if it is not.

        Cancelled while it opens, it is closed again.

        Args:
            level: the path length of all that it sends and takes.
            owner: the session whose own client it is, or `MESSAGES`; empty for the one that the
                level's others share.

        Raises:
            ServiceUnavailable: the clients are closed, or the network cannot be joined.
        """
        key = (level, owner)
        async with self._turn(key):
            if self._closed:
                raise ServiceUnavailable("the betanet service is closed")
            client = self._open.get(key)
            if client is None or view_of(client) is None:
                if owner and owner != MESSAGES:
                    await self._sweep()
                # A large one waits at the recipient's edge, too, and looks like many short ones.
                bulk = owner != MESSAGES
                client = await open_client(
                    self._place(key), self._bootstrap, level, bulk=bulk, on_end=self._on_end
                )
                self._open[key] = client
            return client

    def find(self, level: PrivacyLevel, owner: str = "") -> betanet.Client | None:
        """A client, if it is open."""
        return self._open.get((level, owner))

    def shared(self) -> Iterator[betanet.Client]:
        """The open clients that no session has for itself."""
        return (client for (_, owner), client in tuple(self._open.items()) if not owner)

    async def leave(self, level: PrivacyLevel, owner: str) -> None:
        """Close a client that has an owner and delete its keys; safe to call again."""
        key = (level, owner)
        async with self._turn(key):
            client = self._open.pop(key, None)
            if client is not None:
                await client.close()
            if client is not None or owner == MESSAGES:
                await _delete(self._place(key))
        self._turns.pop(key, None)

    async def close(self) -> None:
        """Close all clients; safe to call again."""
        self._closed = True
        async with AsyncExitStack() as stack:
            if any(owner not in ("", MESSAGES) for _, owner in self._open):
                stack.push_async_callback(_delete, self._own_folder)
            for key in tuple(self._turns):
                async with self._turn(key):
                    client = self._open.pop(key, None)
                if client is not None:
                    stack.push_async_callback(client.close)

    def _turn(self, key: _Key) -> asyncio.Lock:
        return self._turns.setdefault(key, asyncio.Lock())

    @property
    def _own_folder(self) -> Path:
        return self._folder / "sessions"

    def _place(self, key: _Key) -> Path:
        level, owner = key
        if owner == MESSAGES:
            return self._folder / f"{MESSAGES}-{level.value}"
        return self._own_folder / f"{level.value}-{owner}" if owner else self._folder / level.value

    async def _sweep(self) -> None:
        """Delete what sessions of a process left that was killed."""
        if not self._own_swept:
            self._own_swept = True
            await _delete(self._own_folder)


def edges_of(bootstrap: Path) -> str:
    """Which edges a client tries first, in a few words; empty where the file names none."""
    try:
        edges = [one["address"] for one in json.loads(read_state(bootstrap))["edges"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""  # whoever joins says what is wrong with it
    named = ", ".join(one_line(str(edge), 80) for edge in edges[:EDGES_NAMED])
    more = len(edges) - EDGES_NAMED
    return f"{named} and {more} more" if more > 0 else named


def view_of(client: betanet.Client) -> betanet.ClientStatus | None:
    """What a client sees; None if it is closed."""
    try:
        return client.status()
    except betanet.Closed:
        return None


async def open_client(
    folder: Path,
    bootstrap: Path,
    level: PrivacyLevel,
    *,
    bulk: bool = True,
    on_end: OnEnd | None = None,
) -> betanet.Client:
    """Open a client of one level in its folder; ``bulk`` is as for `betanet.Client.open`.

    ``on_end`` is called with the end of each message that it sends.

    Raises:
        ServiceUnavailable: the network cannot be joined; the text says why.
    """
    try:
        await in_thread(_prepare, folder, bootstrap)
    except OSError as error:
        raise ServiceUnavailable(f"cannot join the network of {bootstrap}: {why(error)}") from error
    kind = betanet.Client if on_end is None else CountedClient
    try:
        client = await kind.open(
            dir=folder, bootstrap=bootstrap, hops=level.hops, level=level.hops, bulk=bulk
        )
    except (betanet.BetanetError, OSError) as error:
        raise ServiceUnavailable(f"cannot join the network of {bootstrap}: {error}") from error
    if isinstance(client, CountedClient) and on_end is not None:
        client.on_end = on_end
    return client


def _prepare(folder: Path, bootstrap: Path) -> None:
    if not bootstrap.is_file():
        raise ConfigError(
            f"no bootstrap file at {bootstrap}: start a net with `fog up`, or name one with FOG_NET"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


async def _delete(folder: Path) -> None:
    """Delete a folder; what cannot be deleted now goes at the next start."""
    with contextlib.suppress(OSError):
        await in_thread(shutil.rmtree, folder)
