"""`fog chat` and `fog peer`: what is typed, what is shown, and the screen."""

from __future__ import annotations

import asyncio
import functools
import io
import json
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import pytest
from textual.widgets import Input, RichLog, Static

from fog_compute.cli import main
from fog_compute.cli.chat import lines
from fog_compute.cli.chat.lines import Target, read_line
from fog_compute.cli.chat.live import Conversation
from fog_compute.cli.chat.moving import Moving
from fog_compute.cli.chat.talking import Talk
from fog_compute.cli.patience import OutOfTime
from fog_compute.client.people import ChatEvents, Delivery, Log, Me, Near, Sent, Trace, has_it
from fog_compute.errors import ServiceUnavailable
from tests.unit.fog_compute.cli.backends import GROUP, ME, MESSAGE, PEER, SENT, TRACE, backend

ADA = PEER["fingerprint"]
ESCAPE = "a\n\x1b[2J[red]b"


def ok(*bodies: object) -> list[tuple[int, bytes]]:
    return [(200, json.dumps(body).encode()) for body in bodies]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("", None),
        ("   ", None),
        ("hello", lines.Say("hello")),
        (" hello /who ", lines.Say("hello /who")),
        ("//shrug", lines.Say("/shrug")),
        ("/who", lines.ShowWho()),
        ("/me", lines.ShowMe()),
        ("/rooms", lines.ShowRooms()),
        ("/help", lines.Help()),
        ("/quit", lines.Leave()),
        ("/who is it", lines.Mistake("/who stands alone")),
        ("/msg ada  see you", lines.SayTo("ada", "see you")),
        ("/msg ada", lines.Open(Target(person="ada"))),
        ("/room #lab", lines.Open(Target(room="lab"))),
        ("/trace ada", lines.ShowTrace("ada")),
        ("/trace", lines.Mistake("/trace wants a name: see /help")),
        ("/dance", lines.Mistake("/dance is no command: see /help")),
    ],
)
def test_a_line_means_one_thing(line: str, meant: lines.Said | None) -> None:
    assert read_line(line) == meant


@pytest.mark.parametrize(
    ("states", "mark"),
    [
        ({}, ""),
        ({"a": "queued"}, "·"),
        ({"a": "stored"}, "✓"),
        ({"a": "delivered"}, "✓✓"),
        ({"a": "read"}, "✓✓ read"),
        ({"a": "failed"}, "! failed"),
        ({"a": "read", "b": "stored", "c": "delivered"}, "✓ 2/3"),
        ({"a": "of a later version"}, "?"),
    ],
)
def test_a_mark_is_that_of_who_has_least(states: dict[str, str], mark: str) -> None:
    assert lines.mark_of(states) == mark
    assert lines.mark_of(states, unicode=False).isascii()


def message(**changes: object) -> Any:
    return {**MESSAGE, **changes}


def test_a_message_is_shown_with_who_sent_it_and_how_sure_that_is() -> None:
    names = {ADA: "ada"}
    line_of = functools.partial(lines.line_of, zone=UTC)

    assert line_of(message(), names) == "08:09 ada: see you at eight"
    assert "ada (a stranger) (not proved):" in line_of(message(known=False, verified=False), names)
    room = message(room="9" * 32, to=None)
    assert line_of(room, names | {"9" * 32: "lab"}).startswith("08:09 #lab ada:")
    roster = message(room="9" * 32, to=None, kind="control", text=None)
    assert "[who is in the group has changed]" in line_of(roster, names | {"9" * 32: "lab"})
    assert "#99999999 ada: [you are not in the group]" in line_of(roster, names)
    assert line_of(room, names).startswith("08:09 #99999999 ada:")
    assert line_of(message(to=None), names).startswith("08:09 #near ada:")
    assert line_of(room, {**names, "9" * 32: "Near"}).startswith("08:09 #Near#9999 ada:")
    own = message(outgoing=True, to=ADA, states={ADA: "delivered"})
    assert line_of(own, names) == "08:09 you to ada: see you at eight  ✓✓"
    assert line_of(own, {}).startswith("08:09 you to adadadad:")
    file = message(text=None, name="a.png", size=2048)
    assert line_of(file, names) == "08:09 ada: [file a.png, 2.0 KiB]"
    assert line_of(message(text=None, size=None), {}).endswith("[file without a name]")


