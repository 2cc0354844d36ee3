"""What engines say to each other alone: sessions over a mesh, with loss, forgeries and silence."""

from __future__ import annotations

from random import Random

from fog_compute.p2p.bitchat.events import FrameReceived, Link
from fog_compute.p2p.bitchat.mesh.news import (
    HeardPrivately,
    KeysProved,
    SayTo,
    Sent,
    SentState,
    SessionReady,
    TextHeard,
)
from fog_compute.p2p.bitchat.wire.announce import Announce
from fog_compute.p2p.bitchat.wire.files import File
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.p2p.bitchat.wire.packet import packet
from fog_compute.p2p.bitchat.wire.private import PrivateKind, PrivateMessage, within
from fog_compute.p2p.bitchat.wire.signing import sign
from fog_compute.testing.mesh.air import AirModel
from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.topologies import chain
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW, Person, Tried

TEXT = within(PrivateKind.MESSAGE, PrivateMessage("id", "just for you").encode())


def ready(nodes: int, loss: float = 0.0) -> World:
    world = World(chain(nodes), 2, model=AirModel(loss=loss))
    world.run(5.0)
    return world


def say(world: World, by: int, to: int, payload: bytes, token: str = "t") -> None:
    world.air.give(by, SayTo(token, world.meshes[to].peer_id, payload))


def heard(world: World, node: int) -> list[tuple[int, bytes]]:
    news = (one for _, one in world.news[node])
    return [(one.kind, one.body) for one in news if isinstance(one, HeardPrivately)]


def test_private_message_reaches_a_peer_five_links_away_and_nobody_else() -> None:
    """INV-BITCHAT-59."""
    world = ready(6, loss=0.05)
    say(world, 0, 5, TEXT)
    world.run(8.0)
    assert heard(world, 5) == [(PrivateKind.MESSAGE, TEXT[1:])]
    assert [one.state for one in world.sent(0)] == [SentState.QUEUED, SentState.ACCEPTED]
    assert all(heard(world, node) == [] for node in range(5))
    say(world, 5, 0, TEXT)
    world.run(2.0)
    assert heard(world, 0) == [(PrivateKind.MESSAGE, TEXT[1:])]
    # The session was there: nothing waited.
    assert [one.state for one in world.sent(5)] == [SentState.ACCEPTED]


def test_both_sides_of_a_session_prove_their_signing_keys() -> None:
    """INV-BITCHAT-60."""
    world = ready(2)
    say(world, 0, 1, TEXT)
    world.run(2.0)
    for node in (0, 1):
        news = [one for _, one in world.news[node]]
        (proved,) = (one for one in news if isinstance(one, KeysProved))
        (session,) = (one for one in news if isinstance(one, SessionReady))
        other = world.meshes[1 - node]
        assert proved.peer_id == session.peer_id == other.peer_id
        peer = world.meshes[node].peers.get(other.peer_id)
        assert peer is not None
        assert proved.signing_key == peer.signing_key


def test_key_that_a_session_proved_replaces_one_that_an_announce_claimed() -> None:
    """INV-BITCHAT-60: anybody can announce somebody's Noise key with a signing key of his own."""
    world, eve = ready(2), Person(9)
    victim = world.meshes[1]
    peer = world.meshes[0].peers.get(victim.peer_id)
    assert peer is not None
    true_key = peer.signing_key
    peer.signing_key, peer.stamp = eve.keys.signing_public, -1
    world.say(1, "not believed")
    world.run(1.0)
    assert world.texts(0) == []
    say(world, 0, 1, TEXT)
    world.run(2.0)
    assert peer.signing_key == true_key
    world.say(1, "believed")
    world.run(1.0)
    assert "believed" in world.texts(0)
    payload = Announce("eve", peer.noise_key, eve.keys.signing_public).encode()
    stamp = int((world.air.now + 1) * 1000)
    forged = sign(packet(Kind.ANNOUNCE, victim.peer_id, stamp, payload), eve.keys)
    world.air.give(0, FrameReceived(world.air.link(0, 1), forged.on_air))
    assert world.meshes[0].counts["dropped_key-changed"] > 0


def test_file_arrives_whole_over_several_links_that_lose_frames() -> None:
    """INV-BITCHAT-61."""
    world = ready(3, loss=0.03)
    content = Random(4).randbytes(90_000)
    say(world, 0, 2, within(PrivateKind.FILE, File(content, "a.bin").encode()))
    world.run(20.0)
    ((kind, body),) = heard(world, 2)
    assert kind == PrivateKind.FILE
    assert File.decode(body) == File(content, "a.bin")


