"""The mixnet as the fog uses it: one client per privacy level, and the channel over each.

A level has its own client instance in its own folder, with its own link keys, mailboxes and
sealing key, so that nothing an edge sees ties the levels of one user together. Python chooses the
level and the recipient; paths, sealing, acks and retransmission are the core's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypedDict

import betanet
from fog_compute.descriptors import why
from fog_compute.errors import (
    ChannelDown,
    ChannelError,
    ChannelTimeout,
    ConfigError,
    PrivacyUnavailable,
    ServiceUnavailable,
)
from fog_compute.levels import PrivacyLevel
from fog_compute.threads import in_thread
from fog_compute.vpn.channel import Received
from fog_compute.vpn.directory import WorkerOffer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

__all__ = [
    "BetanetChannel",
    "BetanetService",
    "NetworkStatus",
    "PacketOutcome",
    "PacketStats",
    "open_channel",
]


_PATH_LENGTHS: Final = frozenset(level.hops for level in PrivacyLevel)


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """The network as the client of the default level sees it, and what those of all levels met.

    Attributes:
        network: its name.
        epoch: the current key period.
        nodes: mix nodes by role.
        one_operator: whether one party runs all nodes, so that there is no anonymity.
        mean_delay_ms: mean delay of each hop.
        edges_attached: edges that the client is linked to now.
        trouble: one line if something keeps the client from sending, or this machine's clock is
            wrong; otherwise None.
        paths: loss and times by the number of hops, of all levels that are in use.
        excluded: nodes that a client leaves out because they lose packets, by their ids.
    """

    network: str
    epoch: int
    nodes: dict[str, int]
    one_operator: bool
    mean_delay_ms: float
    edges_attached: int
    trouble: str | None = None
    paths: tuple[betanet.PathFigures, ...] = ()
    excluded: Mapping[str, betanet.ExcludedNode] = field(default_factory=dict)

    @property
    def node_count(self) -> int:
        """All nodes of all roles."""
        return sum(self.nodes.values())


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
        self, to: str, body: bytes, *, reply_packets: int = 4, timeout: float = 30.0
    ) -> bytes:
        """Ask ``to`` and wait for its answer, which comes back over single-use reply blocks."""
        with _channel_errors(f"request over {self._level.hops} hops"):
            return await self._client.request(
                to, body, hops=self._level.hops, reply_packets=reply_packets, timeout=timeout
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
    """Counters of the packet pipeline."""

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
    ) -> None:
        self._folder = folder
        self._bootstrap = bootstrap
        self._num_workers: Final = num_workers
        self._pipeline: betanet.PacketPipeline | None = None
        self._clients: dict[PrivacyLevel, betanet.Client] = {}
        self._opening: Final = {level: asyncio.Lock() for level in PrivacyLevel}
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
        """Counters of the pipeline since it started."""
        stats = self.pipeline.get_stats()
        return PacketStats(
            packets_processed=stats.packets_processed,
            packets_dropped=stats.packets_dropped,
            throughput_pps=stats.throughput_pps,
            average_latency_ms=stats.average_latency_ms,
        )

    async def client(self, level: PrivacyLevel) -> betanet.Client:
        """The client of one level, opened if it is not.

        Cancelled while it opens, it is closed again.

        Raises:
            ServiceUnavailable: the service is closed, or the network cannot be joined.
        """
        if self._folder is None or self._bootstrap is None:
            raise ServiceUnavailable(
                "this betanet service has no network: give it a folder and a bootstrap file"
            )
        async with self._opening[level]:
            if self._closed:
                raise ServiceUnavailable("the betanet service is closed")
            client = self._clients.get(level)
            if client is None:
                client = await _open_client(self._folder / level.value, self._bootstrap, level)
                self._clients[level] = client
            return client

    async def channel(self, level: PrivacyLevel) -> BetanetChannel:
        """A channel of one level; all channels of a level share its client."""
        return BetanetChannel(await self.client(level), level)

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
            )
            for worker in listed
            if worker.level is None or worker.level in _PATH_LENGTHS
        ]

    async def status(self) -> NetworkStatus:
        """The network as this machine sees it."""
        view = (await self.client(PrivacyLevel.PRIVATE)).status()
        views = [client.status() for client in self._clients.values()]
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
        )

    async def close(self) -> None:
        """Close all clients and stop the pipeline; safe to call again."""
        self._closed = True
        async with AsyncExitStack() as stack:
            for level in PrivacyLevel:
                async with self._opening[level]:
                    client = self._clients.pop(level, None)
                if client is not None:
                    stack.push_async_callback(client.close)
            if self._pipeline is not None:
                stack.callback(self._pipeline.close)
                self._pipeline = None

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
    return BetanetChannel(await _open_client(folder, bootstrap, level), level)


async def _open_client(folder: Path, bootstrap: Path, level: PrivacyLevel) -> betanet.Client:
    try:
        await in_thread(_prepare, folder, bootstrap)
    except OSError as error:
        raise ServiceUnavailable(f"cannot join the network of {bootstrap}: {why(error)}") from error
    try:
        return await betanet.Client.open(
            dir=folder, bootstrap=bootstrap, hops=level.hops, level=level.hops
        )
    except (betanet.BetanetError, OSError) as error:
        raise ServiceUnavailable(f"cannot join the network of {bootstrap}: {error}") from error


def _prepare(folder: Path, bootstrap: Path) -> None:
    if not bootstrap.is_file():
        raise ConfigError(
            f"no bootstrap file at {bootstrap}: start a net with `fog up`, or name one with FOG_NET"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def _channel_errors(what: str) -> Iterator[None]:
    try:
        yield
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
