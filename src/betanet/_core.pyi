"""The native core of the mixnet: packets, keys, the packet pipeline and the client's engine.

All functions that compute on packets release the interpreter lock. A ``Buffer`` is any bytes-like
object: it is copied once, before the lock is released.
"""

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from types import TracebackType
from typing import Final, Literal, Self, final

from typing_extensions import Buffer

__all__ = [
    "Bridge",
    "Client",
    "Geometry",
    "Hop",
    "NoiseSecret",
    "NoiseSession",
    "PacketPipeline",
    "PipelineStats",
    "ProcessedPacket",
    "PublicKey",
    "RejectedPacket",
    "ReplyOpener",
    "SecretKey",
    "SendProgress",
    "SphinxProcessor",
    "SpooledBody",
    "Surb",
    "__version__",
    "create_packet",
    "create_packets",
    "create_surb",
    "delay_quantile",
    "noise_x_open",
    "noise_x_seal",
    "save_body",
    "vrf_hash",
    "vrf_prove",
    "vrf_public_key",
    "vrf_verify",
]
__version__: Final[str]

def delay_quantile(mean_ns: int, x: int) -> int:
    """The delay in nanoseconds that ``x`` out of 2**64 of all delays do not exceed.

    Exponential with mean ``mean_ns`` nanoseconds, capped at ten means, computed with integers: the
    same on every platform.

    Raises:
        ValueError: an argument is negative or does not fit into 64 bits.
    """

def vrf_public_key(seed: Buffer) -> bytes:
    """The public key, 32 bytes, of a secret seed of 32 bytes."""

def vrf_prove(seed: Buffer, input: Buffer) -> bytes:
    """The proof, 80 bytes, of the output for ``input`` under a secret seed of 32 bytes.

    ECVRF-EDWARDS25519-SHA512-ELL2 of RFC 9381, as in the two functions below.
    """

def vrf_verify(public_key: Buffer, input: Buffer, proof: Buffer) -> bytes:
    """The output, 64 bytes, for ``input`` under ``public_key``, if ``proof`` proves it.

    Raises:
        InvalidKey: ``public_key`` is no valid key.
        InvalidProof: the proof is malformed or does not hold.
    """

def vrf_hash(proof: Buffer) -> bytes:
    """The output, 64 bytes, that ``proof`` would prove. Does not check that it does.

    Raises:
        InvalidProof: the bytes are no proof.
    """

def noise_x_seal(
    recipient_static: Buffer, prologue: Buffer, plaintext: Buffer, secret: NoiseSecret | Buffer
) -> bytes:
    """Seal up to 65,439 bytes for whoever has the secret of ``recipient_static``, 96 bytes longer.

    Noise_X_25519_ChaChaPoly_SHA256: it tells the recipient who sent it. ``prologue`` says what it
    is for; whoever opens it gives the same.

    Raises:
        NoiseError: the text is too long, or the recipient's key has small order.
    """

def noise_x_open(
    prologue: Buffer, sealed: Buffer, secret: NoiseSecret | Buffer
) -> tuple[bytes, bytes]:
    """The sender's static key, proved, and the text of what :func:`noise_x_seal` made.

    Raises:
        NoiseError: it was altered, or sealed for somebody or something else.
    """

def create_packet(
    path: Iterable[Hop], mailbox: Buffer, payload: Buffer, *, parity: int = 0
) -> bytes:
    """Build a packet that travels along ``path`` and leaves ``payload`` in a mailbox at its end.

    Args:
        path: 1 to 7 hops.
        mailbox: 16 bytes, the mailbox at the last hop.
        payload: up to 2,048 bytes.
        parity: lowest bit of the epoch whose keys ``path`` holds.

    Raises:
        BuildError: path, payload or parity are out of bounds.
    """

def create_packets(
    packets: Iterable[tuple[Iterable[Hop], Buffer, Buffer]], *, parity: int = 0
) -> list[bytes]:
    """Build many packets together, in less than half the time that they take one by one.

    Args:
        packets: path, mailbox and payload of each, as for :func:`create_packet`.
        parity: lowest bit of the epoch whose keys the paths hold.

    Raises:
        BuildError: a path, a payload or the parity is out of bounds; nothing was built.
    """

