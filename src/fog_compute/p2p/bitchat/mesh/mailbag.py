"""Couriers in the mesh: envelopes as packets, and whom a node meets.

An envelope goes over the link of whoever it is given to and no further, but for copies to somebody
who was only heard of. That a link took one is known once the link has outlived it for a while; of
one that ended before, the envelope is kept, or given to somebody else.

Source: ``BLEService.swift`` of the app.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import betanet
from fog_compute.p2p.bitchat.events import Link
from fog_compute.p2p.bitchat.mail.carried import Tier
from fog_compute.p2p.bitchat.mail.couriers import CourierLimits, Couriers, MailState
from fog_compute.p2p.bitchat.mail.handovers import Handover, Nearness, OwnName, Purpose
from fog_compute.p2p.bitchat.mesh.guard import Drop
from fog_compute.p2p.bitchat.mesh.news import (
    MailHeard,
    MailKept,
    MailSettled,
    MailTaken,
    PostMail,
    Sent,
    SentState,
)
from fog_compute.p2p.bitchat.mesh.prekeying import Prekeying, knows_prekeys
from fog_compute.p2p.bitchat.mesh.public import Parked
from fog_compute.p2p.bitchat.mesh.station import Station
from fog_compute.p2p.bitchat.wire.announce import peer_id
from fog_compute.p2p.bitchat.wire.courier import CourierEnvelope
from fog_compute.p2p.bitchat.wire.errors import Malformed
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet
from fog_compute.p2p.bitchat.wire.private import inside
from fog_compute.p2p.bitchat.wire.signing import verify

__all__ = ["Mailbag"]

OUTLIVED_S: Final = 10.0
"""An envelope of 16 KiB leaves in some 40 pieces, each sent again twice at most."""


class Mailbag:
    """The mail of a node in its mesh."""

    __slots__ = (
        "_call",
        "_couriers",
        "_dirty",
        "_early",
        "_leaving",
        "_next_ms",
        "_prekeys",
        "_station",
        "_tokens",
    )

    def __init__(
        self,
        station: Station,
        call: Callable[[bytes, float], None],
        *,
        tier: Callable[[bytes], Tier | None],
        limits: CourierLimits | None = None,
        state: MailState | None = None,
    ) -> None:
        """Begin with what was kept.

        Args:
            station: of the node.
            call: asks for a session with a peer id, which proves whose a link is.
            tier: how far the holder of a Noise key is trusted with mail; None is not at all.
            limits: all that can be chosen.
            state: the last that :class:`MailKept` told.
        """
        self._station: Final = station
        self._call: Final = call
        secret = betanet.NoiseSecret(station.owner.noise_secret)
        self._couriers: Final = Couriers(
            secret, tier, limits, state, takes_prekeys=self._takes_prekeys
        )
        self._prekeys: Final = Prekeying(
            station, self._couriers.own_prekeys, self._couriers.peer_prekeys
        )
        self._leaving: list[tuple[float, int, Link]] = []
        self._next_ms = self._couriers.next_expiry_ms
        self._dirty = False
        self._tokens: dict[OwnName, list[str]] = {}
        self._early: Final = Parked(each=8, total=32)

    @property
    def counts(self) -> dict[str, int]:
        """What was done with mail, and why some was refused."""
        carried = self._couriers.carried
        refused = {f"refused_{reason}": n for reason, n in carried.refused.items()}
        return {**self._couriers.counts, **refused, "carried": len(carried)}

    @property
    def next_due(self) -> float | None:
        """When :meth:`due` has something."""
        times = [self._leaving[0][0]] if self._leaving else []
        times += [] if self._next_ms is None else [self._next_ms / 1000]
        times += [] if self._prekeys.next_due is None else [self._prekeys.next_due]
        return min(times, default=None)

    def ask(self, command: PostMail | MailSettled | MailTaken, now: float) -> None:
        """Give a message to couriers, let them have it no more, or open an envelope no more."""
        self._dirty = True
        match command:
            case PostMail():
                self._post(command, now)
            case MailSettled(message_id, noise_key):
                self._couriers.settled(message_id, noise_key)
                self._tokens.pop((message_id, noise_key), None)
            case MailTaken(envelope, noise_key, kept):
                self._couriers.taken(envelope, noise_key, kept=kept)

    def met(self, who: bytes, now: float) -> None:
        """A peer announced itself, or proved a link to be its own."""
        station = self._station
        peer = station.peers.get(who)
        if peer is None:
            return
        for link, packet in self._early.take(who, now):
            late = self.take(packet, link, now) if link in peer.links else Drop.NOT_NEIGHBOUR
            if late is not None:
                station.guard.drop(link, late)
        self._prekeys.met(peer, now)
        if not self._couriers.busy:
            return
        nearness = Nearness.DISTANT
        if station.peers.proved_link(who) is not None:
            nearness = Nearness.PROVED
        elif peer.links:
            nearness = Nearness.LINKED
            if self._couriers.would_give(peer.noise_key, _ms(now)):
                self._call(who, now)
        handovers = self._couriers.met(peer.noise_key, nearness, _ms(now))
        self._dirty = self._dirty or bool(handovers)
        self._hand_over(handovers, now)

    def down(self, link: Link) -> None:
        """A link is over, and what was leaving over it has not left."""
        for _, ticket, over in self._leaving:
            if over == link:
                self._couriers.sent(ticket, ok=False)
                self._dirty = True
        self._leaving = [one for one in self._leaving if one[2] != link]
        self._early.down(link)
        self._prekeys.down(link)

    def take(self, packet: Packet, link: Link, now: float) -> Drop | None:
        """Take an envelope that was given to this node, or prekeys of somebody."""
        if packet.kind == Kind.PREKEY_BUNDLE:
            return self._prekeys.take(packet, link)
        if packet.recipient != self._station.me:
            return Drop.CONTENT
        try:
            envelope = CourierEnvelope.decode(packet.payload)
        except Malformed:
            return Drop.CONTENT
        if self._couriers.is_ours(envelope, _ms(now)):
            return self._open(envelope, link, now)
        peers = self._station.peers
        peer = peers.get(packet.sender)
        if peer is None or link not in peer.links:
            if peers.at(link) is None and self._early.park(packet, link, now):
                # It has overtaken the announce that says whose this link is.
                return Drop.PARKED
            return Drop.NOT_NEIGHBOUR
        if not verify(packet, peer.signing_key):
            return Drop.SIGNATURE
        self._couriers.received(envelope, peer.noise_key, _ms(now))
        self._dirty = True
        return None

    def due(self, now: float) -> None:
        """End what has lasted too long, and tell what is to be kept."""
        while self._leaving and self._leaving[0][0] <= now:
            _, ticket, _ = self._leaving.pop(0)
            self._couriers.sent(ticket, ok=True)
            self._dirty = True
        if self._next_ms is not None and self._next_ms <= _ms(now):
            for name in self._couriers.expire(_ms(now)):
                self._tell(name, SentState.FAILED, "nobody came by who could carry it")
            self._dirty = True
        self._prekeys.due(now)
        if self._dirty or self._prekeys.dirty:
            self._dirty = self._prekeys.dirty = False
            self._next_ms = self._couriers.next_expiry_ms
            self._station.tell(MailKept(self._couriers.state))

    def _post(self, command: PostMail, now: float) -> None:
        station = self._station
        near = [peer.noise_key for peer in station.peers if peer.links and peer.near]
        handovers = self._couriers.post(
            command.message_id, command.noise_key, command.payload, near, _ms(now)
        )
        if handovers is None:
            reason = "couriers take no more of this, or nothing so long"
            station.tell(Sent(command.token, SentState.FAILED, reason=reason))
            return
        if self._hand_over(handovers, now):
            station.tell(Sent(command.token, SentState.ACCEPTED, command.message_id))
        else:
            name = (command.message_id, command.noise_key)
            self._tokens.setdefault(name, []).append(command.token)
            station.tell(Sent(command.token, SentState.QUEUED, command.message_id))

    def _takes_prekeys(self, noise_key: bytes) -> bool:
        peer = self._station.peers.get(peer_id(noise_key))
        return peer is None or knows_prekeys(peer)

    def _open(self, envelope: CourierEnvelope, link: Link, now: float) -> Drop | None:
        before, fair = self._couriers.own_prekeys.made_ms, self._fair
        opened = self._couriers.received(envelope, None, _ms(now))
        if self._fair == fair:
            # Its copies are no second try: it counts as seen, and the link pays once.
            self._station.guard.drop(link, Drop.NOT_OPENED)
        if self._couriers.own_prekeys.made_ms != before:
            self._prekeys.used(now)
        if opened is not None:
            try:
                kind, body = inside(opened.payload)
            except Malformed:
                return Drop.CONTENT
            self._station.tell(MailHeard(opened.sender, kind, body, opened.name))
        return None

    @property
    def _fair(self) -> int:
        """How much mail for this node was what it had to be, if perhaps late or come before."""
        counts = self._couriers.counts
        return counts["opened"] + counts["opened_before"] + counts["expired"]

    def _hand_over(self, handovers: Sequence[Handover], now: float) -> int:
        """Send envelopes; how many of them left."""
        return sum(self._send(handover, now) for handover in handovers)

    def _send(self, handover: Handover, now: float) -> bool:
        station, to = self._station, peer_id(handover.to)
        made = station.make(Kind.COURIER_ENVELOPE, handover.envelope.encode(), now, to=to)
        if handover.purpose is Purpose.SEND:
            station.send_to(made, now)
            self._couriers.sent(handover.ticket, ok=True)
            return True
        link = station.peers.proved_link(to)
        if link is None:
            link = min(station.peers.links_to(to), default=None)
        if link is None or not station.outbound.hand(made, link):
            self._couriers.sent(handover.ticket, ok=False)
            return False
        self._leaving.append((now + OUTLIVED_S, handover.ticket, link))
        if handover.own is not None:
            self._tell(handover.own, SentState.ACCEPTED)
        return True

    def _tell(self, name: OwnName, state: SentState, reason: str = "") -> None:
        """Tell what became of a message that waited for couriers."""
        for token in self._tokens.pop(name, []):
            self._station.tell(Sent(token, state, name[0], reason))


def _ms(now: float) -> int:
    return math.floor(now * 1000)
