"""What was said to all who are near, and files that came."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fog_compute.cli import main
from fog_compute.cli.chat.saving import file_name
from tests.unit.fog_compute.cli.backends import MESSAGE, PEER, SENT, backend

ADA = PEER["fingerprint"]
FILE: dict[str, Any] = {**MESSAGE, "kind": "file", "text": None, "name": "a.png", "size": 3}


def ok(*bodies: object) -> list[tuple[int, bytes]]:
    return [
        (200, body if isinstance(body, bytes) else json.dumps(body).encode()) for body in bodies
    ]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    return tmp_path


def message(**changes: object) -> Any:
    return {**MESSAGE, **changes}


def test_the_room_of_all_who_are_near_has_nothing_that_is_for_one(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = [message(position=1, text="for one"), message(position=2, text="for all", to=None)]
    with backend(home, *ok({"messages": mixed, "next": 2})) as asked:
        assert main.run(["chat", "log", "--room", "near", "--json"]) == 0
    assert [one["text"] for one in json.loads(capsys.readouterr().out)] == ["for all"]
    assert "room=&" in asked[0] or asked[0].endswith("room=")
    nobody: tuple[object, ...] = ({"peers": []}, {"groups": []})
    with backend(home, *ok({"messages": mixed, "next": 2}, *nobody)):
        assert main.run(["chat", "log", "--room", "near", "--ids"]) == 0
    assert f"\n{MESSAGE['id']}  " in capsys.readouterr().out
    with backend(home, *ok(SENT)) as asked:
        assert main.run(["chat", "send", "", "--room", "near", "hello"]) == 0
    assert [one.split()[:2] for one in asked] == [["POST", "/api/v1/chat/messages"]]


def test_a_file_is_written_whole_and_over_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = {"messages": [FILE, message(position=8)], "next": 8}
    save = ["chat", "save", "--output-dir", str(home / "got")]
    with backend(home, *ok(log, b"PNG")) as asked:
        assert main.run(save) == 0
    assert (home / "got" / "a.png").read_bytes() == b"PNG"
    assert asked[1].split()[1] == f"/api/v1/chat/messages/{ADA}/{FILE['id']}"
    with backend(home, *ok(log)):
        assert main.run(save) == 1
    assert "--force replaces it" in capsys.readouterr().err
    with backend(home, *ok(log, b"new")):
        assert main.run([*save, "--force", "--id", FILE["id"]]) == 0
    assert (home / "got" / "a.png").read_bytes() == b"new"
    with backend(home, *ok(log)):
        assert main.run([*save, "--id", "other"]) == 1
    assert "no file came with message other" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("a.png", "a.png"),
        ("../../etc/cron.d/x", "x"),
        ("C:\\temp\\x.txt", "x.txt"),
        (".bashrc", "bashrc"),
        ("..", "file-from-adadadad"),
        ("", "file-from-adadadad"),
        ("a/", "file-from-adadadad"),
        ("a\u202egnp.exe", "a gnp.exe"),
        ("a\n\x1b[2Jb", "a [2Jb"),
    ],
)
def test_a_file_gets_a_plain_name_whatever_its_sender_says(said: str, name: str) -> None:
    assert file_name(message(name=said)) == name
