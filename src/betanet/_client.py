"""The mixnet client: sealed messages, single-use replies, and the directory's lists."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, Generic, Never, Self, TypeVar, cast

from betanet import _core
from betanet._aio import Bridge
from betanet._arguments import integer, path, seconds, text, texts
from betanet._errors import Closed, InvalidAddress, Timeout
from betanet._records import (
    ClientStatus,
    Consensus,
    ExcludedNode,
    Incoming,
    Node,
    OwnEdge,
    PathFigures,
    PathShortage,
    Progress,
    WorkerDescriptor,
    WorkerLimits,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import TracebackType

    # What the core hands over, in the order of the records' fields.
    _IncomingFields = tuple[str, bytes | _core.SpooledBody, int | None, int]
    _WorkerFields = tuple[
        str,
        str,
        tuple[str, ...],
        int,
        int,
        tuple[int, int, int] | None,
        tuple[str, ...],
        str,
        int | None,
        int,
        int,
    ]

_MAX_HOPS: Final = _core.Geometry.native().max_hops
_MAX_EDGES: Final = 8
"""Mailboxes that an address holds."""
_MAX_REPLY_PACKETS: Final = 255
_MAX_LISTED: Final = 32
"""Kinds, or groups, of a worker."""
_MAX_LIMIT: Final = 2**53 - 1
"""Of a task at a worker."""
_U32: Final = 2**32 - 1
_U64: Final = 2**64 - 1


class Client:
    """One user of the mixnet, with its own folder, link keys, mailboxes and sealing key.

    A client belongs to the event loop in which it was opened: in another one its methods raise a
    RuntimeError, and nothing was sent or taken; only ``status`` and ``close`` work anywhere. Its
    folder keeps its address over restarts and can be open once at a time. Use it as an async
    context manager, or close it::

        async with betanet.Client.open(dir=folder, bootstrap=net_json) as client:
            answer = await client.request(address, b"question")

    Messages that arrive come one by one, until the client is closed::

        async for message in client:
            await client.commit(message.id)

    Every method raises :class:`betanet.Closed` once the client is closed. A number that is out of
    bounds is a ValueError that names it, something of another type a TypeError.
    """

    __slots__ = ("__weakref__", "_arriving", "_bridge", "_core", "_is_closed", "_turn")

    def __init__(self, bridge: Bridge, core: _core.Client) -> None:
        self._bridge: Final = bridge
        self._core: Final = core
        self._turn: Final = asyncio.Lock()
        self._arriving: asyncio.Future[object] | None = None
        self._is_closed = False

    @classmethod
    def open(
        cls,
        *,
        dir: str | os.PathLike[str],  # noqa: A002 - the published name
        bootstrap: str | os.PathLike[str],
        edges: int = 2,
        hops: int = 3,
        level: int | None = None,
        bulk: bool = False,
    ) -> Opening[Self]:
        """Join a network: load or make the keys, fetch the consensus, attach to edges.

        Await it for the client, or enter it: ``async with Client.open(…) as client``.

        Args:
            dir: state folder of this client alone; made if missing.
            bootstrap: the network's ``net.json``.
            edges: edges to keep mailboxes at, 1 to 8 and no more than the network has; counts when
                the folder is new.
            hops: path length of what the client sends by itself: acknowledgements and loops.
            level: path length of the client's privacy level: nothing of another length is sent or
                taken. With None, all is, but a request of one hop then comes without a way to
                answer, because its answer would show its sender where this client is.
            bulk: send messages of more than 192,000 bytes in bulk: as fast as back-pressure
                allows, which whoever sees the client's links can observe, and acknowledged by
                their recipients' clients, which have to be there. Otherwise they go like short
                ones. What arrives in bulk is taken either way.

        Cancelled, it has given up the folder when it returns; keys that were made stay in it.

        Raises:
            NoNetworkFile: there is no bootstrap file; also a FileNotFoundError.
            Offline: no edge answered, or none has a consensus in force; the text says why.
            NetworkError: the folder is in use or cannot be used, or the bootstrap file is none.
            BetanetError: the system gives no threads.
            ValueError: ``edges``, ``hops`` or ``level`` is out of bounds, or a path is empty or
                none.
        """
        return Opening(cls._open(dir, bootstrap, edges, hops, level, bulk))

    @classmethod
    async def _open(
        cls,
        folder: str | os.PathLike[str],
        bootstrap: str | os.PathLike[str],
        edges: int,
        hops: int,
        level: int | None,
        bulk: bool,
    ) -> Self:
        edges = integer("edges", edges, 1, _MAX_EDGES)
        hops = _path_length(hops)
        level = None if level is None else _path_length(level, "level")
        folder, bootstrap = path("dir", folder), path("bootstrap", bootstrap)
        bridge = Bridge()
        try:
            core = await bridge.run(_core.Client.open, folder, bootstrap, edges, hops, level, bulk)
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
        body: bytes | os.PathLike[str],
        *,
        hops: int = 3,
        id: str | None = None,  # noqa: A002 - the published name
        delivered: bool = False,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> str:
        """Send without a way back; return the message's id once the recipient's edge has stored it.

        While messages of 256 MiB, or 4,096 of them, are under way, it waits for its turn.

        Args:
            to: the recipient's address.
            body: up to 64 MiB, as bytes or as the path of a file, ``Path("film.mkv")``, of which a
                copy of this moment in the client's folder is sent. Bytes from 1 MiB on go into a
                file there, too: nothing of the message stays in memory.
            hops: path length of every packet, 1 to 7.
            id: the message's id, 32 hexadecimal digits; drawn at random otherwise. A send with an
                id can be repeated, for instance after a crash: as long as the recipient remembers
                the id, it gets the message once. For another message take another id.
            delivered: return only once the recipient's client has the message, which then has to
                be there. A bulk message always does that.
            on_progress: called by the event loop when more of a message of several packets is
                acknowledged, at most as often as the loop gets to it.

        Cancelled, the message is given up; parts of it may arrive, the message does not.

        Raises:
            ValueError: there are no paths of that length, ``id`` is no message id, or this client
                used it for another message.
            Offline: this client cannot reach the network, not even after a while.
            NotEnoughNodes: the network has too few nodes for it now.
            Timeout: a part was never acknowledged, or the recipient's client was away.
            InvalidAddress: ``to`` is no address.
            OSError: the file cannot be read.
            NetworkError: the message is too long, or a message with this ``id`` is under way; or
                the file is no regular one, or changed while it was copied.
        """
        return await self._send(to, body, hops, id, delivered, True, on_progress)

    async def try_send(
        self,
        to: str,
        body: bytes | os.PathLike[str],
        *,
        hops: int = 3,
        id: str | None = None,  # noqa: A002 - the published name
        delivered: bool = False,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> str:
        """Send as :meth:`send` does, unless that would wait for other messages.

        Raises:
            Busy: too much is under way; nothing was sent.
        """
        return await self._send(to, body, hops, id, delivered, False, on_progress)

    async def _send(
        self,
        to: str,
        body: bytes | os.PathLike[str],
        hops: int,
        id: str | None,  # noqa: A002 - the published name
        delivered: bool,
        waits: bool,
        on_progress: Callable[[Progress], object] | None,
    ) -> str:
        to = text("to", to, InvalidAddress)
        id = id if id is None else text("id", id)  # noqa: A001 - the published name
        hops = _path_length(hops)
        if isinstance(body, str):
            raise TypeError("body must be bytes, or a file as a pathlib.Path, not a text")
        content = path("body", body) if isinstance(body, os.PathLike) else body
        options = (to, content, hops, id, delivered, waits)
        return cast("str", await self._watched(on_progress, self._core.send, *options))

    async def _watched(
        self,
        on_progress: Callable[[Progress], object] | None,
        start: Callable[..., int],
        *options: object,
    ) -> object:
        """Start an operation whose last argument tells how far it is, and await its value."""
        if on_progress is None:
            return await self._bridge.run(start, *options, None)
        progress = _core.SendProgress()
        reporter = asyncio.ensure_future(self._report(progress, on_progress))
        try:
            return await self._bridge.run(start, *options, progress)
        finally:
            reporter.cancel()
            await asyncio.wait([reporter])

    async def _report(
        self, progress: _core.SendProgress, on_progress: Callable[[Progress], object]
    ) -> None:
        """Hand every change on, until the operation has ended or it is cancelled."""
        loop = asyncio.get_running_loop()
        while (told := await self._bridge.run(progress.next)) is not None:
            # What it raises is the loop's to report: the message is sent all the same.
            loop.call_soon(on_progress, Progress(*cast("tuple[int, int, float]", told)))

    async def request(
        self,
        to: str,
        body: bytes,
        *,
        hops: int = 3,
        reply_packets: int = 4,
        timeout: float = 30.0,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> bytes:
        """Send with single-use reply blocks and wait for the answer that comes back over them.

        Args:
            to: the recipient's address.
            body: up to 64 MiB less the reply blocks.
            hops: path length of every packet in both directions, 1 to 7.
            reply_packets: reply blocks to send along, 1 to 255: they bound the answer, by about
                2 kB each.
            timeout: seconds until the answer must be there; what comes back by itself meanwhile,
                a link or a consensus, is waited for.
            on_progress: as for :meth:`send`; the answer may come before all of it was told.

        Cancelled, the request may still be received; its answer is dropped.

        Raises:
            Timeout: no complete answer came in time; `Unanswered` if the request has arrived.
            Offline: this client cannot reach the network.
            NotEnoughNodes: the network has no path of that length.
            InvalidAddress: ``to`` is no address.
            NetworkError: the message is too long.
        """
        hops = _path_length(hops)
        reply_packets = integer("reply_packets", reply_packets, 1, _MAX_REPLY_PACKETS)
        timeout = seconds("timeout", timeout)
        to = text("to", to, InvalidAddress)
        options = (to, body, hops, reply_packets, timeout)
        return cast("bytes", await self._watched(on_progress, self._core.request, *options))

    async def receive(self, *, timeout: float | None = None) -> Incoming:
        """Wait for the next message.

        A message comes once while the client is open, and again after a restart until it is
        committed. What comes again comes in the order in which its last parts were stored at their
        edge; between the messages of two edges there is no order, neither then nor the first time.
        Cancelled, no message is lost: the next call has it.

        Args:
            timeout: seconds to wait; without end by default. With 0 it gives what is there already.

        Raises:
            Timeout: none came in time.
        """
        if timeout is None:
            return await self._receive()
        limit = seconds("timeout", timeout)
        if limit == 0:
            return await self._receive_now()
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                return await self._receive()
        except TimeoutError:
            if not scope.expired():
                raise
            raise Timeout(f"no message came within {limit:g} s") from None

    async def _receive(self) -> Incoming:
        self._bridge.check()
        async with self._turn:
            # The core's wait outlives a cancelled caller, so that what it brings is never dropped.
            if self._arriving is None:
                self._arriving = self._bridge.start(self._core.receive)
                self._arriving.add_done_callback(_mark_as_seen)
            if not self._arriving.done():
                await asyncio.wait([self._arriving])
            return self._take_arrived(self._arriving)

    async def _receive_now(self) -> Incoming:
        self._bridge.check()
        await asyncio.sleep(0)  # whoever asks again and again lets others work
        self._bridge.check()
        # Whoever has the turn waits for the next message, and none is there.
        if not self._turn.locked():
            if self._arriving is None:
                found = self._core.try_receive()
                if found is not None:
                    return _incoming(found)
            elif self._arriving.done():
                return self._take_arrived(self._arriving)
        raise Timeout("no message is there yet")

    def _take_arrived(self, arrived: asyncio.Future[object]) -> Incoming:
        self._arriving = None
        return _incoming(arrived.result())

    async def reply(self, handle: int, body: bytes) -> None:
        """Answer a message over the reply blocks that came with it, once.

        Returns when the packets have left. Cancelled, some of them may have. Before the first one
        leaves, it is on the disk that the message is answered: it never is twice.

        Raises:
            NetworkError: the answer is too long, the handle was used or has expired, or the folder
                cannot be written to; then the answer can be given later.
        """
        await self._bridge.run(self._core.reply, integer("handle", handle, 0, _U64), body)

    async def save(self, message: Incoming, to: str | os.PathLike[str]) -> None:
        """Make the body of a message the file ``to``, however large it is.

        The file is there as a whole or not at all, and on the disk when this returns: then the
        message can be committed. A file that is there already is replaced.

        Raises:
            OSError: the file cannot be written, or the disk is full.
            NetworkError: ``to`` is there and no regular file.
        """
        await self._bridge.run(_core.save_body, message.content, path("to", to))

    async def commit(self, id: str) -> None:  # noqa: A002 - the published name
        """Let the edges delete a message, whose effect must be safe by now; can be repeated."""
        await self._bridge.run(self._core.commit, text("id", id))

    async def ping(self, hops: int = 3) -> float:
        """Send a packet to the own mailbox; return the seconds it took.

        Raises:
            NotEnoughNodes: the network has no loop of that length.
            Offline: this client cannot reach the network, not even after a while.
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
        limits: WorkerLimits | None = None,
        groups: Iterable[str] = (),
        lifetime: float = 90.0,
    ) -> None:
        """Put a signed description of this worker into the directory's list; repeat it in time.

        It names the client's address, and the client's level as that of the tasks which it takes.

        Args:
            name: for people, up to 64 characters.
            kinds: kinds of task that it runs.
            slots: tasks that it runs at a time, at least 1.
            memory_bytes: memory that it lends.
            limits: what else one task may have, each below 2**53; None says nothing of it.
            groups: groups that it serves.
            lifetime: seconds until the description expires, up to an hour.

        Raises:
            Offline: this client cannot reach the network, not even after a while.
            NetworkError: a text or list is out of bounds, or no edge took it.
        """
        await self._bridge.run(
            self._core.publish_worker,
            text("name", name),
            texts("kinds", kinds, _MAX_LISTED),
            integer("slots", slots, 1, _U32),
            integer("memory_bytes", memory_bytes, 0, _U64),
            None if limits is None else _limits(limits),
            texts("groups", groups, _MAX_LISTED),
            seconds("lifetime", lifetime),
        )

    async def workers(self) -> list[WorkerDescriptor]:
        """The whole list of workers, each verified; asking for it tells nobody which is meant."""
        value = await self._bridge.run(self._core.workers)
        return [_worker(fields) for fields in cast("list[_WorkerFields]", value)]

    def status(self) -> ClientStatus:
        """The network as this client sees it now, and what it learned of it; asks nobody."""
        self._bridge.check_open()
        network, traffic, (shortages, paths, edges, excluded) = self._core.status()
        return ClientStatus(
            *network,
            *traffic,
            shortages=tuple(PathShortage(*short) for short in shortages),
            paths=tuple(PathFigures(*path) for path in paths),
            edges=tuple(OwnEdge(*edge) for edge in edges),
            excluded=tuple(ExcludedNode(*node) for node in excluded),
        )

    def consensus(self) -> Consensus | None:
        """The list of the network's nodes by which this client makes packets; asks nobody.

        While none is in force, the newest that it has; None before it has one.
        """
        self._bridge.check_open()
        found = self._core.consensus()
        if found is None:
            return None
        head, nodes = found
        return Consensus(*head, tuple(Node(*node) for node in nodes))

    async def close(self) -> None:
        """Close the links, give up the folder and join the core's threads; safe to call again.

        What is waiting fails with :class:`betanet.Closed`. Cancelled, it goes on in the background:
        the next call waits for its end.
        """
        self._is_closed = True
        await self._bridge.close(self._core)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Incoming:
        try:
            return await self.receive()
        except Closed:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        self._bridge.check()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __reduce__(self) -> Never:
        # A copy would share the folder and the messages with this one.
        raise TypeError("a client cannot be copied or pickled: open another one")

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)


