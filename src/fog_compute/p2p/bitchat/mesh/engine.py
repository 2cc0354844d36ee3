"""The mesh engine: one node of the Bluetooth mesh, without radio, socket, clock or task.

``Mesh.handle`` takes what happened, and gives what is to be done: frames to send, a moment to be
woken at, news for the application. The simulation, the virtual radio of the tests and a real one
drive this same code. It is put together of parts that each know one thing; here is only the way of
a packet through them, and when which of them has something to do.

A packet is read, its time is looked at, and whether it came before; then the part for its kind
takes it or says why not. Only what was taken is remembered, kept and passed on, so that a forgery
never stands in the way of the real one.

``now`` is in seconds since 1970 by a clock that never jumps within a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final, TypeAlias

from fog_compute.p2p.bitchat.events import (
    Disconnect,
    FrameReceived,
    FrameSent,
    Link,
    LinkDown,
    LinkEvent,
    LinkUp,
    Wake,
    WakeAt,
)
from fog_compute.p2p.bitchat.mail.carried import Tier
from fog_compute.p2p.bitchat.mail.couriers import CourierLimits, MailState
from fog_compute.p2p.bitchat.managed_flood import FloodPolicy
from fog_compute.p2p.bitchat.mesh.announcing import Announcing
from fog_compute.p2p.bitchat.mesh.frames import FramesPolicy
from fog_compute.p2p.bitchat.mesh.gossip import Gossip, GossipPolicy, as_flooded
from fog_compute.p2p.bitchat.mesh.guard import Drop, Guard, GuardPolicy
from fog_compute.p2p.bitchat.mesh.kept import SAID
from fog_compute.p2p.bitchat.mesh.mailbag import Mailbag
from fog_compute.p2p.bitchat.mesh.news import (
    Command,
    Leave,
    MailSettled,
    MailTaken,
    PostMail,
    Rename,
    SayAll,
    SayGroup,
    SayTo,
    ShareFile,
    Trace,
)
from fog_compute.p2p.bitchat.mesh.outbound import Outbound, flood_key
from fog_compute.p2p.bitchat.mesh.peers import PeersPolicy, PeerTable
from fog_compute.p2p.bitchat.mesh.piecing import Piecing
from fog_compute.p2p.bitchat.mesh.public import PublicTalk
from fog_compute.p2p.bitchat.mesh.sealed import SealedTalk
from fog_compute.p2p.bitchat.mesh.seen import Seen, SeenPolicy
from fog_compute.p2p.bitchat.mesh.sharing import Sharing
from fog_compute.p2p.bitchat.mesh.station import FRESH_S, MeshAction, Owner, Part, Station
from fog_compute.p2p.bitchat.mesh.syncing import Syncing
from fog_compute.p2p.bitchat.mesh.tracing import Tracing
from fog_compute.p2p.bitchat.sessions.noise_states import SessionLimits
from fog_compute.p2p.bitchat.wire.announce import Capability
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.fragments import FRAME_BYTES
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import MAX_TTL, Packet, decode
from fog_compute.p2p.bitchat.wire.signing import as_signed

__all__ = ["Mesh", "MeshEvent", "MeshPolicy"]

MeshEvent: TypeAlias = LinkEvent | Command

NOTHING_MORE: Final = Capability(0)

DIRECTED_ONLY: Final = frozenset({Kind.NOISE_HANDSHAKE, Kind.NOISE_ENCRYPTED, Kind.PING, Kind.PONG})
"""Kinds that mean nothing without a recipient."""


SESSION: Final = frozenset({Kind.NOISE_HANDSHAKE, Kind.NOISE_ENCRYPTED})
"""Kinds by which a node may learn whose a link is."""


@dataclass(frozen=True, slots=True)
class MeshPolicy:
    """All that can be chosen, by part."""

    flood: FloodPolicy = field(default_factory=FloodPolicy)
    frames: FramesPolicy = field(default_factory=FramesPolicy)
    guard: GuardPolicy = field(default_factory=GuardPolicy)
    seen: SeenPolicy = field(default_factory=SeenPolicy)
    peers: PeersPolicy = field(default_factory=PeersPolicy)
    gossip: GossipPolicy = field(default_factory=GossipPolicy)
    sessions: SessionLimits = field(default_factory=SessionLimits)
    couriers: CourierLimits = field(default_factory=CourierLimits)


class Mesh:
    """One node.

    ``pinned`` gives the signing key that a peer id is known to have, if any: what was seen first,
    or proved by a handshake, in earlier runs. ``tier`` says how far the holder of a Noise key is
    trusted with mail, ``mail`` is what was carried in earlier runs.
    """

    __slots__ = (
        "_announcing",
        "_duplicates",
        "_mailbag",
        "_parts",
        "_parts_due",
        "_piecing",
        "_public",
        "_sealed",
        "_seen",
        "_sharing",
        "_station",
        "_syncing",
        "_touched",
        "_tracing",
        "_wake",
    )

    def __init__(
        self,
        owner: Owner,
        nickname: str,
        rng: Random,
        *,
        policy: MeshPolicy | None = None,
        capabilities: Capability = NOTHING_MORE,
        pinned: Callable[[bytes], bytes | None] | None = None,
        tier: Callable[[bytes], Tier | None] = lambda _noise_key: Tier.PEER,
        mail: MailState | None = None,
    ) -> None:
        policy = policy or MeshPolicy()
        self._station: Final = Station(
            owner,
            nickname,
            capabilities | Capability.LONG_SETS | Capability.PREKEYS,
            rng,
            Outbound(policy.flood, policy.frames, rng),
            PeerTable(policy.peers, pinned),
            Guard(policy.guard),
            Gossip(policy.gossip, rng),
        )
        self._seen: Final = Seen(policy.seen)
        self._announcing: Final = Announcing(self._station, policy.peers)
        self._public: Final = PublicTalk(self._station)
        self._syncing: Final = Syncing(self._station)
        self._tracing: Final = Tracing(self._station)
        self._sealed: Final = SealedTalk(
            self._station, policy.sessions, favoured=lambda key: tier(key) is Tier.FRIEND
        )
        self._mailbag: Final = Mailbag(
            self._station, self._sealed.call, tier=tier, limits=policy.couriers, state=mail
        )
        self._sharing: Final = Sharing(self._station)
        self._piecing: Final = Piecing(self._station, self._packet)
        self._parts: Final[Mapping[int, Part]] = {
            Kind.FRAGMENT: self._piecing,
            Kind.ANNOUNCE: self._announcing,
            Kind.LEAVE: self._announcing,
            Kind.MESSAGE: self._public,
            Kind.COURIER_ENVELOPE: self._mailbag,
            Kind.PREKEY_BUNDLE: self._mailbag,
            Kind.REQUEST_SYNC: self._syncing,
            Kind.FILE_TRANSFER: self._sharing,
            Kind.GROUP_MESSAGE: self._sharing,
            Kind.NOISE_HANDSHAKE: self._sealed,
            Kind.NOISE_ENCRYPTED: self._sealed,
            Kind.PING: self._tracing,
            Kind.PONG: self._tracing,
        }
        self._wake: float | None = None
        self._touched = True
        self._parts_due = 0.0
        self._duplicates = 0

    @property
    def peer_id(self) -> bytes:
        """The node's own name in the mesh, 8 bytes."""
        return self._station.me

    @property
    def peers(self) -> PeerTable:
        """Who is near, to be read."""
        return self._station.peers

    @property
    def counts(self) -> dict[str, int]:
        """Counters: packets refused, by reason; duplicates; frames; what is kept."""
        station = self._station
        dropped = {f"dropped_{reason.value}": n for reason, n in station.guard.drops.items()}
        return {
            **dropped,
            **{f"malformed_{reason.value}": n for reason, n in station.guard.malformed.items()},
            **{f"session_{reason}": n for reason, n in self._sealed.refused.items()},
            **{f"mail_{what}": n for what, n in self._mailbag.counts.items()},
            **station.outbound.counts,
            "duplicates": self._duplicates,
            "forgotten_young": self._seen.forgotten_young,
            "kept": len(station.gossip),
            "kept_bytes": station.gossip.size,
            "sync_refused": station.gossip.refused,
            "sync_shown": station.gossip.shown,
        }

    def handle(self, event: MeshEvent, now: float) -> list[MeshAction]:
        """What is to be done after an event.

        Args:
            event: what happened, or what the application wants.
            now: seconds since 1970.
        """
        match event:
            case FrameReceived(link, data):
                self._frame(link, data, now)
            case FrameSent(link, token, ok):
                self._station.outbound.answered(link, token, ok, now)
            case LinkUp(link, mtu, _):
                self._touched = True
                self._up(link, mtu, now)
            case LinkDown(link):
                self._touched = True
                self._down(link)
            case Wake():
                self._wake = None
            case _:
                self._touched = True
                self._command(event, now)
        return self._turn(now)

    def _command(self, command: Command, now: float) -> None:
        """Let the part do it that knows how."""
        match command:
            case SayAll():
                self._public.say(command, now)
            case ShareFile():
                self._sharing.share(command, now)
            case SayGroup():
                self._sharing.say_group(command, now)
            case SayTo():
                self._sealed.say(command, now)
            case PostMail() | MailSettled() | MailTaken():
                self._mailbag.ask(command, now)
            case Trace():
                self._tracing.ask(command, now)
            case Rename(nickname):
                self._station.nickname = nickname
                self._announcing.soon(now)
            case Leave():
                self._announcing.leave(now)

    def _turn(self, now: float) -> list[MeshAction]:
        """Let all do what is due, and ask to be woken for what comes next."""
        station = self._station
        if self._touched or self._parts_due <= now:
            self._parts_turn(now)
        station.actions += station.outbound.due(now)
        leaves = station.outbound.next_due
        wake = self._parts_due if leaves is None else min(leaves, self._parts_due)
        if wake != self._wake:
            self._wake = wake
            station.tell(WakeAt(wake))
        actions, station.actions = station.actions, []
        return actions

    def _parts_turn(self, now: float) -> None:
        """Let the parts do what is due.

        Three of four events are frames that left and copies of what is known. Nothing becomes due
        by them but what leaves, so the parts are not asked then.
        """
        self._touched = False
        self._announcing.due(now)
        self._syncing.due(now)
        self._piecing.due(now)
        self._sealed.due(now)
        self._mailbag.due(now)
        times = (
            self._station.gossip.next_due,
            self._announcing.next_due,
            self._piecing.next_due,
            self._sealed.next_due,
            self._mailbag.next_due,
        )
        self._parts_due = min(at for at in times if at is not None)

    def _up(self, link: Link, mtu: int, now: float) -> None:
        station = self._station
        station.guard.up(link, now)
        station.outbound.up(link, mtu)
        station.gossip.up(link, now)
        self._announcing.up(link, now)

    def _down(self, link: Link) -> None:
        station = self._station
        station.guard.down(link)
        station.outbound.down(link)
        station.gossip.down(link)
        station.peers.link_down(link)
        self._public.parked.down(link)
        self._tracing.down(link)
        self._announcing.down(link)
        self._mailbag.down(link)

    def _frame(self, link: Link, data: bytes, now: float) -> None:
        guard = self._station.guard
        if not guard.admits(link, len(data), now):
            return
        try:
            packet = decode(data)
        except Malformed as malformed:
            guard.drop(link, Drop.MALFORMED)
            guard.malformed[malformed.reason] += 1
            if guard.ends(link):
                self._station.tell(Disconnect(link, "it sends what are no packets"))
            return
        guard.unpacked(link, packet)
        self._packet(packet, link, now)

    def _packet(self, packet: Packet, link: Link, now: float) -> None:
        """Take a packet in, or count why not."""
        station = self._station
        key = flood_key(packet)
        if packet.sender == station.me or key in self._seen:
            self._again(key, packet, link, now)
            return
        self._touched = True
        drop = self._unfit(packet, link, now)
        if drop is None:
            part = self._parts.get(packet.kind)
            concerned = not packet.directed or packet.recipient == station.me
            if part is not None and concerned:
                drop = part.take(packet, link, now)
        if drop is not None:
            station.guard.drop(link, drop)
            if drop is Drop.TIME and packet.kind == Kind.ANNOUNCE:
                self._announcing.off_time(packet, link, now)
            return
        self._seen.add(key, now)
        self._pass_on(key, packet, link, now)
        proof = packet.kind in SESSION and packet.recipient == station.me
        if packet.kind == Kind.ANNOUNCE or proof:
            self._mailbag.met(packet.sender, now)
        if packet.kind == Kind.ANNOUNCE:
            for by, waiting in self._public.parked.take(packet.sender, now):
                self._packet(waiting, by, now)

    def _again(self, key: bytes, packet: Packet, link: Link, now: float) -> None:
        """A copy of what was taken before, or a packet of this node's own that came back."""
        station = self._station
        if packet.sender == station.me and key not in station.outbound:
            # Either it is from before a restart, or somebody uses this node's name.
            station.guard.drop(link, Drop.OWN_NAME)
            return
        self._duplicates += 1
        if packet.kind == Kind.ANNOUNCE and packet.sender != station.me:
            self._announcing.again(packet, link, now)
        station.gossip.arrived(key, link)
        if not packet.sync_answer:
            station.outbound.heard_again(key, packet, link, now)

    def _unfit(self, packet: Packet, link: Link, now: float) -> Drop | None:
        """Why a packet is refused whatever is in it."""
        station = self._station
        if packet.sync_answer and not station.gossip.asked(link, now):
            return Drop.UNASKED
        if not station.guard.timely(packet, now):
            return Drop.TIME
        if packet.kind in DIRECTED_ONLY and not packet.directed:
            return Drop.CONTENT
        return None

    def _pass_on(self, key: bytes, packet: Packet, link: Link, now: float) -> None:
        """Keep what is for all, and let go on what is not for this node alone."""
        station = self._station
        peer = station.peers.get(packet.sender)
        if peer is not None and packet.compressed:
            # A neighbour may have compressed it anew; others know the signed form alone.
            packet = as_signed(packet, peer.signing_key) or packet
        if not packet.directed:
            station.gossip.keep(packet, now, link)
            if packet.sync_answer:
                station.gossip.brought(link)
            if packet.ttl != 1:  # it goes on from here
                station.doubt(key, packet, now, link)
        if packet.kind == Kind.REQUEST_SYNC or packet.recipient == station.me:
            return
        if packet.sync_answer:
            old = now - packet.timestamp / 1000 > FRESH_S
            if old or packet.kind not in SAID or len(packet.wire) > FRAME_BYTES:
                return
            packet = as_flooded(packet, MAX_TTL - 1)
        station.outbound.heard(key, packet, link, now)
        if packet.directed:
            way = station.way_of(packet)
            if way:
                station.outbound.steer(key, way)
