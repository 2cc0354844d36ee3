"""The messages of a conversation with a worker: submit with blobs, poll, tell.

Every message may be lost or repeated; each conversation can be repeated as a whole. What follows
from an answer is for ``conversations`` to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from fog_compute.clock import Clock
from fog_compute.coordinator.sessions import Session
from fog_compute.errors import ChannelDown, ChannelError
from fog_compute.levels import PrivacyLevel
from fog_compute.store import BlobStore
from fog_compute.tasks import Attempt, Task
from fog_compute.tasks.bounds import MAX_ATTEMPTS
from fog_compute.tasks.messages import (
    Accepted,
    Ack,
    Busy,
    Cancel,
    Done,
    Module,
    NeedModule,
    Poll,
    PollItem,
    Rejected,
    Reply,
    Request,
    Status,
    Submit,
)
from fog_compute.tasks.sealing import OVERHEAD, SealedBlob, seal_blob
from fog_compute.tasks.wire import WireError, encode, limits_to_wire, parse_reply

__all__ = ["Carrier", "Exchange", "Heard", "Renewal"]

ATTACH_BYTES: Final = 32 * 1024
"""Blobs up to this many bytes in all come along with the first message."""

SUBMIT_ROUNDS: Final = 4
SUBMIT_HOLD_MS: Final = 400
"""How long a worker may wait for a short task's end before it answers a submission."""

SLOWEST_BYTES_PER_S: Final = 20_000
"""Rate that a large message is given time for."""

Renewal = Callable[[], None]
"""Called when the worker gave a sign of life, or when its silence was none of its own."""

Heard = Callable[[PrivacyLevel], None]
"""Called when the network carried a message at a level, there or there and back."""


class Carrier(Protocol):
    """Carries messages through circuits; ``OnionCircuitService`` is one."""

    async def create_circuit(self, privacy_level: PrivacyLevel) -> str:
        """Make a circuit and return its id."""
        ...

    async def send_through_circuit(
        self,
        circuit_id: str,
        data: bytes,
        privacy_level: PrivacyLevel = ...,
        *,
        to: str | None = None,
    ) -> None:
        """Send without a way back."""
        ...

    async def request_through_circuit(
        self,
        circuit_id: str,
        data: bytes,
        privacy_level: PrivacyLevel = ...,
        *,
        to: str,
        reply_packets: int = 4,
        timeout: float = 30.0,
    ) -> bytes:
        """Ask and wait for the answer."""
        ...

    def close_circuit(self, circuit_id: str, privacy_level: PrivacyLevel) -> None:
        """Close a circuit."""
        ...


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A task's blobs as the session names them."""

    module: bytes
    stdin: bytes | None
    inputs: dict[str, bytes]
    sha256_of: dict[bytes, str]
    size: int


