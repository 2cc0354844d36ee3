"""Every command in text and as JSON, where it succeeds and where it fails: one way to report."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from fog_compute.cli import main
from fog_compute.cli.commands import COMMANDS
from fog_compute.cli.common import CommandError
from fog_compute.errors import PROBLEM
from fog_compute.faces import TOLD, Face
from tests.unit.fog_compute.cli.backends import (
    CIRCUIT,
    GROUP,
    ID,
    LEVEL,
    ME,
    MESSAGE,
    NODES,
    PEER,
    RESULT,
    ROW,
    SENT,
    STATUS,
    TASK,
    TRACE,
    WORDCOUNT,
    Answer,
    backend,
)
from tests.unit.fog_compute.cli.prepared import (
    gave_token,
    has_backup,
    has_database,
    has_logs,
    has_net,
    has_token,
    is_examined,
    is_watched,
    lends,
    lends_itself,
    lent_stops,
    measures,
    pipes_a_line,
    starts,
    stops,
)

BLOB: Final = {"sha256": "0" * 64}
MADE: Final = {"id": ID, "state": "queued", "warning": ""}
A_FILE: Final = {"kind": "file", "text": None, "name": "a.png", "size": 3}
FILES: Final = {"files": [{"path": "a", "size": 1}]}
FAILED_TASK: Final = {**TASK, "state": "failed", "reason": "out of fuel", "result": None}
NOT_FOUND: Final = {"type": f"{PROBLEM}not-found", "status": 404, "detail": "there is no such task"}
MISSING: Final = (404, json.dumps(NOT_FOUND).encode())


NAMED_AS_HTTP: Final = ("worker ls", "worker show", "node show")


def ok(*bodies: object) -> tuple[Answer, ...]:
    """The answers of a backend that does what it is asked."""
    return tuple(
        (200, body if isinstance(body, bytes) else json.dumps(body).encode()) for body in bodies
    )


@dataclass(frozen=True, slots=True)
class Case:
    """How a command is made to succeed and to fail.

    Attributes:
        words: the command with arguments that succeed.
        says: what stands in its text.
        tells: what its JSON is about: a member of the object, or of the first of a list; a number
            for how many there are.
        answers: what the backend is asked, if there is one.
        fails: the command with arguments that fail; by default the same, without a fog.
        failing: what the backend then answers.
        code: the exit code of the failure.
        problem: its type.
        prepare: makes what the success needs in a home.
    """

    words: tuple[str, ...]
    says: str
    tells: str | int = "id"
    answers: tuple[Answer, ...] = ()
    fails: tuple[str, ...] = ()
    failing: tuple[Answer, ...] = ()
    code: int = 3
    problem: str = "not-running"
    prepare: Callable[[Path, pytest.MonkeyPatch], None] | None = None


EVENTS: Final = {"events": [], "next": "7-00000000-0"}
DELIVERED: Final = {
    "events": [
        {
            "message": None,
            "moved": None,
            "delivery": {
                "id": "5" * 32,
                "receiver": "ad" * 32,
                "state": "delivered",
                "transport": "htx",
                "reason": "",
            },
        }
    ],
    "next": "8-00000000-1",
}
KEY: Final = {
    "id": "0123456789ab",
    "name": "prometheus",
    "scopes": ["read"],
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": None,
    "used_at": None,
    "revoked_at": None,
}

LAB: Final[dict[str, Any]] = {"groups": [GROUP]}

CASES: Final[dict[str, Case]] = {
    "up": Case(
        words=("up", "--port", "0"),
        says="ready after 0.1 s",
        tells="url",
        fails=("up", "--port", "99999"),
        code=2,
        problem="config-error",
        prepare=starts,
    ),
    "down": Case(("down",), "stopped in 0.2 s", "stopped", ok("{}"), prepare=stops),
    "status": Case(("status",), "epoch 3", "net", ok(STATUS)),
    "health": Case(
        words=("health",),
        says="ok",
        tells="well",
        answers=ok({"status": "ok", "reasons": []}),
    ),
    "doctor": Case(
        words=("doctor",),
        says="ok       memory              8.0 GiB are free",
        tells="findings",
        fails=("doctor", "--all"),
        code=2,
        problem="usage",
        prepare=is_examined,
    ),
    "completion": Case(
        words=("completion", "fish"),
        says="complete -c fog",
        tells="script",
        fails=("completion", "cmd"),
        code=2,
        problem="usage",
    ),
    "alerts": Case(("alerts",), "circuits fail", "firing", prepare=is_watched),
    "top": Case(
        words=("top",),
        says="SERVICE",
        tells="circuits",
        answers=ok(STATUS, {"tasks": [ROW]}, {"levels": [LEVEL]}),
        fails=("top", "--every", "100ms"),
        code=2,
        problem="usage",
    ),
    "run": Case(
        words=("run", WORDCOUNT, "--stdin", "/dev/null"),
        says="out",
        answers=ok(BLOB, BLOB, MADE, TASK, b"out", b"err"),
        fails=("run", WORDCOUNT, "--stdin", "/dev/null"),
        failing=ok(BLOB, BLOB, MADE, FAILED_TASK, b"", b""),
        code=1,
        problem="task-failed",
    ),
    "map": Case(
        words=("map", WORDCOUNT, WORDCOUNT),
        says="out",
        tells="id",
        answers=ok(
            BLOB,
            {"batch": "b", "tasks": [ID], "warning": ""},
            {"events": [{"task": ID, "state": "accepted"}], "next": 2},
            TASK,
            b"out",
            b"err",
        ),
        fails=("map", WORDCOUNT),
        code=2,
        problem="usage",
    ),
    "task show": Case(
        words=("task", "show", ID),
        says="exit code",
        answers=ok(TASK),
        failing=(MISSING,),
        code=1,
        problem="not-found",
    ),
    "task ls": Case(
        words=("task", "ls", "--state", "accepted", "--limit", "7"),
        says="LOST TRIES",
        tells=1,
        answers=ok({"tasks": [ROW]}),
        fails=("task", "ls", "--state", "lost"),
        code=2,
        problem="usage",
    ),
    "task files": Case(("task", "files", ID), "BYTES  FILE", 1, ok(FILES)),
    "task get": Case(
        words=("task", "get", ID, "--output-dir", "{home}/got", "--force"),
        says="1 of 1 file written",
        tells="written",
        answers=ok(FILES, b"A"),
        fails=("task", "get", ID, "nothing"),
        failing=ok(FILES),
        code=1,
        problem="not-found",
    ),
    "task logs": Case(("task", "logs", ID), "err", "text", ok(TASK, b"err")),
    "task cancel": Case(
        ("task", "cancel", ID), "cancelled", "state", ok({"id": ID, "state": "cancelled"})
    ),
    "worker ls": Case(
        words=("worker", "ls", "--state", "ready", "--level", "private"),
        says="1 h 00 min  2.0 GiB  -       none of ours",
        tells=1,
        answers=ok(STATUS),
    ),
    "worker show": Case(
        words=("worker", "show", "w"),
        says="wall     1 h 00 min",
        tells="name",
        answers=ok(STATUS),
        fails=("worker", "show", "x"),
        failing=ok(STATUS),
        code=1,
        problem="not-found",
    ),
    "node ls": Case(
        words=("node", "ls", "--role", "middle", "--use", "excluded"),
        says="0f0f0f0f0f0f0f0f  middle  ann       10.1.0.0/16  3-4   no            lost 8 of 9",
        tells="roles",
        answers=ok(NODES),
        fails=("node", "ls", "--use", "middle"),
        code=2,
        problem="usage",
    ),
    "node show": Case(
        words=("node", "show", "0F"),
        says="described until  2026-01-01 00:00:09 UTC",
        answers=ok(NODES["nodes"][1]),
        fails=("node", "show", "../x"),
        code=2,
        problem="usage",
    ),
    "worker start": Case(
        words=("worker", "start"),
        says="ready after 0.1 s",
        tells="event",
        fails=("worker", "start", "--token", "/nonexistent"),
        code=2,
        problem="config-error",
        prepare=lends_itself,
    ),
    "worker status": Case(("worker", "status"), "2 of 3 slots can run tasks", 1, prepare=lends),
    "worker stop": Case(("worker", "stop"), "stopped in 0.2 s", "stopped", prepare=lent_stops),
    "circuit ls": Case(("circuit", "ls"), "ROUND TRIP", 1, ok({"levels": [LEVEL]})),
    "circuit show": Case(
        words=("circuit", "show", "private"),
        says="by token",
        tells="each",
        answers=ok({**LEVEL, "each": [CIRCUIT]}),
        fails=("circuit", "show", "highest"),
        code=2,
        problem="usage",
    ),
    "db check": Case(
        ("db", "check"), "rows", "faults", code=1, problem="not-found", prepare=has_database
    ),
    "db backup": Case(
        words=("db", "backup", "{home}/copy"),
        says="0 tasks, 0 blobs",
        tells="path",
        code=1,
        problem="not-found",
        prepare=has_database,
    ),
    "db restore": Case(
        words=("db", "restore", "{home}/backup", "--force"),
        says="fog.db.replaced-1 now",
        tells="replaced",
        code=1,
        problem="not-found",
        prepare=has_backup,
    ),
    "db vacuum": Case(
        ("db", "vacuum"), "before", "after", code=1, problem="not-found", prepare=has_database
    ),
    "bench tasks": Case(
        words=("bench", "tasks", "--alone", "3"),
        says="task_private_p50_ms",
        tells="summary",
        answers=ok(STATUS, BLOB, BLOB),
        fails=("bench", "tasks", "--alone", "0"),
        code=2,
        problem="usage",
        prepare=measures,
    ),
    "net token": Case(
        words=("net", "token"),
        says="fogt1",
        tells="token",
        code=2,
        problem="config-error",
        prepare=has_net,
    ),
    "net tokens": Case(
        words=("net", "tokens"),
        says="GROUPS",
        tells=1,
        fails=("net", "tokens", "--all"),
        code=2,
        problem="usage",
        prepare=gave_token,
    ),
    "net revoke": Case(
        words=("net", "revoke", "{token}"),
        says="is revoked",
        tells="revoked",
        fails=("net", "revoke", "0" * 16),
        code=1,
        problem="not-found",
        prepare=gave_token,
    ),
    "net groups": Case(
        words=("net", "groups"),
        says="local",
        tells=1,
        fails=("net", "groups", "more"),
        code=2,
        problem="usage",
        prepare=gave_token,
    ),
    "key create": Case(
        words=("key", "create", "prometheus", "--scope", "read", "--expires", "never"),
        says="fogk_",
        tells="key",
        answers=ok({**KEY, "key": "fogk_0123456789ab_x"}),
        fails=("key", "create", "prometheus", "--scope", "root"),
        code=2,
        problem="usage",
    ),
    "logs": Case(
        words=("logs", "backend"),
        says="server.started",
        tells=1,
        fails=("logs", "--lines", "-1"),
        code=2,
        problem="usage",
        prepare=has_logs,
    ),
    "key ls": Case(("key", "ls"), "good until revoked", 1, ok({"keys": [KEY]})),
    "key revoke": Case(
        words=("key", "revoke", "prometheus"),
        says="is revoked",
        answers=ok({"keys": [KEY]}, KEY),
        fails=("key", "revoke", "0123"),
        failing=ok({"keys": [KEY, {**KEY, "id": "0123ffffffff"}]}),
        code=1,
        problem="conflict",
    ),
    "chat": Case(
        words=("chat", "ada"),
        says="5555",
        answers=ok(ME, PEER, PEER, SENT),
        fails=("chat", "ada", "--room", "lab"),
        code=2,
        problem="usage",
        prepare=pipes_a_line,
    ),
    "chat send": Case(
        words=("chat", "send", "ada", "see", "you", "--wait", "9s", "--private"),
        says="5555",
        tells="state",
        answers=ok(EVENTS, PEER, SENT, DELIVERED),
        fails=("chat", "send", "ada"),
        code=2,
        problem="usage",
    ),
    "chat log": Case(
        words=("chat", "log", "ada", "--limit", "5"),
        says="ada: see you at eight",
        tells=1,
        answers=ok(PEER, {"messages": [MESSAGE], "next": 7}, {"peers": [PEER]}, {"groups": []}),
        fails=("chat", "log", "--limit", "0"),
        code=2,
        problem="usage",
    ),
    "chat save": Case(
        words=("chat", "save", "ada", "--output-dir", "{home}/got"),
        says="a.png from ada",
        tells="written",
        answers=ok(PEER, {"messages": [{**MESSAGE, **A_FILE}], "next": 7}, b"PNG"),
        failing=ok(PEER, {"messages": [MESSAGE], "next": 7}),
        code=1,
        problem="not-found",
    ),
    "chat me": Case(("chat", "me"), "htx at private: ready", "words", ok(ME)),
    "chat who": Case(
        words=("chat", "who"),
        says="ada: htx (address)",
        tells=1,
        answers=ok({"peers": [{"peer": PEER, "ways": {"htx": "address"}}], "reasons": {}}),
    ),
    "chat trace": Case(
        words=("chat", "trace", "ada"),
        says="not over ble: there is no adapter",
        tells="reasons",
        answers=ok(PEER, TRACE),
        failing=(MISSING,),
        code=1,
        problem="not-found",
    ),
    "chat cancel": Case(
        words=("chat", "cancel", "--to", "ada"),
        says="2 messages given up",
        tells="cancelled",
        answers=ok(PEER, {"ids": ["5" * 32, "6" * 32]}),
        fails=("chat", "cancel", "55"),
        failing=ok({"ids": []}),
        code=1,
        problem="not-found",
    ),
    "chat group ls": Case(
        words=("chat", "group", "ls"),
        says="lab    99999999999999999999999999999999  you    ada, you",
        tells=1,
        answers=ok({"groups": [GROUP]}, {"peers": [PEER]}, {"groups": [GROUP]}, ME),
    ),
    "chat group new": Case(
        words=("chat", "group", "new", "lab", "ada"),
        says="9999",
        answers=ok(PEER, {"id": "9" * 32}),
        fails=("chat", "group", "new", "lab"),
        code=2,
        problem="usage",
    ),
    "chat group add": Case(
        words=("chat", "group", "add", "lab", "ada"),
        says="lab: ada, you",
        tells="members",
        answers=ok(LAB, PEER, LAB, {"peers": [PEER]}, LAB, ME),
        fails=("chat", "group", "add", "lab"),
        code=2,
        problem="usage",
    ),
    "chat group remove": Case(
        words=("chat", "group", "remove", "lab", "ada"),
        says="lab: ada, you",
        tells="members",
        answers=ok(LAB, PEER, LAB, {"peers": [PEER]}, LAB, ME),
        failing=ok(LAB, {**PEER, "fingerprint": "c0" * 32}),
        code=1,
        problem="not-found",
    ),
    "chat group rename": Case(
        words=("chat", "group", "rename", "lab", "workshop"),
        says="lab: ada, you",
        tells="members",
        answers=ok(LAB, LAB, {"peers": [PEER]}, LAB, ME),
        failing=ok({"groups": []}),
        code=1,
        problem="not-found",
    ),
    "chat group leave": Case(
        words=("chat", "group", "leave", "lab"),
        says="lab: you are in it no more",
        tells=1,
        answers=ok(LAB, LAB),
        failing=ok({"groups": []}),
        code=1,
        problem="not-found",
    ),
    "chat wipe": Case(
        words=("chat", "wipe", "--force"),
        says="everything is destroyed",
        tells="wiped",
        answers=ok({"wiped": True}),
        fails=("chat", "wipe"),
        code=2,
        problem="usage",
    ),
    "peer ls": Case(("peer", "ls"), "adadadadadadadad  contact", 1, ok({"peers": [PEER]})),
    "peer add": Case(
        ("peer", "add", "fogcard1aaaa", "--as", "ada"), "ada is a contact", "trust", ok(PEER)
    ),
    "peer card": Case(
        words=("peer", "card"),
        says="fogcard1aaaa",
        tells="card",
        answers=ok(ME),
    ),
    "peer verify": Case(
        words=("peer", "verify", "ada", "abbey", "zodiac"),
        says="ada is verified",
        tells="trust",
        answers=ok(PEER, PEER),
        fails=("peer", "verify", " "),
        failing=ok(PEER),
        code=2,
        problem="usage",
    ),
    "peer name": Case(
        words=("peer", "name", "ada", "lovelace"),
        says="ada is lovelace from now on",
        tells="petname",
        answers=ok(PEER, {**PEER, "shown": "lovelace"}),
    ),
    "peer block": Case(
        words=("peer", "block", "ada"),
        says="ada is blocked",
        tells="blocked",
        answers=ok(PEER, {**PEER, "blocked": True}),
    ),
    "peer rm": Case(("peer", "rm", "ada"), "ada is forgotten", "trust", ok(PEER, PEER)),
    "net join": Case(
        words=("net", "join"),
        says="joined the network n",
        tells="network",
        fails=("net", "join", "--token", "fogt1abc"),
        code=2,
        problem="config-error",
        prepare=has_token,
    ),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder for commands in this process."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("FOG_HOME", str(home))
    monkeypatch.setenv("NO_COLOR", "1")
    mask = os.umask(0o077)
    yield home
    os.umask(mask)


def filled(words: tuple[str, ...], home: Path) -> list[str]:
    """A command with what only the home knows."""
    given = home / "tokens.json"
    token = json.loads(given.read_bytes())[-1]["id"] if given.exists() else ""
    return [word.format(home=home, token=token) for word in words]


def names_in(told: object) -> Iterator[str]:
    """The names of all members of a JSON document, and of what is in them."""
    if isinstance(told, dict):
        yield from told
        yield from (name for one in told.values() for name in names_in(one))
    elif isinstance(told, list):
        yield from (name for one in told for name in names_in(one))


def names_of_http() -> set[str]:
    """What HTTP calls anything that it tells."""
    page = Path(__file__).parents[4] / "docs/reference/openapi.json"
    shapes = json.loads(page.read_bytes())["components"]["schemas"]
    return {name for shape in shapes.values() for name in shape.get("properties", ())}


def test_every_command_has_a_case() -> None:
    assert {command.words for command in COMMANDS} == set(CASES)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_command_succeeds(
    name: str,
    as_json: bool,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case = CASES[name]
    if case.prepare is not None:
        case.prepare(home, monkeypatch)
        capsys.readouterr()
    with backend(home, *case.answers) if case.answers else contextlib.nullcontext():
        code = main.run([*filled(case.words, home), *(["--json"] if as_json else [])])
    done = capsys.readouterr()
    assert code == 0, done.err
    if not as_json:
        assert case.says in done.out
        return
    told = json.loads(done.out.splitlines()[-1])
    if isinstance(case.tells, int):
        assert len(told) == case.tells
    else:
        assert case.tells in told
    assert "error" not in told
    if name.split()[0] in ("run", "map", "task") or name in NAMED_AS_HTTP:
        own = {one.name for one in TOLD if Face.COMMAND in one.faces}
        assert set(names_in(told)) <= names_of_http() | own, "INV-WORDS-11"


@pytest.mark.parametrize("name", CASES)
def test_command_fails_alike_in_text_and_in_json(
    name: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    arguments = filled(case.fails or case.words, home)
    told: list[tuple[str, str]] = []
    for more in ([], ["--json"]):
        with backend(home, *case.failing) if case.failing else contextlib.nullcontext():
            assert main.run([*arguments, *more]) == case.code
        told.append(capsys.readouterr())
    (_, said), (document, said_with_json) = told
    error = json.loads(document)["error"]
    assert document.count("\n") == 1
    assert error["type"] == PROBLEM + case.problem
    assert error["exit_code"] == case.code
    assert said == said_with_json == f"fog: {error['message']}\n"


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["walk"], "fog --help"),
        (["run"], "fog run --help"),
        (["task", "sow"], "fog task --help"),
        (["task", "ls", "--limit", "x"], "fog task ls --help"),
    ],
)
def test_wrong_usage_points_to_the_help_of_the_command_that_was_meant(
    arguments: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*arguments, "--json"]) == 2
    done = capsys.readouterr()
    assert done.err.endswith(f"See `{command}`.\n")
    assert json.loads(done.out)["error"]["type"] == f"{PROBLEM}usage"


def test_what_a_module_is_given_asks_for_no_json(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["run", "/nonexistent", "--", "--json"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (CommandError("x", 124), 124, "timed-out"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (FileNotFoundError(2, "No such file", "/a"), 1, "system"),
        (MemoryError(), 1, "exhausted"),
    ],
)
def test_whatever_ends_a_command_has_a_type(
    error: BaseException,
    code: int,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(arguments: Any) -> int:
        raise error

    monkeypatch.setattr(main, "_run", fail)
    assert main.run(["status", "--json"]) == code
    told = json.loads(capsys.readouterr().out)["error"]
    assert (told["type"], told["exit_code"]) == (PROBLEM + kind, code)


def test_fault_of_a_command_itself_is_not_called_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(arguments: Any) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(main, "_run", fail)
    with pytest.raises(ZeroDivisionError):
        main.run(["status", "--json"])


@pytest.mark.parametrize("as_json", [False, True])
def test_task_that_failed_shows_its_fault_and_no_exit_code(
    as_json: bool, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {**RESULT, "exit_code": None, "fault": "out_of_fuel"}
    task = {**TASK, "state": "failed", "reason": "it used up its fuel", "result": result}
    with backend(home, *ok(task, b"", b"")):
        arguments = ["task", "show", ID, "--wait", *(["--json"] if as_json else [])]
        assert main.run(arguments) == 1
    done = capsys.readouterr()
    assert done.err == f"fog: task {ID} failed: it used up its fuel\n"
    if as_json:
        told = json.loads(done.out)
        assert (told["exit_code"], told["result"]["fault"]) == (None, "out_of_fuel")
        assert told["error"]["type"] == f"{PROBLEM}task-failed"
        return
    with backend(home, *ok(task)):
        assert main.run(["task", "show", ID]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "fault       out of fuel" in shown
    assert not any("exit code" in line for line in shown)
