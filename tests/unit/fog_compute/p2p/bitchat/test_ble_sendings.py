"""What the mesh answers at once, and what it tells later, of which message."""

from __future__ import annotations

from fog_compute.p2p.bitchat.ble_sendings import SendCommand, Sendings
from fog_compute.p2p.bitchat.mesh.news import SayTo, Sent, SentState
from fog_compute.p2p.core.outbox import Key
from fog_compute.p2p.core.transport import Outcome, OutcomeState, PartLeft


def test_news_of_another_message_is_told_also_while_the_mesh_is_asked() -> None:
    """INV-P2P-05: or it would be waited for until its time is over."""
    told: list[Outcome | PartLeft] = []
    first, second = Key("first", "ab" * 32), Key("second", "cd" * 32)

    def step(command: SendCommand) -> None:
        if copies[command.token] == second:  # the former's time is over by now
            sendings.sent(Sent("1", SentState.FAILED, reason="no_answer"))
        sendings.sent(Sent(command.token, SentState.QUEUED))

    sendings, copies = Sendings(step, told.append), dict[str, Key]()

    def ask(copy: Key) -> Outcome:
        token = sendings.token(copy, 5)
        copies[token] = copy
        return sendings.ask(copy, [SayTo(token, b"p" * 8, b"hello")])

    assert [ask(one).state for one in (first, second)] == [OutcomeState.QUEUED] * 2
    assert told == [Outcome(*first, OutcomeState.FAILED, "no_answer")]


def test_a_part_of_a_message_may_come_to_its_end_while_the_next_is_asked() -> None:
    """INV-P2P-05: the worst of all that is known then is the answer."""
    told: list[Outcome | PartLeft] = []
    copy = Key("both", "ab" * 32)

    def step(command: SendCommand) -> None:
        if command.token == tokens[1]:
            sendings.sent(Sent(tokens[0], SentState.FAILED, reason="closed"))
        sendings.sent(Sent(command.token, SentState.QUEUED))

    sendings = Sendings(step, told.append)
    tokens = [sendings.token(copy, 5) for _ in range(2)]
    outcome = sendings.ask(copy, [SayTo(one, b"p" * 8, b"hello") for one in tokens])

    assert outcome == Outcome(*copy, OutcomeState.FAILED, "closed")
    assert told == []
