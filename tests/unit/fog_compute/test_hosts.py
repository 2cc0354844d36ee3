"""Addresses: one form for each, however it is written."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.errors import ConfigError
from fog_compute.hosts import (
    bind,
    is_loopback,
    is_wildcard,
    local_host,
    loopback_like,
    may_ask,
    read_host,
    to_bind,
    url_of,
)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        (" 127.0.0.1\n", "127.0.0.1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("::1%lo", "::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("[::FFFF:7f00:1]", "127.0.0.1"),
        ("::ffff:0.0.0.0", "0.0.0.0"),
        ("LOCALHOST", "localhost"),
        ("localhost.", "localhost"),
        ("Fog.Example.", "fog.example"),
        ("[::]", "::"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_host_has_one_form(text: str, host: str) -> None:
    assert read_host(text) == host
    assert read_host(host) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "[]",
        "[localhost]",
        "[127.0.0.1",
        "127.0.0.1:8000",
        "[::1]:8000",
        "http://localhost",
        "*",
        "a b",
        "-x",
        "127.1",
        "0",
        "0x7f000001",
        "127.0.0.256",
        "1.2.3.4.5",
        "fög.example",
        "x" * 64 + "x" * 200,
        "evil\x1b[2J",
    ],
)
def test_what_is_no_host_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_host(text)

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@given(st.text(max_size=30))
def test_any_text_is_a_host_in_its_one_form_or_refused(text: str) -> None:
    try:
        host = read_host(text)
    except ConfigError:
        return
    assert read_host(host) == host
    assert may_ask(host if ":" not in host else f"[{host}]", host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)
    assert not is_wildcard(host)
    assert local_host(host) == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "fe80::1", "fog.example"])
def test_what_others_reach_is_no_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("host", "url", "loopback"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000", "127.0.0.1"),
        ("::", "http://[::1]:8000", "::1"),
        ("::1", "http://[::1]:8000", "::1"),
        ("127.1.2.3", "http://127.1.2.3:8000", "127.1.2.3"),
        ("192.168.1.2", "http://192.168.1.2:8000", "127.0.0.1"),
        ("2001:db8::1", "http://[2001:db8::1]:8000", "::1"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:8000", "::1"),
    ],
)
def test_url_names_no_wildcard_and_the_net_stays_on_loopback_of_the_family(
    host: str, url: str, loopback: str
) -> None:
    assert url_of(host, 8000) == url
    assert loopback_like(host) == loopback


@pytest.mark.parametrize(
    ("bound", "header", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1:8000", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "LOCALHOST.:1", True),
        ("127.0.0.1", "[::1]:8000", True),
        ("127.0.0.1", "192.168.1.2", False),
        ("127.0.0.1", "evil.example", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "127.0.0.1@evil.example", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "::1", False),
        ("0.0.0.0", "192.168.1.2:8000", True),
        ("0.0.0.0", "[2001:db8::1]:8000", True),
        ("0.0.0.0", "evil.example:8000", False),
        ("127.0.0.1", "backend:8000", False),
        ("0.0.0.0", "backend:8000", True),
        ("0.0.0.0", "backend.evil.example:8000", False),
        ("::", "[fe80::1]", True),
        ("::", "127.0.0.1:8000", True),
        ("::", "evil.example", False),
        ("fog.example", "fog.example:8000", True),
        ("fog.example", "FOG.example.", True),
        ("fog.example", "192.168.1.2", True),
        ("fog.example", "evil.example", False),
        ("192.168.1.2", "192.168.1.2:80", True),
    ],
)
def test_name_of_a_stranger_reaches_nothing(bound: str, header: str, allowed: bool) -> None:
    assert may_ask(header, bound) is allowed


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_chosen_port_is_bound_at_the_one_loopback_address_there_is(
    monkeypatch: pytest.MonkeyPatch, family: int, address: str
) -> None:
    monkeypatch.setattr("fog_compute.hosts._family", lambda name: family)
    assert to_bind("localhost") == address
    assert to_bind("0.0.0.0") == "0.0.0.0"


def test_name_binds_one_of_its_addresses() -> None:
    with bind("localhost", 0) as listener:
        assert is_loopback(read_host(listener.getsockname()[0]))


def test_name_without_an_address_is_one_line() -> None:
    with pytest.raises(ConfigError, match="has no address"):
        bind("nowhere.invalid", 0)


def test_taken_port_is_an_error_of_the_system() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            bind("127.0.0.1", other.getsockname()[1])


@pytest.mark.asyncio
async def test_small_answers_leave_at_once() -> None:
    """Without it, each answer in two parts waits 40 ms for the other side's acknowledgement."""
    delay: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def look(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        delay.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with bind("127.0.0.1", 0) as listener:
        async with await asyncio.start_server(look, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            assert await delay == 1
            writer.close()
            await writer.wait_closed()