def test_what_waits_says_below_for_whom_and_why() -> None:
    eve = "e0" * 32
    states = {ADA: "queued", eve: "queued", "c0" * 32: "failed", "*": "delivered"}
    reasons = {ADA: "no way", eve: "no way", "c0" * 32: "too long", "*": ""}
    own = message(outgoing=True, to=None, room="9" * 32, states=states, reasons=reasons)

    first, *whys = lines.line_of(own, {ADA: "ada", "9" * 32: "lab"}).splitlines()

    assert first.endswith("#lab you: see you at eight  · 1/4")
    assert whys == [
        "      waiting for ada, e0e0e0e0: no way",
        "      failed for c0c0c0c0: too long",
    ]
    assert lines.hearers_line({}, {}) == ""
    assert lines.hearers_line({"*": "no adapter"}, {}) == (
        "nothing reaches all who are near now (no adapter)"
    )


def test_times_are_those_of_the_reader_and_each_day_is_said_once() -> None:
    zone = timezone(timedelta(hours=5, minutes=45))
    days = lines.Days(zone)
    late = message(at="2026-01-01T18:30:00Z")

    assert days.line(message()) == "-- Thursday, 2026-01-01, UTC+05:45"
    assert lines.line_of(message(), {}, zone=zone).startswith("13:54 ada:")
    assert days.line(message()) == ""
    assert days.line(late) == "-- Friday, 2026-01-02, UTC+05:45"


def test_the_words_of_strangers_do_nothing_to_a_terminal() -> None:
    bad = message(text=ESCAPE * 9999, shown=ESCAPE, room=ESCAPE, name=ESCAPE)
    file = message(text=None, shown=ESCAPE, room=ESCAPE, name=ESCAPE)
    forged = message(text="hi\n08:09 bob: I agree\n      waiting for bob: x")
    assert lines.line_of(forged, {}).splitlines()[1:] == [
        "      | 08:09 bob: I agree",
        "      |       waiting for bob: x",
    ]
    for line in (lines.line_of(bad, {}), lines.line_of(file, {})):
        assert all(c.isprintable() or c == "\n" for c in line)
        assert len(line.replace(lines.MORE, "")) < 5000


def test_what_failed_is_told_with_its_reason() -> None:
    delivery: Any = {"id": "5", "receiver": ADA, "state": "expired", "reason": "nobody was there"}
    stored: Any = {**delivery, "state": "stored"}

    assert lines.delivery_line(delivery, {ADA: "ada"}) == (
        "the message to ada expired: nobody was there"
    )
    assert lines.delivery_line(stored, {}) == ""


def test_who_and_how_is_told_in_lines() -> None:
    trace = cast("Trace", {**TRACE, "hops": 3, "round_trip_ms": 81.2})

    assert lines.trace_lines(trace) == [
        "ada over htx: address",
        "over the Bluetooth mesh: 3 hops, 81 ms",
        "not over ble: there is no adapter",
    ]
    near = cast("Trace", {**TRACE, "hops": 1})
    assert "over the Bluetooth mesh: 1 hop" in lines.trace_lines(near)
    nothing = cast("Trace", {**TRACE, "ways": {}, "reasons": {}})
    assert lines.trace_lines(nothing) == ["nothing is known of how to reach ada"]
    assert "nobody can be reached" in lines.who_lines({"peers": [], "reasons": {}})[0]
    assert lines.me_lines(cast("Me", ME))[-1] == "not delivered yet: 1 waiting, 1 stored for them"
    half = {"name": "ble", "available": True, "reason": "others cannot find hci0"}
    me = cast("Me", {**ME, "transports": [half], "waiting": 0})
    assert lines.me_lines(me)[-1] == "ble: ready, but others cannot find hci0"


