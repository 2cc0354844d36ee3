"""What happens to results when callers are cancelled, on a scripted core."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import cast

import pytest
import pytest_asyncio

import betanet
from betanet import _aio, _core

pytestmark = pytest.mark.asyncio

Completion = tuple[int, object, Exception | None]


class ScriptedCore:
    """Stands where the core's bridge stands; completions come when the test says."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        self.queue: deque[Completion] = deque()
        self.cancelled: list[int] = []
        self.closed = 0
        self.started = 0

    def finish(self, number: int, value: object = None, error: Exception | None = None) -> None:
        self.queue.append((number, value, error))
        self.wake()

    def take(self, limit: int) -> list[Completion]:
        return [self.queue.popleft() for _ in range(min(limit, len(self.queue)))]

    def cancel(self, number: int) -> None:
        self.cancelled.append(number)

    def close(self) -> None:
        self.closed += 1


def start(core: _core.Bridge) -> int:
    script = cast("ScriptedCore", core)
    script.started += 1
    return script.started


@pytest_asyncio.fixture
async def bridge(monkeypatch: pytest.MonkeyPatch) -> _aio.Bridge:
    monkeypatch.setattr(_core, "Bridge", ScriptedCore)
    return _aio.Bridge()


def scripted(bridge: _aio.Bridge) -> ScriptedCore:
    return cast("ScriptedCore", bridge._core)


