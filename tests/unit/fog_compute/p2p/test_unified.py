"""The whole system, with a real store, over transports in memory."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from fog_compute.errors import HomeUnusable, NotFound, ServiceUnavailable, StoreError
from fog_compute.p2p.core.actions import Action, Event
from fog_compute.p2p.core.book import Begun, BookChange, Kept
from fog_compute.p2p.core.cards import ContactCard
from fog_compute.p2p.core.contacts import NameTaken
from fog_compute.p2p.core.groups import NotMaker
from fog_compute.p2p.core.identity import Identity, IdentityFile
from fog_compute.p2p.core.messages import DecentralizedMessage, DeliveryState, InvalidMessage
from fog_compute.p2p.core.transport import Arrival, Reach, TransportType
from fog_compute.p2p.store_book import StoreBook
from fog_compute.p2p.unified import UnifiedDecentralizedSystem, UnifiedP2PConfig
from fog_compute.store import Store
from fog_compute.store.dialects import database_at
from fog_compute.store.migrate import migrate
from fog_compute.testing.messaging import MemoryAir, MemoryTransport

pytestmark = pytest.mark.asyncio

HTX, BLE = TransportType.BETANET_HTX, TransportType.BITCHAT_BLE


class Town:
    """People with homes, and what lies between them."""

    def __init__(self, folder: Path, schema: Path) -> None:
        self.folder = folder
        self.schema = schema
        self.mixnet = MemoryAir(HTX, stores=True)
        self.radio = MemoryAir(BLE, stores=False)
        self.keys = {name: Identity(name.encode() * 32) for name in "abc"}

    def fingerprint(self, name: str) -> str:
        return self.keys[name].fingerprint

    @asynccontextmanager
    async def person(self, name: str) -> AsyncIterator[UnifiedDecentralizedSystem]:
        home = self.folder / name
        if not home.exists():
            home.mkdir()
            shutil.copy(self.schema, home / "fog.db")
        identity = home / "identity.json"
        if not identity.exists():
            seed = (name.encode() * 32).hex()
            identity.write_text(f'{{"version":1,"seed":"{seed}","name":"{name}"}}', "utf-8")
            identity.chmod(0o600)
        config = UnifiedP2PConfig(identity, home / "card")
        others = [self.fingerprint(one) for one in self.keys if one != name]
        async with await Store.open(home / "fog.db") as store:
            transports = [
                MemoryTransport(air, self.fingerprint(name), others)
                for air in (self.mixnet, self.radio)
            ]
            system = UnifiedDecentralizedSystem(
                None, config, store=store, transports=transports, rng=Random(name)
            )
            async with system:
                for one in others:
                    key = next(k for k in self.keys.values() if k.fingerprint == one)
                    if system.contacts.get(one) is None:
                        system.contacts.add(ContactCard.make(key, one[:4], {}, 1), 1)
                yield system


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the newest schema, which takes half a second to make."""
    place = tmp_path_factory.mktemp("schema") / "fog.db"
    engines = database_at(place).engines()
    with engines.writing.begin() as connection:
        migrate(connection)
    engines.dispose()
    return place


@pytest.fixture
def town(tmp_path: Path, schema: Path) -> Town:
    return Town(tmp_path, schema)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.005)


async def texts(system: UnifiedDecentralizedSystem) -> list[str]:
    return [one.message.text for one in await system.log(limit=1000) if not one.outgoing]


async def is_delivered(system: UnifiedDecentralizedSystem) -> bool:
    states = {s for one in await system.log(limit=1000) for s in one.states.values()}
    return states == {DeliveryState.DELIVERED} and system.waiting == 0


async def test_message_arrives_and_its_sender_is_told(town: Town) -> None:
    async with town.person("a") as ann, town.person("b") as bob:
        seen = ann.progress()
        id_ = await ann.send_message(
            DecentralizedMessage(body=b"hello", receiver_id=town.fingerprint("b"))
        )

        async with asyncio.timeout(10):
            async for entry in bob.arrivals(after=0):
                assert (entry.message.text, entry.message.id) == ("hello", id_)
                assert entry.verified
                break
            async for step in seen:
                if step.state is DeliveryState.DELIVERED:
                    assert (step.id, step.receiver) == (id_, town.fingerprint("b"))
                    break
        await bob.mark_read(town.fingerprint("a"), [id_, "no such message"])

        async def read() -> bool:
            return (await ann.log())[0].states == {town.fingerprint("b"): DeliveryState.READ}

        await until(read)
        assert ann.reaches()[town.fingerprint("b")] == {HTX: Reach.ADDRESS, BLE: Reach.DIRECT}
        assert ann.name == "a"
        assert set(ann.capabilities()) == {HTX, BLE}
        content = await bob.content(town.fingerprint("a"), id_)
        assert content is not None
        assert content.body == b"hello"


