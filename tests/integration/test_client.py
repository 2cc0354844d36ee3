"""The asyncio client against a real local net."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import mmap
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

import betanet

pytestmark = pytest.mark.asyncio

DEADLINE_S = 60.0


@pytest_asyncio.fixture
async def alice(localnet: Path, tmp_path: Path) -> AsyncIterator[betanet.Client]:
    async with betanet.Client.open(dir=tmp_path / "alice", bootstrap=localnet) as client:
        yield client


@pytest_asyncio.fixture
async def bob(localnet: Path, tmp_path: Path) -> AsyncIterator[betanet.Client]:
    async with betanet.Client.open(dir=tmp_path / "bob", bootstrap=localnet) as client:
        yield client


async def receive(client: betanet.Client) -> betanet.Incoming:
    async with asyncio.timeout(DEADLINE_S):
        return await client.receive()


@pytest.mark.parametrize("hops", [1, 3, 5, 7])
async def test_a_message_arrives(hops: int, alice: betanet.Client, bob: betanet.Client) -> None:
    body = os.urandom(10_000)
    identity = await alice.send(bob.address, body, hops=hops)
    message = await receive(bob)
    assert (message.id, message.body) == (identity, body)
    assert (message.reply_handle, message.reply_capacity) == (None, 0)
    await bob.commit(message.id)


async def test_a_message_sent_again_under_its_id_arrives_once(
    alice: betanet.Client, bob: betanet.Client
) -> None:
    identity = os.urandom(16).hex()
    for _ in range(3):
        assert await alice.send(bob.address, b"once", id=identity) == identity
    message = await receive(bob)
    assert (message.id, message.body) == (identity, b"once")
    await bob.commit(message.id)
    await alice.send(bob.address, b"another")
    assert (await receive(bob)).body == b"another"
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        await alice.send(bob.address, b"", id="short")
    with pytest.raises(ValueError, match=f"{identity} was used for another message"):
        await alice.send(bob.address, b"something else", id=identity)
    with pytest.raises(ValueError, match="was used for another message"):
        await alice.send(alice.address, b"once", id=identity)


async def test_a_large_message_goes_in_bulk_and_says_how_far_it_is(
    localnet: Path, tmp_path: Path, bob: betanet.Client
) -> None:
    body = os.urandom(3_000_001)
    told: list[betanet.Progress] = []
    folder = tmp_path / "bulk"
    async with betanet.Client.open(dir=folder, bootstrap=localnet, bulk=True) as sender:
        identity = await sender.send(bob.address, body, on_progress=told.append)
        message = await receive(bob)
        assert (message.id, message.body == body) == (identity, True)
        assert any((tmp_path / "bob" / "spool").iterdir()), (
            "it lies on the disk until it is committed"
        )
        await bob.commit(message.id)
        done = [progress.done for progress in told]
        assert done
        assert done == sorted(done)
        assert {progress.total for progress in told} == {len(body)}
        assert min(progress.bytes_per_s for progress in told) > 0
        # A short one goes the same way if the sender wants to hear of the recipient itself.
        assert await sender.send(bob.address, b"short", delivered=True)
        assert (await receive(bob)).body == b"short"
        assert not any((folder / "spool").iterdir()), "what is sent from a file leaves none behind"


async def test_a_large_request_says_how_far_it_is(
    localnet: Path, tmp_path: Path, bob: betanet.Client
) -> None:
    body = os.urandom(2_500_003)
    told: list[betanet.Progress] = []
    folder = tmp_path / "bulk"
    async with betanet.Client.open(dir=folder, bootstrap=localnet, bulk=True) as asker:
        asking = asyncio.ensure_future(
            asker.request(bob.address, body, timeout=DEADLINE_S, on_progress=told.append)
        )
        message = await receive(bob)
        assert message.body == body
        assert message.reply_handle is not None
        await bob.reply(message.reply_handle, b"got it")
        assert await asking == b"got it"
        await bob.commit(message.id)
    done = [progress.done for progress in told]
    assert len(done) > 1
    assert done == sorted(done)
    assert {progress.total for progress in told} == {len(body)}


@pytest.mark.parametrize("hops", [1, 3, 5, 7])
async def test_a_request_is_answered_at_its_level(
    hops: int, alice: betanet.Client, localnet: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "worker"
    async with betanet.Client.open(dir=folder, bootstrap=localnet, level=hops) as worker:
        answering = asyncio.ensure_future(answer_one(worker))
        answer = await alice.request(worker.address, b"question", hops=hops, timeout=DEADLINE_S)
        assert answer == b"answer to question"
        await answering


async def answer_one(client: betanet.Client) -> None:
    message = await receive(client)
    assert message.reply_handle is not None
    assert message.reply_capacity > 4 * 2_000
    await client.reply(message.reply_handle, b"answer to " + message.body)
    await client.commit(message.id)


async def test_many_requests_run_at_once(alice: betanet.Client, bob: betanet.Client) -> None:
    async def serve() -> None:
        for _ in range(20):
            await answer_one(bob)

    serving = asyncio.ensure_future(serve())
    bodies = [str(number).encode() for number in range(20)]
    answers = await asyncio.gather(
        *(alice.request(bob.address, body, timeout=DEADLINE_S) for body in bodies)
    )
    assert answers == [b"answer to " + body for body in bodies]
    await serving


async def test_an_answer_is_as_long_as_its_reply_packets(
    alice: betanet.Client, bob: betanet.Client
) -> None:
    async def answer_at_length() -> bytes:
        message = await receive(bob)
        assert message.reply_handle is not None
        body = os.urandom(message.reply_capacity)
        with pytest.raises(betanet.NetworkError):
            await bob.reply(message.reply_handle, body + b"x")
        await bob.reply(message.reply_handle, body)
        return body

    answering = asyncio.ensure_future(answer_at_length())
    answer = await alice.request(bob.address, b"", reply_packets=3, timeout=DEADLINE_S)
    assert answer == await answering


async def test_a_request_without_an_answer_times_out(
    alice: betanet.Client, bob: betanet.Client
) -> None:
    with pytest.raises(betanet.Timeout):
        await alice.request(bob.address, b"question", timeout=0.2)


async def test_a_request_that_has_arrived_says_so_when_nobody_answers(
    alice: betanet.Client, bob: betanet.Client
) -> None:
    with pytest.raises(betanet.Unanswered, match="no answer in time, though the request has arriv"):
        await alice.request(bob.address, b"question", timeout=3)


@pytest.mark.parametrize("hops", [2, 3, 7])
async def test_a_ping_comes_back(hops: int, alice: betanet.Client) -> None:
    assert 0 <= await alice.ping(hops) < DEADLINE_S


async def test_a_cancelled_receive_loses_no_message(
    alice: betanet.Client, bob: betanet.Client
) -> None:
    for number in range(20):
        waiting = asyncio.ensure_future(bob.receive())
        await asyncio.sleep(0)
        await alice.send(bob.address, bytes([number]), hops=1)
        waiting.cancel()
        await asyncio.wait([waiting])
        message = waiting.result() if not waiting.cancelled() else await receive(bob)
        assert message.body == bytes([number])


async def test_a_receive_cancelled_as_its_message_arrives_keeps_it(
    alice: betanet.Client, bob: betanet.Client
) -> None:
    waiting = asyncio.ensure_future(bob.receive())
    await asyncio.sleep(0.01)
    sending = asyncio.ensure_future(alice.send(bob.address, b"", hops=1))
    await asyncio.sleep(0)
    # With the event loop held up, the core has the message before the loop can hand it over.
    time.sleep(1)  # noqa: ASYNC251 - see above
    waiting.cancel()
    message = await receive(bob)
    assert message.id == await sending


async def test_an_operation_stops_with_its_task(alice: betanet.Client, bob: betanet.Client) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await alice.request(bob.address, b"question", timeout=DEADLINE_S)


async def test_an_answered_message_comes_again_without_a_way_to_answer(
    localnet: Path, tmp_path: Path, alice: betanet.Client
) -> None:
    async with betanet.Client.open(dir=tmp_path / "carol", bootstrap=localnet) as carol:
        asking = asyncio.ensure_future(alice.request(carol.address, b"q", timeout=DEADLINE_S))
        first = await receive(carol)
        assert first.reply_handle is not None
        await carol.reply(first.reply_handle, b"answer")
        assert await asking == b"answer"
    async with betanet.Client.open(dir=tmp_path / "carol", bootstrap=localnet) as carol:
        again = await receive(carol)
        assert (again.id, again.reply_handle, again.reply_capacity) == (first.id, None, 0)
        with pytest.raises(betanet.NetworkError, match="answered already"):
            await carol.reply(first.reply_handle, b"once more")


async def test_messages_of_one_edge_come_again_in_the_order_in_which_they_were_stored(
    localnet: Path, tmp_path: Path, alice: betanet.Client
) -> None:
    folder = tmp_path / "carol"
    bodies = [bytes([number]) * 2_000 for number in range(12)]
    async with betanet.Client.open(dir=folder, bootstrap=localnet, edges=1) as carol:
        for body in bodies:
            await alice.send(carol.address, body, hops=1)
        assert [(await receive(carol)).body for _ in bodies] == bodies
    async with betanet.Client.open(dir=folder, bootstrap=localnet) as carol:
        messages = [await receive(carol) for _ in bodies]
        assert [message.body for message in messages] == bodies
        for message in messages[::2]:
            await carol.commit(message.id)
    async with betanet.Client.open(dir=folder, bootstrap=localnet) as carol:
        assert [(await receive(carol)).body for _ in bodies[1::2]] == bodies[1::2]


async def test_a_client_is_opened_by_waiting_for_it_or_by_entering_it(
    localnet: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "heidi"
    async with betanet.Client.open(dir=folder, bootstrap=localnet) as entered:
        await entered.ping(1)
    with pytest.raises(betanet.Closed):
        entered.status()
    async with await betanet.Client.open(dir=folder, bootstrap=localnet) as awaited:
        assert awaited.address == entered.address
    async with asyncio.TaskGroup() as group:
        task = group.create_task(betanet.Client.open(dir=folder, bootstrap=localnet))
    await task.result().close()


async def test_messages_are_iterated_until_the_client_is_closed(
    localnet: Path, tmp_path: Path, alice: betanet.Client
) -> None:
    bodies = []
    async with betanet.Client.open(dir=tmp_path / "ivan", bootstrap=localnet) as ivan:
        await alice.send(ivan.address, b"one")
        async with asyncio.timeout(DEADLINE_S):
            async for message in ivan:
                bodies.append(message.body)
                await ivan.commit(message.id)
                if len(bodies) == 1:
                    await alice.send(ivan.address, b"two")
                else:
                    await ivan.close()
    assert bodies == [b"one", b"two"]


async def test_a_receive_that_times_out_loses_no_message(
    alice: betanet.Client, bob: betanet.Client
) -> None:
    with pytest.raises(betanet.Timeout, match=r"no message came within 0\.01 s"):
        await bob.receive(timeout=0.01)
    with pytest.raises(TimeoutError):
        await bob.receive(timeout=0)
    identity = await alice.send(bob.address, b"late")
    assert (await bob.receive(timeout=DEADLINE_S)).id == identity


async def test_a_client_keeps_its_address_and_its_messages_over_a_restart(
    localnet: Path, tmp_path: Path, alice: betanet.Client
) -> None:
    folder = tmp_path / "carol"
    async with betanet.Client.open(dir=folder, bootstrap=localnet) as carol:
        address = carol.address
    identity = await alice.send(address, b"while away")
    async with betanet.Client.open(dir=folder, bootstrap=localnet) as carol:
        assert carol.address == address
        message = await receive(carol)
        assert message.id == identity
    async with betanet.Client.open(dir=folder, bootstrap=localnet) as carol:
        again = await receive(carol)
        assert again == message
        await carol.commit(again.id)


async def test_a_folder_has_one_owner(
    localnet: Path, tmp_path: Path, alice: betanet.Client
) -> None:
    with pytest.raises(betanet.NetworkError, match="in use by this process; close what holds it"):
        await betanet.Client.open(dir=tmp_path / "alice", bootstrap=localnet)


@pytest.mark.parametrize("is_reachable", [True, False])
async def test_a_cancelled_open_has_given_up_the_folder(
    is_reachable: bool, localnet: Path, tmp_path: Path, alice: betanet.Client
) -> None:
    # Alice keeps the core's threads, so that nothing ends because they do.
    bootstrap = localnet if is_reachable else await unreachable(localnet, tmp_path)
    folder = tmp_path / "dave"
    for turns in range(4):
        opening = asyncio.create_task(betanet.Client.open(dir=folder, bootstrap=bootstrap))
        async with asyncio.timeout(DEADLINE_S):
            while turns and not await asyncio.to_thread((folder / "edges.json").exists):
                await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        if (folder / "lock").exists():
            with (folder / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    await alice.ping(1)


async def unreachable(localnet: Path, tmp_path: Path) -> Path:
    """A network file whose edges do not answer, though somebody listens there."""
    listener = socket.create_server(("127.0.0.1", 0))
    net = json.loads(await asyncio.to_thread(localnet.read_text))
    for edge in net["edges"]:
        edge["address"] = f"127.0.0.1:{listener.getsockname()[1]}"
    bootstrap = tmp_path / "unreachable.json"
    await asyncio.to_thread(bootstrap.write_text, json.dumps(net))
    listener.close()
    return bootstrap


async def test_a_missing_bootstrap_file_is_named(tmp_path: Path) -> None:
    for kind in (FileNotFoundError, betanet.NoNetworkFile, betanet.BetanetError):
        with pytest.raises(kind, match=r"there is no network file .*net\.json"):
            await betanet.Client.open(dir=tmp_path / "client", bootstrap=tmp_path / "net.json")


async def test_a_network_without_edges_is_own_trouble(localnet: Path, tmp_path: Path) -> None:
    bootstrap = tmp_path / "net.json"
    net = json.loads(await asyncio.to_thread(localnet.read_text))
    await asyncio.to_thread(bootstrap.write_text, json.dumps(net | {"edges": []}))
    with pytest.raises(betanet.Offline, match="names no edge"):
        await betanet.Client.open(dir=tmp_path / "client", bootstrap=bootstrap)


async def test_more_edges_than_the_network_has_are_refused(localnet: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="edges must be 1 to 4 in this network, not 5"):
        await betanet.Client.open(dir=tmp_path / "client", bootstrap=localnet, edges=5)
    for edges in (0, -1, 9, 2**70):
        with pytest.raises(ValueError, match="edges must be 1 to 8"):
            await betanet.Client.open(dir=tmp_path / "client", bootstrap=localnet, edges=edges)


async def test_bad_arguments_are_refused_at_once(alice: betanet.Client) -> None:
    with pytest.raises(betanet.InvalidAddress):
        await alice.send("fog1nonsense", b"")
    for hops in (0, 8, -1, 300):
        with pytest.raises(ValueError, match="hops must be 1 to 7"):
            await alice.ping(hops)
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        await alice.commit("xyz")
    with pytest.raises(ValueError, match="timeout"):
        await alice.request(alice.address, b"", timeout=-1.0)
    size = 1 << 40  # more than there is memory: it cannot have been copied
    with os.fdopen(os.memfd_create("long"), "wb") as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as long:
            body = cast("bytes", long)
            for refused in (
                alice.send(alice.address, body),
                alice.request(alice.address, body),
                alice.reply(0, body),
            ):
                with pytest.raises(betanet.NetworkError, match=f"the message has {size} bytes"):
                    await refused


async def test_the_status_shows_the_network(alice: betanet.Client) -> None:
    status = alice.status()
    assert status.nodes == {"entry": 2, "middle": 6, "exit": 2}
    assert status.edges_attached == status.edges_wanted == 2
    assert status.one_operator
    assert status.mean_delay_ms == 2
    assert status.trouble is None
    assert [(edge.current, edge.attached, edge.reason) for edge in status.edges] == [
        (True, True, None)
    ] * 2
    assert len({bytes.fromhex(edge.id) for edge in status.edges}) == 2
    assert status.excluded == ()
    assert (status.outgoing_messages, status.uncommitted) == (0, 0)


async def test_the_consensus_lists_the_nodes_by_which_the_client_goes(
    alice: betanet.Client, localnet: Path
) -> None:
    status, found = alice.status(), alice.consensus()
    assert found is not None
    assert found.in_force
    assert found.network == status.network
    assert found.valid_after_ms < found.fresh_until_ms <= found.valid_until_ms
    assert Counter(node.role for node in found.nodes) == status.nodes
    assert len({bytes.fromhex(node.id) for node in found.nodes}) == len(found.nodes)
    assert {(node.operator, node.prefix) for node in found.nodes} == {("local", "127.0.0.0/16")}
    assert all(found.epoch in node.key_epochs for node in found.nodes)
    assert all(found.valid_after_ms < node.expires_ms for node in found.nodes)
    listed = {(node.id, node.link_address) for node in found.nodes if node.role != "middle"}
    net = json.loads(await asyncio.to_thread(localnet.read_bytes))
    assert listed == {(edge["id"], edge["address"]) for edge in net["edges"]}
    assert {edge.id for edge in status.edges} <= {edge["id"] for edge in net["edges"]}


async def test_the_status_shows_loss_and_times_by_the_number_of_hops(
    alice: betanet.Client,
) -> None:
    assert alice.status().paths == ()
    for hops in (3, 7, 7):
        await alice.ping(hops)
    await alice.send(alice.address, b"to myself", hops=5)
    assert (await receive(alice)).body == b"to myself"
    async with asyncio.timeout(DEADLINE_S):
        while alice.status().in_flight or len(alice.status().paths) < 3:
            await asyncio.sleep(0.01)
    status = alice.status()
    assert status.uncommitted == 1
    figures = {path.hops: path for path in status.paths}
    assert set(figures) == {3, 5, 7}
    for path in status.paths:
        assert 0 <= path.lost < path.tries, path
    assert figures[7].tries >= 2
    assert figures[5].round_trip_ms is not None
    assert figures[5].loop_ms is None
    assert figures[3].loop_ms is not None


async def test_a_published_worker_is_listed(alice: betanet.Client, bob: betanet.Client) -> None:
    await alice.publish_worker(
        name="alice's laptop",
        kinds=["wasm"],
        slots=2,
        memory_bytes=2**30,
        limits=betanet.WorkerLimits(wall_ms=1, scratch_bytes=2**53 - 1, output_bytes=0),
        groups=["home"],
    )
    await bob.publish_worker(name="bob's", kinds=["wasm"], slots=1, memory_bytes=0)
    async with asyncio.timeout(DEADLINE_S):
        by_address: dict[str, betanet.WorkerDescriptor] = {}
        while not {alice.address, bob.address} <= by_address.keys():
            await asyncio.sleep(0.01)
            by_address = {worker.address: worker for worker in await bob.workers()}
    assert by_address[bob.address].limits is None, "it does not say"
    worker = by_address[alice.address]
    assert worker.limits == betanet.WorkerLimits(1, 2**53 - 1, 0)
    assert (worker.name, worker.kinds, worker.slots) == ("alice's laptop", ("wasm",), 2)
    assert (worker.memory_bytes, worker.groups) == (2**30, ("home",))
    assert worker.level is None, "it takes all"
    assert worker.issued_ms < worker.expires_ms


async def test_closing_ends_what_waits(localnet: Path, tmp_path: Path) -> None:
    client = await betanet.Client.open(dir=tmp_path / "erin", bootstrap=localnet)
    waiting = asyncio.ensure_future(client.receive())
    await asyncio.sleep(0)
    await client.close()
    await client.close()
    with pytest.raises(betanet.Closed):
        await waiting
    with pytest.raises(betanet.Closed):
        await client.ping(3)
    with pytest.raises(betanet.Closed):
        await client.receive()


async def test_a_close_that_was_cancelled_gives_up_the_folder(
    localnet: Path, tmp_path: Path, alice: betanet.Client
) -> None:
    # Alice keeps the core's threads, so that nothing ends because they do.
    for turns in range(4):
        client = await betanet.Client.open(dir=tmp_path / "erin", bootstrap=localnet)
        closing = asyncio.ensure_future(client.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        await client.close()
        async with betanet.Client.open(dir=tmp_path / "erin", bootstrap=localnet):
            pass
    await alice.ping(1)


async def test_a_receive_without_a_wait_finds_what_has_come(
    alice: betanet.Client, bob: betanet.Client
) -> None:
    bodies = [bytes([number]) for number in range(5)]
    for body in bodies:
        await alice.send(bob.address, body, hops=1)
    found: set[bytes] = set()
    async with asyncio.timeout(DEADLINE_S):
        while len(found) < len(bodies):
            with contextlib.suppress(betanet.Timeout):
                found.add((await bob.receive(timeout=0)).body)
    assert found == set(bodies)


async def test_closing_joins_the_cores_threads(localnet: Path, tmp_path: Path) -> None:
    async with betanet.Client.open(dir=tmp_path / "frank", bootstrap=localnet):
        assert core_threads()
    async with asyncio.timeout(DEADLINE_S):
        while core_threads():  # one that was joined is listed for a moment more
            await asyncio.sleep(0.001)


def core_threads() -> list[str]:
    names = []
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            names.append((task / "comm").read_text().strip())
    return [name for name in names if name.startswith(("betanet", "client"))]


async def test_a_client_that_nobody_closed_is_reported(localnet: Path, tmp_path: Path) -> None:
    client = await betanet.Client.open(dir=tmp_path / "grace", bootstrap=localnet)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del client


async def test_clients_of_two_loops_share_the_core(localnet: Path, tmp_path: Path) -> None:
    async def ping() -> float:
        folder = tmp_path / threading.current_thread().name
        async with betanet.Client.open(dir=folder, bootstrap=localnet) as client:
            return await client.ping(3)

    times = await asyncio.gather(*(asyncio.to_thread(asyncio.run, ping()) for _ in range(2)))
    assert all(time > 0 for time in times)