def test_text_passes_a_file_that_is_under_way() -> None:
    """INV-BITCHAT-61."""
    world = ready(2)
    say(world, 0, 1, TEXT)
    world.run(2.0)
    say(world, 0, 1, within(PrivateKind.FILE, File(bytes(Random(1).randbytes(200_000))).encode()))
    world.run(0.5)
    world.say(0, "quick")
    world.run(0.5)
    assert world.texts(1) == ["quick"]
    assert [kind for kind, _ in heard(world, 1)] == [PrivateKind.MESSAGE]
    world.run(20.0)
    assert [kind for kind, _ in heard(world, 1)][-1] == PrivateKind.FILE


def test_what_cannot_be_said_to_a_peer_is_said_so() -> None:
    alone = Tried()
    assert alone.do(SayTo("a", b"somebody", TEXT)) == [
        Sent("a", SentState.FAILED, reason="nobody is near")
    ]
    silent = Tried(1)
    assert silent.do(SayTo("b", b"somebody", TEXT)) == [Sent("b", SentState.QUEUED)]
    silent.wait(90.0)
    (failed,) = [one for one in silent.news if isinstance(one, Sent)][1:]
    assert (failed.token, failed.state) == ("b", SentState.FAILED)
    assert failed.reason == "the peer does not answer"


def test_peer_that_does_not_answer_over_its_link_is_asked_for_everywhere() -> None:
    """INV-BITCHAT-58: somebody may claim a link to a peer by repeating its announce."""
    ann, tried = Person(1), Tried(1, 2)
    tried.get(2, ann.announce(NOW))
    tried.take()
    tried.do(SayTo("t", ann.peer_id, TEXT))

    def called() -> list[Link]:
        return sorted(link for link, one in tried.take() if one.kind == Kind.NOISE_HANDSHAKE)

    assert called() == [2]
    tried.wait(11.0)
    assert called() == [1, 2]


def test_what_no_session_opens_is_counted_once_and_not_passed_on() -> None:
    tried, eve = Tried(1, 2), Person(9)
    tried.get(1, eve.announce(NOW))
    for kind, payload in ((Kind.NOISE_ENCRYPTED, b"x" * 40), (Kind.NOISE_HANDSHAKE, b"y" * 7)):
        made = eve.make(kind, payload, NOW, recipient=tried.mesh.peer_id, signed=False)
        tried.get(1, made)
        tried.get(2, made)
    tried.wait(0.3)
    assert tried.dropped() == {"not-opened": 2}
    kinds = {one.kind for _, one in tried.take() if one.sender == eve.peer_id}
    assert kinds == {Kind.ANNOUNCE}


def test_unknown_things_inside_a_session_are_handed_on_and_empty_ones_refused() -> None:
    world = ready(2)
    say(world, 0, 1, b"\xf7new", "a")
    say(world, 0, 1, b"", "b")
    say(world, 0, 1, within(PrivateKind.PEER_STATE, b"\x09"), "c")
    world.run(2.0)
    assert heard(world, 1) == [(0xF7, b"new")]
    assert world.meshes[1].counts["dropped_content"] == 2
    assert not [one for _, one in world.news[0] if isinstance(one, TextHeard)]


def test_file_of_more_pieces_than_a_program_takes_is_not_sent_to_it() -> None:
    """INV-BITCHAT-21."""
    tried, ann = Tried(1), Person(1)
    tried.get(1, ann.announce(NOW))
    tried.take()
    fits, more = 256 * 467 - 256, 256 * 467 - 255
    (sent,) = tried.do(SayTo("t", ann.peer_id, bytes(more)))
    assert isinstance(sent, Sent)
    assert (sent.state, str(fits) in sent.reason) == (SentState.FAILED, True)
    assert tried.take(Kind.NOISE_HANDSHAKE) == []
    (sent,) = tried.do(SayTo("t", ann.peer_id, bytes(fits)))
    assert isinstance(sent, Sent)
    assert sent.state is SentState.QUEUED


def test_nobody_is_called_who_was_never_announced() -> None:
    eve, tried = Person(9), Tried(1)
    frame = eve.make(
        Kind.NOISE_ENCRYPTED, bytes(40), NOW, signed=False, recipient=tried.mesh.peer_id
    )
    tried.get(1, frame)
    assert tried.mesh.counts["dropped_unknown-sender"] == 1
    tried.get(1, eve.announce(tried.now), frame)
    tried.wait(0.5)
    calls = [one for _, one in tried.sent if one.kind == Kind.NOISE_HANDSHAKE]
    assert [one.recipient for one in calls] == [eve.peer_id]
