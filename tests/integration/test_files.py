"""Messages that are files, from Python and on the command line, over a real local net."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, cast

import pytest
import pytest_asyncio

import betanet

pytestmark = pytest.mark.asyncio

DEADLINE_S: Final = 60.0
BETANET: Final = Path(sys.executable).with_name("betanet")


@pytest_asyncio.fixture
async def alice(localnet: Path, tmp_path: Path) -> AsyncIterator[betanet.Client]:
    """Somebody who sends large messages in bulk."""
    folder = tmp_path / "alice"
    async with betanet.Client.open(dir=folder, bootstrap=localnet, bulk=True) as client:
        yield client


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def receive(client: betanet.Client) -> betanet.Incoming:
    async with asyncio.timeout(DEADLINE_S):
        return await client.receive()


async def test_a_file_arrives_as_a_file_whatever_becomes_of_it_meanwhile(
    alice: betanet.Client, tmp_path: Path
) -> None:
    body = os.urandom(1_500_077)
    film, copy = tmp_path / "film", tmp_path / "copy"
    film.write_bytes(body)
    copy.write_bytes(b"an older one")
    told: list[betanet.Progress] = []

    def spoil(progress: betanet.Progress) -> None:
        told.append(progress)
        film.unlink(missing_ok=True)

    identity = await alice.send(alice.address, film, on_progress=spoil)
    message = await receive(alice)
    assert (message.id, message.size) == (identity, len(body))
    # A busy loop may get to nothing before all of it is sent.
    assert {progress.total for progress in told} <= {len(body)}
    await alice.save(message, copy)
    await alice.commit(message.id)
    assert copy.read_bytes() == body
    assert message.body == body, "it can be read after the commit, too"
    assert len(repr(message)) < 300

    # A short one is in memory; for the caller it is the same.
    film.write_bytes(b"short")
    await alice.try_send(alice.address, film)
    message = await receive(alice)
    await alice.save(message, copy)
    assert (message.body, copy.read_bytes(), message.size) == (b"short", b"short", 5)
    assert names_in(tmp_path) == {"alice", "film", "copy"}


async def test_a_file_that_cannot_be_sent_is_named_with_the_reason(
    alice: betanet.Client, tmp_path: Path
) -> None:
    missing, pipe, long = tmp_path / "missing", tmp_path / "pipe", tmp_path / "long"
    os.mkfifo(pipe)
    with long.open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(FileNotFoundError) as refused:
        await alice.send(alice.address, missing)
    assert refused.value.filename == str(missing)
    for odd in (pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(betanet.NetworkError, match=f"{odd}: it is no regular file"):
            await alice.send(alice.address, odd)
    with pytest.raises(betanet.NetworkError, match=f"{long}: it is larger than 64 MiB"):
        await alice.send(alice.address, long)
    with pytest.raises(TypeError, match=r"body must be bytes, or a file as a pathlib\.Path"):
        await alice.send(alice.address, cast("Any", str(long)))
    with pytest.raises(ValueError, match="body must be a path"):
        await alice.send(alice.address, Path("a\0b"))
    assert alice.status().outgoing_messages == 0


async def test_a_message_that_cannot_be_saved_leaves_no_part_behind(
    alice: betanet.Client, tmp_path: Path
) -> None:
    await alice.send(alice.address, b"hello")
    message = await receive(alice)
    with pytest.raises(FileNotFoundError) as refused:
        await alice.save(message, tmp_path / "none" / "file")
    assert refused.value.filename == str(tmp_path / "none" / "file")
    for odd in (tmp_path, Path("/dev/null")):
        with pytest.raises(betanet.NetworkError, match="it is there and no regular file"):
            await alice.save(message, odd)
    assert names_in(tmp_path) == {"alice"}


async def betanet_command(*words: str | Path) -> tuple[int, list[dict[str, Any]]]:
    done = await asyncio.to_thread(
        subprocess.run,
        [BETANET, *words, "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


async def test_files_go_out_and_come_in_on_the_command_line(localnet: Path, tmp_path: Path) -> None:
    film, into = tmp_path / "film", tmp_path / "into"
    film.write_bytes(os.urandom(300_001))
    into.mkdir()
    bob = ("--net", localnet, "--dir", tmp_path / "bob")
    carol = ("--net", localnet, "--dir", tmp_path / "carol")
    code, told = await betanet_command("address", *bob)
    assert code == 0
    to = told[0]["address"]

    code, told = await betanet_command("send", *carol, "--to", to, "--file", film)
    assert (code, told[0]["event"]) == (0, "sent")
    code, found = await betanet_command("recv", *bob, "--count", "1", "--into", into)
    assert (code, found[0]["bytes"], found[0]["id"]) == (0, 300_001, told[0]["id"])
    saved = into / found[0]["id"]
    assert found[0]["file"] == str(saved)
    assert saved.read_bytes() == film.read_bytes()

    code, told = await betanet_command("send", *carol, "--to", to, "--file", tmp_path)
    assert (code, told[0]["event"]) == (2, "error")
    code, told = await betanet_command("recv", *bob, "--count", "1", "--into", film)
    assert (code, "is no folder" in told[0]["message"]) == (2, True)
