"""Files for all, and messages to groups: over links that lose, and from who may not."""

from __future__ import annotations

from random import Random

import msgspec

from fog_compute.p2p.bitchat.mesh.news import (
    FileHeard,
    GroupHeard,
    PartSent,
    SayAll,
    SayGroup,
    Sent,
    SentState,
    ShareFile,
    TextHeard,
)
from fog_compute.p2p.bitchat.wire.announce import Announce, Capability
from fog_compute.p2p.bitchat.wire.files import File
from fog_compute.p2p.bitchat.wire.kinds import Kind
from fog_compute.testing.mesh.air import AirModel
from fog_compute.testing.mesh.meshes import World
from fog_compute.testing.mesh.topologies import chain
from tests.unit.fog_compute.p2p.bitchat.neighbours import NOW, Person, Tried

ANN, EVE = Person(1), Person(2)
FILE = File(b"content" * 20, "note.txt", "text/plain")


def test_file_for_all_arrives_everywhere_whatever_links_lose_in_silence() -> None:
    """INV-BITCHAT-63."""
    world = World(chain(4), 3, model=AirModel(loss=0.05, told=0.0))
    world.run(5.0)
    file = File(Random(1).randbytes(30_000), "photo.jpg", "image/jpeg")
    world.air.give(0, ShareFile("t", file))
    world.run(60.0)
    (sent,) = world.sent(0)
    assert sent.state is SentState.ACCEPTED
    for node in (1, 2, 3):
        (heard,) = (one for _, one in world.news[node] if isinstance(one, FileHeard))
        assert (heard.file, heard.message_id) == (file, sent.message_id)


def test_message_to_a_group_passes_unread_and_is_heard_once() -> None:
    """INV-BITCHAT-63."""
    tried = Tried(1, 2)
    said = EVE.make(Kind.GROUP_MESSAGE, b"sealed", NOW, signed=False)
    heard = tried.get(1, said)
    assert heard == [GroupHeard(b"sealed", said.timestamp)]
    assert tried.get(2, said) == []
    tried.wait(0.3)
    tried.do(SayGroup("t", b"mine"))
    groups = [(link, one.payload) for link, one in tried.take(Kind.GROUP_MESSAGE)]
    assert sorted(groups) == [(1, b"mine"), (2, b"mine")]


def test_file_of_a_stranger_or_with_another_signature_is_refused() -> None:
    tried = Tried(1)
    file = ANN.make(Kind.FILE_TRANSFER, FILE.encode(), NOW, version=2)
    assert tried.get(1, file) == []
    tried.get(1, ANN.announce(NOW))
    forged = msgspec.structs.replace(file, wire=file.wire[:-1] + bytes([file.wire[-1] ^ 1]))
    assert tried.get(1, forged) == []
    broken = ANN.make(Kind.FILE_TRANSFER, b"no file", NOW, version=2)
    empty = EVE.make(Kind.GROUP_MESSAGE, b"", NOW, signed=False)
    assert tried.get(1, broken, empty) == []
    assert tried.dropped() == {"unknown-sender": 1, "signature": 1, "content": 2}
    (heard,) = tried.get(1, file)
    assert isinstance(heard, FileHeard)
    assert heard.file == FILE


def test_large_file_is_given_only_where_everybody_takes_it() -> None:
    tried, large = Tried(1), File(Random(2).randbytes(150_000))
    sent, *parts = tried.do(ShareFile("a", large))
    assert all(isinstance(one, PartSent) for one in parts)
    assert isinstance(sent, Sent)
    assert sent.state is SentState.ACCEPTED
    tried.get(1, ANN.announce(tried.now))  # of a program that says nothing of long sets
    (sent,) = tried.do(ShareFile("b", large))
    assert isinstance(sent, Sent)
    assert (sent.state, sent.reason[:13]) == (SentState.FAILED, "somebody near")
    (sent,) = tried.do(ShareFile("c", File(b"")))
    assert isinstance(sent, Sent)
    assert sent.state is SentState.FAILED
    (sent,) = tried.do(SayGroup("d", b""))
    assert isinstance(sent, Sent)
    assert sent.state is SentState.FAILED


def test_node_says_that_it_takes_long_sets() -> None:
    ((_, announce), *_) = Tried(1).take(Kind.ANNOUNCE)
    can = Announce.decode(announce.payload).capabilities
    assert can is not None
    assert Capability.LONG_SETS in can


def test_text_that_waited_for_a_link_keeps_its_id_and_is_asked_for() -> None:
    """INV-BITCHAT-87."""
    world = World(chain(4), 3)
    world.run(20.0)
    said_ms = int(world.air.now * 1000) - 1_700_000
    world.air.give(0, SayAll("a", "said before", said_ms))
    world.run(90.0)
    (sent,) = world.sent(0)
    assert sent.state is SentState.ACCEPTED
    for node in (1, 2, 3):
        (heard,) = (one for _, one in world.news[node] if isinstance(one, TextHeard))
        assert (heard.message_id, heard.sent_ms) == (sent.message_id, said_ms)


def test_messages_to_groups_that_were_made_up_hide_no_file() -> None:
    """INV-BITCHAT-63."""
    tried = Tried(1)
    tried.get(1, ANN.announce(NOW))
    sharing = tried.mesh._sharing
    for number in range(70_000):  # of two minutes ahead: more than are remembered
        sharing._shown_groups.admit(f"{number}", int(NOW * 1000) + 119_000)
    said = EVE.make(Kind.GROUP_MESSAGE, b"sealed", NOW, signed=False)
    assert tried.get(1, said) == []
    (heard,) = tried.get(1, ANN.make(Kind.FILE_TRANSFER, FILE.encode(), NOW, version=2))
    assert isinstance(heard, FileHeard)
