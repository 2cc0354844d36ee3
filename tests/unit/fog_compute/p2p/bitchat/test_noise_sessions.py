"""Sessions with peers: who calls, who is refused, what waits; on a clock that the test moves."""

from __future__ import annotations

import itertools

import pytest

import betanet
from fog_compute.p2p.bitchat.sessions.noise_sessions import NoiseSessions
from fog_compute.p2p.bitchat.sessions.noise_states import (
    Allowance,
    PrivatePacket,
    SessionLimits,
    SessionState,
    Step,
    after,
)
from fog_compute.p2p.bitchat.wire.announce import peer_id
from tests.unit.fog_compute.p2p.bitchat.noise_air import HIGH, IDS, LOW, SECRETS, Air


def first_message() -> bytes:
    return betanet.NoiseSession.initiator(betanet.NoiseSecret.generate()).write_handshake()


def states(air: Air) -> tuple[SessionState, SessionState]:
    return air.nodes[LOW].state(HIGH), air.nodes[HIGH].state(LOW)


def opened(limits: SessionLimits | None = None) -> Air:
    """Two nodes that said one thing to each other, long enough ago."""
    air = Air(limits)
    air.send(LOW, HIGH, b"hello")
    air.run(5)
    assert states(air) == (SessionState.OPEN, SessionState.OPEN)
    return air


def test_every_step_has_one_state_and_a_session_is_lost_by_closing_alone() -> None:
    having = {SessionState.OPEN, SessionState.RENEWING, SessionState.REPLACING}
    for state, step in itertools.product(SessionState, Step):
        then = after(state, step)
        if then is None:
            continue
        assert then in having or state not in having or step is Step.CLOSE, (state, step)
        assert then.is_calling == (step is Step.CALL)
        assert then.is_answering == (step is Step.ANSWER)
    assert after(SessionState.IDLE, Step.FINISH) is None
    assert after(SessionState.OPEN, Step.LAPSE) is None


def test_what_waits_is_sent_in_its_order_once_the_session_is_open() -> None:
    air = Air()
    for number in range(5):
        air.send(LOW, HIGH, bytes([number]), number)
    air.run(1)
    assert sorted(air.texts(HIGH)) == [bytes([number]) for number in range(5)]
    assert [one.token for _, one in air.packets if not one.handshake] == [0, 1, 2, 3, 4]
    assert [len(one.payload) for _, one in air.packets if one.handshake] == [32, 96, 64]
    (there,) = air.opened[HIGH]
    assert (there.noise_key, there.again) == (SECRETS[0].public, False)
    assert air.received[HIGH][0].noise_key == SECRETS[0].public
    hashes = (air.nodes[LOW].handshake_hash(HIGH), air.nodes[HIGH].handshake_hash(LOW))
    assert hashes[0] == hashes[1] is not None
    air.send(HIGH, LOW, b"back")
    air.run(1)
    assert air.texts(LOW) == [b"back"]


@pytest.mark.parametrize("order", [(LOW, HIGH), (HIGH, LOW)])
def test_where_two_call_at_once_the_lower_id_stays_the_caller(order: tuple[bytes, bytes]) -> None:
    """INV-BITCHAT-35."""
    air = Air()
    for node in order:
        air.send(node, LOW if node == HIGH else HIGH, b"from " + node)
    air.run(1)
    assert states(air) == (SessionState.OPEN, SessionState.OPEN)
    assert (air.texts(LOW), air.texts(HIGH)) == ([b"from " + HIGH], [b"from " + LOW])
    assert [node for node, one in air.packets if len(one.payload) == 64] == [LOW]
    assert air.nodes[LOW].refused["crossed"] + air.nodes[LOW].refused["too_soon"] == 1


def test_late_first_message_of_a_crossing_does_not_disturb_the_session() -> None:
    air = Air()
    late = air.nodes[HIGH].call(LOW, air.now)
    air.send(LOW, HIGH, b"one")
    air.run(0.5)
    assert isinstance(late[0], PrivatePacket)
    air.hand(LOW, HIGH, late[0].payload, handshake=True)
    assert states(air) == (SessionState.OPEN, SessionState.OPEN)
    assert air.nodes[LOW].refused == {"too_soon": 1}


