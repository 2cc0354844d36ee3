"""TLS: certificates that are judged before they are used, and a backend that has one."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from fog_compute.client.backend import Backend
from fog_compute.client.connection import Address, pinned
from fog_compute.client.places import Home, Remote
from fog_compute.config import load_settings
from fog_compute.errors import BackendError, ConfigError
from fog_compute.hosts import may_ask
from fog_compute.layout import HomeLayout
from fog_compute.server.listener import BoundedServer, Connection, Listener, Places
from fog_compute.server.process import names_of
from fog_compute.server.renewal import Renewal
from fog_compute.server.tls import Tls, load_tls
from fog_compute.testing import ManualClock
from tests.certificates import DAY, write_pair
from tests.namespaces import in_net_namespace

NOW = datetime.now(UTC)
START_S = 60.0


def gone(cert: Path, key: Path) -> None:
    cert.unlink()


def keyless(cert: Path, key: Path) -> None:
    key.unlink()


def empty(cert: Path, key: Path) -> None:
    cert.write_text("not a certificate")


def folder(cert: Path, key: Path) -> None:
    key.unlink()
    key.mkdir()


def garbage(cert: Path, key: Path) -> None:
    key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def swapped(cert: Path, key: Path) -> None:
    other = cert.parent / "other"
    other.mkdir()
    key.write_bytes(write_pair(other, "x")[1].read_bytes())


def expired(cert: Path, key: Path) -> None:
    write_pair(cert.parent, "x", begins=-2 * DAY, ends=-DAY)


def early(cert: Path, key: Path) -> None:
    write_pair(cert.parent, "x", begins=DAY, ends=2 * DAY)


def locked(cert: Path, key: Path) -> None:
    write_pair(cert.parent, "x", password=b"secret")


def open_to_others(cert: Path, key: Path) -> None:
    key.chmod(0o644)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (gone, "the certificate {cert} (FOG_TLS_CERT) cannot be read: No such file or directory"),
        (keyless, "the key {key} (FOG_TLS_KEY) cannot be read: No such file or directory"),
        (folder, "the key {key} (FOG_TLS_KEY) cannot be read: Is a directory"),
        (empty, "the certificate {cert} (FOG_TLS_CERT) is none in PEM"),
        (garbage, "the key {key} (FOG_TLS_KEY) is none in PEM"),
        (swapped, "the key {key} (FOG_TLS_KEY) does not belong to the certificate"),
        (expired, "the certificate {cert} (FOG_TLS_CERT) expired at "),
        (early, "the certificate {cert} (FOG_TLS_CERT) is good only from "),
        (locked, "the key {key} (FOG_TLS_KEY) has a password"),
        (open_to_others, "the key {key} (FOG_TLS_KEY) is open to everybody on this machine"),
    ],
)
def test_certificate_that_cannot_be_used_is_named(
    tmp_path: Path, spoil: Callable[[Path, Path], None], says: str
) -> None:
    """INV-API-13."""
    cert, key = write_pair(tmp_path, "fog.example.org")
    spoil(cert, key)

    with pytest.raises(ConfigError) as refused:
        load_tls(cert, key, NOW)

    assert str(refused.value).startswith(says.format(cert=cert, key=key))
    assert "BEGIN PRIVATE KEY-----" not in str(refused.value)


def test_certificate_says_under_which_names_the_backend_is_asked(tmp_path: Path) -> None:
    """INV-API-14."""
    names = load_tls(*write_pair(tmp_path, "Fog.Example.org", "*.lab.example", "192.0.2.7"), NOW)

    assert names.names == {"fog.example.org", "*.lab.example"}
    for asked, may in {
        "fog.example.org:8000": True,
        "a.lab.example": True,
        "a.b.lab.example": False,
        "lab.example": False,
        "evil.example": False,
        "*.lab.example": False,
    }.items():
        assert may_ask(asked, "0.0.0.0", names.names) is may, asked  # what is bound


def test_names_that_were_given_are_beside_those_of_the_certificate(tmp_path: Path) -> None:
    """INV-API-14."""
    given = load_settings(home=tmp_path, names="Backend,proxy.example")
    tls = load_tls(*write_pair(tmp_path, "fog.example.org"), NOW)

    assert names_of(given, None) == {"backend", "proxy.example"}
    assert names_of(given, tls) == {"backend", "proxy.example", "fog.example.org"}
    assert names_of(load_settings(home=tmp_path), None) == frozenset()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"host": "0.0.0.0"}, "keys would travel in clear"),  # what is bound
        ({"tls_cert": "/c.pem"}, "belong together"),
        ({"tls_key": "/k.pem"}, "belong together"),
        ({"tls_cert": "c.pem", "tls_key": "/k.pem"}, "give its whole path"),
    ],
)
def test_settings_of_tls_that_cannot_be_meant_are_refused(
    tmp_path: Path, given: dict[str, str], says: str
) -> None:
    """INV-API-13."""
    with pytest.raises(ConfigError, match=says):
        load_settings(home=tmp_path, **given)


def test_address_for_others_needs_tls_or_a_word(tmp_path: Path) -> None:
    """INV-API-13."""
    tls = {"tls_cert": "/c.pem", "tls_key": "/k.pem"}
    for more in ({"allow_remote": True}, tls):
        assert load_settings(home=tmp_path, host="192.0.2.7", **more).host == "192.0.2.7"


@pytest.mark.asyncio
async def test_renewed_certificate_is_taken_and_one_that_cannot_be_used_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """INV-API-17."""
    clock = ManualClock(NOW)
    cert, key = write_pair(tmp_path, "one.example")
    heard: list[Tls] = []
    renewal = Renewal(cert, key, load_tls(cert, key, NOW), clock, heard.append)
    await renewal.look()
    assert not heard
    assert renewal.tls.names == {"one.example"}

    (tmp_path / "new").mkdir()
    fresh, fresh_key = write_pair(tmp_path / "new", "two.example")
    fresh.replace(cert)  # its key is not there yet
    for _ in range(3):
        await renewal.look()
    assert not heard
    assert renewal.tls.names == {"one.example"}
    fresh_key.replace(key)
    for _ in range(3):
        await renewal.look()
    assert [tls.names for tls in heard] == [{"two.example"}]
    assert renewal.tls is heard[0]
    logged = re.findall(r"certificate\.\w+", capsys.readouterr().out)
    assert logged == ["certificate.not_renewed", "certificate.renewed"]

    cert.unlink()
    await renewal.look()
    write_pair(tmp_path, "three.example", begins=DAY, ends=3 * DAY)
    await renewal.look()
    await clock.advance(2 * DAY.total_seconds())
    await renewal.look()  # the files are the same, and are good now
    assert renewal.tls.names == {"three.example"}


@pytest.mark.asyncio
@pytest.mark.parametrize("where", ["at the files", "where it is told"])
async def test_a_machine_that_refuses_something_delays_a_renewal_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """INV-API-17: such as a thread, or room on the disk."""
    cert, key = write_pair(tmp_path, "one.example")
    refusals = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]
    heard: list[Tls] = []

    def refuse() -> None:
        if refusals:
            raise refusals.pop()

    def load(*given: Any) -> Tls:
        if where == "at the files":
            refuse()
        return load_tls(*given)

    def renewed(tls: Tls) -> None:
        if where == "where it is told":
            refuse()
        heard.append(tls)

    clock = ManualClock(NOW)
    renewal = Renewal(cert, key, load_tls(cert, key, NOW), clock, renewed)
    monkeypatch.setattr("fog_compute.server.renewal.load_tls", load)
    (tmp_path / "new").mkdir()
    for fresh, old in zip(write_pair(tmp_path / "new", "two.example"), (cert, key), strict=True):
        fresh.replace(old)

    await renewal.look()
    assert not heard
    assert renewal.tls.names == {"one.example"}
    await renewal.look()
    assert [tls.names for tls in heard] == [{"two.example"}]
    assert renewal.tls is heard[0]


@pytest.mark.asyncio
async def test_connections_after_a_renewal_see_the_new_certificate(tmp_path: Path) -> None:
    """INV-API-17."""
    contexts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        contexts.append(load_tls(*write_pair(tmp_path / name, "127.0.0.1"), NOW).context)
    config = uvicorn.Config(PlainTextResponse("served"), lifespan="off", log_config=None)
    server = BoundedServer(config, lambda: None, places=9, tls=contexts[0])
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        for name, context in zip("ab", contexts, strict=True):
            server.renew(context)
            trusting = ssl.create_default_context(cafile=tmp_path / name / "cert.pem")
            url = f"https://127.0.0.1:{listening.getsockname()[1]}"
            async with httpx2.AsyncClient(verify=trusting, trust_env=False) as http:
                assert (await http.get(url)).text == "served"
        server.should_exit = True
        await serving


@pytest.mark.asyncio
async def test_whoever_does_not_go_on_with_tls_gives_way(tmp_path: Path) -> None:
    """INV-API-15: silent connections take no place from who speaks, nor time at the end."""
    context = load_tls(*write_pair(tmp_path, "127.0.0.1"), NOW).context
    met = asyncio.Event()

    class Met(Connection):
        def __init__(self) -> None:
            pass

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its own
            self.transport = transport
            met.set()

        def connection_lost(self, exc: Exception | None) -> None:
            pass

        def eof_received(self) -> None:
            pass

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        listener = Listener(listening, Places(20), Met, context)
        silent = [socket.create_connection(listening.getsockname()) for _ in range(30)]
        trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        async with asyncio.timeout(START_S):
            _, writer = await asyncio.open_connection(*listening.getsockname(), ssl=trusting)
            await met.wait()
        writer.transport.abort()
        listener.close()
        async with asyncio.timeout(5):
            await listener.wait_closed()
    for one in silent:
        one.close()


def test_backend_with_a_certificate_is_asked_here_and_from_elsewhere(tmp_path: Path) -> None:
    """INV-API-14, INV-API-09: with its certificate alone, whatever names it is for."""
    home = tmp_path / "home"
    cert, key = write_pair(tmp_path, "127.0.0.1", "fog.example.org")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FOG_")},
        "FOG_TLS_CERT": str(cert),
        "FOG_TLS_KEY": str(key),
        "FOG_HOST": "0.0.0.0",  # what is tried
    }
    command = [sys.executable, "-m", "fog_compute.server", "--home", str(home), "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            url = httpx2.URL(ready["url"])
            layout = HomeLayout(home)
            token = layout.token_file.read_text()

            assert url.scheme == "https"
            with Backend(Home(layout)) as backend:
                assert backend.get("/api/v1/login", dict)["key_id"] == "local"
            with Backend(Remote(layout, str(url), token, str(cert))) as backend:
                assert backend.get("/api/v1/login", dict)["key_id"] == "local"
            with (
                Backend(Remote(layout, str(url), token)) as backend,
                pytest.raises(BackendError, match="does not prove itself"),
            ):
                backend.get("/api/v1/login", dict)
            trusting = ssl.create_default_context(cafile=cert)
            with httpx2.Client(verify=trusting, trust_env=False) as http:
                answer = http.get(url.join("/health"), headers={"host": "fog.example.org"})
                foreign = http.get(url.join("/health"), headers={"host": "evil.example"})
            assert answer.status_code in (200, 503)
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            assert foreign.status_code == 400
            with (
                socket.create_connection((url.host, url.port or 0)) as plain,
                trusting.wrap_socket(plain, server_hostname="127.0.0.1") as spoken,
            ):
                spoken.sendall(b"\0 is no HTTP\r\n\r\n")
                heard = b"".join(iter(lambda: spoken.recv(4096), b""))
            head = heard.partition(b"\r\n\r\n")[0].lower()
            assert head.startswith(b"http/1.1 400 bad request")
            assert b"x-content-type-options: nosniff" in head
            assert b"strict-transport-security" in head
            address = Address.of_home(layout)
            assert isinstance(address.trusted, ssl.SSLContext)
            address.close()
        finally:
            process.terminate()


def test_certificate_that_is_not_the_backends_is_not_believed(tmp_path: Path) -> None:
    """INV-API-14: also if it is for the same names."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    server = load_tls(*write_pair(tmp_path / "a", "127.0.0.1"), NOW).context
    client = pinned(write_pair(tmp_path / "b", "127.0.0.1")[0].read_text())
    ins, outs = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(ins, outs, server_side=True)
    here = client.wrap_bio(outs, ins)
    for side in (here, there):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()

    with pytest.raises(ssl.SSLCertVerificationError):
        here.do_handshake()


