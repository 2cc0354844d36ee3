"""Frames on their way out: in which order, how many at once, and again if lost."""

from __future__ import annotations

import pytest

from fog_compute.p2p.bitchat.events import SendFrame
from fog_compute.p2p.bitchat.mesh.frames import Frames, FramesPolicy, Lost, Urgency

POLICY = FramesPolicy(window=3, tries=3, pause_s=0.5, gap_s=0.2, waiting=6, answer_s=7.0)


def frames(policy: FramesPolicy = POLICY) -> Frames[str]:
    made: Frames[str] = Frames(policy)
    made.up(1)
    return made


def data(sent: tuple[list[SendFrame], list[Lost[str]]]) -> list[bytes]:
    return [frame.data for frame in sent[0]]


def test_urgent_frames_go_first_and_a_few_at_a_time() -> None:
    waiting = frames()
    for number in range(3):
        waiting.put(1, b"text%d" % number, Urgency.TEXT, "")
    waiting.put(1, b"hello", Urgency.SESSION, "")
    sent, _ = waiting.due(0.0)
    assert [one.data for one in sent] == [b"hello", b"text0", b"text1"]
    assert data(waiting.due(0.1)) == []
    assert waiting.answered(1, sent[1].token, True, 0.2) == []
    assert data(waiting.due(0.2)) == [b"text2"]


def test_pieces_of_something_long_leave_room_between_them() -> None:
    waiting = frames()
    waiting.put(1, b"a", Urgency.BULK, "")
    waiting.put(1, b"b", Urgency.BULK, "")
    assert data(waiting.due(0.0)) == [b"a"]
    assert waiting.next_due == 0.2
    waiting.put(1, b"text", Urgency.TEXT, "")
    assert data(waiting.due(0.1)) == [b"text"]
    assert data(waiting.due(0.2)) == [b"b"]


def test_lost_frame_goes_again_after_growing_pauses_and_is_given_up_in_the_end() -> None:
    """INV-BITCHAT-52."""
    waiting = frames()
    waiting.put(1, b"a", Urgency.TEXT, "about a")
    (first,), _ = waiting.due(0.0)
    assert waiting.answered(1, first.token, False, 1.0) == []
    assert waiting.next_due == pytest.approx(1.5)
    assert data(waiting.due(1.4)) == []
    (second,), _ = waiting.due(1.5)
    assert second.token != first.token
    assert waiting.answered(1, second.token, False, 1.5) == []
    assert waiting.next_due == pytest.approx(2.5)
    (third,), _ = waiting.due(2.5)
    assert waiting.answered(1, third.token, False, 2.6) == [Lost(1, "about a")]
    assert (waiting.sent, waiting.repeated, waiting.given_up) == (3, 2, 1)


def test_frame_of_which_the_radio_says_nothing_counts_as_lost() -> None:
    waiting = frames()
    waiting.put(1, b"a", Urgency.TEXT, "")
    waiting.due(2.0)
    assert waiting.next_due == 9.0
    assert data(waiting.due(9.0)) == []
    assert data(waiting.due(9.5)) == [b"a"]


def test_answer_that_nobody_waits_for_changes_nothing() -> None:
    waiting = frames()
    assert waiting.answered(1, 99, False, 0.0) == []
    assert waiting.answered(2, 1, False, 0.0) == []
    assert waiting.due(0.0) == ([], [])


def test_lost_frame_that_would_tell_nothing_new_is_not_sent_again() -> None:
    wanted = {"a": True}
    waiting: Frames[str] = Frames(POLICY, lambda _link, about: wanted[about])
    waiting.up(1)
    waiting.put(1, b"a", Urgency.TEXT, "a")
    (first,), _ = waiting.due(0.0)
    waiting.answered(1, first.token, False, 0.0)
    wanted["a"] = False
    assert waiting.due(1.0) == ([], [])
    assert waiting.next_due is None


def test_what_is_too_much_is_refused_and_counted() -> None:
    waiting = frames()
    assert all(waiting.put(1, b"x", Urgency.TEXT, "") for _ in range(6))
    assert not waiting.put(1, b"x", Urgency.TEXT, "")
    assert not waiting.put(5, b"x", Urgency.TEXT, "")
    assert waiting.refused == 2


def test_what_several_links_brought_takes_turns_whatever_its_urgency() -> None:
    """INV-BITCHAT-81."""
    waiting = frames()
    for number in range(6):
        waiting.put(1, b"eve%d" % number, Urgency.SESSION, "", 3)
    waiting.put(1, b"ann0", Urgency.TEXT, "", 2)
    waiting.put(1, b"mine", Urgency.BULK, "")
    order = []
    for _ in range(8):
        sent, _ = waiting.due(0.0)
        order += [frame.data for frame in sent]
        for frame in sent:
            waiting.answered(1, frame.token, True, 0.0)
    assert order == [b"eve0", b"ann0", b"mine", *(b"eve%d" % number for number in range(1, 6))]


def test_room_is_that_of_where_frames_come_from() -> None:
    """INV-BITCHAT-81."""
    waiting = frames()
    assert [waiting.put(1, b"x", Urgency.TEXT, "", 3) for _ in range(8)].count(True) == 6
    assert waiting.put(1, b"x", Urgency.TEXT, "", 2)
    assert waiting.put(1, b"x", Urgency.TEXT, "")
    assert waiting.waiting(1) == 1
    assert waiting.waiting(2) == 0


def test_end_of_a_link_loses_all_that_waited_for_it() -> None:
    waiting = frames()
    for number in range(5):
        waiting.put(1, b"x", Urgency.TEXT, f"f{number}")
    (first, *_), _ = waiting.due(0.0)
    waiting.answered(1, first.token, False, 0.0)
    assert sorted(one.about for one in waiting.down(1)) == ["f0", "f1", "f2", "f3", "f4"]
    assert waiting.down(1) == []
    assert waiting.due(9.0) == ([], [])


def test_next_time_is_right_after_everything_that_changes_it() -> None:
    waiting = frames()
    waiting.up(2)
    found = [waiting.next_due]
    waiting.put(2, b"a", Urgency.TEXT, "")
    found.append(waiting.next_due)
    (sent,), _ = waiting.due(1.0)
    found.append(waiting.next_due)
    waiting.answered(2, sent.token, False, 2.0)
    found.append(waiting.next_due)
    waiting.due(2.1)
    found.append(waiting.next_due)
    (sent,), _ = waiting.due(2.5)
    waiting.answered(2, sent.token, True, 3.0)
    found.append(waiting.next_due)
    waiting.put(2, b"b", Urgency.TEXT, "")
    waiting.due(3.0)
    waiting.down(2)
    # At once; when an answer failed to come; when it goes again, asked twice; never.
    assert found == [None, 0.0, 8.0, 2.5, 2.5, None]
    assert waiting.next_due is None
    assert waiting.due(20.0) == ([], [])
