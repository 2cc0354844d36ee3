"""The bridge's engine: who is let in, what crosses, and what bounds there are."""

from __future__ import annotations

from random import Random

import pytest

from fog_compute.p2p.bitchat.events import (
    FrameReceived,
    FrameSent,
    LinkDown,
    LinkUp,
    SendFrame,
    Wake,
)
from fog_compute.p2p.bitchat.wire.kinds import BROADCAST, Kind
from fog_compute.p2p.bitchat.wire.packet import packet
from fog_compute.p2p.mobile.bridging import (
    BridgeAction,
    BridgeEvent,
    BridgePolicy,
    Bridging,
    Came,
    Part,
    Partners,
    Post,
    Posted,
)
from fog_compute.p2p.mobile.bundles import Bundle, Saying
from fog_compute.p2p.mobile.ferry import FerryPolicy

NOW = 1_800_000_000.0
HERE, THERE, ELSEWHERE = (bytes([number]) * 8 for number in (1, 2, 3))


class Bridge:
    """An engine and what it did."""

    def __init__(self, policy: BridgePolicy | None = None) -> None:
        self.engine = Bridging(Random(1), policy)
        self.now = NOW
        self.done: list[BridgeAction] = []

    def do(self, event: BridgeEvent) -> list[BridgeAction]:
        actions = self.engine.handle(event, self.now)
        self.done += actions
        return actions

    def hears(self, saying: Saying, *packets: bytes, partner: str = "ada") -> list[BridgeAction]:
        return self.do(Came(partner, Bundle(saying, packets).encode()))

    def join(self) -> int:
        self.do(Partners(frozenset({"ada"})))
        self.hears(Saying.HEARD)
        (up,) = (one for one in self.done if isinstance(one, LinkUp))
        self.post()
        return up.link

    def post(self, ok: bool = True) -> list[bytes]:
        """Let all that is to be posted be posted; the packets in it."""
        packets: list[bytes] = []
        while posts := [one for one in self.done if isinstance(one, Post)]:
            self.done.clear()
            for one in posts:
                packets += Bundle.decode(one.body).packets
                self.do(Posted(one.number, ok))
            if not ok:
                break
        return packets

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.do(Wake())


def said(
    text: bytes = b"x",
    kind: Kind = Kind.MESSAGE,
    to: bytes | None = None,
    age: float = 0.0,
    sender: bytes = HERE,
    at: float = NOW,
) -> bytes:
    return packet(kind, sender, int((at - age) * 1000), text, recipient=to).wire


def test_a_link_comes_up_only_where_both_sides_want_it() -> None:
    bridge = Bridge()
    bridge.hears(Saying.HEARD)
    assert bridge.engine.counts == {"refused_unlisted": 1}
    assert bridge.done == []

    (hello, *_) = bridge.do(Partners(frozenset({"ada"})))
    assert isinstance(hello, Post)
    assert Bundle.decode(hello.body) == Bundle(Saying.HELLO)
    bridge.do(Posted(hello.number, ok=True))
    answers = bridge.hears(Saying.HELLO)
    (answer,) = (one for one in answers if isinstance(one, Post))
    assert Bundle.decode(answer.body) == Bundle(Saying.HEARD)
    assert not bridge.engine.joined  # she may not have heard that

    bridge.hears(Saying.HEARD)
    assert bridge.engine.joined == {"ada"}
    bridge.do(Partners(frozenset()))
    assert not bridge.engine.joined
    (bye, down, *_) = bridge.done[-2:]
    assert isinstance(bye, Post)
    assert Bundle.decode(bye.body) == Bundle(Saying.BYE)
    assert isinstance(down, LinkDown)


def test_a_hello_is_answered_only_so_often() -> None:
    bridge = Bridge()
    bridge.join()
    bridge.done.clear()

    for _ in range(50):
        bridge.hears(Saying.HELLO)
        bridge.post()
        bridge.now += 0.05

    assert sum(isinstance(one, Post) for one in bridge.done) <= 2


def test_a_partner_that_is_silent_or_goes_is_no_neighbour_any_more() -> None:
    bridge = Bridge()
    link = bridge.join()
    for _ in range(12):
        bridge.wait(10)
        bridge.post()
    assert not bridge.engine.joined
    bridge.hears(Saying.PACKETS, said(at=bridge.now))
    assert bridge.engine.joined == {"ada"}
    bridge.hears(Saying.BYE)
    assert not bridge.engine.joined
    assert bridge.engine.counts["silent"] == 1
    (ended,) = {one.link for one in bridge.done if isinstance(one, LinkDown)} - {link}
    assert ended > link