def test_unanswered_calls_are_repeated_and_then_what_waits_comes_back() -> None:
    air = Air(loss=1.0)
    air.send(LOW, HIGH, b"lost", 7)
    air.run(29)
    assert len(air.packets) == 3
    assert air.not_sent[LOW] == []
    air.run(2)
    assert [(one.token, one.reason) for one in air.not_sent[LOW]] == [(7, "no_answer")]
    assert air.nodes[LOW].state(HIGH) is SessionState.IDLE
    assert air.nodes[LOW].next_wake is None


def test_answer_without_a_third_message_lapses() -> None:
    air = Air()
    air.hand(HIGH, LOW, first_message(), handshake=True)
    assert air.nodes[HIGH].state(LOW) is SessionState.ANSWERING
    air.run(19)
    assert air.nodes[HIGH].state(LOW) is SessionState.ANSWERING
    air.run(2)
    assert air.nodes[HIGH].state(LOW) is SessionState.IDLE


def test_session_with_another_key_than_the_peers_is_refused_and_nothing_is_sent() -> None:
    """INV-BITCHAT-36."""
    air = Air()
    air.send(LOW, HIGH, b"secret", 3)
    imposter = betanet.NoiseSession.responder(SECRETS[2])
    imposter.read_handshake(air.packets[0][1].payload)
    air.hand(LOW, HIGH, imposter.write_handshake(), handshake=True)
    assert air.nodes[LOW].refused == {"not_its_key": 1}
    # It asks once more instead; the message waits on, and the imposter gets no third message.
    assert [len(one.payload) for _, one in air.packets] == [32, 32]
    air.run(1)
    assert air.texts(HIGH) == [b"secret"]

    caller = betanet.NoiseSession.initiator(SECRETS[2])
    air.hand(HIGH, IDS[3], caller.write_handshake(), handshake=True)
    caller.read_handshake(air.packets[-1][1].payload)
    air.hand(HIGH, IDS[3], caller.write_handshake(), handshake=True)
    assert air.nodes[HIGH].state(IDS[3]) is SessionState.IDLE
    assert air.nodes[HIGH].refused["not_its_key"] == 1


def test_key_that_is_known_otherwise_is_refused_although_its_hash_fits() -> None:
    other = bytes(32)
    here = NoiseSessions(SECRETS[0], known_key=lambda _: other)
    there = NoiseSessions(SECRETS[1])
    (first,) = here.call(HIGH, 1.0)
    assert isinstance(first, PrivatePacket)
    (second,) = there.handshake(LOW, first.payload, 1.0)
    assert isinstance(second, PrivatePacket)
    assert here.handshake(HIGH, second.payload, 1.0) == []
    assert here.refused == {"not_its_key": 1}


def test_garbage_costs_nobody_a_handshake() -> None:
    air = Air()
    air.send(LOW, HIGH, b"text")
    air.hand(LOW, HIGH, bytes(96), handshake=True)
    air.hand(LOW, HIGH, bytes(64), handshake=True)
    air.hand(LOW, HIGH, bytes(33), handshake=True)
    air.hand(HIGH, LOW, bytes(32), handshake=True)
    assert air.nodes[LOW].refused == {"weak_key": 1, "out_of_turn": 1, "wrong_length": 1}
    assert air.nodes[HIGH].refused == {"weak_key": 1}
    air.run(1)
    assert air.texts(HIGH) == [b"text"]


def test_first_message_is_bounded_for_each_peer_and_for_all() -> None:
    """INV-BITCHAT-37."""
    air = Air(SessionLimits(per_peer=4, in_all=7))
    for _ in range(6):
        air.hand(HIGH, LOW, first_message(), handshake=True)
    for number in range(6):
        air.hand(HIGH, bytes([number]) * 8, first_message(), handshake=True)
    assert len(air.packets) == 7
    assert air.nodes[HIGH].refused == {"too_many": 5}
    # What others spend is not taken from our own calls.
    air.packets.clear()
    air.send(HIGH, IDS[2], b"text")
    assert len(air.packets) == 1


