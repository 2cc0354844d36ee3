"""What is kept for others, how much of it, and how nodes find out what one of them lacks."""

from __future__ import annotations

from random import Random

from fog_compute.p2p.bitchat.events import FrameSent
from fog_compute.p2p.bitchat.mesh.doubts import DoubtPolicy, Doubts
from fog_compute.p2p.bitchat.mesh.engine import MeshPolicy
from fog_compute.p2p.bitchat.mesh.gossip import GossipPolicy
from fog_compute.p2p.bitchat.mesh.kept import KeptPolicy, Store
from fog_compute.p2p.bitchat.wire.announce import Announce, Capability
from fog_compute.p2p.bitchat.wire.gcs import build
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import Packet, packet
from fog_compute.p2p.bitchat.wire.sync import SyncRequest, packet_id
from fog_compute.testing.mesh.air import Air
from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.topologies import chain
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW, Person, Tried

ANN, BEN, EVE = Person(1), Person(2), Person(3)
SAID = frozenset({Kind.MESSAGE, Kind.GROUP_MESSAGE})


def sealed(size: int, number: int, at: float = NOW) -> Packet:
    """A message to some group: anybody can make one."""
    rng = Random(number)
    return packet(
        Kind.GROUP_MESSAGE, rng.randbytes(8), int(at * 1000) + number, rng.randbytes(size)
    )


def test_what_is_kept_is_bounded_in_bytes_and_the_link_that_brought_most_pays() -> None:
    # INV-BITCHAT-90
    store = Store(KeptPolicy(packets=500, size=300_000))
    for number in range(20):
        store.keep(sealed(1_000, number), NOW, 1)

    for number in range(100, 200):
        store.keep(sealed(60_000, number), NOW, 2)

    kept = list(store.fresh(SAID, NOW))
    assert store.size <= 300_000
    assert sum(one.source == 1 for one in kept) == 20
    assert sum(one.source == 2 for one in kept) == 4
    assert [one.packet.timestamp for one in kept[20:]] == [
        int(NOW * 1000) + number for number in range(196, 200)
    ]


def test_one_packet_is_kept_however_long_it_is() -> None:
    # INV-BITCHAT-90
    store = Store(KeptPolicy(packets=5, size=100))
    store.keep(sealed(50, 1), NOW, 1)

    store.keep(sealed(4_000, 2), NOW, 2)

    assert len(store) == 1


def test_a_flood_of_long_messages_to_groups_crowds_out_nothing_of_others() -> None:
    # INV-BITCHAT-90
    policy = MeshPolicy(gossip=GossipPolicy(kept=KeptPolicy(packets=300, size=100_000)))
    tried = Tried(1, 2, policy=policy)
    first = sealed(200, 1)
    tried.get(1, first)
    for number in range(2, 14):
        tried.get(2, sealed(30_000, number, tried.now))
        tried.wait(0.2)

    given = asked(tried, 2)

    assert tried.mesh.counts["kept_bytes"] <= 100_000 + len(ANN.announce(NOW).wire)
    assert first.payload in [one.payload for one in given]
    assert max(len(one.payload) for one in given) < 512  # long ones go in pieces
    assert tried.mesh.counts["kept"] == 1 + 3 + 1  # of each, and the node's own announce


def asked(tried: Tried, link: int, kinds: frozenset[Kind] = SAID) -> list[Packet]:
    """What a neighbour gets that asks and has nothing."""
    tried.take()
    request = SyncRequest(build([])[0], kinds)
    tried.get(link, EVE.make(Kind.REQUEST_SYNC, request.encode(), tried.now, ttl=0))
    tried.wait(2.0)
    return [one for to, one in tried.take() if to == link and one.sync_answer]


def ours(person: Person, at: float) -> Packet:
    """An announce of a program of our sort."""
    keys = person.keys
    announce = Announce(
        "ann", keys.noise_public, keys.signing_public, capabilities=Capability.LONG_SETS
    )
    return person.make(Kind.ANNOUNCE, announce.encode(), at)


def shown(tried: Tried, link: int) -> list[SyncRequest]:
    """Short questions that a neighbour was asked; they have no name on them and no signature."""
    questions = [one for to, one in tried.take(Kind.REQUEST_SYNC) if to == link]
    short = [one for one in questions if SyncRequest.decode(one.payload).kinds == SAID]
    assert all(one.signature is None and not one.directed and one.ttl == 0 for one in short)
    return [SyncRequest.decode(one.payload) for one in short]