def create_surb(
    path: Iterable[Hop], mailbox: Buffer, *, surb_id: Buffer | None = None, parity: int = 0
) -> tuple[Surb, ReplyOpener]:
    """Build a single-use reply block that leads to ``mailbox``, and what opens the reply.

    Args:
        path: 1 to 7 hops, the last of which holds the mailbox.
        mailbox: 16 bytes.
        surb_id: 16 bytes that will name the reply; drawn if not given.
        parity: lowest bit of the epoch whose keys ``path`` holds.

    Raises:
        BuildError: path or parity are out of bounds.
    """

@final
class NoiseSecret:
    """A person's X25519 secret for Noise; never shown, erased when dropped."""

    def __new__(cls, data: Buffer) -> Self: ...
    @staticmethod
    def generate() -> NoiseSecret:
        """Draw a new key from the operating system's randomness."""

    @property
    def public(self) -> bytes:
        """The 32 bytes by which others know this person."""

    def to_bytes(self) -> bytes:
        """The 32 secret bytes, for the one who persists them."""

@final
class NoiseSession:
    """A session of Noise_XX_25519_ChaChaPoly_SHA256, as the BitChat app holds it.

    Three messages, written and read in turn, open it; then each frame stands alone, with its number
    in front: 4 bytes, big-endian, ciphertext, 16 bytes of tag. What is refused changes nothing.
    """

    @staticmethod
    def initiator(secret: NoiseSecret | Buffer, *, prologue: Buffer = b"") -> NoiseSession:
        """A session in which this side writes the first message."""

    @staticmethod
    def responder(secret: NoiseSecret | Buffer, *, prologue: Buffer = b"") -> NoiseSession:
        """A session in which this side reads the first message."""

    def write_handshake(self, payload: Buffer = b"") -> bytes:
        """The next message: 32, 96 and 64 bytes, and the payload, which the app leaves empty.

        Raises:
            NoiseError: the other side is to speak, or the other's key has small order.
        """

    def read_handshake(self, message: Buffer) -> bytes:
        """The payload of the other side's message.

        Raises:
            NoiseError: it is none, was altered, or is not awaited now.
        """

    @property
    def is_initiator(self) -> bool:
        """Whether this side wrote the first message."""

    @property
    def is_open(self) -> bool:
        """Whether the handshake is over."""

    @property
    def remote_static(self) -> bytes | None:
        """The 32 bytes of the key that the other side has proved to hold; None before the end.

        A session is with whoever holds this key: compare it before anything is sent.
        """

    @property
    def handshake_hash(self) -> bytes | None:
        """32 bytes that both sides know of this session alone; None before the end."""

    def encrypt(self, plaintext: Buffer) -> bytes:
        """The next frame: up to 1,179,708 bytes of text, 20 bytes longer.

        Raises:
            NoiseError: the handshake is not over, the text is too long, or 2**32 - 1 frames were
                sent.
        """

    def decrypt(self, frame: Buffer) -> bytes:
        """The text of a frame: in any order, each once, at most 1,023 numbers behind the newest.

        Raises:
            NoiseError: it was altered, received before, or is too old.
        """

@final
class SecretKey:
    """A node's X25519 secret for one epoch; never shown, erased when dropped."""

    def __new__(cls, data: Buffer) -> Self: ...
    @staticmethod
    def generate() -> SecretKey:
        """Draw a new key from the operating system's randomness."""

    @property
    def public(self) -> PublicKey:
        """The key that senders use."""

    def to_bytes(self) -> bytes:
        """The 32 secret bytes, for the one who persists them."""