class Exchange:
    """Speaks with workers over a carrier."""

    __slots__ = ("_blobs", "_carrier", "_clock", "_heard", "_timeout_s")

    def __init__(
        self, carrier: Carrier, blobs: BlobStore, timeout_s: float, clock: Clock, heard: Heard
    ) -> None:
        """Answers to small messages are awaited ``timeout_s`` seconds."""
        self._carrier: Final = carrier
        self._blobs: Final = blobs
        self._timeout_s: Final = timeout_s
        self._clock: Final = clock
        self._heard: Final = heard

    async def submit(
        self, session: Session, task: Task, attempt: Attempt, renew: Renewal
    ) -> Accepted | Busy | Rejected:
        """Give an attempt to its worker, with the blobs that it lacks.

        Cancelled or failed, the worker may or may not have it; the same call settles that.

        Raises:
            ChannelError: no answer, or none that makes sense.
            NotFound: a blob of the task is gone.
        """
        sealed = await self._seal(session, task)
        held = frozenset(session.held_refs)
        attached: dict[bytes, bytes] = {}
        if sealed.size <= ATTACH_BYTES:
            lacking = [ref for ref in sealed.sha256_of if ref not in held]
            attached = {ref: (await self._blob(session, sealed, ref)).data for ref in lacking}
        for _ in range(SUBMIT_ROUNDS):
            reply = await self._ask(session, _submission(session, task, attempt, sealed, attached))
            match reply:
                case Accepted():
                    session.held_refs.update(sealed.sha256_of)
                    return reply
                case Busy() | Rejected():
                    return reply
                case NeedModule():
                    refusal = await self._upload(session, sealed, reply.refs, held, renew)
                    if refusal is not None:
                        return refusal
                    attached = {}
                case _:
                    raise ChannelError(f"a worker answered a submission with {_name(reply)}")
        raise ChannelError("a worker asks for the same blobs again and again")

    async def poll(self, session: Session) -> Status:
        """Ask for news of all attempts of a session; tell what is kept here on the way.

        Raises:
            ChannelError: no answer, or none that makes sense.
        """
        acks = session.acks()
        items = tuple(
            PollItem(bytes.fromhex(handle), progress.assembler.offset)
            for handle in session.handles[:MAX_ATTEMPTS]
            if (progress := session.progress(handle)) is not None
        )
        reply = await self._ask(
            session,
            Poll(items, tuple(map(bytes.fromhex, acks))),
            reply_packets=session.reply_packets(),
        )
        if not isinstance(reply, Status):
            raise ChannelError(f"a worker answered a poll with {_name(reply)}")
        session.told(acks)
        return reply

    async def tell(self, session: Session) -> None:
        """Let the worker forget; returns once its edge has stored the messages.

        Raises:
            ChannelError: a message could not be sent; the rest can be said again.
        """
        for handles, build in ((session.acks(), Ack), (session.cancels(), Cancel)):
            if handles:
                await self._send(session, build(tuple(map(bytes.fromhex, handles))))
                session.told(handles)

    async def reaches(self, session: Session) -> bool:
        """Whether the network now takes a message for a session's worker, so that it can be asked.

        Raises:
            ChannelDown, ServiceUnavailable: this side cannot send at all.
            PrivacyUnavailable: there are too few nodes for a path there.
        """
        sending = asyncio.create_task(self._send(session, Ack(())))
        late = asyncio.create_task(self._clock.sleep(self._timeout_s))
        try:
            await asyncio.wait((sending, late), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
                return True
        except ChannelDown:
            raise
        except ChannelError:
            pass
        finally:
            for task in (sending, late):
                task.cancel()
            await asyncio.gather(sending, late, return_exceptions=True)
        return False

    async def circuit(self, session: Session) -> str:
        """The id of a session's circuit, made at its first use.

        Raises:
            ServiceUnavailable: the network cannot be joined.
        """
        async with session.circuit_lock:
            if session.circuit_id is None:
                session.circuit_id = await self._carrier.create_circuit(session.level)
            return session.circuit_id

    def end(self, session: Session) -> None:
        """Close a session's circuit."""
        if session.circuit_id is not None:
            self._carrier.close_circuit(session.circuit_id, session.level)

    async def _upload(
        self,
        session: Session,
        sealed: _Sealed,
        refs: Iterable[bytes],
        held_before: frozenset[bytes],
        renew: Renewal,
    ) -> Busy | Rejected | None:
        async with session.upload_lock:
            renew()  # others were served first
            for ref in refs:
                if ref not in sealed.sha256_of:
                    raise ChannelError("a worker asks for a blob that the task does not have")
                if ref in session.held_refs and ref not in held_before:
                    continue  # another attempt of the session has just brought it
                blob = await self._blob(session, sealed, ref)
                reply = await self._ask(session, Module(blob.ref, blob.data))
                if isinstance(reply, Busy | Rejected):
                    return reply
                if not isinstance(reply, Done):
                    raise ChannelError(f"a worker answered a blob with {_name(reply)}")
                session.held_refs.add(ref)
                renew()
        return None

    async def _ask(self, session: Session, message: Request, *, reply_packets: int = 2) -> Reply:
        body = encode(message)
        data = await self._carrier.request_through_circuit(
            await self.circuit(session),
            body,
            session.level,
            to=session.address,
            reply_packets=reply_packets,
            timeout=self._time_for(len(body)),
        )
        self._heard(session.level)
        try:
            return parse_reply(data)
        except WireError as error:
            raise ChannelError(f"a worker's answer cannot be read: {error}") from error

    async def _send(self, session: Session, message: Request) -> None:
        await self._carrier.send_through_circuit(
            await self.circuit(session), encode(message), session.level, to=session.address
        )
        self._heard(session.level)

    def _time_for(self, size: int) -> float:
        return self._timeout_s + size / SLOWEST_BYTES_PER_S

    async def _seal(self, session: Session, task: Task) -> _Sealed:
        """Name the task's blobs for the session; their bytes are not kept."""
        spec = task.spec
        refs: dict[str, bytes] = {}
        for sha256 in spec.blobs:
            refs[sha256] = seal_blob(session.blob_key, await self._blobs.get(sha256)).ref
        return _Sealed(
            module=refs[spec.module],
            stdin=None if spec.stdin is None else refs[spec.stdin],
            inputs={path: refs[sha256] for path, sha256 in spec.inputs.items()},
            sha256_of={ref: sha256 for sha256, ref in refs.items()},
            size=sum(self._blobs.size(sha256) + OVERHEAD for sha256 in spec.blobs),
        )

    async def _blob(self, session: Session, sealed: _Sealed, ref: bytes) -> SealedBlob:
        return seal_blob(session.blob_key, await self._blobs.get(sealed.sha256_of[ref]))


def _submission(
    session: Session, task: Task, attempt: Attempt, sealed: _Sealed, attached: dict[bytes, bytes]
) -> Submit:
    spec = task.spec
    return Submit(
        handle=bytes.fromhex(attempt.handle),
        kind=spec.kind.value,
        module=sealed.module,
        key=session.blob_key,
        argv=spec.argv,
        stdin=sealed.stdin,
        inputs=sealed.inputs,
        limits=limits_to_wire(spec.limits),
        seed=bytes.fromhex(task.seed),
        attached=attached,
        hold_ms=SUBMIT_HOLD_MS,
        blob_bytes=sealed.size,
        env=dict(spec.env),
    )


def _name(reply: Reply) -> str:
    return type(reply).__name__