def among_ours(*links: int) -> Tried:
    """An engine whose neighbours are of our sort, Ann on the first link and Ben on the second."""
    tried = Tried(*links)
    for link, person in zip(links, (ANN, BEN), strict=False):
        tried.get(link, ours(person, tried.now))
    tried.wait(1.0)
    tried.take()
    return tried


def test_neighbour_that_gives_no_sign_is_shown_twice_what_was_said_and_no_more() -> None:
    # INV-BITCHAT-91
    tried = among_ours(1, 2)
    said = ANN.text("hello", tried.now)
    tried.get(1, said)

    tried.wait(0.45)
    assert not any(one.kind == Kind.REQUEST_SYNC for _, one in tried.sent)
    tried.wait(4.0)

    first, second = shown(tried, 2)
    assert packet_id(said) in first.has.members()
    assert first.since_ms == said.timestamp
    assert packet_id(said) in second.has.members()
    assert shown(tried, 1) == []


def test_neighbour_whose_copy_came_or_whose_set_has_it_is_not_shown_it() -> None:
    # INV-BITCHAT-91
    for sign in ("copy", "set"):
        tried = among_ours(1, 2)
        said = ANN.text("hello", tried.now)
        tried.get(1, said)
        if sign == "copy":
            tried.get(2, said.with_ttl(3))
        else:
            request = SyncRequest(build([packet_id(said)])[0], SAID, said.timestamp)
            tried.get(2, BEN.make(Kind.REQUEST_SYNC, request.encode(), tried.now, ttl=0))
        tried.take()
        tried.wait(4.0)
        assert shown(tried, 2) == []


def test_app_and_whoever_was_not_announced_are_shown_nothing() -> None:
    # INV-BITCHAT-91
    tried = Tried(1, 2, 3)
    tried.get(1, ours(ANN, tried.now))
    tried.get(2, BEN.announce(tried.now))
    tried.wait(1.0)
    tried.take()
    tried.get(1, ANN.text("hello", tried.now))
    tried.wait(4.0)
    sent = list(tried.sent)
    assert shown(tried, 2) == []
    tried.sent = sent
    assert shown(tried, 3) == []


def test_whoever_is_shown_what_it_lacks_asks_back_for_it_from_then_on() -> None:
    # INV-BITCHAT-91
    tried = among_ours(1, 2)
    lacking = EVE.text("lost", tried.now - 100)
    request = SyncRequest(build([packet_id(lacking)])[0], SAID, lacking.timestamp)
    made = BEN.make(Kind.REQUEST_SYNC, request.encode(), tried.now, ttl=0, signed=False)

    tried.get(2, made)
    tried.wait(0.4)

    (back,) = shown(tried, 2)
    assert back.since_ms == lacking.timestamp
    assert packet_id(lacking) not in back.has.members()


def test_whoever_got_meanwhile_what_it_lacked_does_not_ask_back() -> None:
    # INV-BITCHAT-91
    tried = among_ours(1, 2)
    said = ANN.text("on its way", tried.now)
    request = SyncRequest(build([packet_id(said)])[0], SAID, said.timestamp)
    tried.get(2, BEN.make(Kind.REQUEST_SYNC, request.encode(), tried.now, ttl=0, signed=False))
    tried.get(1, said)

    tried.wait(0.4)

    assert shown(tried, 2) == []


def test_what_came_just_now_is_not_given_to_who_asks_shortly() -> None:
    # INV-BITCHAT-91: it is on its way there.
    tried = among_ours(1, 2)
    said = ANN.text("hello", tried.now)
    tried.get(1, said)
    request = SyncRequest(build([])[0], SAID, said.timestamp)

    def given() -> list[Packet]:
        tried.take()
        tried.get(2, BEN.make(Kind.REQUEST_SYNC, request.encode(), tried.now, ttl=0))
        tried.wait(0.1)
        return [one for _, one in tried.take(Kind.MESSAGE) if one.sync_answer]

    assert given() == []
    tried.wait(0.3)
    assert [one.payload for one in given()] == [b"hello"]


def test_neighbour_that_shows_again_and_again_what_nobody_has_is_asked_back_ever_more_rarely() -> (
    None
):
    # INV-BITCHAT-91
    tried = among_ours(1, 2)
    rng, backs = Random(5), 0
    for _ in range(60):
        request = SyncRequest(build([rng.randbytes(16)])[0], SAID, int(tried.now * 1000) - 5_000)
        tried.get(2, BEN.make(Kind.REQUEST_SYNC, request.encode(), tried.now, ttl=0, signed=False))
        tried.wait(0.5)
        backs += len(shown(tried, 2))

    assert 4 <= backs <= 8


