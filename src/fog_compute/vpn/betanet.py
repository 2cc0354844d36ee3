"""The mixnet as the fog uses it: one client per privacy level, and the channel over each.

A level has its own client instance in its own folder, with its own link keys, mailboxes and
sealing key, so that nothing an edge sees ties the levels of one user together. Python chooses the
level and the recipient; paths, sealing, acks and retransmission are the core's.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypedDict

import betanet
from fog_compute.errors import (
    ChannelDown,
    ChannelError,
    ChannelTimeout,
    ChannelUnanswered,
    PrivacyUnavailable,
    ServiceUnavailable,
)
from fog_compute.levels import PrivacyLevel
from fog_compute.vpn.channel import OnSent, Received
from fog_compute.vpn.clients import Clients, open_client, view_of
from fog_compute.vpn.directory import TaskLimits, WorkerOffer
from fog_compute.vpn.network import ClientHealth, NetworkStatus, by_hops, check_level
from fog_compute.vpn.sendings import OnEnd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

__all__ = [
    "BetanetChannel",
    "BetanetService",
    "PacketOutcome",
    "PacketStats",
    "open_channel",
]


_PATH_LENGTHS: Final = frozenset(level.hops for level in PrivacyLevel)


class BetanetChannel:
    """A :class:`~fog_compute.vpn.channel.MessageChannel` over one mixnet client.

    The channel does not own the client: whoever opened it closes it.
    """

    __slots__ = ("_client", "_level")

    def __init__(self, client: betanet.Client, level: PrivacyLevel) -> None:
        self._client = client
        self._level = level

    @property
    def client(self) -> betanet.Client:
        """The client underneath, for what is no message: the worker list, the view of the net."""
        return self._client

    @property
    def level(self) -> PrivacyLevel:
        """The level whose path length every message here has."""
        return self._level

    @property
    def address(self) -> str:
        """Where others reach this channel."""
        return self._client.address

    async def request(
        self,
        to: str,
        body: bytes,
        *,
        reply_packets: int = 4,
        timeout: float = 30.0,
        on_sent: OnSent | None = None,
    ) -> bytes:
        """Ask ``to`` and wait for its answer, which comes back over single-use reply blocks."""
        with _channel_errors(f"request over {self._level.hops} hops"):
            return await self._client.request(
                to,
                body,
                hops=self._level.hops,
                reply_packets=reply_packets,
                timeout=timeout,
                on_progress=None if on_sent is None else lambda progress: on_sent(progress.done),
            )

    async def send(self, to: str, body: bytes) -> None:
        """Send without a way back; returns once the recipient's edge has stored all of it."""
        with _channel_errors(f"message over {self._level.hops} hops"):
            await self._client.send(to, body, hops=self._level.hops)

    async def receive(self) -> Received:
        """Wait for the next message."""
        with _channel_errors("receiving"):
            message = await self._client.receive()
        return Received(
            id=message.id,
            body=message.body,
            reply_capacity=message.reply_capacity if message.reply_handle is not None else 0,
            reply_handle=message.reply_handle,
        )

    async def reply(self, incoming: Received, body: bytes) -> None:
        """Answer over the way back that came with the message."""
        if incoming.reply_handle is None:
            raise ChannelError("the sender of this message wants no answer")
        with _channel_errors("reply"):
            await self._client.reply(incoming.reply_handle, body)

    async def commit(self, incoming: Received) -> None:
        """Let the edges forget the message."""
        with _channel_errors("commit"):
            await self._client.commit(incoming.id)


class PacketOutcome(TypedDict):
    """What became of one packet: empty but for ``reason`` if it was rejected."""

    next_hop: bytes | None
    payload: bytes
    delay_ms: float
    reason: str | None


class PacketStats(TypedDict):
    """Counters of a service: of its pipeline, and of the packets that its clients sent.

    ``packets_processed`` counts what the pipeline decided and the clients' own packets whose end is
    known, ``packets_dropped`` what was rejected and what got lost. ``throughput_pps`` and
    ``average_latency_ms`` are the pipeline's alone: its workers' packets a second when all have
    work, and their mean time for one.
    """

    packets_processed: int
    packets_dropped: int
    throughput_pps: float
    average_latency_ms: float


