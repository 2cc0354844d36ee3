"""The scan that other tests rely on finds what it looks for."""

from __future__ import annotations

import base64
import os
import socket
import struct
import sys
from pathlib import Path

import pytest

from tests.memory import address_canary, in_folder, in_memory, text_canary

SECRET = os.urandom(24)
CANARY = text_canary("secret", SECRET)


@pytest.mark.parametrize(
    "form",
    [
        lambda raw: b"x" + raw + b"y",
        lambda raw: raw.hex().encode(),
        lambda raw: raw.hex().upper().encode(),
        lambda raw: base64.b64encode(b"a" + raw + b"bcd"),
        lambda raw: base64.urlsafe_b64encode(b"ab" + raw),
        lambda raw: base64.b64encode(raw),
    ],
)
def test_canary_is_found_however_it_is_written(form: object) -> None:
    assert CANARY.found(form(SECRET))  # type: ignore[operator]  # one of those above
    assert not CANARY.found(form(os.urandom(24)))  # type: ignore[operator]  # one of those above


def test_address_is_found_as_text_and_as_systems_keep_it() -> None:
    canary = address_canary("address", "10.2.0.1")
    as_ipv6 = socket.inet_pton(socket.AF_INET6, "::ffff:10.2.0.1")
    family = socket.AF_INET.to_bytes(2, sys.byteorder)
    of_kernel = struct.pack("2sH4s8x", family, 80, socket.inet_aton("10.2.0.1"))
    for data in (b"at 10.2.0.1:80", b"10.2.0.1".hex().encode(), as_ipv6, of_kernel):
        assert canary.found(data)
    assert not canary.found(b"10.3.0.1 \x0a\x02\x00\x01")


def test_own_memory_holds_what_this_process_knows() -> None:
    assert in_memory(os.getpid(), [CANARY]) == {"secret"}


def test_files_and_their_names_are_looked_at(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert in_folder(tmp_path, [CANARY]) == set()
    (inner / "file").write_bytes(bytes(70_000) + SECRET)
    assert in_folder(tmp_path, [CANARY]) == {"secret"}
    (inner / "file").unlink()
    (inner / SECRET.hex()).touch()
    assert in_folder(tmp_path, [CANARY]) == {"secret"}
