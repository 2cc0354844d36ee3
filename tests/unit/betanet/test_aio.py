"""What happens to results when callers are cancelled, on a scripted core."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
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


MESSAGE = betanet.Incoming(id="1", body=b"hello", reply_handle=None, reply_capacity=0)


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
            await own.run(_core.Client.open, "nowhere/client", "nowhere/net.json", 2, 3)
    finally:
        await own.close()