@final
class PublicKey:
    """A node's X25519 key for one epoch, known to be canonical and of prime order.

    Raises:
        InvalidKey: the bytes are anything else.
    """

    def __new__(cls, data: Buffer) -> Self: ...
    def __bytes__(self) -> bytes:
        """The 32 bytes as they travel."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Hop:
    """One step of a path: a node's id (32 bytes) and its key in the packet's epoch."""

    def __new__(cls, node: Buffer, key: PublicKey) -> Self: ...
    @property
    def node(self) -> bytes:
        """The node's id, by which the hop before it finds it."""

    @property
    def key(self) -> PublicKey:
        """The node's key in the packet's epoch."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Geometry:
    """All lengths of a packet, in bytes."""

    @staticmethod
    def native() -> Geometry:
        """The geometry of the native suite: 7 hops, 2,048 bytes of user payload."""

    @staticmethod
    def of_suite(suite: str) -> Geometry:
        """The geometry of the suite ``native``, ``nym`` or ``katzenpost``.

        Raises:
            ValueError: there is no such suite.
        """

    @property
    def max_hops(self) -> int:
        """Longest path, in hops."""

    @property
    def prefix_len(self) -> int:
        """Version and key-epoch parity."""

    @property
    def alpha_len(self) -> int:
        """α, the group element."""

    @property
    def beta_len(self) -> int:
        """β, the encrypted routing blocks."""

    @property
    def gamma_len(self) -> int:
        """γ, the header MAC."""

    @property
    def delta_len(self) -> int:
        """δ, the payload with its tag, mailbox and length."""

    @property
    def header_len(self) -> int:
        """Prefix, α, γ and β."""

    @property
    def packet_len(self) -> int:
        """The whole packet."""

    @property
    def surb_len(self) -> int:
        """An encoded single-use reply block."""

    @property
    def user_payload_len(self) -> int:
        """What a packet carries for its user at most."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Surb:
    """A single-use reply block: lets its holder send one packet to its maker, whoever that is."""

    @staticmethod
    def parse(data: Buffer) -> Surb:
        """Take 457 bytes that came from outside.

        Raises:
            InvalidSurb: length, version, parity or α are not in order.
        """

    @property
    def first(self) -> bytes:
        """Id of the node to which the reply must be sent."""

    def reply(self, payload: Buffer) -> bytes:
        """Make the one reply packet; the SURB is used up.

        Raises:
            BuildError: the payload is too long; the SURB can still be used.
            InvalidSurb: it was used before.
        """

    def to_bytes(self) -> bytes:
        """The SURB as it travels inside a payload. The key in it is secret.

        Raises:
            InvalidSurb: it was used.
        """

@final
class ReplyOpener:
    """What the maker of a SURB keeps to open the one reply that it brings."""

    @property
    def surb_id(self) -> bytes:
        """Names the SURB whose reply this opens."""

    def open(self, delta: Buffer) -> bytes:
        """Open δ as the last hop left it; the opener is used up, whether it succeeds or not.

        Raises:
            WrongLength: not a δ.
            BadPayload: no answer to this SURB, or altered on its way.
            InvalidSurb: the opener was used before.
        """

@final
class ProcessedPacket:
    """A packet that was accepted: what to do with it, after which delay, and what to pass on."""

    @property
    def kind(self) -> Literal["forward", "deliver", "reply"]:
        """Send on to ``next_hop``, or put into ``mailbox``: a payload, or a reply to open."""

    @property
    def next_hop(self) -> bytes | None:
        """Id of the next node; None if the packet ends here."""

    @property
    def mailbox(self) -> bytes | None:
        """Mailbox at this node; None if the packet goes on."""

    @property
    def surb_id(self) -> bytes | None:
        """Name of the SURB that was used; None unless this is a reply.

        At the end of a ``nym`` packet always its identifier: hops cannot tell replies there.
        """

    @property
    def payload(self) -> bytes:
        """The packet for the next node, the user's payload, or the δ of a reply."""

    @property
    def delay_ms(self) -> float:
        """How long to hold the packet, in milliseconds."""

@final
class RejectedPacket:
    """A packet that must be dropped: the fields of a processed one, empty, and the reason."""

    @property
    def kind(self) -> Literal["rejected"]:
        """Tells it from a processed packet."""

    @property
    def next_hop(self) -> None:
        """Nobody."""

    @property
    def mailbox(self) -> None:
        """None."""

    @property
    def surb_id(self) -> None:
        """None."""

    @property
    def payload(self) -> bytes:
        """No bytes."""

    @property
    def delay_ms(self) -> float:
        """Zero."""

    @property
    def reason(self) -> str:
        """Why, as the drop counter's label: ``PACKET_ERRORS`` names the exception for each."""

