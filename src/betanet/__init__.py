"""The mixnet from Python: Sphinx packets, the packet pipeline, and a client for messages.

Everything that encrypts, unwraps or routes is in the native core; nothing here stands in for it.

Layers, low to high: ``_core`` (native), ``_errors``, ``_arguments``; ``_records``; ``_aio``, which
joins the core's threads to asyncio; ``_client``. This package knows nothing of ``fog_compute``.

Packets::

    import os, betanet

    processor = betanet.SphinxProcessor()
    hop = betanet.Hop(os.urandom(32), processor.public_key)
    packet = betanet.create_packet([hop], mailbox=bytes(16), payload=b"hello")
    assert processor.process_packet(packet).payload == b"hello"

The core runs on threads of its own, which a forked child does not have: open clients,
pipelines and processors after forking, or start processes by spawning.
"""

try:
    from betanet._core import (
        Geometry,
        Hop,
        NoiseSecret,
        NoiseSession,
        PacketPipeline,
        PipelineStats,
        ProcessedPacket,
        PublicKey,
        RejectedPacket,
        ReplyOpener,
        SecretKey,
        SphinxProcessor,
        Surb,
        __version__,
        create_packet,
        create_packets,
        create_surb,
        delay_quantile,
        noise_x_open,
        noise_x_seal,
        vrf_hash,
        vrf_prove,
        vrf_public_key,
        vrf_verify,
    )
except ImportError as error:
    raise ImportError(
        f"the native core of betanet cannot be loaded ({error}): in a source tree run `make build`"
        " (it needs Rust), elsewhere install a wheel of fog-compute"
    ) from error

from betanet._client import Client
from betanet._errors import (
    PACKET_ERRORS,
    BadAlpha,
    BadCommand,
    BadMac,
    BadParity,
    BadPayload,
    BetanetError,
    BuildError,
    Busy,
    Closed,
    InvalidAddress,
    InvalidKey,
    InvalidProof,
    InvalidSurb,
    NetworkError,
    NoiseError,
    NoKey,
    NoNetworkFile,
    NotEnoughNodes,
    Offline,
    PacketError,
    QueueFull,
    Replay,
    ReplayCacheFull,
    Timeout,
    Unanswered,
    UnknownVersion,
    WeakSecret,
    WrongLength,
)
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

PyPacketPipeline = PacketPipeline
PySphinxProcessor = SphinxProcessor

__all__ = [
    "PACKET_ERRORS",
    "BadAlpha",
    "BadCommand",
    "BadMac",
    "BadParity",
    "BadPayload",
    "BetanetError",
    "BuildError",
    "Busy",
    "Client",
    "ClientStatus",
    "Closed",
    "Consensus",
    "ExcludedNode",
    "Geometry",
    "Hop",
    "Incoming",
    "InvalidAddress",
    "InvalidKey",
    "InvalidProof",
    "InvalidSurb",
    "NetworkError",
    "NoKey",
    "NoNetworkFile",
    "Node",
    "NoiseError",
    "NoiseSecret",
    "NoiseSession",
    "NotEnoughNodes",
    "Offline",
    "OwnEdge",
    "PacketError",
    "PacketPipeline",
    "PathFigures",
    "PathShortage",
    "PipelineStats",
    "ProcessedPacket",
    "Progress",
    "PublicKey",
    "PyPacketPipeline",
    "PySphinxProcessor",
    "QueueFull",
    "RejectedPacket",
    "Replay",
    "ReplayCacheFull",
    "ReplyOpener",
    "SecretKey",
    "SphinxProcessor",
    "Surb",
    "Timeout",
    "Unanswered",
    "UnknownVersion",
    "WeakSecret",
    "WorkerDescriptor",
    "WorkerLimits",
    "WrongLength",
    "__version__",
    "create_packet",
    "create_packets",
    "create_surb",
    "delay_quantile",
    "noise_x_open",
    "noise_x_seal",
    "vrf_hash",
    "vrf_prove",
    "vrf_public_key",
    "vrf_verify",
]
