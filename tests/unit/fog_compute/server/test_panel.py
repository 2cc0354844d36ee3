"""The panel's server: its files and nothing else, with headers that hold browsers back."""

from __future__ import annotations

import gzip
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fog_compute.errors import ConfigError
from fog_compute.observability.metrics import PanelMetrics
from fog_compute.server.binding import listen_at
from fog_compute.server.panel.__main__ import _parser
from fog_compute.server.panel.app import panel_app
from fog_compute.server.panel.files import STATIC, load

Panel = Callable[..., httpx2.AsyncClient]


def panel(bound: str = "127.0.0.1", metrics: PanelMetrics | None = None) -> httpx2.AsyncClient:
    app = panel_app(load(STATIC), bound=bound, metrics=metrics or PanelMetrics())
    transport = httpx2.ASGITransport(app=app)
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:3000")


class _Page(HTMLParser):
    """What a browser would fetch of a page, and what names its parts for people who hear it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.mark.asyncio
async def test_page_and_all_that_it_refers_to_is_served() -> None:
    """INV-MON-08."""
    async with panel() as client:
        page = await client.get("/")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        told = _Page(page.text)
        kinds = {}
        for link in told.of("link") + told.of("img"):
            found = await client.get(str(link.get("href") or link.get("src")))
            assert found.status_code == 200
            kinds[found.headers["content-type"]] = found.content
        assert kinds.keys() == {"text/css; charset=utf-8", "image/svg+xml"}
        for link in told.of("a"):
            href = str(link["href"])
            if href.startswith("/"):
                assert (await client.get(href)).status_code == 200
    assert not told.of("script")
    assert not re.search(r"\son\w+=|\sstyle=|javascript:", page.text)
    assert told.of("html") == [{"lang": "en"}]
    assert all("alt" in image for image in told.of("img"))
    ids = {attrs["id"] for _, attrs in told.tags if "id" in attrs}
    assert {attrs["aria-labelledby"] for attrs in told.of("section")} <= ids
    assert [tag for tag, _ in told.tags if tag in ("main", "header", "footer")] == [
        "header",
        "main",
        "footer",
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("bound", "host", "shown"),
    [
        ("127.0.0.1", "localhost:3000", "localhost"),
        ("127.0.0.1", "[::1]:3000", "[::1]"),
        ("0.0.0.0", "192.0.2.7:3000", "192.0.2.7"),
        ("0.0.0.0", "frontend:3000", "frontend"),
    ],
)
async def test_links_lead_to_where_the_page_is_read(bound: str, host: str, shown: str) -> None:
    async with panel(bound) as client:
        text = (await client.get("/", headers={"host": host})).text
    hrefs = [str(link["href"]) for link in _Page(text).of("a")]
    far = [href for href in hrefs if href.startswith("http")]
    assert len(far) == 4
    assert all(href.startswith(f"http://{shown}:") for href in far)


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["evil.example", 'x"><b>', "", "127.0.0.1.evil.example:3000"])
async def test_page_of_a_stranger_cannot_ask_under_its_own_name(host: str) -> None:
    """INV-MON-08."""
    async with panel() as client:
        answer = await client.get("/", headers={"host": host})
    assert answer.status_code == 400
    assert "evil" not in answer.text


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/", "/assets/panel.css", "/health", "/metrics", "/nothing"])
async def test_every_answer_holds_browsers_back(path: str) -> None:
    """INV-MON-08."""
    async with panel() as client:
        headers = (await client.get(path)).headers
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "path",
    [
        "/index.htm",
        "/index.html",
        "/assets",
        "/assets/",
        "/assets/../files.py",
        "/assets/%2e%2e/%2e%2e/files.py",
        "/..%2fapp.py",
        "//etc/passwd",
        "/assets/panel.css/",
        "/assets/PANEL.CSS",
        "/%00",
    ],
)
async def test_nothing_beside_the_files_is_served(path: str) -> None:
    """INV-MON-08."""
    metrics = PanelMetrics()
    async with panel(metrics=metrics) as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.text) == (404, "there is no such page\n")
    seen = metrics.registry.value(
        "http_requests_total", method="GET", route="unmatched", status="404"
    )
    assert seen == 1


@pytest.mark.asyncio
async def test_only_reading_is_answered() -> None:
    """INV-MON-08."""
    async with panel() as client:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"):
            answer = await client.request(method, "/")
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.asyncio
async def test_what_has_not_changed_is_not_sent_again_and_text_is_packed() -> None:
    async with panel() as client:
        first = await client.get("/", headers={"accept-encoding": "gzip"})
        assert first.headers["content-encoding"] == "gzip"
        assert first.headers["vary"] == "accept-encoding"
        plain = await client.get("/", headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.text == first.text
        again = await client.get("/", headers={"if-none-match": f'"x", {first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        other = {"host": "localhost", "if-none-match": first.headers["etag"]}
        assert (await client.get("/", headers=other)).status_code == 200


@pytest.mark.asyncio
async def test_requests_are_counted_by_route() -> None:
    """INV-MON-08."""
    metrics = PanelMetrics()
    async with panel(metrics=metrics) as client:
        for path in ("/", "/assets/panel.css", "/assets/fog.svg", "/health", "/x", "/y"):
            await client.get(path)
        text = (await client.get("/metrics")).text
        assert (
            (await client.get("/metrics"))
            .headers["content-type"]
            .startswith("text/plain; version=0.0.4")
        )
    for route, status, count in (
        ("/", 200, 1),
        ("/assets", 200, 2),
        ("/health", 200, 1),
        ("unmatched", 404, 2),
    ):
        line = f'http_requests_total{{method="GET",route="{route}",status="{status}"}} {count}.0'
        assert line in text.splitlines()
    assert "fog_build_info{" in text


def test_folder_is_read_without_what_leads_out_of_it(tmp_path: Path) -> None:
    """INV-MON-08."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    folder = tmp_path / "panel"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<p>")
    (folder / "assets" / "a.js").write_text("a" * 1000)
    (folder / "assets" / "a.js.map").write_text("{}")
    (folder / ".env").write_text("KEY=x")
    (folder / "link.txt").symlink_to(secret)
    (folder / "out").symlink_to(tmp_path)
    found = load(folder)
    assert found.keys() == {"/", "/assets/a.js"}
    assert gzip.decompress(found["/assets/a.js"].zipped) == b"a" * 1000
    assert found["/"].zipped == b""  # it would be longer


@pytest.mark.parametrize("made", [False, True])
def test_folder_without_a_page_is_named(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "panel"
    if made:
        folder.mkdir()
    with pytest.raises(ConfigError, match="it has no index"):
        load(folder)


def test_process_says_where_it_is_and_ends_when_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fog_compute.server.panel", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        ready: dict[str, Any] = json.loads(process.stdout.readline())
        assert ready["event"] == "ready"
        assert str(ready["url"]).startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{ready['url']}/health", timeout=20) as answer:
            assert json.load(answer)["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.parametrize("port", ["70000", "-1", "", "3e3", "9" * 5000])
def test_port_that_there_is_not_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args([f"--port={port}"])
    assert ended.value.code == 2
    assert "give a port from 0 to 65535" in capsys.readouterr().err


def test_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is taken"):
            listen_at("127.0.0.1", port)
