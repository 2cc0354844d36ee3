"""Where a backend is looked for, and what is said where it is not there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from fog_compute.client import asking as rules
from fog_compute.client.asking import Asking
from fog_compute.client.backend import Backend
from fog_compute.client.connection import Absent
from fog_compute.client.loops import AsyncBackend
from fog_compute.client.places import Home, Place, Remote, place_from_environment
from fog_compute.config import load_settings
from fog_compute.errors import (
    PROBLEM,
    BackendError,
    ConfigError,
    FogError,
    NotRunning,
    ServiceUnavailable,
    StoreAway,
    Unauthorised,
)
from fog_compute.layout import HomeLayout
from tests.certificates import write_pair
from tests.unit.fog_compute.cli.backends import ID, announced, backend

KEY = "fog_" + "k" * 40
URL = "https://fog.example.org:8000"


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HomeLayout:
    """A home without a fog, that of the environment."""
    for name in ("FOG_URL", "FOG_KEY", "FOG_CA", "FOG_ALLOW_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    return HomeLayout(tmp_path)


def test_the_environment_names_the_place(
    layout: HomeLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(place_from_environment(), Home)
    monkeypatch.setenv("FOG_URL", URL)
    with pytest.raises(ConfigError, match=r"needs a key, as `fog key create` makes one"):
        place_from_environment()
    monkeypatch.setenv("FOG_KEY", KEY)
    found = place_from_environment().find()
    assert (str(found.url), found.token, found.trusted) == (f"{URL}/", KEY, True)
    assert found.options()["headers"]["authorization"] == f"Bearer {KEY}"
    assert found.alive()
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    "url",
    ["fog", "ftp://fog", "https://", "https://a:b", "http://fog/\udcff", "//fog", "x" * 999],
)
def test_a_url_that_is_none_is_named(layout: HomeLayout, url: str) -> None:
    with pytest.raises(ConfigError, match="is none of a backend") as caught:
        Remote(layout, url, KEY)
    assert len(str(caught.value)) < 400


def test_a_url_with_a_secret_in_it_is_not_repeated(layout: HomeLayout) -> None:
    with pytest.raises(ConfigError, match="names a user") as caught:
        Remote(layout, "https://user:secret@fog", KEY)
    assert "secret" not in str(caught.value)


def test_a_key_travels_in_clear_only_where_that_is_meant(
    layout: HomeLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("http://127.0.0.1:1", "http://[::1]:1", "http://localhost"):
        Remote(layout, url, KEY)
    with pytest.raises(ConfigError, match="would have the key travel in clear"):
        Remote(layout, "http://192.0.2.7:8000", KEY)
    monkeypatch.setenv("FOG_ALLOW_REMOTE", "1")
    Remote(layout, "http://192.0.2.7:8000", KEY)


@pytest.mark.parametrize(
    "word", ["1", "true", "True", "t", "yes", "Y", "on", "0", "false", "no", "off", "F", "n", ""]
)
def test_what_allows_a_key_in_clear_is_read_as_the_settings_read_it(
    layout: HomeLayout, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("FOG_ALLOW_REMOTE", word)
    if load_settings(home=layout.root).allow_remote:
        Remote(layout, "http://192.0.2.7:8000", KEY)
    else:
        with pytest.raises(ConfigError, match="would have the key travel in clear"):
            Remote(layout, "http://192.0.2.7:8000", KEY)


def test_certificates_that_cannot_be_used_are_named(layout: HomeLayout) -> None:
    with pytest.raises(ConfigError, match=r"certificates .*none\.pem cannot be used: No such file"):
        Remote(layout, URL, KEY, str(layout.root / "none.pem"))
    (layout.root / "empty.pem").write_text("x")
    with pytest.raises(ConfigError, match="it holds no certificate"):
        Remote(layout, URL, KEY, str(layout.root / "empty.pem"))


def test_a_key_that_is_none_is_refused(layout: HomeLayout) -> None:
    with pytest.raises(ConfigError, match="FOG_KEY is no key"):
        Remote(layout, URL, "a\nb")


def test_a_remote_backend_is_waited_for_once_it_has_answered(layout: HomeLayout) -> None:
    place = Remote(layout, URL, KEY)
    lost: list[str] = []
    first = Asking(place, lost.append, repeatable=True)
    first.failed(httpx2.ConnectError("refused"), URL)
    with pytest.raises(NotRunning, match=r"no backend answers at https://fog\.example\.org:8000"):
        first.wait(0.0)

    assert first.answered(httpx2.Response(200))
    second = Asking(place, lost.append, repeatable=True)
    second.failed(httpx2.ReadError("broke"), URL)
    second.wait(10.0)
    second.wait(10.0 + rules.RECONNECT_S)
    assert lost == [rules.WAITING]
    with pytest.raises(BackendError, match="does not come back, and may have done"):
        second.wait(10.1 + rules.RECONNECT_S)


@pytest.mark.parametrize("repeatable", [False, True])
def test_what_may_have_arrived_is_sent_again_only_where_it_may_arrive_twice(
    layout: HomeLayout, *, repeatable: bool
) -> None:
    request = Asking(Remote(layout, URL, KEY), lambda _: None, repeatable=repeatable)
    request.failed(Absent(gone=True), URL)
    request.failed(httpx2.ConnectError("refused"), URL)
    if repeatable:
        request.failed(httpx2.ReadError("broke"), URL)
    else:
        with pytest.raises(BackendError, match="may be done or not"):
            request.failed(httpx2.ReadError("broke"), URL)
    with pytest.raises(BackendError, match="a firewall"):
        request.failed(httpx2.ConnectTimeout("slow"), URL)
    with pytest.raises(BackendError, match="did not answer in time"):
        request.failed(httpx2.ReadTimeout("slow"), URL)


def later(status: int, seconds: str, kind: str = "store-away") -> httpx2.Response:
    body = {"type": PROBLEM + kind, "detail": "it is away"}
    return httpx2.Response(status, json=body, headers={"retry-after": seconds})


def test_what_is_to_be_asked_later_is_asked_when_the_backend_says(layout: HomeLayout) -> None:
    """INV-API-60."""
    lost: list[str] = []
    request = Asking(Remote(layout, URL, KEY), lost.append, repeatable=True)
    for now, status, seconds in ((0.0, 503, 2), (2.0, 429, 41), (43.0, 503, 0)):
        assert not request.answered(later(status, str(seconds)))
        assert request.wait(now) == max(seconds, rules.RECONNECT_PAUSE_S)
    assert lost == ["waiting: it is away"]

    assert not request.answered(later(503, "2"))
    with pytest.raises(StoreAway, match=r"it is away \(asked again for 1 min 59 s\)"):
        request.wait(rules.LATER_S - 1)


def test_a_wait_that_is_too_long_is_not_begun(layout: HomeLayout) -> None:
    """INV-API-60."""
    request = Asking(Remote(layout, URL, KEY), lambda _: None, repeatable=True)
    assert not request.answered(later(429, str(int(rules.LATER_S) + 7), "rate-limited"))
    with pytest.raises(BackendError, match=r"^it is away$") as caught:
        request.wait(3.0)
    assert caught.value.problem == f"{PROBLEM}rate-limited"


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (later(429, "1"), True),  # it was not done
        (later(503, "1"), False),
        (later(500, "1"), False),
        (httpx2.Response(429, json={"detail": "too many"}), False),
        (later(429, "Fri, 27 Nov 2026 07:00:00 GMT"), False),
    ],
)
def test_what_may_be_done_is_asked_later_only_where_it_was_not(
    layout: HomeLayout, answer: httpx2.Response, *, again: bool
) -> None:
    """INV-API-60."""
    request = Asking(Remote(layout, URL, KEY), lambda _: None, repeatable=False)
    if again:
        assert not request.answered(answer)
    else:
        with pytest.raises(FogError):
            request.answered(answer)


def test_a_certificate_that_is_not_trusted_is_told(layout: HomeLayout) -> None:
    error = httpx2.ConnectError("no")
    cause = ssl.SSLCertVerificationError(1, "self-signed certificate")
    cause.verify_message = "self-signed certificate"
    error.__cause__ = cause
    request = Asking(Remote(layout, URL, KEY), lambda _: None, repeatable=True)
    with pytest.raises(BackendError, match=r"does not prove itself \(self-signed.*FOG_CA"):
        request.failed(error, URL)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, r"^the backend at https://.* does not take the key .*\(FOG_KEY\): .* was revoked$"),
        (403, "^it lacks a scope$"),
    ],
)
def test_a_key_that_is_not_taken_is_an_error_of_its_own(
    layout: HomeLayout, status: int, text: str
) -> None:
    request = Asking(Remote(layout, URL, KEY), lambda _: None, repeatable=True)
    with pytest.raises(Unauthorised, match=text):
        request.answered(httpx2.Response(status, json={"detail": "it lacks a scope"}))


def test_a_token_that_is_not_taken_is_named(layout: HomeLayout) -> None:
    request = Asking(Home(layout), lambda _: None, repeatable=True)
    with pytest.raises(Unauthorised, match=f"does not take the token in {layout.token_file}$"):
        request.answered(httpx2.Response(401, json={"detail": "needs a key"}))


def test_an_address_without_tls_that_answers_nothing_may_want_https(layout: HomeLayout) -> None:
    place = Remote(layout, "http://127.0.0.2:8000", KEY)
    assert "https where it has a certificate" in str(place.away())


def asked(home: Path | Place, *, in_loop: bool) -> tuple[dict[str, str], bytes]:
    """Ask the same of a backend by either way."""
    place = Home(HomeLayout(home)) if isinstance(home, Path) else home
    if not in_loop:
        with Backend(place) as blocking:
            return blocking.get("/x", dict[str, str]), blocking.whole("/y")

    async def ask() -> tuple[dict[str, str], bytes]:
        loops = AsyncBackend(place)
        await loops.open()
        try:
            return await loops.get("/x", dict[str, str]), await loops.whole("/y")
        finally:
            await loops.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("in_loop", [False, True])
def test_both_ways_ask_again_and_fail_by_the_same_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_loop: bool
) -> None:
    monkeypatch.setattr(rules, "RECONNECT_PAUSE_S", 0)
    stopping = b'{"type": "urn:fog-compute:problem:stopping", "detail": "on its way out"}'
    too_many = b'{"type": "urn:fog-compute:problem:rate-limited", "detail": "too many"}'
    with backend(
        tmp_path,
        None,
        (503, stopping),
        (429, too_many, "0"),
        (200, b'{"id": "%b"}' % ID.encode()),
        None,
        (503, b'{"detail": "the database is away"}', "0"),
        (200, b"bytes"),
    ) as seen:
        assert asked(tmp_path, in_loop=in_loop) == ({"id": ID}, b"bytes")
    assert seen == ["GET /x"] * 4 + ["GET /y"] * 3
    with (
        backend(tmp_path, (503, b'{"detail": "the store starts"}')),
        pytest.raises(ServiceUnavailable, match="the store starts"),
    ):
        asked(tmp_path, in_loop=in_loop)
    with (
        backend(tmp_path, (200, b"no json")),
        pytest.raises(BackendError, match="is it another program"),
    ):
        asked(tmp_path, in_loop=in_loop)
    with pytest.raises(NotRunning):
        asked(tmp_path, in_loop=in_loop)


@contextlib.contextmanager
def renewing(home: Path) -> Iterator[tuple[Callable[[], None], threading.Event, threading.Event]]:
    """A backend that proves itself anew when told to, though no fog brings it back.

    It says that ``/slow`` has come, and answers that when it is told to.
    """
    came, go_on = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow":
                came.set()
                go_on.wait(30)
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
        contextlib.ExitStack() as later,
        contextlib.ExitStack() as first,
    ):
        url = f"http://127.0.0.1:{server.server_port}"
        path = first.enter_context(announced(home, url))

        def renew() -> None:
            path.unlink()
            later.enter_context(announced(home, url))
            first.close()

        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield renew, came, go_on
        finally:
            go_on.set()
            server.shutdown()
            serving.join()


def test_a_backend_that_proves_itself_anew_was_not_away(tmp_path: Path) -> None:
    """INV-API-17."""
    lost: list[str] = []
    with renewing(tmp_path) as (renew, *_), Backend(Home(HomeLayout(tmp_path))) as asking:
        asking.on_lost = lost.append
        asking.get("/x", dict)
        renew()
        asking.get("/x", dict)
    assert not lost


@pytest.mark.asyncio
async def test_what_is_under_way_while_a_backend_proves_itself_anew_goes_on(tmp_path: Path) -> None:
    """INV-API-17: also what may not arrive twice."""
    loops = AsyncBackend(Home(HomeLayout(tmp_path)))
    with renewing(tmp_path) as (renew, came, go_on):
        await loops.open()
        slow = asyncio.create_task(loops.post("/slow", dict))
        await asyncio.to_thread(came.wait, 30)
        renew()
        assert await loops.get("/x", dict) == {}
        go_on.set()
        assert await slow == {}
        await loops.close()


@contextlib.contextmanager
def with_tls(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    """Something that speaks TLS and answers each request with whose key it came; its URL and CA."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"key": self.headers["authorization"]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    cert, key = write_pair(folder, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}", str(cert)
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.parametrize("in_loop", [False, True])
def test_a_backend_elsewhere_is_believed_by_its_certificate(
    layout: HomeLayout, *, in_loop: bool
) -> None:
    with with_tls(layout.root, "127.0.0.1") as (url, ca):
        found, _ = asked(Remote(layout, url, KEY, ca), in_loop=in_loop)
        assert found == {"key": f"Bearer {KEY}"}
        with pytest.raises(BackendError, match=r"does not prove itself \(self-signed"):
            asked(Remote(layout, url, KEY), in_loop=in_loop)
    with (
        with_tls(layout.root, "another.example.org") as (url, ca),
        pytest.raises(BackendError, match="does not prove itself"),
    ):
        asked(Remote(layout, url, KEY, ca), in_loop=in_loop)


@pytest.mark.parametrize("in_loop", [False, True])
def test_what_speaks_no_tls_is_said_to(layout: HomeLayout, *, in_loop: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as plain:
                plain.recv(4096)
                plain.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(BackendError, match=r"speaks no TLS \(WRONG_VERSION_NUMBER\).*and http"):
            asked(Remote(layout, url, KEY), in_loop=in_loop)
        answering.join()


def test_tls_that_breaks_off_is_a_broken_connection_and_no_distrust(layout: HomeLayout) -> None:
    """A backend that ends in the middle of a handshake comes back."""
    request = Asking(Remote(layout, URL, KEY), lambda _: None, repeatable=True)
    error = httpx2.ConnectError("EOF")
    error.__cause__ = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")

    request.failed(error, URL)