@final
class SphinxProcessor:
    """Unwraps packets with one key, one at a time, and refuses those it has seen.

    Args:
        key: a secret key or its 32 bytes; drawn if not given.
        suite: whose packets: ``native``; ``nym``, those of the crate ``sphinx-packet`` 0.6;
            ``katzenpost``, headers of its X25519 packets, whose payload stays enciphered. In the
            last two the sender chooses the delays, and ids of recipients have 32 bytes.
        mean_delay_ms: mean of the exponential delays that it assigns, in milliseconds.
        replay_capacity: packets that it can remember.

    Raises:
        ValueError: no such suite, a key of another length, or a number out of bounds.
    """

    def __new__(
        cls,
        key: SecretKey | Buffer | None = None,
        suite: Literal["native", "nym", "katzenpost"] = "native",
        *,
        mean_delay_ms: float = 15.0,
        replay_capacity: int = 1_048_576,
    ) -> Self: ...
    @property
    def public_key(self) -> PublicKey:
        """The key for which senders must build their packets."""

    @property
    def suite(self) -> str:
        """Whose packets it unwraps."""

    def process_packet(self, packet: Buffer) -> ProcessedPacket:
        """Take one layer off a packet.

        Raises:
            PacketError: the packet must be dropped; the subclass says why.
            Closed: the processor was closed.
        """

    def close(self) -> None:
        """Erase the key and forget all packets; safe to call again."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

@final
class PipelineStats:
    """Counters of a pipeline since it was made."""

    @property
    def packets_processed(self) -> int:
        """Packets decided, whichever way."""

    @property
    def packets_dropped(self) -> int:
        """Packets that were rejected; part of ``packets_processed``."""

    @property
    def throughput_pps(self) -> float:
        """Packets that the workers decide per second when all of them have work."""

    @property
    def average_latency_ms(self) -> float:
        """Mean time that a worker takes for a packet, in milliseconds; without the owed delay."""

@final
class PacketPipeline:
    """Unwraps many packets at a time on threads of its own, with one key.

    Args:
        num_workers: threads.
        key: a secret key or its 32 bytes; drawn if not given.
        mean_delay_ms: mean of the exponential delays that it assigns, in milliseconds.
        queue_depth: submitted packets inside at a time, until their outcomes are received.
        replay_capacity: packets that it can remember.

    Raises:
        ValueError: no workers or more than 256, no room, a key of another length, or another
            number out of bounds.
        BetanetError: the system gives no threads.
    """

    def __new__(
        cls,
        num_workers: int = 2,
        key: SecretKey | Buffer | None = None,
        *,
        mean_delay_ms: float = 15.0,
        queue_depth: int = 16_384,
        replay_capacity: int = 16_777_216,
    ) -> Self: ...
    @property
    def public_key(self) -> PublicKey:
        """The key for which senders must build their packets."""

    def submit_packet(self, packet: Buffer) -> None:
        """Hand one packet over; its outcome comes by :meth:`recv_batch`.

        Raises:
            QueueFull: too many packets wait: receive some first.
            Closed: the pipeline was closed.
        """

    def recv_batch(
        self, max_packets: int = 128, timeout: float = 0.0
    ) -> list[ProcessedPacket | RejectedPacket]:
        """Outcomes of submitted packets, as they come; none if none is inside.

        Args:
            max_packets: at most so many.
            timeout: seconds to wait for the first one.

        Raises:
            Closed: the pipeline was closed.
        """

    def process_batch(self, packets: Iterable[Buffer]) -> list[ProcessedPacket | RejectedPacket]:
        """Unwrap packets and return their outcomes in the same order.

        Ctrl-C is looked at when the batch is done.

        Raises:
            Closed: the pipeline was closed.
            MemoryError: there is no room for so many packets at a time; nothing was unwrapped.
        """

    def get_stats(self) -> PipelineStats:
        """The counters now; they can be read after closing, too.

        Raises:
            Closed: this process was forked from that of the pipeline.
        """

    def close(self) -> None:
        """Throw away what is inside and join the threads; safe to call again."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