def test_inv_p2p_33_what_is_for_all_crosses_and_what_is_for_one_if_that_one_is_there() -> None:
    """INV-P2P-33."""
    bridge = Bridge()
    link = bridge.join()
    bridge.hears(Saying.PACKETS, said(b"", Kind.ANNOUNCE, sender=THERE))
    frames = [
        said(b"to all"),
        said(b"to all, too", to=BROADCAST),
        said(b"sealed", Kind.NOISE_ENCRYPTED, to=THERE),
        said(b"sealed", Kind.NOISE_ENCRYPTED, to=ELSEWHERE),
        said(b"live", Kind.VOICE_FRAME),
        said(Random(1).randbytes(5000), Kind.COURIER_ENVELOPE, to=THERE),
        said(b"long ago", age=111),
    ]
    for token, frame in enumerate(frames):
        bridge.do(SendFrame(link, frame, token))
    bridge.wait(1)

    assert bridge.post() == frames[:3]
    told = {"kept_not-there": 1, "kept_kind": 1, "kept_long": 1, "kept_old": 1, "went": 3}
    assert told.items() <= bridge.engine.counts.items()


def test_what_comes_is_judged_by_the_same_rules() -> None:
    bridge = Bridge()
    link = bridge.join()

    bridge.hears(
        Saying.PACKETS,
        said(b"live", Kind.VOICE_FRAME),
        b"no packet",
        said(b"long ago", age=111),
        said(b"now"),
    )

    frames = [one for one in bridge.done if isinstance(one, FrameReceived)]
    assert frames == [FrameReceived(link, said(b"now"))]
    told = {"refused_kind": 1, "refused_malformed": 1, "refused_old": 1, "came": 1}
    assert told.items() <= bridge.engine.counts.items()
    bridge.do(Came("ada", b"\x01\x09"))
    assert bridge.engine.counts["refused_malformed"] == 2


def test_the_same_announce_crosses_now_and_then() -> None:
    bridge = Bridge()
    link = bridge.join()
    went = 0
    for second in range(60):
        bridge.do(SendFrame(link, said(b"it is me", Kind.ANNOUNCE, at=bridge.now), second))
        bridge.wait(1)
        bridge.hears(Saying.HEARD)
        went += len(bridge.post())
    assert went == 3


def test_inv_p2p_34_nothing_waits_longer_than_it_is_worth_and_a_full_queue_says_so() -> None:
    """INV-P2P-34."""
    policy = BridgePolicy(ferry=FerryPolicy(waiting=2_000, hold_s=40))
    bridge = Bridge(policy)
    link = bridge.join()
    for token in range(30):
        bridge.do(SendFrame(link, said(b"%d" % token), token))
    bridge.wait(1)
    told = [one.ok for one in bridge.done if isinstance(one, FrameSent)]
    assert told.count(True) > 0
    assert told.count(False) > 0
    assert len(bridge.post(ok=False)) == told.count(True)
    for _ in range(5):
        bridge.wait(10)
        bridge.post(ok=False)
        bridge.hears(Saying.HEARD)
    bridge.wait(60)

    assert bridge.post() == []
    assert bridge.engine.counts["expired"] == told.count(True)


def test_inv_p2p_36_pieces_of_files_leave_room_for_what_people_say() -> None:
    """INV-P2P-36."""
    policy = BridgePolicy(ferry=FerryPolicy(waiting=8_000, rate=1_000, burst=2_000))
    bridge = Bridge(policy)
    link = bridge.join()
    for token in range(40):
        bridge.do(SendFrame(link, said(b"%d" % token * 200, Kind.FRAGMENT), token))
    bridge.do(SendFrame(link, said(b"a word"), 99))
    assert FrameSent(link, 99, ok=True) in bridge.done
    assert bridge.engine.counts["full"] > 0

    bridge.wait(0.1)
    first = bridge.post()

    assert first[0] == said(b"a word")
    assert sum(map(len, first)) <= 2_000


@pytest.mark.parametrize("size", [1, 150])
def test_a_partner_that_floods_is_let_in_as_far_as_its_share_goes(size: int) -> None:
    bridge = Bridge(BridgePolicy(incoming=(100.0, 3_000.0)))
    bridge.join()

    for number in range(200):
        bridge.hears(Saying.PACKETS, said(b"%d" % number * size))

    came = bridge.engine.counts["came"]
    assert 0 < came < 40
    assert bridge.engine.counts["refused_too_many"] == 200 - came
    bridge.now += 60
    bridge.hears(Saying.PACKETS, said(b"later", at=bridge.now))
    assert bridge.engine.counts["came"] == came + 1


def test_a_partner_that_the_mesh_wants_no_more_is_left_alone_whatever_it_says() -> None:
    bridge = Bridge()
    link = bridge.join()
    bridge.do(Part(link, 60.0))
    bridge.post(ok=False)

    for _ in range(5):
        bridge.wait(10)
        bridge.hears(Saying.PACKETS, said(at=bridge.now))
        assert bridge.post() == []
        assert not [one for one in bridge.done if isinstance(one, Post)]
    assert not bridge.engine.joined
    assert bridge.engine.counts["refused_shunned"] == 5

    bridge.wait(20)
    assert [one for one in bridge.done if isinstance(one, Post)]
    bridge.hears(Saying.HEARD)
    assert bridge.engine.joined == {"ada"}
