"""The mixnet client: sealed messages, single-use replies, and the directory's lists."""

from __future__ import annotations

import asyncio
import os
import warnings
from typing import TYPE_CHECKING, Final, Self, cast

from betanet import _core
from betanet._aio import Bridge
from betanet._errors import Closed
from betanet._records import ClientStatus, Incoming, WorkerDescriptor

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    # What the core hands over, in the order of the records' fields.
    _IncomingFields = tuple[str, bytes, int | None, int]
    _WorkerFields = tuple[str, str, tuple[str, ...], int, int, tuple[str, ...], str, int, int]

_MAX_HOPS: Final = _core.Geometry.native().max_hops


class Client:
    """One user of the mixnet, with its own folder, link keys, mailboxes and sealing key.

    A client belongs to the event loop in which it was opened. Its folder keeps its address over
    restarts and can be open once at a time. Use it as an async context manager, or close it::

        async with await betanet.Client.open(dir=folder, bootstrap=net_json) as client:
            answer = await client.request(address, b"question")

    Every method raises :class:`betanet.Closed` once the client is closed.
    """

    __slots__ = ("__weakref__", "_arriving", "_bridge", "_core", "_is_closed", "_turn")

    def __init__(self, bridge: Bridge, core: _core.Client) -> None:
        self._bridge: Final = bridge
        self._core: Final = core
        self._turn: Final = asyncio.Lock()
        self._arriving: asyncio.Task[object] | None = None
        self._is_closed = False

    @classmethod
    async def open(
        cls,
        *,
        dir: str | os.PathLike[str],  # noqa: A002 - the published name
        bootstrap: str | os.PathLike[str],
        edges: int = 2,
        hops: int = 3,
    ) -> Self:
        """Join a network: load or make the keys, fetch the consensus, attach to edges.

        Args:
            dir: state folder of this client alone; made if missing.
            bootstrap: the network's ``net.json``.
            edges: edges to keep mailboxes at.
            hops: path length of what the client sends by itself: acknowledgements and loops.

        Cancelled, it gives up the folder again; keys that were made stay in it.

        Raises:
            NetworkError: the folder is in use, the bootstrap file is none, or no edge answered.
        """
        bridge = Bridge()
        try:
            core = await bridge.run(_core.Client.open, dir, bootstrap, edges, _path_length(hops))
        except BaseException:
            await bridge.close()
            raise
        return cls(bridge, cast("_core.Client", core))

    @property
    def address(self) -> str:
        """Where others reach this client: ``fog1…``, the same over restarts."""
        return self._core.address

    async def send(
        self,
        to: str,
        body: bytes,
        *,
        hops: int = 3,
        id: str | None = None,  # noqa: A002 - the published name
    ) -> str:
        """Send without a way back; return the message's id once the recipient's edge has stored it.

        Args:
            to: the recipient's address.
            body: up to 64 MiB.
            hops: path length of every packet, 1 to 7.
            id: the message's id, 32 hexadecimal digits; drawn at random otherwise. A send with an
                id can be repeated, for instance after a crash: as long as the recipient remembers
                the id, it gets the message once.

        Cancelled, the message is given up; parts of it may arrive, the message does not.

        Raises:
            ValueError: there are no paths of that length, or ``id`` is no message id.
            NotEnoughNodes: the network has too few nodes for it now.
            Timeout: a part was never acknowledged.
            InvalidAddress: ``to`` is no address.
            NetworkError: the message is too long, no edge is reachable, or a message with this
                ``id`` is under way.
        """
        value = await self._bridge.run(self._core.send, to, body, _path_length(hops), id)
        return cast("str", value)

    async def request(
        self, to: str, body: bytes, *, hops: int = 3, reply_packets: int = 4, timeout: float = 30.0
    ) -> bytes:
        """Send with single-use reply blocks and wait for the answer that comes back over them.

        Args:
            to: the recipient's address.
            body: up to 64 MiB less the reply blocks.
            hops: path length of every packet in both directions, 1 to 7.
            reply_packets: reply blocks to send along: they bound the answer, by about 2 kB each.
            timeout: seconds until the answer must be there.

        Cancelled, the request may still be received; its answer is dropped.

        Raises:
            Timeout: no complete answer came in time.
            NotEnoughNodes: the network has no path of that length.
            InvalidAddress: ``to`` is no address.
            NetworkError: the message is too long, or no edge is reachable.
        """
        value = await self._bridge.run(
            self._core.request, to, body, _path_length(hops), reply_packets, timeout
        )
        return cast("bytes", value)

    async def receive(self) -> Incoming:
        """Wait for the next message.

        A message comes once while the client is open, and again after a restart until it is
        committed. Cancelled, no message is lost: the next call has it.
        """
        async with self._turn:
            if self._is_closed:
                raise Closed("this client is closed")
            # The core's wait outlives a cancelled caller, so that what it brings is never dropped.
            if self._arriving is None:
                self._arriving = asyncio.ensure_future(self._bridge.run(self._core.receive))
                self._arriving.add_done_callback(_mark_as_seen)
            arriving = self._arriving
            await asyncio.wait([arriving])
            self._arriving = None
            return _incoming(arriving.result())

    async def reply(self, handle: int, body: bytes) -> None:
        """Answer a message over the reply blocks that came with it, once.

        Returns when the packets have left. Cancelled, some of them may have.

        Raises:
            NetworkError: the answer is too long, or the handle was used or has expired.
        """
        await self._bridge.run(self._core.reply, handle, body)

    async def commit(self, id: str) -> None:  # noqa: A002 - the published name
        """Let the edges delete a message, whose effect must be safe by now; can be repeated."""
        await self._bridge.run(self._core.commit, id)

    async def ping(self, hops: int = 3) -> float:
        """Send a packet to the own mailbox; return the seconds it took.

        Raises:
            NotEnoughNodes: the network has no loop of that length.
            Timeout: it did not come back.
        """
        return cast("float", await self._bridge.run(self._core.ping, _path_length(hops)))

    async def publish_worker(
        self,
        *,
        name: str,
        kinds: Iterable[str],
        slots: int,
        memory_bytes: int,
        groups: Iterable[str] = (),
        lifetime: float = 90.0,
    ) -> None:
        """Put a signed description of this worker into the directory's list; repeat it in time.

        Args:
            name: for people, up to 64 characters.
            kinds: kinds of task that it runs.
            slots: tasks that it runs at a time.
            memory_bytes: memory that it lends.
            groups: groups that it serves.
            lifetime: seconds until the description expires, up to an hour.

        Raises:
            NetworkError: a field is out of bounds, or no edge took it.
        """
        await self._bridge.run(
            self._core.publish_worker,
            name,
            list(kinds),
            slots,
            memory_bytes,
            list(groups),
            lifetime,
        )

    async def workers(self) -> list[WorkerDescriptor]:
        """The whole list of workers, each verified; asking for it tells nobody which is meant."""
        value = await self._bridge.run(self._core.workers)
        return [WorkerDescriptor(*fields) for fields in cast("list[_WorkerFields]", value)]

    def status(self) -> ClientStatus:
        """The network as this client sees it now; asks nobody."""
        return ClientStatus(*self._core.status())

    async def close(self) -> None:
        """Close the links and join the core's threads; safe to call again.

        What is waiting fails with :class:`betanet.Closed`.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._bridge.run(self._core.close)
        finally:
            await self._bridge.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)


def _mark_as_seen(task: asyncio.Task[object]) -> None:
    """Keep asyncio from logging that a closed client's last wait failed with nobody waiting."""
    if not task.cancelled():
        task.exception()


def _incoming(value: object) -> Incoming:
    return Incoming(*cast("_IncomingFields", value))


def _path_length(hops: int) -> int:
    if not 1 <= hops <= _MAX_HOPS:
        raise ValueError(f"a path has 1 to {_MAX_HOPS} hops, not {hops}")
    return hops
