"""Answers of what has the backend's port and is no backend: one line, whatever they hold."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fog_compute.cli import main
from fog_compute.descriptors import LINE_LENGTH
from tests.unit.fog_compute.cli.backends import (
    CIRCUIT,
    ID,
    LEVEL,
    ME,
    NODES,
    PEER,
    ROW,
    STATUS,
    TASK,
    announced,
)

COMMANDS: Final[dict[tuple[str, ...], Any]] = {
    ("status",): STATUS,
    ("worker", "ls"): STATUS,
    ("circuit", "ls"): {"levels": [LEVEL, {**LEVEL, "client": None}]},
    ("circuit", "show", "private"): {**LEVEL, "each": [CIRCUIT]},
    ("node", "ls"): NODES,
    ("node", "show", "0f"): NODES["nodes"][1],
    ("peer", "ls"): {"peers": [PEER]},
    ("chat", "me"): ME,
    ("peer", "card"): ME,
    ("chat", "who"): {"peers": [{"peer": PEER, "ways": {"htx": "address"}}], "reasons": {}},
    ("task", "ls"): {"tasks": [ROW]},
    ("task", "show", ID): TASK,
    ("task", "show", ID, "--wait", "--timeout", "300ms"): TASK,
    ("task", "cancel", ID): {"id": ID, "state": "cancelled"},
}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


class Port:
    """What answers at the backend's port."""

    def __init__(self) -> None:
        self.answer = httpx2.Response(500)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        return self.answer


@pytest.fixture
def port(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Port]:
    port, real, home = Port(), httpx2.Client, tmp_path_factory.mktemp("home")
    transport = httpx2.MockTransport(port)
    monkeypatch.setattr(httpx2, "Client", lambda **options: real(transport=transport, **options))
    monkeypatch.setenv("FOG_HOME", str(home))
    with announced(home, "http://127.0.0.1"):
        yield port


def places(value: object, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to each value in a JSON document."""
    yield at
    inside = dict(enumerate(value)) if isinstance(value, list) else value
    for key, inner in inside.items() if isinstance(inside, dict) else ():
        yield from places(inner, (*at, key))


def replaced(document: object, at: tuple[str | int, ...], value: object) -> object:
    if not at:
        return value
    changed: Any = copy.deepcopy(document)
    inner = changed
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return changed


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_answer_of_the_backend_is_shown(
    command: tuple[str, ...], port: Port, capsys: pytest.CaptureFixture[str]
) -> None:
    port.answer = httpx2.Response(200, json=COMMANDS[command])
    assert main.run([word.replace("300ms", "60s") for word in command]) == 0
    assert capsys.readouterr().out


def test_circuits_are_shown_with_how_their_packets_fare(
    port: Port, capsys: pytest.CaptureFixture[str]
) -> None:
    port.answer = httpx2.Response(200, json={"levels": [LEVEL, {**LEVEL, "client": None}]})
    assert main.run(["circuit", "ls"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    counts = ["private", "2", "3", "1", "1"]
    assert rows == [
        [*counts, "3", "of", "40", "150", "ms", "-", "1", "of", "2", "1"],
        [*counts, "-", "-", "-", "-", "-"],
    ]

    port.answer = httpx2.Response(200, json={**LEVEL, "each": [CIRCUIT]})
    assert main.run(["circuit", "show", "private"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "sessions 2, 1 of them by token" in lines
    assert "circuits 3 in use, 1 draining; 9 made, 5 rotated" in lines
    assert "client 3 of 40 packets lost, 150 ms there and back" in lines
    assert "edge e2: refused, of a former address" in lines
    assert "left out 0f: lost 8 of 9 packets, 1 by chance; tried again in 8 s" in lines
    assert lines[-1] == f"{'c' * 32} active 8 s 0 s 1 2 1.0 KiB 7 B"

    port.answer = httpx2.Response(200, json={**LEVEL, "client": None, "each": []})
    assert main.run(["circuit", "show", "private"]) == 0
    assert "nothing was sent at this level yet" in capsys.readouterr().out

    port.answer = httpx2.Response(200, json=STATUS)
    assert main.run(["status"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "circuits private: 3 of 2 sessions, 1 under way" in lines
    assert "secret: 1 of 1 session, 0 under way" in lines


def test_nodes_are_shown_with_what_the_directory_says_and_what_each_is_to_this_fog(
    port: Port, capsys: pytest.CaptureFixture[str]
) -> None:
    port.answer = httpx2.Response(200, json=NODES)
    assert main.run(["node", "ls"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "net n",
        "consensus of epoch 3, revision 1, until 2026-01-01 00:00:07 UTC",
        "nodes 10: 2 entry, 8 middle; one operator runs all of them: no anonymity",
        "NODE ROLE OPERATOR PREFIX KEYS EDGE OF OURS LEFT OUT",
        f"{'e1' * 8} - - - - refused no",
        f"{'0f' * 8} middle ann 10.1.0.0/16 3-4 no lost 8 of 9, 1 by chance; tried again in 8 s",
    ]

    apart = {**NODES["nodes"][1], "key_epochs": [3, 5]}
    port.answer = httpx2.Response(200, json=apart)
    assert main.run(["node", "show", "0f"]) == 0
    assert "keys of epochs   3,5\n" in capsys.readouterr().out

    port.answer = httpx2.Response(200, json={**NODES, "in_force": False, "nodes": []})
    assert main.run(["node", "ls", "--use", "edge"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    past = "not in force: it holds until 2026-01-01 00:00:07 UTC"
    assert lines[1:] == [f"consensus of epoch 3, revision 1, {past}", lines[2]]

    port.answer = httpx2.Response(200, json=NODES["nodes"][0])
    assert main.run(["node", "show", "E1"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [
        f"node {'e1' * 32}",
        "role none: the consensus does not list it now",
    ]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_any_other_answer_is_one_line_or_shown(
    command: tuple[str, ...],
    port: Port,
    capsys: pytest.CaptureFixture[str],
    data: st.DataObject,
) -> None:
    good = COMMANDS[command]
    at = data.draw(st.sampled_from(list(places(good))))
    body = json.dumps(replaced(good, at, data.draw(anything))).encode()
    port.answer = httpx2.Response(
        data.draw(st.sampled_from([200, 404, 409, 422, 503])), content=body
    )

    code = main.run(list(command))

    shown = capsys.readouterr()
    assert code in (0, 1, 2, 124)
    assert shown.err.count("\n") <= 2  # the second where it waits
    assert all(len(line) <= LINE_LENGTH + 200 for line in shown.err.splitlines())
    assert not {c for c in shown.out + shown.err if not c.isprintable()} - {"\n"}


def test_words_of_a_refusal_are_bounded(port: Port, capsys: pytest.CaptureFixture[str]) -> None:
    port.answer = httpx2.Response(409, json={"detail": "\x1b[2J" + "N" * 5_000_000})
    assert main.run(["status"]) == 1
    error = capsys.readouterr().err
    assert len(error) < 2 * LINE_LENGTH
    assert "\x1b" not in error
