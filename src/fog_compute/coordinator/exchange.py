"""The messages of a conversation with a worker: submit with blobs, poll, tell.

Every message may be lost or repeated; each conversation can be repeated as a whole. What follows
from an answer is for ``conversations`` to say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Final

from fog_compute.clock import Clock
from fog_compute.coordinator.attempts import Doing, Stage
from fog_compute.coordinator.carrier import Carrier
from fog_compute.coordinator.outbox import Parcel
from fog_compute.coordinator.parcels import Blobs, SealedTask
from fog_compute.coordinator.sessions import PULL_PACKETS, Session, packets_for
from fog_compute.coordinator.uploads import WINDOW_BYTES, send_all
from fog_compute.errors import ChannelDown, ChannelError, FogError, ServiceUnavailable
from fog_compute.levels import PrivacyLevel
from fog_compute.store import BlobStore
from fog_compute.tasks import Attempt, Task
from fog_compute.tasks.groups import NotAMember
from fog_compute.tasks.keyring import Keys
from fog_compute.tasks.messages import (
    MAX_ATTEMPTS,
    Accepted,
    Ack,
    Answer,
    Answers,
    Busy,
    Cancel,
    Done,
    Module,
    NeedModule,
    Order,
    Poll,
    PollItem,
    Rejected,
    Reply,
    Request,
    Status,
    Submit,
)
from fog_compute.tasks.model import argv_bytes
from fog_compute.tasks.sealing import session_of
from fog_compute.tasks.wire import WireError, encode, limits_to_wire, parse_reply
from fog_compute.threads import in_thread
from fog_compute.units import KIB
from fog_compute.vpn.channel import OnSent

__all__ = ["Exchange", "Heard", "Renewal"]

ATTACH_BYTES: Final = 32 * KIB
"""Blobs up to this many bytes in all come along with the first message."""

ORDER_BYTES: Final = 512
"""About what an order takes beside its arguments and its blobs."""

AHEAD_BYTES: Final = 512 * KIB
"""From so many bytes of other blobs on, a worker is told as soon as it can compile the module."""

ANSWER_BYTES: Final = 384
"""What is asked for on account of one order: its status, with the result of a small task."""

REF_BYTES: Final = 36
SUBMIT_ROUNDS: Final = 4
SUBMIT_HOLD_MS: Final = 400
"""How long a worker may wait for a short task's end before it answers a submission."""

SEALED_AT_ONCE: Final = 128 * KIB
"""Bytes that are hashed in less time than a thread needs."""

SLOWEST_BYTES_PER_S: Final = 20_000
"""Rate that a large message is given time for."""

Renewal = Callable[[], None]
"""Called when the worker gave a sign of life, or when its silence was none of its own."""

Heard = Callable[[PrivacyLevel], None]
"""Called when the network carried a message at a level, there or there and back."""