_Opened = TypeVar("_Opened", bound=Client)


class Opening(Coroutine[Any, Any, _Opened], Generic[_Opened]):
    """A client that is being opened: await it, or enter it to have it closed at the end."""

    __slots__ = ("_client", "_work")

    def __init__(self, work: Coroutine[Any, Any, _Opened]) -> None:
        self._work: Final = work
        self._client: _Opened | None = None

    def __await__(self) -> Generator[Any, Any, _Opened]:
        return self._work.__await__()

    def send(self, value: Any, /) -> Any:
        """Go on, as a coroutine does."""
        return self._work.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise inside, as a coroutine does."""
        return self._work.throw(*error)

    def close(self) -> None:
        """Give it up before it began."""
        self._work.close()

    async def __aenter__(self) -> _Opened:
        self._client = await self._work
        return self._client

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.close()


def _mark_as_seen(future: asyncio.Future[object]) -> None:
    """Keep asyncio from logging that a closed client's last wait failed with nobody waiting."""
    if not future.cancelled():
        future.exception()


def _incoming(value: object) -> Incoming:
    return Incoming(*cast("_IncomingFields", value))


def _limits(limits: WorkerLimits) -> tuple[int, int, int]:
    return (
        integer("wall_ms", limits.wall_ms, 1, _MAX_LIMIT),
        integer("scratch_bytes", limits.scratch_bytes, 0, _MAX_LIMIT),
        integer("output_bytes", limits.output_bytes, 0, _MAX_LIMIT),
    )


def _worker(fields: _WorkerFields) -> WorkerDescriptor:
    key, name, kinds, slots, memory_bytes, limits, groups, address, level, issued, expires = fields
    lent = None if limits is None else WorkerLimits(*limits)
    return WorkerDescriptor(
        key, name, kinds, slots, memory_bytes, lent, groups, address, level, issued, expires
    )


def _path_length(hops: int, name: str = "hops") -> int:
    return integer(name, hops, 1, _MAX_HOPS)