def test_link_that_makes_up_peers_leaves_handshakes_to_the_others() -> None:
    """INV-BITCHAT-37."""
    sessions = NoiseSessions(SECRETS[1], SessionLimits(per_link=3, in_all=5))
    answers = [
        len(sessions.handshake(bytes([number]) * 8, first_message(), 1.0, number // 10))
        for number in (0, 1, 2, 3, 4, 10, 11, 12)
    ]
    assert answers == [1, 1, 1, 0, 0, 1, 1, 0]
    assert sessions.refused == {"too_many": 3}


def test_link_that_uses_a_peers_name_leaves_that_peer_its_handshakes() -> None:
    """INV-BITCHAT-37."""
    sessions = NoiseSessions(SECRETS[1], SessionLimits(per_peer=2, per_link=5, in_all=9))
    forged = [len(sessions.handshake(LOW, first_message(), 1.0, link=3)) for _ in range(4)]
    assert forged == [1, 1, 0, 0]
    assert len(sessions.handshake(LOW, first_message(), 1.0, link=4)) == 1


def test_allowance_is_for_any_minute() -> None:
    allowance = Allowance(2, 3)
    assert [allowance.take(b"a", at) for at in (0, 1, 2)] == [True, True, False]
    assert [allowance.take(b"b", at) for at in (3, 4)] == [True, False]
    assert [allowance.take(b"a", at) for at in (60, 60.5, 61)] == [True, False, True]


def test_peer_that_lost_its_session_gets_another_and_messages_wait_for_it() -> None:
    air = opened()
    air.restart(HIGH)
    air.send(HIGH, LOW, b"again")
    air.run(0.02)
    while air.nodes[LOW].state(HIGH) is not SessionState.REPLACING:
        air.run(0.01)
    air.send(LOW, HIGH, b"for the new one")
    air.run(1)
    assert (air.texts(LOW)[-1:], air.texts(HIGH)[-1:]) == ([b"again"], [b"for the new one"])
    assert air.opened[LOW][-1].again
    assert not air.opened[HIGH][-1].again


def test_frame_that_the_peer_cannot_read_brings_a_new_session() -> None:
    air = opened()
    air.restart(HIGH)
    air.send(LOW, HIGH, b"nobody reads this")
    air.run(1)
    assert states(air) == (SessionState.OPEN, SessionState.OPEN)
    air.send(LOW, HIGH, b"this they do")
    air.run(1)
    assert air.texts(HIGH)[-1] == b"this they do"


def test_forged_first_message_takes_no_session_away() -> None:
    """INV-BITCHAT-38."""
    air = opened()
    air.hand(LOW, HIGH, first_message(), handshake=True)
    air.send(LOW, HIGH, b"waits")
    air.send(HIGH, LOW, b"is read")
    air.run(1)
    assert air.texts(LOW) == [b"is read"]
    assert air.texts(HIGH) == [b"hello"]
    air.hand(LOW, HIGH, first_message(), handshake=True)
    air.run(21)
    assert air.texts(HIGH) == [b"hello", b"waits"]
    # After that, others are not listened to for a while.
    air.run(30)
    air.hand(LOW, HIGH, first_message(), handshake=True)
    assert air.nodes[LOW].refused == {"too_soon": 1}
    assert states(air) == (SessionState.OPEN, SessionState.OPEN)


def test_session_is_renewed_by_age_and_by_number_and_goes_on_meanwhile() -> None:
    air = opened(SessionLimits(renew_frames=5, renew_s=100.0))
    for number in range(20):
        air.send(LOW, HIGH, bytes([number]), number)
        air.run(0.004)
    air.run(2)
    assert sorted(air.texts(HIGH)[1:]) == [bytes([number]) for number in range(20)]
    assert len(air.opened[HIGH]) > 2
    assert all(one.again for one in air.opened[HIGH][1:])
    count = len(air.opened[HIGH])
    air.run(101)
    air.send(HIGH, LOW, b"old")
    air.run(1)
    assert len(air.opened[HIGH]) == count + 1
    assert air.texts(LOW) == [b"old"]


def test_session_that_cannot_be_renewed_ends_with_its_life() -> None:
    air = opened(SessionLimits(life_s=50.0))
    air.run(60)
    assert states(air) == (SessionState.IDLE, SessionState.IDLE)


def test_frame_that_overtakes_the_third_message_is_kept_for_it() -> None:
    air = Air()
    here, there = air.nodes[LOW], air.nodes[HIGH]
    (first,) = here.send(HIGH, b"quick", 1, air.now)
    assert isinstance(first, PrivatePacket)
    (second,) = there.handshake(LOW, first.payload, air.now)
    assert isinstance(second, PrivatePacket)
    third, _, frame = here.handshake(HIGH, second.payload, air.now)
    assert isinstance(third, PrivatePacket)
    assert isinstance(frame, PrivatePacket)
    air.hand(HIGH, LOW, frame.payload, handshake=False)
    assert air.texts(HIGH) == []
    air.hand(HIGH, LOW, third.payload, handshake=True)
    assert air.texts(HIGH) == [b"quick"]


def test_early_frames_and_waiting_payloads_are_bounded() -> None:
    air = Air(SessionLimits(early=2, early_bytes=100, waiting=3, waiting_bytes=50), loss=1.0)
    air.hand(HIGH, LOW, first_message(), handshake=True)
    for size in (40, 70, 40, 40):
        air.hand(HIGH, LOW, bytes(size), handshake=False)
    assert air.nodes[HIGH].refused["early_full"] == 2
    for token, size in enumerate((30, 30, 10, 5, 1)):
        air.send(LOW, HIGH, bytes(size), token)
    assert [(one.token, one.reason) for one in air.not_sent[LOW]] == [
        (1, "waiting_full"),
        (4, "waiting_full"),
    ]
    air.do(LOW, air.nodes[LOW].close(HIGH))
    assert [one.token for one in air.not_sent[LOW][2:]] == [0, 2, 3]
    air.send(LOW, HIGH, bytes(50), 9)
    assert len(air.not_sent[LOW]) == 5


def test_peers_are_bounded_and_those_with_a_session_stay_longest() -> None:
    air = opened(SessionLimits(peers=3, in_all=100))
    for number in range(10):
        air.send(LOW, bytes([number]) * 8, b"text", number)
    assert states(air)[0] is SessionState.OPEN
    assert [one.token for one in air.not_sent[LOW]] == list(range(8))


def open_one(here: NoiseSessions, number: int, now: float, link: int | None = None) -> bytes:
    """Somebody who opens a session over a link; the peer id."""
    stranger = betanet.NoiseSecret(bytes([9, number]) * 16)
    one, caller = peer_id(stranger.public), betanet.NoiseSession.initiator(stranger)
    answers = here.handshake(one, caller.write_handshake(), now, link)
    for answer in answers:
        if isinstance(answer, PrivatePacket):
            caller.read_handshake(answer.payload)
            here.handshake(one, caller.write_handshake(), now, link)
    return one


def test_link_that_opens_many_sessions_takes_none_from_others() -> None:
    """INV-BITCHAT-88."""
    limits = SessionLimits(peers=8, in_all=10_000, per_link=10_000)
    here = NoiseSessions(SECRETS[1], limits)
    others = [open_one(here, number, 1.0, number) for number in (1, 2, 3)]
    called = IDS[0]
    here.send(called, b"text", 1, 1.0)
    for number in range(100, 160):
        open_one(here, number, 2.0, 9)
    assert [here.state(one) for one in others] == [SessionState.OPEN] * 3
    assert here.state(called) is SessionState.CALLING


def test_people_whom_the_owner_knows_are_forgotten_last() -> None:
    """INV-BITCHAT-88."""
    limits = SessionLimits(peers=4, in_all=10_000)
    known = {betanet.NoiseSecret(bytes([9, 1]) * 16).public}
    here = NoiseSessions(SECRETS[1], limits, favoured=known.__contains__)
    friend = open_one(here, 1, 1.0, 1)
    for number in range(2, 40):
        open_one(here, number, 2.0, number)
    assert here.state(friend) is SessionState.OPEN


def test_who_says_something_was_used_last() -> None:
    """INV-BITCHAT-88."""
    air = opened(SessionLimits(peers=3, in_all=100))
    node = air.nodes[HIGH]
    newer = [open_one(node, number, air.now) for number in (1, 2)]
    air.send(LOW, HIGH, b"still here")
    air.run(1.0)
    open_one(node, 3, air.now)
    assert [node.state(one) for one in (LOW, *newer)] == [
        SessionState.OPEN,
        SessionState.IDLE,
        SessionState.OPEN,
    ]


def test_frames_that_cannot_be_read_renew_the_session_and_are_counted() -> None:
    air = opened()
    for _ in range(2):
        air.hand(LOW, HIGH, b"\xff" * 40, handshake=False)
    assert states(air)[0] is SessionState.OPEN
    air.hand(LOW, HIGH, b"\xff" * 40, handshake=False)
    assert states(air)[0] is SessionState.RENEWING
    air.run(1)
    assert states(air) == (SessionState.OPEN, SessionState.OPEN)
    replayed = next(one for node, one in air.packets if node == LOW and not one.handshake)
    air.hand(HIGH, LOW, replayed.payload, handshake=False)
    assert air.nodes[LOW].refused == {"bad_tag": 3}
    assert air.nodes[HIGH].refused == {"replayed": 1}
    assert air.texts(HIGH) == [b"hello"]


def test_payload_that_no_frame_holds_comes_back() -> None:
    air = opened()
    air.send(LOW, HIGH, bytes(1_179_709), 5)
    assert [(one.token, one.reason) for one in air.not_sent[LOW]] == [(5, "too_long")]


def test_session_without_a_peer_is_nothing_to_close() -> None:
    air = Air()
    assert air.nodes[LOW].close(HIGH) == []
    assert air.nodes[LOW].handshake_hash(HIGH) is None


def test_nobody_is_their_own_peer() -> None:
    air = Air()
    air.send(LOW, LOW, b"self", 4)
    assert air.not_sent[LOW][0].reason == "closed"
    air.hand(LOW, LOW, first_message(), handshake=True)
    air.hand(LOW, LOW, bytes(40), handshake=False)
    assert air.nodes[LOW].call(LOW, air.now) == []
    assert air.packets == []


@pytest.mark.parametrize("seed", range(12))
def test_over_a_bad_air_sessions_come_about_and_nothing_is_read_twice(seed: int) -> None:
    """INV-BITCHAT-39."""
    limits = SessionLimits(renew_frames=7, renew_s=60.0, per_peer=1_000, in_all=1_000)
    air = Air(limits, seed=seed, loss=0.2, late=0.2)
    for number in range(40):
        node, peer = air.rng.choice([(LOW, HIGH), (HIGH, LOW)])
        air.send(node, peer, number.to_bytes(2, "big"), number)
        if air.rng.random() < 0.05:
            air.restart(node)
        air.run(air.rng.uniform(0, 2))
    for texts in (air.texts(LOW), air.texts(HIGH)):
        assert len(texts) == len(set(texts))
    air.loss = air.late = 0.0
    air.run(150)
    air.send(LOW, HIGH, b"at last", 1)
    air.run(30)
    air.send(HIGH, LOW, b"and back", 2)
    air.run(30)
    air.send(LOW, HIGH, b"once more", 3)
    air.run(1)
    assert air.texts(LOW)[-1] == b"and back"
    assert air.texts(HIGH)[-1] == b"once more"
    assert air.nodes[LOW].handshake_hash(HIGH) == air.nodes[HIGH].handshake_hash(LOW)
    assert peer_id(air.received[LOW][-1].noise_key) == HIGH


@pytest.mark.parametrize("seed", range(4))
def test_whatever_strangers_send_is_counted_and_a_session_still_comes_about(seed: int) -> None:
    """INV-BITCHAT-38."""
    air = Air(SessionLimits(peers=8), seed=seed, loss=0.1)
    air.send(LOW, HIGH, b"first")
    for _ in range(400):
        node, other = air.rng.choice([(LOW, HIGH), (HIGH, LOW)])
        sender = air.rng.choice([other, other, node, IDS[2], air.rng.randbytes(8)])
        size = air.rng.choice([0, 1, 19, 20, 31, 32, 33, 64, 96, 200])
        handshake = air.rng.random() < 0.6
        made = first_message() if size == 32 else air.rng.randbytes(size)
        if air.rng.random() < 0.3 and air.packets:
            # Something genuine again, to whomever, from whomever.
            made = air.rng.choice(air.packets)[1].payload
        air.hand(node, sender, made, handshake=handshake)
        air.run(air.rng.uniform(0, 0.5))
    assert air.nodes[LOW].refused.total() + air.nodes[HIGH].refused.total() > 100
    assert air.texts(HIGH).count(b"first") <= 1
    air.loss = 0.0
    air.run(200)
    for number in range(3):
        air.send(LOW, HIGH, b"to high %d" % number)
        air.send(HIGH, LOW, b"to low %d" % number)
        air.run(40)
    assert air.texts(HIGH)[-1] == b"to high 2"
    assert air.texts(LOW)[-1] == b"to low 2"