class Exchange:
    """Speaks with workers over a carrier."""

    __slots__ = ("_blobs", "_carrier", "_check_owner", "_clock", "_heard", "_keys", "_timeout_s")

    def __init__(
        self,
        carrier: Carrier,
        blobs: BlobStore,
        keys: Keys,
        timeout_s: float,
        clock: Clock,
        heard: Heard,
        check_owner: Callable[[], None],
    ) -> None:
        """Answers to small messages are awaited ``timeout_s`` seconds.

        Before each message ``check_owner`` is asked, which raises where nothing may be said.
        """
        self._check_owner: Final = check_owner
        self._keys: Final = keys
        self._carrier: Final = carrier
        self._blobs: Final = Blobs(blobs)
        self._timeout_s: Final = timeout_s
        self._clock: Final = clock
        self._heard: Final = heard

    async def submit(
        self, session: Session, task: Task, attempt: Attempt, renew: Renewal
    ) -> Accepted | Busy | Rejected:
        """Give an attempt to its worker, with the blobs that it lacks.

        Orders of one session that are ready at the same time go in one message. Cancelled or
        failed, the worker may or may not have the attempt; the same call settles that.

        Raises:
            ChannelError: no answer, or none that makes sense.
            NotFound: a blob of the task is gone.
        """
        sealed = await self._blobs.name(session, task.spec)
        held = frozenset(session.held_refs)
        attached: dict[bytes, str] = {}
        if sealed.size <= ATTACH_BYTES:
            attached = {r: sha for r, sha in sealed.sha256_of.items() if r not in held}
        order = _order(task, attempt, sealed)
        for _ in range(SUBMIT_ROUNDS):
            parcel = Parcel(
                order,
                attached,
                len(sealed.sha256_of.keys() - held - attached.keys()),
                ORDER_BYTES + argv_bytes(order.argv) + (sealed.size if attached else 0),
            )
            answer = await session.outbox.place(parcel, partial(self._send_orders, session))
            match answer:
                case Accepted():
                    if answer.status.handle != order.handle:
                        raise ChannelError("a worker answered for another attempt")
                    session.held_refs.update(sealed.sha256_of)
                    return answer
                case Busy() | Rejected():
                    return answer
                case NeedModule():
                    refusal = await self._upload(session, sealed, order, answer.refs, held, renew)
                    if refusal is not None:
                        return refusal
                    attached = {}
                case None:
                    pass  # its answer had no room: the next message has fewer orders before it
        raise ChannelError("a worker asks for the same blobs again and again")

    async def _send_orders(self, session: Session, parcels: Sequence[Parcel]) -> Sequence[Answer]:
        """Send one message with several orders and return the answers."""
        attached: dict[bytes, bytes] = {}
        for ref, sha256 in {r: sha for p in parcels for r, sha in p.attached.items()}.items():
            attached[ref] = await self._blobs.sealed(session, ref, sha256)
        acks = session.acks()
        message = Submit(
            key=session.blob_key,
            orders=tuple(parcel.order for parcel in parcels),
            attached=attached,
            acks=tuple(map(bytes.fromhex, acks)),
            hold_ms=SUBMIT_HOLD_MS,
        )
        wanted = sum(ANSWER_BYTES + REF_BYTES * parcel.lacking for parcel in parcels)
        reply = await self._ask(session, message, reply_packets=packets_for(wanted))
        if isinstance(reply, Busy | Rejected):
            return [reply] * len(parcels)
        if not isinstance(reply, Answers):
            raise ChannelError(f"a worker answered a submission with {_name(reply)}")
        if not reply.items:
            raise ChannelError("a worker answered a submission with nothing")
        session.told(acks)
        return reply.items

    async def poll(self, session: Session) -> Status:
        """Ask for news of all attempts of a session; tell what is kept here on the way.

        Raises:
            ChannelError: no answer, or none that makes sense.
        """
        acks = session.acks()
        items = tuple(
            PollItem(bytes.fromhex(handle), record.assembler.offset)
            for handle, record in islice(session.followed.items(), MAX_ATTEMPTS)
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

    async def pull(self, session: Session, handle: str, offset: int) -> Status:
        """Ask for one piece of a result.

        Raises:
            ChannelError: no answer, or none that makes sense.
        """
        message = Poll((PollItem(bytes.fromhex(handle), offset),))
        reply = await self._ask(session, message, reply_packets=PULL_PACKETS)
        if not isinstance(reply, Status):
            raise ChannelError(f"a worker answered a poll with {_name(reply)}")
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
        sealed: SealedTask,
        order: Order,
        refs: Sequence[bytes],
        held_before: frozenset[bytes],
        renew: Renewal,
    ) -> Busy | Rejected | None:
        async with session.upload_lock:
            renew()  # others were served first
            if any(ref not in sealed.sha256_of for ref in refs):
                raise ChannelError("a worker asks for a blob that the task does not have")
            # What another attempt of the session has just brought is not sent again.
            going = [ref for ref in refs if ref in held_before or ref not in session.held_refs]
            going.sort(key=lambda ref: ref != sealed.module)  # compiled while the others cross
            sizes = {ref: session.sealed[sealed.sha256_of[ref]][1] for ref in going}
            total = sum(sizes.values())

            def moved(arrived: int) -> None:
                session.sending = Stage(Doing.SENDING, arrived, total)
                renew()

            announced: list[asyncio.Task[None]] = []

            async def send(ref: bytes, on_sent: OnSent) -> Busy | Rejected | None:
                others = total - sizes[ref]
                sha256, beside = sealed.sha256_of[ref], min(others, WINDOW_BYTES)
                refusal = await self._send_blob(session, ref, sha256, on_sent, beside)
                if refusal is None and ref == sealed.module and others >= AHEAD_BYTES:
                    telling = self._announce(session, order, len(going) - 1)
                    announced.append(asyncio.create_task(telling))
                return refusal

            session.sending = Stage(Doing.SENDING, 0, total)
            try:
                return await send_all(sizes, send, moved)
            finally:
                session.sending = None
                for task in announced:
                    task.cancel()
                await asyncio.gather(*announced, return_exceptions=True)

    async def _send_blob(
        self, session: Session, ref: bytes, sha256: str, on_sent: OnSent, beside: int
    ) -> Busy | Rejected | None:
        """Send one blob, with time for ``beside`` bytes of others that share its way."""
        data = await self._blobs.sealed(session, ref, sha256)
        message = Module(ref, data, session_of(session.blob_key))
        reply = await self._ask(session, message, on_sent=on_sent, beside=beside)
        if isinstance(reply, Busy | Rejected):
            return reply
        if not isinstance(reply, Done):
            raise ChannelError(f"a worker answered a blob with {_name(reply)}")
        session.held_refs.add(ref)
        self._blobs.drop(ref)
        return None

    async def _announce(self, session: Session, order: Order, lacking: int) -> None:
        """Let a worker know the order whose module it has now: it may begin to compile it.

        What it answers, the submission that follows will hear too.
        """
        parcel = Parcel(order, {}, lacking, ORDER_BYTES + argv_bytes(order.argv))
        with contextlib.suppress(FogError):
            await self._send_orders(session, [parcel])

    async def _ask(
        self,
        session: Session,
        message: Request,
        *,
        reply_packets: int = 2,
        on_sent: OnSent | None = None,
        beside: int = 0,
    ) -> Reply:
        body = await self._as_member(session, message)
        data = await self._carrier.request_through_circuit(
            await self.circuit(session),
            body,
            session.level,
            to=session.address,
            reply_packets=reply_packets,
            timeout=self._time_for(len(body) + beside),
            on_sent=on_sent,
        )
        self._heard(session.level)
        try:
            return parse_reply(data)
        except WireError as error:
            raise ChannelError(f"a worker's answer cannot be read: {error}") from error

    async def _send(self, session: Session, message: Request) -> None:
        body = await self._as_member(session, message)
        await self._carrier.send_through_circuit(
            await self.circuit(session), body, session.level, to=session.address
        )
        self._heard(session.level)

    async def _as_member(self, session: Session, message: Request) -> bytes:
        """The bytes of a message, with the proof that a member of the session's group wrote it."""
        self._check_owner()
        body = encode(message)
        try:
            seal = self._keys().seal
            if len(body) <= SEALED_AT_ONCE:
                return seal(session.group, session.address, body)
            return await in_thread(seal, session.group, session.address, body)
        except NotAMember as error:
            raise ServiceUnavailable(str(error)) from error  # no fault of the worker

    def _time_for(self, size: int) -> float:
        return self._timeout_s + size / SLOWEST_BYTES_PER_S


def _order(task: Task, attempt: Attempt, sealed: SealedTask) -> Order:
    spec = task.spec
    return Order(
        handle=bytes.fromhex(attempt.handle),
        kind=spec.kind.value,
        module=sealed.module,
        argv=spec.argv,
        stdin=sealed.stdin,
        inputs=sealed.inputs,
        limits=limits_to_wire(spec.limits),
        seed=bytes.fromhex(task.seed),
        blob_bytes=sealed.size,
        env=dict(spec.env),
    )


def _name(reply: Reply) -> str:
    return type(reply).__name__
