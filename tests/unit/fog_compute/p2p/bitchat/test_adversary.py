"""A node that means harm, among others that talk: what it does is bounded, and costs them nothing.

Three honest nodes stand in a row; the hostile one has a link to the middle one, and to one end. All
runs through whole engines in the simulated air (INV-BITCHAT-85).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

import msgspec
import pytest

from fog_compute.p2p.bitchat.events import FrameReceived, Link, LinkDown, LinkUp, SendFrame
from fog_compute.p2p.bitchat.mesh.engine import MeshPolicy
from fog_compute.p2p.bitchat.mesh.guard import GuardPolicy
from fog_compute.p2p.bitchat.mesh.news import PeerAway, PeerNear, TextHeard
from fog_compute.p2p.bitchat.mesh.peers import PeersPolicy
from fog_compute.p2p.bitchat.wire.announce import Announce, peer_id
from fog_compute.p2p.bitchat.wire.courier import CourierEnvelope
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import FLAGS_AT, TTL_AT, Packet, decode, packet
from fog_compute.p2p.bitchat.wire.signing import sign
from fog_compute.p2p.core.identity import Identity
from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.topologies import Topology

ADA, BOB, CAT, EVE = range(4)
ROW = frozenset({(ADA, BOB), (BOB, CAT), (BOB, EVE), (CAT, EVE)})


@dataclass(frozen=True)
class Send:
    """Frames that the hostile node sends over all of its links."""

    frames: Sequence[bytes]


class Hostile:
    """A node that keeps no rule.

    Attributes:
        heard: all frames that came.
        links: those that it has.
        copies: makes of a frame that came what goes out at once, over every link.
    """

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.links: set[Link] = set()
        self.lost = 0
        self.copies: Callable[[bytes], list[bytes]] = lambda _frame: []

    def handle(self, event: object, now: float) -> Sequence[object]:
        frames: Iterable[bytes] = ()
        match event:
            case LinkUp(link):
                self.links.add(link)
            case LinkDown(link):
                self.links.discard(link)
                self.lost += 1
            case FrameReceived(_, data):
                self.heard.append(data)
                frames = self.copies(data)
            case Send(given):
                frames = given
        return [SendFrame(link, data, 0) for data in frames for link in sorted(self.links)]


class Scene(World):
    """The row, with the hostile node in place of an engine."""

    def __init__(self, seed: int = 1, policy: MeshPolicy | None = None) -> None:
        places = tuple((float(number), 0.0) for number in range(4))
        super().__init__(Topology("row", places, frozenset()), seed, policy=policy)
        self.eve = Hostile()
        self.air.replace(EVE, self.eve)
        self.key = Identity(Random(seed + 99).randbytes(32))
        self.air.lay(ROW)
        self.run(20)

    @property
    def now_ms(self) -> int:
        return int(self.air.now * 1000)

    def attack(self, frames: Sequence[bytes]) -> None:
        self.air.give(EVE, Send(frames))

    def signed(self, kind: Kind, payload: bytes, key: Identity | None = None, **more: int) -> bytes:
        key = key or self.key
        made = packet(kind, peer_id(key.noise_public), more.get("at", self.now_ms), payload)
        return sign(made, key).wire

    def announce(self, key: Identity | None = None, name: str = "eve", at: int = 0) -> bytes:
        key = key or self.key
        said = Announce(name, key.noise_public, key.signing_public)
        return self.signed(Kind.ANNOUNCE, said.encode(), key, at=at or self.now_ms)

    def talk_on(self, rounds: Sequence[Sequence[bytes]]) -> None:
        """Let Ada and Cat talk, and the hostile node attack before each thing that is said."""
        said: dict[int, list[str]] = {ADA: [], CAT: []}
        for number, frames in enumerate(rounds):
            self.attack(frames)
            for node, texts in said.items():
                texts.append(f"{number} from {node}")
                self.say(node, texts[-1])
            self.run(1)
        self.run(15)
        for node, other in ((ADA, CAT), (CAT, ADA)):
            heard = [text for text in self.texts(node) if text in said[other]]
            assert sorted(heard) == sorted(said[other])
        assert set(said[ADA]) | set(said[CAT]) <= set(self.texts(BOB))

    def count(self, node: int, name: str) -> int:
        return self.meshes[node].counts.get(name, 0)


def test_garbage_costs_the_link_and_nobody_else() -> None:
    scene, rng = Scene(), Random(1)
    garbage = [rng.randbytes(rng.randrange(1, 500)) for _ in range(400)]

    scene.talk_on([garbage[:5], garbage[5:], garbage, garbage])

    assert scene.eve.lost >= 1
    assert scene.count(BOB, "dropped_malformed") > 0


@pytest.mark.parametrize("where", ["payload", "signature", "time", "ttl"])
def test_a_relay_that_spoils_all_that_it_passes_on_keeps_nothing_back(where: str) -> None:
    scene, rng = Scene(), Random(2)

    def spoiled(frame: bytes) -> list[bytes]:
        made: list[bytes] = []
        for _ in range(3):
            data = bytearray(frame)
            at = {
                "payload": rng.randrange(22, len(data)),
                "signature": len(data) - 1 - rng.randrange(64),
                "time": rng.randrange(3, 11),
                "ttl": TTL_AT,
            }[where]
            data[at] ^= 1 << rng.randrange(8)
            made.append(bytes(data))
        return [*made, frame]

    scene.eve.copies = spoiled

    scene.talk_on([()] * 12)

    assert len(scene.eve.heard) > 20


def test_a_flood_of_fragments_fills_a_bound_and_leaves_room_for_what_is_said() -> None:
    scene = Scene(policy=MeshPolicy(guard=GuardPolicy(frames=300.0, frames_s=100.0)))
    rng = Random(3)

    def pieces(number: int) -> list[bytes]:
        made: list[bytes] = []
        for piece in range(number):
            head = rng.randbytes(8) + (piece % 7).to_bytes(2) + (256).to_bytes(2)
            payload = head + bytes((Kind.MESSAGE,)) + rng.randbytes(400)
            at = scene.now_ms + piece % 90
            made.append(packet(Kind.FRAGMENT, rng.randbytes(8), at, payload).wire)
        return made

    scene.talk_on([pieces(400), pieces(200), pieces(200)])

    for node in (BOB, CAT):
        kept = scene.meshes[node].counts
        assert kept["kept"] <= 3_000
        assert kept["dropped_too-many"] > 0


def test_bombs_are_not_unpacked_and_cost_the_link() -> None:
    scene = Scene()
    packed = zlib.compress(bytes(1 << 20), 9, wbits=-15)
    bombs: list[bytes] = []
    for claim in (60_000, 0xFFFF):
        head = packet(Kind.MESSAGE, bytes(8), scene.now_ms, b"").wire
        length = (len(packed) + 2).to_bytes(2)
        flags = bytes((head[FLAGS_AT] | 0x04,))
        bombs.append(head[:FLAGS_AT] + flags + length + head[14:22] + claim.to_bytes(2) + packed)

    scene.talk_on([bombs * 10] * 4)

    assert scene.eve.lost >= 1
    assert scene.count(BOB, "malformed_compression") > 0


def test_what_unpacks_to_much_costs_its_link_what_it_becomes() -> None:
    scene = Scene()
    file = packet(Kind.FILE_TRANSFER, b"12345678", scene.now_ms, bytes(1 << 20), version=2)
    assert len(file.wire) < 2_000

    scene.talk_on([[file.wire] * 20] * 5)

    assert scene.count(BOB, "dropped_too-many") > 20


def test_announces_that_are_forged_repeated_or_from_another_time_change_nobody() -> None:
    scene = Scene()
    announces = [frame for frame in scene.eve.heard if decode(frame).kind == Kind.ANNOUNCE]
    assert announces
    ada = scene.meshes[ADA].peer_id
    forged: list[bytes] = []
    for frame in announces:
        was = decode(frame)
        told = msgspec.structs.replace(
            Announce.decode(was.payload), signing_key=scene.key.signing_public
        )
        fake = packet(Kind.ANNOUNCE, was.sender, scene.now_ms, told.encode())
        forged.append(sign(fake, scene.key).wire)
        forged.append(was.with_ttl(7).wire)
    forged += [
        scene.announce(at=scene.now_ms + 600_000),
        scene.announce(at=scene.now_ms - 3_600_000),
        packet(Kind.LEAVE, ada, scene.now_ms, b"").wire,
        sign(packet(Kind.LEAVE, ada, scene.now_ms, b""), scene.key).wire,
    ]
    before = {peer.peer_id: peer.signing_key for peer in scene.meshes[CAT].peers}

    scene.talk_on([forged] * 6)

    after = {peer.peer_id: peer.signing_key for peer in scene.meshes[CAT].peers}
    assert after == before
    away = [one for _, one in scene.news[CAT] if isinstance(one, PeerAway)]
    assert away == []
    names = {one.announce.nickname for _, one in scene.news[CAT] if isinstance(one, PeerNear)}
    assert names == {"node 0", "node 1"}


def test_a_crowd_of_invented_peers_pushes_nobody_out_who_talks() -> None:
    scene = Scene(policy=MeshPolicy(peers=PeersPolicy(most=60)))
    rng = Random(4)
    crowd = [Identity(rng.randbytes(32)) for _ in range(240)]

    def said(part: Sequence[Identity]) -> list[bytes]:
        return [scene.announce(one, "crowd") for one in part]

    scene.attack(said(crowd[:40]))
    scene.run(2)
    scene.talk_on([said(crowd[40 * turn : 40 * turn + 40]) for turn in range(1, 6)])

    assert len(scene.meshes[CAT].peers) == 60
    assert len(scene.meshes[BOB].peers) == 60


def test_spam_for_couriers_is_bounded_for_its_depositor() -> None:
    scene, rng = Scene(), Random(5)
    scene.attack([scene.announce()])
    scene.run(2)
    mail = [
        scene.signed(
            Kind.COURIER_ENVELOPE,
            CourierEnvelope(
                rng.randbytes(16), scene.now_ms + 3_600_000, rng.randbytes(200), 4
            ).encode(),
        )
        for _ in range(300)
    ]
    directed: list[bytes] = []
    for wire in mail:
        was: Packet = decode(wire)
        for node in (BOB, CAT):
            made = packet(
                Kind.COURIER_ENVELOPE,
                was.sender,
                scene.now_ms,
                was.payload,
                recipient=scene.meshes[node].peer_id,
            )
            directed.append(sign(made, scene.key).wire)

    scene.talk_on([mail[:150], mail[150:], directed[:300], directed[300:]])

    for node in (ADA, BOB, CAT):
        assert scene.count(node, "mail_carried") <= 2


def test_messages_that_collide_in_all_but_their_sender_are_shown_each_once() -> None:
    scene = Scene()
    scene.attack([scene.announce()])
    scene.run(2)
    scene.say(ADA, "the same")
    scene.run(2)
    theirs = [decode(frame) for frame in scene.eve.heard if decode(frame).payload == b"the same"]
    assert theirs
    taken = theirs[0]
    mine = packet(Kind.MESSAGE, peer_id(scene.key.noise_public), taken.timestamp, b"the same")
    as_ada = packet(Kind.MESSAGE, taken.sender, taken.timestamp, b"the other")
    spaces = packet(Kind.MESSAGE, mine.sender, taken.timestamp, b"the same ")

    scene.attack([sign(one, scene.key).wire for one in (mine, as_ada, spaces)] * 3)
    scene.run(5)

    heard = [one for _, one in scene.news[CAT] if isinstance(one, TextHeard)]
    assert [one.text for one in heard] == ["the same", "the same"]
    assert len({one.message_id for one in heard}) == 2
    assert scene.count(CAT, "dropped_signature") > 0


@pytest.mark.parametrize("skew_s", [-100.0, 100.0])
def test_a_node_whose_clock_is_wrong_by_less_than_two_minutes_is_heard(skew_s: float) -> None:
    places = tuple((float(number), 0.0) for number in range(3))
    row = Topology("row", places, frozenset({(0, 1), (1, 2)}))
    world = World(row, 6, skew_s={0: skew_s})
    world.run(30)

    for number in range(6):
        world.say(0, f"late {number}")
        world.say(2, f"right {number}")
        world.run(2)
    world.run(15)

    assert sorted(world.texts(2)) == [f"late {number}" for number in range(6)]
    assert sorted(world.texts(0)) == [f"right {number}" for number in range(6)]