async def test_what_was_sent_to_somebody_away_arrives_after_a_restart_of_both(town: Town) -> None:
    """INV-P2P-05."""
    town.radio.set_up(False)
    town.mixnet.set_up(False)
    async with town.person("a") as ann:
        for number in range(5):
            await ann.send_message(
                DecentralizedMessage(body=b"%d" % number, receiver_id=town.fingerprint("b"))
            )
        assert ann.waiting == 5
    town.mixnet.set_up(True)

    async with town.person("a") as ann:
        async with town.person("b") as bob:
            await until(lambda: is_delivered(ann))
            assert await texts(bob) == ["0", "1", "2", "3", "4"]
        await ann.send_message(DecentralizedMessage(body=b"5", receiver_id=town.fingerprint("b")))
        async with town.person("b") as bob:
            async with asyncio.timeout(10):
                async for entry in bob.arrivals(after=5):
                    assert entry.message.text == "5"
                    break


async def test_what_may_wait_to_be_written_is_written_soon_and_at_the_end(town: Town) -> None:
    """INV-P2P-05."""

    async def written(system: UnifiedDecentralizedSystem) -> list[DeliveryState]:
        log = await system._running.book.log(0, 10)
        return [state for one in log for state in one.states.values()]

    message = DecentralizedMessage(body=b"x", receiver_id=town.fingerprint("b"))
    async with town.person("a") as ann:
        await ann.send_message(message)

        async def stored() -> bool:
            return await written(ann) == [DeliveryState.STORED]

        await until(stored)
        id_ = await ann.send_message(message)

        async def is_stored() -> bool:
            return ann._running.router.state(id_, town.fingerprint("b")) is DeliveryState.STORED

        await until(is_stored)
    async with town.person("a") as ann:
        assert await written(ann) == [DeliveryState.STORED] * 2


async def test_conversation_goes_on_when_a_transport_goes(town: Town) -> None:
    """INV-P2P-04, INV-P2P-05, INV-P2P-06: the small form of the switch between transports."""
    async with town.person("a") as ann, town.person("b") as bob:
        for number in range(60):
            if number % 20 == 5:
                town.mixnet.set_up(number % 40 != 5)
            if number % 20 == 15:
                town.radio.set_up(number % 40 == 15)
            for system, to in ((ann, "b"), (bob, "a")):
                await system.send_message(
                    DecentralizedMessage(body=b"%d" % number, receiver_id=town.fingerprint(to))
                )
        town.mixnet.set_up(True)
        town.radio.set_up(True)
        await until(lambda: is_delivered(ann))
        await until(lambda: is_delivered(bob))

        expected = [str(number) for number in range(60)]
        assert [await texts(ann), await texts(bob)] == [expected, expected]