class BetanetService:
    """Owns the clients of all levels, each opened when it is first asked for.

    Without ``folder`` and ``bootstrap`` the service has only its packet side, :attr:`pipeline`.
    """

    def __init__(
        self,
        *,
        folder: Path | None = None,
        bootstrap: Path | None = None,
        num_workers: int = 2,
        on_end: OnEnd | None = None,
    ) -> None:
        """Open nothing yet; ``on_end`` is called with the end of each message of its clients."""
        self._clients: Final = (
            None if folder is None or bootstrap is None else Clients(folder, bootstrap, on_end)
        )
        self._channels: Final[dict[tuple[PrivacyLevel, str], BetanetChannel]] = {}
        self._num_workers: Final = num_workers
        self._pipeline: betanet.PacketPipeline | None = None
        self._closed = False

    @property
    def pipeline(self) -> betanet.PacketPipeline:
        """Unwraps packets in bulk on ``num_workers`` threads; started at the first use."""
        if self._closed:
            raise ServiceUnavailable("the betanet service is closed")
        if self._pipeline is None:
            self._pipeline = betanet.PacketPipeline(self._num_workers)
        return self._pipeline

    async def submit_packet(self, packet: bytes) -> PacketOutcome:
        """Unwrap one packet; a bad one is an outcome, not an error.

        Cancelled, the packet is decided all the same, and counted.
        """
        return (await self.process_batch([packet]))[0]

    async def process_batch(self, packets: Sequence[bytes]) -> list[PacketOutcome]:
        """Unwrap packets on the pipeline's threads; outcomes stand in the same order.

        Cancelled, the packets are decided all the same, and counted.
        """
        outcomes = await asyncio.to_thread(self.pipeline.process_batch, packets)
        return [
            PacketOutcome(
                next_hop=outcome.next_hop,
                payload=outcome.payload,
                delay_ms=outcome.delay_ms,
                reason=outcome.reason if isinstance(outcome, betanet.RejectedPacket) else None,
            )
            for outcome in outcomes
        ]

    async def get_stats(self) -> PacketStats:
        """Counters since the pipeline started and the levels' shared clients were opened."""
        stats = self.pipeline.get_stats()
        shared = () if self._clients is None else self._clients.shared()
        views = (view_of(client) for client in shared)
        paths = [path for view in views if view is not None for path in view.paths]
        return PacketStats(
            packets_processed=stats.packets_processed + sum(path.tries for path in paths),
            packets_dropped=stats.packets_dropped + sum(path.lost for path in paths),
            throughput_pps=stats.throughput_pps,
            average_latency_ms=stats.average_latency_ms,
        )

    async def client(self, level: PrivacyLevel, owner: str = "") -> betanet.Client:
        """A client of one level, opened if it is not; see :meth:`Clients.get`.

        Raises:
            ServiceUnavailable: the service is closed, or the network cannot be joined.
        """
        return await self._joined.get(level, owner)

    async def channel(self, level: PrivacyLevel, owner: str = "") -> BetanetChannel:
        """The channel over the client of :meth:`client`; the same one while that is open.

        Raises:
            ServiceUnavailable: the service is closed, or the network cannot be joined.
            PrivacyUnavailable: the network has too few nodes for the level.
        """
        client = await self.client(level, owner)
        view = view_of(client)
        if view is not None:
            check_level(by_hops(view), level)
        channel = self._channels.get((level, owner))
        if channel is None or channel.client is not client:
            channel = self._channels[level, owner] = BetanetChannel(client, level)
        return channel

    def health(self, level: PrivacyLevel, owner: str = "") -> ClientHealth | None:
        """How a client is; None if it is not open."""
        client = None if self._clients is None else self._clients.find(level, owner)
        view = None if client is None else view_of(client)
        return None if view is None else ClientHealth.of(view, level)

    async def leave(self, level: PrivacyLevel, owner: str) -> None:
        """Close a session's own client and delete its keys; safe to call again."""
        self._channels.pop((level, owner), None)
        await self._joined.leave(level, owner)

    async def workers(self) -> list[WorkerOffer]:
        """The whole list of workers that the directory signed; asking for it tells nobody which.

        Raises:
            ChannelError: no edge answered.
        """
        client = await self.client(PrivacyLevel.PRIVATE)
        with _channel_errors("worker list"):
            listed = await client.workers()
        return [
            WorkerOffer(
                # People choose names, and who searches finds a key that begins like another.
                name=f"{worker.name}-{worker.id}",
                address=worker.address,
                kinds=tuple(worker.kinds),
                slots=worker.slots,
                memory_bytes=worker.memory_bytes,
                groups=tuple(worker.groups),
                level=None if worker.level is None else PrivacyLevel.of_hops(worker.level),
                limits=_limits(worker.limits),
            )
            for worker in listed
            if worker.level is None or worker.level in _PATH_LENGTHS
        ]

    async def status(self) -> NetworkStatus:
        """The network as this machine sees it."""
        view = (await self.client(PrivacyLevel.PRIVATE)).status()
        others = (view_of(client) for client in self._joined.shared())
        views = [other for other in others if other is not None]
        return NetworkStatus(
            network=view.network,
            epoch=view.epoch,
            nodes=dict(view.nodes),
            one_operator=view.one_operator,
            mean_delay_ms=view.mean_delay_ms,
            edges_attached=view.edges_attached,
            trouble=view.trouble,
            paths=tuple(
                sorted((path for each in views for path in each.paths), key=lambda path: path.hops)
            ),
            excluded={node.id: node for each in views for node in each.excluded},
            shortages=by_hops(view),
        )

    def consensus(self) -> betanet.Consensus | None:
        """The nodes that the client of the default level goes by; None before it has a list."""
        client = None if self._clients is None else self._clients.find(PrivacyLevel.PRIVATE)
        try:
            return None if client is None else client.consensus()
        except betanet.Closed:
            return None

    async def close(self) -> None:
        """Close all clients and stop the pipeline; safe to call again."""
        self._closed = True
        async with AsyncExitStack() as stack:
            if self._clients is not None:
                stack.push_async_callback(self._clients.close)
            if self._pipeline is not None:
                stack.callback(self._pipeline.close)
                self._pipeline = None

    @property
    def _joined(self) -> Clients:
        if self._clients is None:
            raise ServiceUnavailable(
                "this betanet service has no network: give it a folder and a bootstrap file"
            )
        return self._clients

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