def test_lines_of_a_pipe_are_sent_and_need_somebody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\n"))
    lab = {"groups": [GROUP]}
    answers = ok(ME, lab, lab, {**SENT, "id": "1" * 32}, lab, {**SENT, "id": "2" * 32})
    with backend(tmp_path, *answers) as asked:
        assert main.run(["chat", "--room", "lab"]) == 0
    assert capsys.readouterr().out == f"{'1' * 32}\n{'2' * 32}\n"
    assert [line.split()[:2] for line in asked] == [
        ["GET", "/api/v1/chat"],
        ["GET", "/api/v1/chat/groups"],
        ["GET", "/api/v1/chat/groups"],
        ["POST", "/api/v1/chat/messages"],
        ["GET", "/api/v1/chat/groups"],
        ["POST", "/api/v1/chat/messages"],
    ]
    with backend(tmp_path, *ok(ME)):
        assert main.run(["chat"]) == 2
    assert "say to whom the lines go" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    nobody = {"type": "urn:fog-compute:problem:not-found", "status": 404, "detail": "nobody is ada"}
    with backend(tmp_path, *ok(ME), (404, json.dumps(nobody).encode())):
        assert main.run(["chat", "ada"]) == 1
    assert "nobody is ada" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a" * 20_001, "20,001 characters, and 20,000 fit"),
        ("x\udcff", "'x\\udcff' is no UTF-8 text"),
    ],
)
def test_a_text_that_no_message_takes_is_said_before_it_is_sent(
    text: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    with backend(tmp_path, *ok(PEER)) as asked:
        assert main.run(["chat", "send", "ada", text]) == 2
    assert says in capsys.readouterr().err
    assert len(asked) == 1


def test_with_a_room_every_word_is_what_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    (tmp_path / "a.bin").write_bytes(b"abc")
    said: list[Any] = []

    def say(_self: Talk, target: Target, text: str, **how: object) -> object:
        said.append((target, text, how["file"]))
        return SENT

    monkeypatch.setattr(Talk, "say", say)
    file = str(tmp_path / "a.bin")
    for words in (["hello", "all"], ["", "hello all"], ["hello all"], ["--file", file]):
        with backend(tmp_path):
            assert main.run(["chat", "send", "--room", "lab", *words]) == 0
    lab = Target(room="lab")
    assert said == [*[(lab, "hello all", None)] * 3, (lab, "", Path(file))]


def test_a_message_that_failed_or_is_late_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    start = {"events": [], "next": "0"}
    failed = {"id": "1" * 32, "receiver": ADA, "state": "failed", "transport": None, "reason": "no"}
    events = {"events": [{"message": None, "delivery": failed, "moved": None}], "next": "1"}
    send = ["chat", "send", "--room", "near", "", "x", "--wait"]
    with backend(tmp_path, *ok(start, {**SENT, "id": "1" * 32}, events)):
        assert main.run([*send, "9s"]) == 1
    assert "failed: no" in capsys.readouterr().err

    def late(talk: Talk, since: str, wait_s: float) -> object:
        if since:
            raise OutOfTime
        return start

    monkeypatch.setattr(Talk, "events", late)
    with backend(tmp_path, *ok({**SENT, "id": "1" * 32})):
        assert main.run([*send, "9s"]) == 124
    assert "still goes out" in capsys.readouterr().err

    def stopped(talk: Talk, since: str, wait_s: float) -> object:
        if since:
            raise KeyboardInterrupt
        return start

    monkeypatch.setattr(Talk, "events", stopped)
    with backend(tmp_path, *ok({**SENT, "id": "1" * 32})):
        assert main.run([*send, "9s"]) == 130
    assert f"interrupted; message {'1' * 32} still goes out" in capsys.readouterr().err


def test_a_room_is_a_group_by_name_or_all_who_are_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    other = {**GROUP, "id": "8" * 32}
    for room, listed, says in (
        ("LAB", [GROUP], ""),
        ("9" * 32, [GROUP, other], ""),
        ("near", None, ""),
        ("lab", [GROUP, other], "several groups are called 'lab'"),
        ("home", [GROUP], "no group is called 'home'"),
    ):
        asked = [] if listed is None else ok({"groups": listed})
        with backend(tmp_path, *asked, *ok({**SENT, "id": "1" * 32})):
            assert main.run(["chat", "send", "", "x", "--room", room]) == (1 if says else 0)
        assert says in capsys.readouterr().err


def test_a_file_is_sent_and_one_that_cannot_be_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    (tmp_path / "a.bin").write_bytes(b"abc")
    with backend(tmp_path, *ok(PEER, ME, SENT)):
        assert main.run(["chat", "send", "ada", "--file", str(tmp_path / "a.bin")]) == 0
    with backend(tmp_path, *ok(PEER, ME)):
        assert main.run(["chat", "send", "ada", "--file", str(tmp_path / "none")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    with backend(tmp_path, *ok(PEER, {**ME, "max_file_bytes": 2})):
        assert main.run(["chat", "send", "ada", "--file", str(tmp_path / "a.bin")]) == 2
    assert "cannot be sent" in capsys.readouterr().err


def test_how_much_of_a_file_has_gone_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    part: Any = {"id": "5" * 32, "receiver": ADA, "done": 1024, "total": 4096}
    other: Any = {**part, "receiver": "*", "done": 3072}
    with Moving(quiet=False, clock=lambda: now[0]) as moving:
        moving.show(part)
        now[0] = 8.0
        moving.show(other)
    assert capsys.readouterr().err == "fog: sending 4.0 KiB of 8.0 KiB, 384 B/s, 10.7 s left\n"
    with Moving(quiet=True, clock=lambda: now[0]) as moving:
        now[0] = 20.0
        moving.show(part)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Moving(quiet=True) as moving:
        moving.show(part)
        moving.show(other)
    assert "sending 4.0 KiB of 8.0 KiB" in capsys.readouterr().err


def test_a_message_that_reaches_nobody_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    sent = {**SENT, "reasons": {"*": "nobody is near who hears it"}}
    with backend(tmp_path, *ok(sent, {"peers": []}, {"groups": []})):
        assert main.run(["chat", "send", "", "x", "--room", "near"]) == 0
    assert "nothing reaches all who are near now (nobody is near" in capsys.readouterr().err
    assert main.run(["chat", "ada", "hello", "you"]) == 2
    assert "say `fog chat send ada hello you`" in capsys.readouterr().err


def test_people_are_taken_into_a_group_and_out_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    bodies: list[Any] = []
    lab = {**GROUP, "members": [ADA]}

    def post(_self: object, _path: str, _kind: object, body: object) -> object:
        bodies.append(body)
        return {"groups": [lab]}

    monkeypatch.setattr("fog_compute.cli.chat.talking.Backend.post", post)
    grace = {**PEER, "fingerprint": "c0" * 32}
    for words, who in ((["add", "lab", "grace"], grace), (["remove", "lab", "ada"], PEER)):
        with backend(tmp_path, *ok({"groups": [GROUP]}, who)):
            assert main.run(["chat", "group", *words, "--json"]) == 0
    assert main.run(["chat", "group", "new", " ", "ada"]) == 2
    assert [one["members"] for one in bodies] == [
        [*GROUP["members"], "c0" * 32],
        [GROUP["members"][1]],
    ]


def test_a_wipe_wants_the_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    monkeypatch.setattr("fog_compute.cli.chat.command.os.isatty", lambda descriptor: True)
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    assert main.run(["chat", "wipe"]) == 1
    assert "nothing was destroyed" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("wipe\n"))
    with backend(tmp_path, *ok({"wiped": False})):
        assert main.run(["chat", "wipe"]) == 0
    assert capsys.readouterr().out == "there was nothing to destroy\n"


def test_words_are_shown_to_be_compared_and_cards_come_by_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    with backend(tmp_path, *ok(PEER)):
        assert main.run(["peer", "verify", "ada"]) == 0
    assert capsys.readouterr().out == "abbey zodiac\n"
    monkeypatch.setattr("fog_compute.cli.peer.read_descriptor", lambda *_: b" fogcard1aaa\nbbb ")
    with backend(tmp_path, *ok(PEER)) as asked:
        assert main.run(["peer", "add", "-"]) == 0
    assert asked[0].startswith("POST /api/v1/peers")
    capsys.readouterr()
    monkeypatch.setattr("fog_compute.cli.peer.read_descriptor", lambda *_: b"\n")
    for card in ("-", "", " "):
        assert main.run(["peer", "add", card]) == 2
        assert capsys.readouterr().err == "fog: no card was given: it begins with fogcard1\n"


@pytest.mark.parametrize("words", [["abb", "zod"], ["abb  zod"], ["abb zod\n"]])
def test_words_are_the_same_in_quotation_marks(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    sent: list[object] = []

    def post(_self: object, path: str, _kind: object, body: object) -> object:
        sent.append(body)
        return PEER

    monkeypatch.setattr("fog_compute.cli.peer.Backend.post", post)
    with backend(tmp_path, *ok(PEER)):
        assert main.run(["peer", "verify", "ada", *words]) == 0
    assert sent == [{"words": ["abb", "zod"]}]


def test_a_card_is_waited_for_until_there_is_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    monkeypatch.setattr("fog_compute.cli.peer.JOIN_PAUSE_S", 0.0)
    monkeypatch.setattr("fog_compute.cli.peer.JOIN_TRIES", 3)
    none = {**ME, "card": None}
    with backend(tmp_path, *ok(none, none, ME)):
        assert main.run(["peer", "card"]) == 0
    done = capsys.readouterr()
    assert done.out == "fogcard1aaaa\n"
    assert done.err.count("takes a moment") == 1
    with backend(tmp_path, *ok(none, none, none)):
        assert main.run(["peer", "card"]) == 1
    assert "no address to put on a card yet: there is no adapter" in capsys.readouterr().err


class Scripted(Talk):
    """A backend that answers as it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[Target, str]] = []
        self.waits = asyncio.Event()
        self.fails = False
        self.batches: list[ChatEvents] = []
        self.logs = [[message(position=1, text="before")], [message(position=2, text="now")]]
        self.read: list[str] = []

    def names(self) -> dict[str, str]:
        return {ADA: "ada"}

    def me(self, *, check: bool = False) -> Me:
        return cast("Me", ME)

    def near(self) -> Near:
        return {"peers": [], "reasons": {"htx": "no answer"}}

    def trace(self, who: str) -> Trace:
        return cast("Trace", TRACE)

    def log(self, target: Target, after: int, limit: int) -> Log:
        found = self.logs.pop(0) if self.logs else []
        return {"messages": found, "next": after + len(found)}

    def events(self, since: str, wait_s: float) -> ChatEvents:
        if not since:
            return {"events": [], "next": "0"}
        if self.batches:
            return self.batches.pop(0)
        raise ServiceUnavailable("the backend is away")

    def say(self, target: Target, text: str, **options: object) -> Sent:
        if self.fails:
            raise ServiceUnavailable("nothing goes out")
        self.said.append((target, text))
        return cast("Sent", SENT)

    def mark_read(self, messages: list[Any]) -> None:
        self.read += [one["text"] for one in messages]


def shown(app: Conversation) -> str:
    return "\n".join(strip.text.rstrip() for strip in app.query_one(RichLog).lines)


def test_nobody_is_talked_to_on_a_screen_by_a_wrong_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("fog_compute.cli.chat.command.is_terminal", lambda: True)
    monkeypatch.setattr("fog_compute.cli.chat.command.os.isatty", lambda descriptor: True)
    nobody = {"type": "urn:fog-compute:problem:not-found", "status": 404, "detail": "nobody is ada"}
    with backend(tmp_path, *ok(ME), (404, json.dumps(nobody).encode())):
        assert main.run(["chat", "ada"]) == 1
    assert "nobody is ada" in capsys.readouterr().err


@pytest.mark.asyncio
async def test_nothing_of_a_message_is_cut_off_by_a_narrow_screen() -> None:
    talk = Scripted()
    said = " ".join(f"word{number}" for number in range(25))
    talk.logs = [[message(position=1, text=said)]]
    app = Conversation(lambda: talk, Target(person="ada"), cast("Me", ME))

    async with app.run_test(size=(100, 30)) as pilot:
        for width in (100, 41, 23, 90):
            await pilot.resize_terminal(width, 30)
            async with asyncio.timeout(20):
                while said not in " ".join(shown(app).split("\n")):
                    await pilot.pause()
            assert max(map(len, shown(app).split("\n"))) <= width
        app.exit()


@pytest.mark.asyncio
async def test_the_screen_shows_what_comes_and_sends_what_is_typed() -> None:
    talk = Scripted()
    delivered: Any = {"id": "5", "receiver": ADA, "state": "delivered", "reason": ""}
    failed: Any = {**delivered, "state": "failed", "reason": "no way"}
    talk.batches = [
        {
            "events": [
                {"message": message(), "delivery": None, "moved": None},
                {"message": None, "delivery": delivered, "moved": None},
                {"message": None, "delivery": failed, "moved": None},
            ],
            "next": "1",
        }
    ]
    app = Conversation(lambda: talk, Target(person="ada"), cast("Me", ME))

    async def types(text: str) -> None:
        app.query_one(Input).value = text
        await pilot.press("enter")

    async def until(text: str) -> None:
        async with asyncio.timeout(20):
            while text not in shown(app):
                await pilot.pause()

    async with app.run_test(size=(100, 60)) as pilot:
        await until("ada: before")
        await until("ada: now")
        await until("✓✓ ada")
        await until("! the message to ada failed: no way")
        assert "Bob, talking to ada" in str(app.query_one("#head", Static).render())
        for typed, answer in (
            ("/help", "/trace NAME"),
            ("/me", "your words: oboe gem"),
            ("/who", "not over htx: no answer"),
            ("/trace ada", "ada over htx: address"),
            ("/rooms", "no conversations yet"),
            ("/dance", "! /dance is no command"),
        ):
            await types(typed)
            await until(answer)
        await types("")
        await types("hello")
        await types("/msg bob hi")
        await types("/room lab")
        await types("to all")
        async with asyncio.timeout(20):
            while len(talk.said) < 3:
                await pilot.pause()
        assert talk.said == [
            (Target(person="ada"), "hello"),
            (Target(person="bob"), "hi"),
            (Target(room="lab"), "to all"),
        ]
        talk.fails = True
        await types("lost")
        await until("! nothing goes out")
        async with asyncio.timeout(20):
            while "away" not in str(app.query_one("#trouble", Static).render()):
                await pilot.pause()
        await types("/quit")
        await pilot.pause()
    assert not app.is_running
    assert talk.read == ["now"]


@pytest.mark.parametrize(
    ("receiver", "state", "reason", "has"),
    [
        (ADA, "delivered", "", True),
        (ADA, "read", "", True),
        (ADA, "accepted", "", False),
        (ADA, "accepted", "their program gives no receipts in a group", True),
        (ADA, "stored", "", False),
        ("*", "accepted", "", True),
        ("*", "queued", "", False),
    ],
)
def test_who_will_never_say_so_is_not_waited_for(
    receiver: str, state: str, reason: str, has: bool
) -> None:
    delivery = {"receiver": receiver, "state": state, "reason": reason, "id": "1", "transport": ""}

    assert has_it(cast(Delivery, delivery)) is has