async def test_group_gets_its_roster_and_its_messages(town: Town) -> None:
    """INV-P2P-11."""
    async with (
        town.person("a") as ann,
        town.person("b") as bob,
        town.person("c") as zoe,
    ):
        group = await ann.make_group("us", [town.fingerprint("b"), town.fingerprint("c")])
        await ann.send_message(DecentralizedMessage(body=b"all of you", room=group))

        for system in (bob, zoe):

            async def has_it(system: UnifiedDecentralizedSystem = system) -> bool:
                return "all of you" in await texts(system)

            await until(has_it)
        await bob.send_message(DecentralizedMessage(body=b"yes", room=group))

        async def answered() -> bool:
            return "yes" in await texts(zoe)

        await until(answered)
        with pytest.raises(NotMaker):
            await bob.change_group(group, "mine", [])
        with pytest.raises(NotFound):
            await ann.change_group("ff" * 16, "x", [])
        with pytest.raises(NotFound, match="nobody here knows"):
            await ann.make_group("x", ["ff" * 32])
        other = await ann.make_group("them", [town.fingerprint("c")])
        with pytest.raises(NameTaken, match="near is what all who are near hear"):
            await ann.make_group("Near", [town.fingerprint("b")])
        with pytest.raises(NameTaken, match="a group called US already"):
            await ann.make_group("US", [town.fingerprint("c")])
        with pytest.raises(NameTaken, match="call this one otherwise"):
            await ann.change_group(other, "us", [town.fingerprint("c")])
        await ann.change_group(other, "Them", [town.fingerprint("c")])
        await ann.change_group(group, "we two", [town.fingerprint("b")])

        async def changed() -> bool:
            known = bob.groups.roster(group)
            return known is not None and known.name == "we two"

        await until(changed)

        async def out() -> bool:
            return not zoe.groups.get(group)

        await until(out)
        with pytest.raises(InvalidMessage, match="no group that you are in"):
            await zoe.send_message(DecentralizedMessage(body=b"still here?", room=group))
    async with town.person("b") as bob:
        assert len(bob.groups[group]) == 2
        assert len(await bob.log(room=group)) == 4
        await bob.leave_group(group)
        with pytest.raises(NotFound):
            await bob.leave_group(group)
    async with town.person("b") as bob:
        assert list(bob.groups) == []
        assert len(await bob.log(room=group)) == 4


async def test_blocked_person_is_heard_no_more_and_that_is_kept(town: Town) -> None:
    """INV-P2P-09."""
    async with town.person("b") as bob:
        bob.contacts.block(town.fingerprint("a"))
    async with town.person("a") as ann, town.person("b") as bob:
        blocked = bob.contacts.get(town.fingerprint("a"))
        assert blocked is not None
        assert blocked.blocked
        await ann.send_message(
            DecentralizedMessage(body=b"spam", receiver_id=town.fingerprint("b"))
        )
        bob.contacts.block(town.fingerprint("a"), False)
        await ann.send_message(
            DecentralizedMessage(body=b"sorry", receiver_id=town.fingerprint("b"))
        )

        async def heard() -> bool:
            return "sorry" in await texts(bob)

        await until(heard)


