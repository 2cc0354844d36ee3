"""`fog health`: an exit code for healthchecks, and the reasons for people."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

import pytest

from fog_compute.cli import main

from .backends import TOKEN, announced

WELL: Final = json.dumps({"status": "ok", "reasons": []}).encode()
ILL: Final = json.dumps(
    {"status": "degraded", "reasons": ["the disk\x1b is full", 3, "b"]}
).encode()


@contextlib.contextmanager
def listening(status: int, body: bytes) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server with one answer; give its URL, and what was asked with which key."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("authorization")))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            serving.join()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    for name in ("FOG_URL", "FOG_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_backend_of_the_home_is_asked_with_its_token(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(200, WELL) as (url, asked), announced(home, url):
        assert main.run(["health"]) == 0
        assert main.run(["health", "--ready"]) == 0
    assert asked == [("/health", f"Bearer {TOKEN}"), ("/ready", f"Bearer {TOKEN}")]
    assert capsys.readouterr().out == "ok\nready\n"


def test_backend_that_is_gone_is_sent_no_token(home: Path) -> None:
    with listening(200, WELL) as (url, asked):
        with announced(home, url):
            pass
        assert main.run(["health"]) == 3
    assert asked == []


def test_what_is_given_is_asked_without_any_key(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOG_KEY", "k" * 40)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with listening(200, WELL) as (url, asked), announced(home, url):
        assert main.run(["health", "--url", f"{url}/"]) == 0
        assert main.run(["health", "--port", url.rpartition(":")[2]]) == 0
    assert asked == [("/health", None)] * 2


def test_reasons_are_told_in_one_line_and_as_json(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(503, ILL) as (url, _):
        assert main.run(["health", "--url", url]) == 1
        assert main.run(["health", "--url", url, "--ready", "--json"]) == 1
    printed = capsys.readouterr()
    first, second = printed.err.splitlines()
    assert first.startswith(f"fog: {url} is not well: the disk")
    assert first.endswith("; b")
    assert "\x1b" not in printed.err
    assert f"{url} would take no task" in second
    told = json.loads(printed.out)
    assert (told["url"], told["well"], len(told["reasons"])) == (url, False, 2)
    assert told["error"]["exit_code"] == 1


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (503, b"{" * 3000, "it does not say why"),
        (503, b'"text"', "it does not say why"),
        (503, b'{"reasons": "text"}', "it does not say why"),
        (503, b"x" * 100_000, "it does not say why"),
        (401, b"", "wants a key"),
        (404, b"", "is it a backend, a worker or the panel"),
        (302, b"", "answered /health with 302"),
        (500, b"", "answered /health with 500"),
    ],
)
def test_other_answers_are_no_good_health(
    home: Path, capsys: pytest.CaptureFixture[str], status: int, body: bytes, says: str
) -> None:
    with listening(status, body) as (url, _):
        assert main.run(["health", "--url", url]) == 1
    assert says in capsys.readouterr().err


def test_silence_and_what_is_no_http_are_told(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fog_compute.cli.health.ANSWER_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert main.run(["health", "--port", str(port)]) == 1  # it is never accepted
        talking = threading.Thread(target=_talk, args=(server,))
        talking.start()
        monkeypatch.setattr("fog_compute.cli.health.ANSWER_S", 30.0)
        assert main.run(["health", "--port", str(port)]) == 1
        talking.join()
    assert main.run(["health", "--port", str(port)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": nothing answers at ")[0] for line in lines] == ["fog"] * 3
    assert "speaks no HTTP" in lines[1]
    assert "refused" in lines[2]


def _talk(server: socket.socket) -> None:
    for _ in range(2):  # the one before hung up
        accepted, _ = server.accept()
        with accepted, contextlib.suppress(ConnectionError):
            accepted.sendall(b"220 mail.example ready\r\n")


@pytest.mark.parametrize(
    "words",
    [
        ("--url", "ftp://localhost"),
        ("--url", "http://"),
        ("--url", "http://user:secret@localhost"),
        ("--url", "http://localhost/health"),
        ("--url", "http://localhost:x"),
        ("--url", "http://localhost:70000"),
        ("--url", "http://local\r\nhost"),
        ("--port", "0"),
        ("--port", "65536"),
        ("--port", "80", "--url", "http://localhost"),
    ],
)
def test_what_cannot_be_asked_is_named(
    home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert main.run(["health", *words]) == 2
    assert "secret" not in capsys.readouterr().err


def test_healthcheck_imports_no_http_library() -> None:
    """It runs several times a minute, all day."""
    program = (
        "import sys\nfrom fog_compute.cli import main\n"
        "main.run(['health', '--port', '1'])\n"
        "print([name for name in ('httpx2', 'pydantic', 'rich.console') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n"