ASKED_HERE: Final = """
import json, subprocess, sys
from pathlib import Path
from fog_compute.client.backend import Backend
from fog_compute.client.places import Home
from fog_compute.layout import HomeLayout
home, host = sys.argv[1:]
command = [sys.executable, "-m", "fog_compute.server", "--home", home, "--host", host, "--port=0"]
with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
    try:
        json.loads(process.stdout.readline())["url"]
        with Backend(Home(HomeLayout(Path(home)))) as backend:
            print(backend.get("/api/v1/login", dict)["key_id"])
    finally:
        process.terminate()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "198.51.100.7", "2001:db8::7"],
)
def test_backend_at_any_address_answers_the_commands_of_its_home(tmp_path: Path, host: str) -> None:
    """INV-API-14."""
    cert, key = write_pair(tmp_path, "fog.example.org")
    command = (sys.executable, "-c", ASKED_HERE, str(tmp_path / "home"), host)
    done = subprocess.run(
        in_net_namespace("198.51.100.7/32 2001:db8::7/128", *command),
        env={**os.environ, "FOG_TLS_CERT": str(cert), "FOG_TLS_KEY": str(key)},
        capture_output=True,
        check=False,
        text=True,
        timeout=100,
    )

    assert done.stdout == "local\n", done.stderr