async def test_store_that_is_away_holds_up_and_loses_nothing(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-P2P-05."""
    async with town.person("a") as ann, town.person("b") as bob:
        book = ann._running.book
        commit = book.commit
        refusals = 3

        async def sometimes(changes: Sequence[BookChange]) -> None:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise StoreError("the disk is full")
            await commit(changes)

        monkeypatch.setattr(book, "commit", sometimes)
        await ann.send_message(DecentralizedMessage(body=b"x", receiver_id=town.fingerprint("b")))
        await until(lambda: is_delivered(ann))

        assert refusals == 0
        assert await texts(bob) == ["x"]


async def test_whoever_sends_while_nothing_can_be_kept_is_told_so(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-P2P-05."""
    monkeypatch.setattr("fog_compute.p2p.driver.AWAY_FROM", 1)
    async with town.person("a") as ann, town.person("b") as bob:
        parts, full = ann._running, [True]
        commit = parts.book.commit

        async def sometimes(changes: Sequence[BookChange]) -> None:
            if full[0]:
                raise StoreError("the disk is full")
            await commit(changes)

        async def refused() -> bool:
            return parts.driver._away is not None

        monkeypatch.setattr(parts.book, "commit", sometimes)
        to = town.fingerprint("b")
        waits = asyncio.create_task(
            ann.send_message(DecentralizedMessage(body=b"1", receiver_id=to))
        )
        await until(refused)
        with pytest.raises(StoreError, match="full"):
            await ann.send_message(DecentralizedMessage(body=b"2", receiver_id=to))
        full[0] = False
        await waits
        await ann.send_message(DecentralizedMessage(body=b"3", receiver_id=to))
        await until(lambda: is_delivered(ann))

        assert await texts(bob) == ["1", "3"]


async def test_what_comes_while_the_store_is_away_stays_where_it_is_bounded(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-P2P-09."""
    monkeypatch.setattr("fog_compute.p2p.driver.AT_HAND", 4)
    async with town.person("b") as bob:
        parts = bob._running
        away, tries = asyncio.Event(), asyncio.Event()

        async def reached() -> bool:
            return BLE in bob.reaches().get(town.fingerprint("a"), {})

        await until(reached)
        commit = parts.book.commit

        async def later(changes: Sequence[BookChange]) -> None:
            tries.set()
            await away.wait()
            await commit(changes)

        monkeypatch.setattr(parts.book, "commit", later)
        transport = parts.manager.get_transport(BLE)
        assert isinstance(transport, MemoryTransport)
        now_ms = int(bob._clock.now().timestamp() * 1000)
        for number in range(60):
            message = DecentralizedMessage(
                body=b"%d" % number,
                receiver_id=town.fingerprint("b"),
                id=f"opaque-{number}",
                sender=town.fingerprint("a"),
                created_ms=now_ms,
            )
            transport.tell(Arrival(BLE, message, True))
        try:
            async with asyncio.timeout(10):
                await tries.wait()
            for _ in range(100):
                await asyncio.sleep(0)
            at_hand = parts.driver._queue.qsize()
        finally:
            away.set()

        async def heard() -> bool:
            return len(await texts(bob)) == 60

        await until(heard)
        assert at_hand == 4


async def test_much_that_is_read_is_not_held_at_once(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town.person("a") as ann, town.person("b") as bob:
        id_ = await ann.send_message(
            DecentralizedMessage(body=b"a film", receiver_id=town.fingerprint("b"))
        )
        await until(lambda: is_delivered(ann))
        router, held = bob._running.router, list[bytes]()
        read = router.read

        def looked_at(messages: Iterable[DecentralizedMessage], now: float) -> list[Action]:
            found = list(messages)
            held.extend(one.body for one in found)
            return read(found, now)

        monkeypatch.setattr(router, "read", looked_at)
        await bob.mark_read(town.fingerprint("a"), [id_])

        assert held == [b""]


async def test_fault_in_one_event_takes_no_other_down(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-P2P-13."""
    async with town.person("a") as ann, town.person("b") as bob:
        handle, commit = bob._running.router.handle, bob._running.book.commit
        bad = {"handle": True}

        def broken_handle(event: Event, now: float) -> list[Action]:
            if isinstance(event, Arrival) and bad.pop("handle", False):
                raise KeyError("somebody's name")
            return handle(event, now)

        async def broken_commit(changes: Sequence[BookChange]) -> None:
            if any(isinstance(one, Begun) and one.message.body == b"x" for one in changes):
                raise OverflowError("Python int too large to convert to SQLite INTEGER")
            await commit(changes)

        monkeypatch.setattr(bob._running.router, "handle", broken_handle)
        monkeypatch.setattr(bob._running.book, "commit", broken_commit)
        for body in (b"0", b"1"):
            await ann.send_message(
                DecentralizedMessage(
                    body=body, receiver_id=town.fingerprint("b"), offline_capable=False
                )
            )
        with pytest.raises(StoreError):
            await bob.send_message(
                DecentralizedMessage(body=b"x", receiver_id=town.fingerprint("a"))
            )
        await ann.send_message(
            DecentralizedMessage(
                body=b"2", receiver_id=town.fingerprint("b"), offline_capable=False
            )
        )

        async def heard() -> bool:
            return "2" in await texts(bob)

        await until(heard)
        assert bad == {}


async def test_refusal_is_the_senders_and_stopped_system_says_so(town: Town) -> None:
    async with town.person("a") as ann:
        with pytest.raises(InvalidMessage, match="your own"):
            await ann.send_message(
                DecentralizedMessage(body=b"x", receiver_id=town.fingerprint("a"))
            )
        id_ = await ann.send_message(
            DecentralizedMessage(body=b"x", receiver_id=town.fingerprint("b"))
        )
        await ann.cancel(id_)
        listening = ann.progress()
        driver = ann._running.driver
        await ann.start()  # again, which changes nothing
    assert [one async for one in listening] == []
    with pytest.raises(ServiceUnavailable, match="start it"):
        await ann.send_message(DecentralizedMessage(body=b"x"))
    with pytest.raises(StoreError, match="stopped"):
        await driver.ask(lambda now: ("", []))


async def test_wipe_leaves_nothing(town: Town) -> None:
    async with town.person("a") as ann, town.person("b"):
        await ann.send_message(DecentralizedMessage(body=b"x", receiver_id=town.fingerprint("b")))
        await until(lambda: is_delivered(ann))
        (town.folder / "a" / "card").write_text("fogcard1", "utf-8")

        assert await ann.wipe()

        assert not (town.folder / "a" / "identity.json").exists()
        assert not (town.folder / "a" / "card").exists()
    async with town.person("a") as ann:
        assert await ann.log() == []


async def test_wipe_destroys_what_it_can_where_something_cannot_be(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-P2P-23."""

    def refuse(_: IdentityFile) -> bool:
        raise HomeUnusable("the disk is read-only")

    async with town.person("a") as ann, town.person("b"):
        await ann.send_message(DecentralizedMessage(body=b"x", receiver_id=town.fingerprint("b")))
        await until(lambda: is_delivered(ann))
        (town.folder / "a" / "card").write_text("fogcard1", "utf-8")
        monkeypatch.setattr(IdentityFile, "wipe", refuse)

        with pytest.raises(HomeUnusable, match="read-only"):
            await ann.wipe()

        assert not (town.folder / "a" / "card").exists()
    monkeypatch.undo()
    async with town.person("a") as ann:
        assert await ann.log() == []


@pytest.mark.parametrize("again", ["start", "wipe"])
async def test_wipe_that_was_interrupted_is_gone_on_with(
    town: Town, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    """INV-P2P-23."""
    killed, unlocked = StoreBook.wipe, [False]

    async def sometimes(book: StoreBook) -> None:
        if not unlocked[0]:
            raise StoreError("the database is locked")
        await killed(book)

    monkeypatch.setattr(StoreBook, "wipe", sometimes)
    async with town.person("a") as ann, town.person("b"):
        await ann.send_message(DecentralizedMessage(body=b"x", receiver_id=town.fingerprint("b")))
        with pytest.raises(StoreError, match="locked"):
            await ann.wipe()
        unlocked[0] = True
        if again == "wipe":
            assert await ann.wipe()
            assert not await ann.wipe()
            monkeypatch.setattr(StoreBook, "wipe", None)  # what follows begins with nothing
    async with town.person("a") as ann:
        assert await ann.log() == []
    async with town.person("a") as ann:
        assert len(ann.contacts) == 2  # as the town makes them


async def test_change_that_cannot_be_written_takes_no_message_with_it(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-P2P-04: what counts as here is in the log."""
    async with town.person("a") as ann, town.person("b") as bob:
        commit = bob._running.book.commit
        faults: list[int] = []

        async def broken(changes: Sequence[BookChange]) -> None:
            kept = [one for one in changes if isinstance(one, Kept)]
            if kept and not faults:
                faults.append(len(kept))
                raise OverflowError("Python int too large to convert to SQLite INTEGER")
            await commit(changes)

        monkeypatch.setattr(bob._running.book, "commit", broken)
        await ann.send_message(DecentralizedMessage(body=b"x", receiver_id=town.fingerprint("b")))
        await until(lambda: is_delivered(ann))

        assert faults == [1]
        assert await texts(bob) == ["x"]


async def test_message_that_cannot_be_kept_is_not_said_to_be_here_when_it_comes_again(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-P2P-04, INV-P2P-13: and one during which the router failed half-way neither."""
    async with town.person("a") as ann, town.person("b") as bob:
        parts = bob._running
        commit, handle = parts.book.commit, parts.router.handle
        faults = {"commit": 2, "handle": 1}  # together with others, and alone

        async def broken_commit(changes: Sequence[BookChange]) -> None:
            if faults["commit"] and any(isinstance(one, Kept) for one in changes):
                faults["commit"] -= 1
                raise OverflowError("Python int too large to convert to SQLite INTEGER")
            await commit(changes)

        def broken_handle(event: Event, now: float) -> list[Action]:
            actions = handle(event, now)
            if faults["handle"] and isinstance(event, Arrival) and not faults["commit"]:
                faults["handle"] -= 1
                raise KeyError("somebody's name")
            return actions

        monkeypatch.setattr(parts.book, "commit", broken_commit)
        monkeypatch.setattr(parts.router, "handle", broken_handle)
        town.radio.set_up(False)
        await ann.send_message(DecentralizedMessage(body=b"x", receiver_id=town.fingerprint("b")))

        async def stored() -> bool:
            return not faults["commit"]

        await until(stored)
        for fault in ("handle", ""):
            assert await texts(bob) == []
            for wire, message in town.mixnet.waiting[town.fingerprint("b")].items():
                parts.driver.tell(Arrival(HTX, message, True, wire))

            async def failed(fault: str = fault) -> bool:
                return not faults.get(fault)

            await until(failed)
        await until(lambda: is_delivered(ann))

        assert await texts(bob) == ["x"]
