"""A client of a network that may be killed at any moment: all it says and hears is written down.

``python -m … NET FOLDER SHARED NAME PEER COUNT`` is NAME and writes to PEER, both as named in the
folder SHARED, where each leaves its address. It wants to say the numbers up to COUNT, or for ever
if COUNT is 0, until standard input ends. Started again it goes on where it was.

The outbox: one transaction draws a number together with the message's id; it is sent under this id,
again after a death, and then marked. The inbox: one transaction writes the effect together with the
message's id, which the table holds once; then the message is committed to the network, and marked.
``DIE_AT`` names one of the four gaps in between; the client is killed in it, once.

Objects on standard output, one a line: ``{"sent": n}``, ``{"heard": n}``, ``{"trouble": text}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import betanet

GAPS: Final = ("drawn", "sent", "arrived", "heard")
"""After a row of the outbox, after its sending; after an arrival, after its row in the inbox."""

PAUSE_S: Final = 0.05
AGAIN_S: Final = 0.2
QUIET_S: Final = 1.0

TABLES: Final = """
CREATE TABLE IF NOT EXISTS outbox(number INTEGER PRIMARY KEY, id TEXT UNIQUE, sent INTEGER);
CREATE TABLE IF NOT EXISTS inbox(id TEXT PRIMARY KEY, committed INTEGER);
CREATE TABLE IF NOT EXISTS heard(number INTEGER PRIMARY KEY, times INTEGER);
CREATE TABLE IF NOT EXISTS again(id TEXT PRIMARY KEY);
"""


@dataclass(frozen=True, slots=True)
class Books:
    """What a correspondent has written down.

    Attributes:
        drawn: numbers that it wanted to say, and whether they are marked as sent.
        heard: how often each number of the other took effect.
        after_commit: messages that came again although their commit had returned.
    """

    drawn: dict[int, bool]
    heard: dict[int, int]
    after_commit: int

    @classmethod
    def read(cls, folder: Path) -> Books:
        """Read the books of a correspondent that does not run."""
        with contextlib.closing(open_books(folder)) as books:
            return cls(
                {
                    number: bool(sent)
                    for number, sent in books.execute("SELECT number, sent FROM outbox")
                },
                dict(books.execute("SELECT number, times FROM heard").fetchall()),
                books.execute("SELECT count(*) FROM again").fetchone()[0],
            )


def open_books(folder: Path) -> sqlite3.Connection:
    """Open the books of a correspondent, new ones if there are none."""
    books = sqlite3.connect(folder / "books.sqlite")
    books.executescript(TABLES)
    return books


def say(what: str, value: object) -> None:
    """Write one event."""
    sys.stdout.write(json.dumps({what: value}) + "\n")
    sys.stdout.flush()


class Correspondent:
    """One client, with its books."""

    def __init__(self, client: betanet.Client, folder: Path, to: str, count: int) -> None:
        self._client = client
        self._books = open_books(folder)
        self._folder = folder
        self._to = to
        self._count = count
        self.leave = asyncio.Event()

    def _die_at(self, gap: str) -> None:
        """Be killed here, if this is the place and it was not done before."""
        scar = self._folder / f"died-{gap}"
        if os.environ.get("DIE_AT") == gap and not scar.exists():
            scar.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def _draw(self) -> tuple[int, str] | None:
        """The oldest number that is not marked as sent, or a new one."""
        with self._books:
            row = self._books.execute("SELECT number, id FROM outbox WHERE sent = 0").fetchone()
            if row is not None:
                return int(row[0]), str(row[1])
            (last,) = self._books.execute("SELECT ifnull(max(number), 0) FROM outbox").fetchone()
            if self.leave.is_set() or last == self._count > 0:
                return None
            drawn = last + 1, os.urandom(16).hex()
            self._books.execute("INSERT INTO outbox VALUES (?, ?, 0)", drawn)
        return drawn

    async def speak(self) -> None:
        """Say number after number."""
        while (drawn := self._draw()) is not None:
            number, identity = drawn
            self._die_at("drawn")
            while True:
                try:
                    await self._client.send(self._to, str(number).encode(), id=identity)
                except betanet.BetanetError as error:
                    say("trouble", f"{type(error).__name__}: {error}")
                    await asyncio.sleep(AGAIN_S)
                else:
                    break
            self._die_at("sent")
            with self._books:
                self._books.execute("UPDATE outbox SET sent = 1 WHERE number = ?", (number,))
            say("sent", number)
            await asyncio.sleep(PAUSE_S)
        self.leave.set()

    async def listen(self) -> None:
        """Let what comes take effect once."""
        while True:
            try:
                message = await self._client.receive(timeout=QUIET_S)
            except betanet.Timeout:
                if self.leave.is_set():
                    return
                continue
            self._die_at("arrived")
            self._take(message)
            self._die_at("heard")
            await self._client.commit(message.id)
            with self._books:
                self._books.execute("UPDATE inbox SET committed = 1 WHERE id = ?", (message.id,))

    def _take(self, message: betanet.Incoming) -> None:
        number = int(message.body)
        with self._books:
            known = self._books.execute(
                "SELECT committed FROM inbox WHERE id = ?", (message.id,)
            ).fetchone()
            if known is None:
                self._books.execute("INSERT INTO inbox VALUES (?, 0)", (message.id,))
                self._books.execute(
                    "INSERT INTO heard VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1",
                    (number,),
                )
            elif known[0]:
                self._books.execute("INSERT OR IGNORE INTO again VALUES (?)", (message.id,))
        if known is None:
            say("heard", number)


async def address_of(name: str, shared: Path) -> str:
    """Wait for what another correspondent has left."""
    place = shared / f"{name}.address"
    while not place.exists():
        await asyncio.sleep(PAUSE_S)
    return await asyncio.to_thread(place.read_text)


async def main(net: Path, folder: Path, shared: Path, name: str, peer: str, count: int) -> None:
    """Speak and listen until the end of standard input."""
    async with betanet.Client.open(dir=folder / "client", bootstrap=net) as client:
        fresh = shared / f"{name}.new"
        await asyncio.to_thread(fresh.write_text, client.address)
        fresh.replace(shared / f"{name}.address")
        correspondent = Correspondent(client, folder, await address_of(peer, shared), count)
        loop = asyncio.get_running_loop()

        def leave() -> None:
            if not os.read(0, 1):
                loop.remove_reader(0)
                correspondent.leave.set()

        if count == 0:
            loop.add_reader(0, leave)
        async with asyncio.TaskGroup() as group:
            group.create_task(correspondent.speak())
            group.create_task(correspondent.listen())


if __name__ == "__main__":
    net, folder, shared, name, peer, count = sys.argv[1:]
    Path(folder).mkdir(exist_ok=True)
    asyncio.run(main(Path(net), Path(folder), Path(shared), name, peer, int(count)))
