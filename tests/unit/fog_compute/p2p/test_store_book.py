"""The book on the store's tables says the same as one in memory, on either database."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec
import pytest
from sqlalchemy import text

from fog_compute.p2p.core.book import Begun, BookChange, BookState, Kept, ReceiptOwed, RosterKept
from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState, MessageKind
from fog_compute.p2p.core.peer import Peer
from fog_compute.p2p.core.router import Router
from fog_compute.p2p.core.transport import TransportType
from fog_compute.p2p.store_book import StoreBook
from fog_compute.store import Store
from fog_compute.store.backups import back_up, restore
from fog_compute.store.care import check
from fog_compute.testing import ManualClock
from fog_compute.testing.messaging import MemoryBook
from tests.unit.fog_compute.p2p.core.world import START, Air, Person, World

pytestmark = pytest.mark.asyncio

ANN, BOB = "a1" * 32, "b2" * 32


class Recorded(World):
    """Keeps what was written of the first of the two."""

    def record(self) -> list[tuple[BookChange, ...]]:
        kept: list[tuple[BookChange, ...]] = []
        book = self.people[0].book
        write = book.apply

        def note(changes: Sequence[BookChange]) -> None:
            kept.append(tuple(changes))
            write(changes)

        book.apply = note  # type: ignore[method-assign]
        return kept


def told(seed: int) -> tuple[Person, list[tuple[BookChange, ...]]]:
    """A talk that ends in the middle, and all that was to be kept of it."""
    world = Recorded(seed, Air(crash=0.003, lost=0.3, twice=0.3, htx_fails=0.3))
    kept = world.record()
    for number in range(25):
        for person in world.people:
            for foreign in ("", "an opaque id"):
                if foreign:
                    message = DecentralizedMessage(body=b"all %d" % number)
                else:
                    message = DecentralizedMessage(
                        body=b"%d" % number,
                        receiver_id=person.other.name,
                        requires_privacy=number % 5 == 0,
                    )
                person.say(message)
        world.pass_time(1)
        if number % 8 == 3:
            world.set_near(not world.near)
    return world.people[0], kept


def plain(state: BookState) -> dict[str, set[object]]:
    """What is compared: everything, in no order; streams as long as something can come."""
    return {
        field.name: set(value) if isinstance(value, tuple) else {value}
        for field in dataclasses.fields(state)
        for value in [getattr(state, field.name)]
    }


async def test_book_in_the_database_says_what_one_in_memory_says(database_url: str) -> None:
    """INV-P2P-12."""
    person, kept = told(0)
    now = person.world.now

    async with await Store.open(database_url, clock=ManualClock()) as store:
        book = StoreBook(store.messages, person.name)
        for number in range(0, len(kept), 7):
            changes = [one for some in kept[number : number + 7] for one in some]
            await book.commit(changes)
            await book.commit(changes)  # as after a crash that came before the answer

    async with await Store.open(database_url, clock=ManualClock()) as store:
        book = StoreBook(store.messages, person.name)
        expected = plain(person.book.state(now))
        found = plain(await book.load(now))
        assert {str(one) for one in found.pop("deliveries")} == {
            str(one) for one in expected.pop("deliveries")
        }
        assert found == expected
        log = await book.log(0, 1000)
        assert log == person.book.entries()
        assert await book.log(log[4].position, 2) == log[5:7]
        assert await book.log(0, 3, last=True) == log[-3:]
        one = log[0].message
        assert await book.message(one.sender, one.id) == one
        other = StoreBook(store.messages, BOB)
        assert await other.message(BOB, "no such message") is None


async def test_homes_on_one_database_know_nothing_of_each_other(postgres_url: str) -> None:
    """INV-P2P-12."""
    person, kept = told(1)
    changes = [one for some in kept for one in some]
    stores = [await Store.open(postgres_url, clock=ManualClock(), home=home) for home in "ab"]
    try:
        first, second = (StoreBook(store.messages, person.name) for store in stores)
        await first.commit(changes)
        assert await second.log(0, 10) == []
        assert await second.load(person.world.now) == BookState()
        await second.commit(changes)
        await second.wipe()
        assert await second.log(0, 10) == []
        assert await first.log(0, 1000) == person.book.entries()
    finally:
        for store in stores:
            await store.close()


async def test_after_a_wipe_no_file_of_the_database_has_a_word_of_it(tmp_path: Path) -> None:
    """INV-P2P-23."""
    said = b"a word that is found nowhere else"
    person, kept = told(3)
    files = [tmp_path / f"fog.db{end}" for end in ("", "-wal", "-journal")]

    def found() -> list[str]:
        return [one.name for one in files if one.exists() and said in one.read_bytes()]

    async with await Store.open(tmp_path / "fog.db", clock=ManualClock()) as store:
        book = StoreBook(store.messages, person.name)
        for changes in kept:
            await book.commit(
                [
                    dataclasses.replace(
                        one, message=msgspec.structs.replace(one.message, body=said)
                    )
                    if isinstance(one, Kept)
                    else one
                    for one in changes
                ]
            )
        assert found()
        await book.wipe()
        assert found() == []
        assert await book.log(0, 10) == []


async def test_keys_of_a_group_are_in_its_newest_roster_alone(tmp_path: Path) -> None:
    """INV-P2P-48."""
    group = "0f" * 16
    keys = [b"the key of epoch %d, found nowhere" % epoch for epoch in range(2)]

    def brings(epoch: int) -> Begun:
        message = DecentralizedMessage(
            body=keys[epoch],
            room=group,
            kind=MessageKind.CONTROL,
            id=f"{epoch:032x}",
            sender=BOB,
            created_ms=int((START + epoch) * 1000),
        )
        return Begun(message, (), epoch + 1, None)

    def found() -> list[bytes]:
        files = [tmp_path / f"fog.db{end}" for end in ("", "-wal")]
        data = b"".join(one.read_bytes() for one in files if one.exists())
        return [one for one in keys if one in data]

    async with await Store.open(tmp_path / "fog.db", clock=ManualClock()) as store:
        book = StoreBook(store.messages, BOB)
        for epoch in range(2):
            changes: list[BookChange] = [
                RosterKept(group, keys[epoch], START + epoch),
                brings(epoch),
            ]
            await book.commit(changes)
            await book.commit(changes)  # as after a crash that came before the answer
        await book.scrub()
        assert found() == keys[1:]
        assert [one.message.body for one in await book.log(0, 10)] == [b"", keys[1]]
        assert (await book.load(0)).rosters == ((group, keys[1]),)

        await book.commit([RosterKept(group, b"", START + 9)])
        await book.scrub()
        assert found() == []
        assert (await book.load(0)).rosters == ((group, b""),)


async def test_who_was_put_out_is_told_also_after_the_group_changed_again(tmp_path: Path) -> None:
    """INV-P2P-11: what they are told has no key in it, and waits until they come."""
    group, bodies = "0f" * 16, {None: b"a key", ANN: b"no key"}
    async with await Store.open(tmp_path / "fog.db", clock=ManualClock()) as store:
        book = StoreBook(store.messages, BOB)
        for number, (receiver, body) in enumerate(bodies.items()):
            message = DecentralizedMessage(
                body=body,
                receiver_id=receiver,
                room=group,
                kind=MessageKind.CONTROL,
                id=f"{number:032x}",
                sender=BOB,
                created_ms=int(START * 1000),
            )
            await book.commit([Begun(message, (ANN,), number + 1, None)])
        await book.commit([RosterKept(group, b"another key", START + 9)])

        assert [one.message.body for one in await book.log(0, 10)] == [b"", b"no key"]


async def test_old_messages_go_and_what_is_open_stays(tmp_path: Path) -> None:
    """INV-P2P-12."""
    person, kept = told(2)
    now = person.world.now
    async with await Store.open(tmp_path / "fog.db", clock=ManualClock()) as store:
        book = StoreBook(store.messages, person.name)
        await book.commit([one for some in kept for one in some])
        before = await book.load(now)
        log = await book.log(0, 1000)
        assert await book.sweep(now) == 0

        gone = await book.sweep(now + 91 * 86_400)

        left = await book.log(0, 1000)
        assert gone == len(log) - len(left) > 0
        waiting = {one.message.id for one in before.deliveries}
        assert {one.message.id for one in left if one.outgoing} >= waiting
        after = await book.load(now)
        assert after.deliveries == before.deliveries
        assert after.next_position == before.next_position
        assert (after.in_streams, after.seen) == ((), ())


async def test_damaged_rows_hide_no_others_and_are_found(tmp_path: Path) -> None:
    """INV-P2P-12, INV-STORE-40, INV-STORE-43."""
    person, kept = told(0)
    place = tmp_path / "fog.db"
    async with await Store.open(place, clock=ManualClock()) as store:
        book = StoreBook(store.messages, person.name)
        await book.commit([one for some in kept for one in some])
        await book.save_peers([Peer(b"\x01" * 32, b"\x02" * 32, "Zoë")], [])
        log = await book.log(0, 1000)
        state = await book.load(person.world.now)
        last = "SELECT max(number) FROM chat_deliveries WHERE state = 'queued'"
        with store._engines.writing.begin() as connection:
            for statement in (
                "UPDATE chat_messages SET kind = 'poem' WHERE position = 1",
                "UPDATE chat_messages SET body = 7 WHERE position = 2",
                "UPDATE chat_received_streams SET missing = '[[1]]'",
                f"UPDATE chat_deliveries SET state = 'lost' WHERE number = ({last})",
                "INSERT INTO chat_peers (home, fingerprint, record) VALUES ('', 'x', '{}')",
            ):
                connection.execute(text(statement))
        left = await book.log(0, 1000)
        assert [one.message for one in left] == [one.message for one in log[2:]]
        after = await book.load(person.world.now)
        assert after.in_streams == ()
        assert len(after.deliveries) == len(state.deliveries) - 1
        assert [one.name for one in await book.load_peers()] == ["Zoë"]

    found = check(place)

    assert sorted(fault.name.split()[0] for fault in found.faults) == [
        "chat_deliveries",
        "chat_messages",
        "chat_messages",
    ]


async def test_damaged_receipts_and_rosters_keep_nobody_from_starting(tmp_path: Path) -> None:
    """INV-P2P-12."""
    async with await Store.open(tmp_path / "fog.db", clock=ManualClock()) as store:
        book = StoreBook(store.messages, BOB)
        owed = ReceiptOwed(ANN, "x", DeliveryState.READ)
        await book.commit([owed, RosterKept("0f" * 16, b"", START)])
        with store._engines.writing.begin() as connection:
            for statement in (
                "INSERT INTO chat_receipts VALUES ('', :ann, 'y', 'lost', 0)",
                "INSERT INTO chat_receipts VALUES ('', :ann, 'z', 'queued', 0)",
                "INSERT INTO chat_groups VALUES ('', :ann, 'no bytes', 0)",
                "INSERT INTO chat_groups VALUES ('', 'no roster', x'0102', 0)",
            ):
                connection.execute(text(statement), {"ann": ANN})

        state = await book.load(START)
        router = Router(BOB, state, START, Random(1))

        assert state.receipts == (owed,)
        assert router.waiting == 0


async def test_people_are_kept_and_forgotten(database_url: str) -> None:
    """INV-P2P-12."""
    peers = [Peer(bytes([n]) * 32, b"\x07" * 32, f"peer {n}") for n in range(3)]
    async with await Store.open(database_url, clock=ManualClock()) as store:
        book = StoreBook(store.messages, BOB)
        await book.save_peers(peers, [])
        renamed = Peer(peers[1].noise_public, peers[1].signing_public, "another name")
        await book.save_peers([renamed], [peers[0].fingerprint])
        await book.commit([RosterKept("0f" * 16, b"first", START)])
        await book.commit([RosterKept("0f" * 16, b"second", START + 1)])

    async with await Store.open(database_url, clock=ManualClock()) as store:
        book = StoreBook(store.messages, BOB)
        assert sorted(one.name for one in await book.load_peers()) == ["another name", "peer 2"]
        assert (await book.load(0)).rosters == (("0f" * 16, b"second"),)


async def test_after_a_backup_was_put_back_messages_get_ids_that_none_had(tmp_path: Path) -> None:
    """INV-P2P-12: recipients would take them for what they have."""
    person, kept = told(0)
    place = tmp_path / "fog.db"
    async with await Store.open(place, clock=ManualClock()) as store:
        book = StoreBook(store.messages, person.name)
        await book.commit([one for some in kept for one in some])
        before = await book.load(person.world.now)
    back_up(place, tmp_path / "copy", ManualClock().now())

    restore(place, tmp_path / "copy", force=True)

    async with await Store.open(place, clock=ManualClock()) as store:
        state = await StoreBook(store.messages, person.name).load(person.world.now)
    assert before.out_streams != ()
    assert state.out_streams == ()
    assert state.deliveries == before.deliveries


async def test_what_nobody_proved_stands_apart(database_url: str) -> None:
    """INV-P2P-12."""
    message = DecentralizedMessage(
        body=b"x", id="same", sender=BOB, created_ms=1, expires_ms=2, kind=MessageKind.TEXT
    )
    memory = MemoryBook()
    changes = [
        Kept(message, proved, TransportType.BITCHAT_BLE, n, False, START, START + 5)
        for n, proved in ((1, False), (2, True))
    ]
    memory.apply(changes)
    async with await Store.open(database_url, clock=ManualClock()) as store:
        book = StoreBook(store.messages, "a1" * 32)
        await book.commit(changes)
        assert await book.log(0, 9) == memory.entries()
        assert [one.verified for one in await book.log(0, 9)] == [False, True]
        assert (await book.load(START)).seen == memory.state(START).seen
        assert DeliveryState.READ not in {
            state for one in await book.log(0, 9) for state in one.states.values()
        }