async def turn() -> None:
    """Let everything that is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_results_reach_their_callers(bridge: _aio.Bridge) -> None:
    first = asyncio.ensure_future(bridge.run(start))
    second = asyncio.ensure_future(bridge.run(start))
    third = asyncio.ensure_future(bridge.run(start))
    await turn()
    scripted(bridge).finish(2, "two")
    scripted(bridge).finish(1, None)
    scripted(bridge).finish(3, error=betanet.NetworkError("three"))
    assert await second == "two"
    assert await first is None
    with pytest.raises(betanet.NetworkError, match="three"):
        await third


async def test_a_cancelled_caller_cancels_its_operation(bridge: _aio.Bridge) -> None:
    task = asyncio.ensure_future(bridge.run(start))
    await turn()
    task.cancel()
    await turn()
    assert task.cancelled()
    assert scripted(bridge).cancelled == [1]
    # What comes all the same finds nobody.
    scripted(bridge).finish(1, "late")
    await turn()


MESSAGE = betanet.Incoming(id="1", content=b"hello", reply_handle=None, reply_capacity=0)


@pytest.mark.parametrize("moment", ["before it came", "as it came", "before it was taken"])
async def test_a_message_waits_for_the_next_receive(moment: str, bridge: _aio.Bridge) -> None:
    script = scripted(bridge)
    client = betanet.Client(bridge, cast("_core.Client", SimpleNamespace(receive=start)))
    cancelled = asyncio.ensure_future(client.receive())
    await turn()
    arrived = (1, ("1", b"hello", None, 0), None)
    match moment:
        case "before it came":
            cancelled.cancel()
            await turn()
            script.queue.append(arrived)
            bridge.drain()
        case "as it came":
            cancelled.cancel()
            script.queue.append(arrived)
            bridge.drain()
        case _:
            script.queue.append(arrived)
            bridge.drain()
            cancelled.cancel()
    await turn()
    assert cancelled.cancelled()
    assert await client.receive() == MESSAGE
    assert (script.started, script.cancelled) == (1, [])
    client._is_closed = True


async def test_who_cancels_all_tasks_loses_no_message(bridge: _aio.Bridge) -> None:
    client = betanet.Client(bridge, cast("_core.Client", SimpleNamespace(receive=start)))
    cancelled = asyncio.ensure_future(client.receive())
    await turn()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await turn()
    assert cancelled.cancelled()
    scripted(bridge).finish(1, ("1", b"hello", None, 0))
    await turn()
    assert await client.receive() == MESSAGE
    assert scripted(bridge).cancelled == []
    client._is_closed = True


async def test_a_receive_without_a_wait_gives_what_is_there(bridge: _aio.Bridge) -> None:
    queue = deque([("1", b"hello", None, 0)])
    core = SimpleNamespace(receive=start, try_receive=lambda: queue.popleft() if queue else None)
    client = betanet.Client(bridge, cast("_core.Client", core))
    assert await client.receive(timeout=0) == MESSAGE
    with pytest.raises(betanet.Timeout):
        await client.receive(timeout=0)
    assert scripted(bridge).started == 0
    # What a cancelled wait has brought is there, too, and comes before what came later.
    waiting = asyncio.ensure_future(client.receive())
    await turn()
    with pytest.raises(betanet.Timeout):
        await client.receive(timeout=0)
    waiting.cancel()
    await turn()
    with pytest.raises(betanet.Timeout):
        await client.receive(timeout=0)
    queue.append(("2", b"later", None, 0))
    scripted(bridge).finish(1, ("1", b"hello", None, 0))
    assert await client.receive(timeout=0) == MESSAGE
    assert (await client.receive(timeout=0)).id == "2"
    client._is_closed = True


async def test_in_another_loop_nothing_is_started(bridge: _aio.Bridge) -> None:
    core = SimpleNamespace(send=start, receive=start, try_receive=None)
    client = betanet.Client(bridge, cast("_core.Client", core))
    for work in (
        lambda: client.send("fog1", b""),
        client.receive,
        lambda: client.receive(timeout=0),
        client.__aenter__,
    ):
        with pytest.raises(RuntimeError, match="was opened in another event loop; use it there"):
            await asyncio.to_thread(asyncio.run, work())
    assert scripted(bridge).started == 0
    client._is_closed = True


async def test_many_results_are_settled_in_batches(bridge: _aio.Bridge) -> None:
    count = 3 * _aio._BATCH
    tasks = [asyncio.ensure_future(bridge.run(start)) for _ in range(count)]
    await turn()
    core = scripted(bridge)
    core.queue.extend((number + 1, number, None) for number in range(count))
    core.wake()
    assert await asyncio.gather(*tasks) == list(range(count))


async def test_closing_fails_who_waits_and_can_be_repeated(bridge: _aio.Bridge) -> None:
    task = asyncio.ensure_future(bridge.run(start))
    await turn()
    await bridge.close()
    await bridge.close()
    with pytest.raises(betanet.Closed):
        await task
    with pytest.raises(betanet.Closed):
        await bridge.run(start)
    scripted(bridge).finish(1, "late")
    await turn()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the end at the latest, so that no thread stays."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_cancelled_close_goes_on_and_the_next_one_waits_for_it(
    bridge: _aio.Bridge, gate: threading.Event
) -> None:
    closed: list[object] = []

    def close(core: object) -> None:
        gate.wait()
        closed.append(core)

    client = betanet.Client(bridge, cast("_core.Client", SimpleNamespace(close=close)))
    for _ in range(2):
        closing = asyncio.ensure_future(client.close())
        await turn()
        closing.cancel()
        await turn()
        assert closing.cancelled()
    with pytest.raises(betanet.Closed):
        client.status()
    closing = asyncio.ensure_future(client.close())
    await turn()
    assert (closing.done(), closed) == (False, [])
    gate.set()
    await closing
    assert closed == [bridge._core]
    assert scripted(bridge).closed == 1


async def test_closing_needs_no_thread_that_asyncio_lends(bridge: _aio.Bridge) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    asyncio.get_running_loop().set_default_executor(executor)
    await bridge.close()
    assert scripted(bridge).closed == 1


async def test_closing_in_another_loop_fails_who_waits_in_this_one(bridge: _aio.Bridge) -> None:
    task = asyncio.ensure_future(bridge.run(start))
    await turn()
    await asyncio.to_thread(asyncio.run, bridge.close())
    with pytest.raises(betanet.Closed):
        await task
    assert scripted(bridge).closed == 1


async def test_a_client_whose_loop_is_gone_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "Bridge", ScriptedCore)

    async def leave() -> tuple[_aio.Bridge, asyncio.Task[object]]:
        bridge = _aio.Bridge()
        task = asyncio.ensure_future(bridge.run(start))
        await turn()
        return bridge, task

    bridge, task = await asyncio.to_thread(asyncio.run, leave())
    assert task.cancelled()
    await bridge.close()
    assert scripted(bridge).closed == 1


async def test_in_a_forked_child_nothing_works_and_nothing_is_closed(
    bridge: _aio.Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = SimpleNamespace(receive=start, status=tuple)
    client = betanet.Client(bridge, cast("_core.Client", core))
    waiting = asyncio.ensure_future(client.receive())
    await turn()
    monkeypatch.setattr(os, "getpid", lambda: bridge._process + 1)
    with pytest.raises(betanet.Closed):
        await client.receive()
    with pytest.raises(betanet.Closed):
        client.status()
    await client.close()
    assert scripted(bridge).closed == 0
    waiting.cancel()


async def test_a_client_is_neither_copied_nor_entered_when_closed(bridge: _aio.Bridge) -> None:
    client = betanet.Client(bridge, cast("_core.Client", SimpleNamespace(close=lambda _: None)))
    for refused in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            refused(client)
    await client.close()
    with pytest.raises(betanet.Closed):
        await client.__aenter__()


async def test_an_operation_that_does_not_start_leaves_nothing(bridge: _aio.Bridge) -> None:
    def refuse(core: _core.Bridge) -> int:
        raise betanet.InvalidAddress("no address")

    with pytest.raises(betanet.InvalidAddress):
        await bridge.run(refuse)
    assert bridge._waiting == {}


async def test_an_unused_bridge_is_collected(bridge: _aio.Bridge) -> None:
    assert bridge in _aio._open
    await bridge.close()
    assert bridge not in _aio._open


async def test_the_cores_own_bridge_wakes_the_loop() -> None:
    """Opening with a file that does not exist fails, through the real threads."""
    own = _aio.Bridge()
    try:
        with pytest.raises(betanet.NetworkError):
            await own.run(
                _core.Client.open, "nowhere/client", "nowhere/net.json", 2, 3, None, False
            )
    finally:
        await own.close()


async def test_a_bridge_that_is_collected_leaves_no_thread_in_python() -> None:
    """An interpreter that ends would end that thread within the core, and so the process."""
    script = textwrap.dedent(
        """
        import sys, threading, time, types
        from betanet import _core

        called = threading.Event()

        def wake():
            called.set()
            time.sleep(0.2)  # still in Python when the bridge goes

        class Slow:
            def __del__(self, sleep=time.sleep):
                sleep(0.5)  # while the interpreter ends, that thread goes on

        bridge = _core.Bridge(wake)
        _core.Client.open(bridge, "nowhere/client", "nowhere/net.json", 2, 3, None, False)
        called.wait()
        del bridge
        module = types.ModuleType("of its own")
        module.slow = Slow()
        sys.modules[module.__name__] = module
        del module
        """
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