async def open_channel(*, folder: Path, bootstrap: Path, level: PrivacyLevel) -> BetanetChannel:
    """Open a client of one level, and the channel over it; the caller closes ``channel.client``.

    Raises:
        ServiceUnavailable: the network cannot be joined; the text says why.
    """
    return BetanetChannel(await open_client(folder, bootstrap, level), level)


def _limits(limits: betanet.WorkerLimits | None) -> TaskLimits | None:
    if limits is None:
        return None
    return TaskLimits(limits.wall_ms / 1000, limits.scratch_bytes, limits.output_bytes)


@contextmanager
def _channel_errors(what: str) -> Iterator[None]:
    try:
        yield
    except betanet.Unanswered as error:
        raise ChannelUnanswered(f"{what}: no answer in time, though it has arrived") from error
    except betanet.Timeout as error:
        raise ChannelTimeout(f"{what}: no answer in time") from error
    except betanet.NotEnoughNodes as error:
        raise PrivacyUnavailable(
            f"{what}: {error}: wait for more nodes or choose a lower level",
            needed=error.needed,
            available=error.available,
        ) from error
    except (betanet.Offline, betanet.Closed) as error:
        raise ChannelDown(str(error)) from error  # whatever was to be done
    except betanet.BetanetError as error:
        raise ChannelError(f"{what}: {error}") from error