def test_short_questions_have_an_allowance_of_their_own() -> None:
    # INV-BITCHAT-56
    tried = among_ours(1, 2)
    for number in range(100):
        request = SyncRequest(build([])[0], SAID, int(tried.now * 1000) - number)
        tried.get(2, BEN.make(Kind.REQUEST_SYNC, request.encode(), tried.now, ttl=0, signed=False))
    assert tried.mesh.counts["sync_refused"] == 10
    assert asked(tried, 2, frozenset({Kind.ANNOUNCE}))


def test_nobody_is_asked_more_often_than_the_app_answers() -> None:
    # INV-BITCHAT-56: eight times in half a minute, whatever happens.
    tried = Tried(1)
    tried.get(1, ANN.announce(tried.now))
    times: list[float] = []
    for number in range(200):
        # Somebody unknown speaks, so that the neighbour is asked soon.
        tried.get(1, Person(10 + number % 200).text("who am I?", tried.now))
        tried.wait(0.5)
        times += [tried.now] * len(tried.take(Kind.REQUEST_SYNC))
    assert len(times) > 20
    assert all(sum(at <= other < at + 29.5 for other in times) <= 8 for at in times)


def test_doubts_of_a_link_are_bounded_and_end_with_it() -> None:
    doubts = Doubts(DoubtPolicy(first_s=1.0, again_s=2.0, shown=3, most=4))
    for number in range(9):
        doubts.given([1, 2], bytes([number]), number, NOW)
    doubts.down(2)

    assert doubts.next_due == NOW + 1.0
    assert doubts.due(NOW + 0.5) == []
    for key in range(5):
        doubts.arrived(1, bytes([key]))  # forgotten before
    doubts.has(1, build([])[0].members())
    assert [doubts.due(NOW + at) for at in (1.0, 2.9, 3.0, 5.0, 7.0)] == [[1], [], [1], [1], []]
    assert doubts.next_due is None


def test_message_whose_last_frame_was_lost_comes_within_seconds_though_nobody_says_more() -> None:
    # INV-BITCHAT-91
    world = World(chain(3), 1)
    world.run(40.0)
    lost: list[int] = []
    send = Air._send

    class Lossy(Air):
        """Loses the first copy of each message on its last link, and says that it left."""

        def _send(self, node: int, link: int, data: bytes, token: int) -> None:
            last = (node, self._ends[self._ends[link].other].node) == (1, 2)
            if last and data[1] == Kind.MESSAGE and not lost:
                lost.append(len(data))
                self._push(self.now, node, FrameSent(link, token, True))
                return
            send(self, node, link, data, token)

    world.air.__class__ = Lossy
    world.say(0, "hello")
    world.run(1.2)

    assert lost
    assert world.texts(2) == ["hello"]


def test_prekeys_of_people_whom_one_never_met_come_by_asking_and_only_once() -> None:
    # INV-BITCHAT-95
    world = World(chain(4), 1)
    world.run(200.0)
    first, last = world.meshes[0], world.meshes[3]
    owners = {one.bundle.noise_key for one in last._mailbag._couriers.peer_prekeys.items}
    assert first._station.owner.noise_public in owners
    assert len(owners) == 3

    sizes = world.air.bytes.copy()
    world.run(120.0)

    carried = world.air.bytes - sizes
    assert carried[Kind.FRAGMENT] + carried[Kind.PREKEY_BUNDLE] == 0


def test_prekeys_are_given_to_an_app_that_asks_and_the_newest_count() -> None:
    # INV-BITCHAT-95
    store = Store(KeptPolicy(bundles=3))
    bundles = [
        packet(Kind.PREKEY_BUNDLE, bytes([owner]) * 8, int(NOW * 1000) + at, bytes([at]))
        for owner, at in ((1, 5), (1, 9), (1, 7), (2, 1), (3, 1), (4, 1))
    ]
    for number, one in enumerate(bundles):
        store.keep(one, NOW, number)

    kept = {one.packet.sender[0]: one.packet.timestamp for one in store.fresh({0x24}, NOW)}
    assert len(kept) == 3
    assert kept.get(1, int(NOW * 1000) + 9) == int(NOW * 1000) + 9
    assert list(store.fresh({0x24}, NOW + 86_401)) == []