@final
class Bridge:
    """Runs the core's operations on its own threads for one event loop.

    Args:
        wake: called from another thread when there is something to :meth:`take`.
    """

    def __new__(cls, wake: Callable[[], object]) -> Self: ...
    def take(self, limit: int) -> list[tuple[int, object, Exception | None]]:
        """Up to ``limit`` completions: number, value, and the error if there is no value."""

    def cancel(self, id: int) -> None:
        """Cancel an operation; its completion comes all the same."""

    def close(self) -> None:
        """Cancel what runs and join the threads that only this bridge uses."""

@final
class SpooledBody:
    """The body of a large message, in a file of the client's folder."""

    def __len__(self) -> int: ...
    def read(self) -> bytes:
        """All of it.

        Raises:
            OSError: the file cannot be read.
            MemoryError: there is no room for it.
        """

def save_body(bridge: Bridge, body: bytes | SpooledBody, path: str) -> int:
    """Make a body the file ``path``."""

@final
class SendProgress:
    """How far a message is; given to one :meth:`Client.send` or :meth:`Client.request`."""

    def __new__(cls) -> Self: ...
    def next(self, bridge: Bridge) -> int:
        """Wait for a change; the value is a tuple in the order of :class:`betanet.Progress`.

        None when that has ended.
        """

@final
class Client:
    """The client's engine. Most methods start an operation and return its number."""

    @staticmethod
    def open(
        bridge: Bridge,
        dir: str | PathLike[str],
        bootstrap: str | PathLike[str],
        edges: int,
        hops: int,
        level: int | None,
        bulk: bool,
    ) -> int:
        """Start to open a client; the value is a :class:`Client`."""

    @property
    def address(self) -> str:
        """Where others reach the client."""

    def send(
        self,
        bridge: Bridge,
        to: str,
        body: Buffer | str,
        hops: int,
        id: str | None,
        delivered: bool,
        waits: bool,
        progress: SendProgress | None,
    ) -> int:
        """Send a message, or the file that a text names; the value is its id."""

    def request(
        self,
        bridge: Bridge,
        to: str,
        body: Buffer,
        hops: int,
        reply_packets: int,
        timeout: float,
        progress: SendProgress | None,
    ) -> int:
        """Send a message with reply blocks; the value is the answer."""

    def receive(self, bridge: Bridge) -> int:
        """Wait for a message; the value is a tuple in the order of :class:`betanet.Incoming`."""

    def reply(self, bridge: Bridge, handle: int, body: Buffer) -> int:
        """Answer a message."""

    def commit(self, bridge: Bridge, id: str) -> int:
        """Let the edges delete a message."""

    def ping(self, bridge: Bridge, hops: int) -> int:
        """Send a packet to the own mailbox; the value is the seconds it took."""

    def publish_worker(
        self,
        bridge: Bridge,
        name: str,
        kinds: Sequence[str],
        slots: int,
        memory_bytes: int,
        limits: tuple[int, int, int] | None,
        groups: Sequence[str],
        lifetime: float,
    ) -> int:
        """Put a description into the directory's list."""

    def workers(self, bridge: Bridge) -> int:
        """Fetch the list of workers; the value is a list of tuples of their descriptors' fields."""

    def status(
        self,
    ) -> tuple[
        tuple[str, int, dict[str, int], int, int, bool, int],
        tuple[int, int, int, int, int, str | None],
        tuple[
            tuple[tuple[int, int, int, str], ...],
            tuple[tuple[int, int, int, int | None, int | None], ...],
            tuple[tuple[str, bool, bool, str | None], ...],
            tuple[tuple[str, int, int, int, float], ...],
        ],
    ]:
        """The fields of :class:`betanet.ClientStatus`, in their order, in three groups.

        What is a record there is a tuple here.
        """

    def consensus(
        self,
    ) -> (
        tuple[
            tuple[str, int, int, int, int, int, bool],
            list[tuple[str, str, str, str, str, tuple[int, ...], int]],
        ]
        | None
    ):
        """The fields of :class:`betanet.Consensus`, in their order; the last one, nodes, apart.

        A node is a tuple of the fields of :class:`betanet.Node`. None before there is one.
        """

    def try_receive(self) -> tuple[str, bytes | SpooledBody, int | None, int] | None:
        """A message that is there already and that no operation waits for."""

    def close(self, bridge: Bridge) -> None:
        """Close the links and give up the folder; returns when that is done."""
