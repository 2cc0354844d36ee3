"""Work beside the event loop, also where the machine gives no more threads."""

from __future__ import annotations

import asyncio
import errno
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fog_compute.threads import in_thread

WAIT_S = 20.0


def _refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.asyncio
async def test_work_in_a_thread_ends_as_it_ends() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


@pytest.mark.asyncio
async def test_work_that_was_refused_a_thread_is_never_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = ThreadPoolExecutor(2)
    asyncio.get_running_loop().set_default_executor(pool)
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(WAIT_S)

    did: list[str] = []
    held = in_thread(hold)
    assert begun.wait(WAIT_S)
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", _refuse)
        with pytest.raises(OSError, match="no more threads") as refused:
            await in_thread(did.append, "refused")
    assert refused.value.errno == errno.EAGAIN
    go_on.set()
    await held
    await in_thread(did.append, "later")  # behind what was refused, in the same queue
    pool.shutdown()
    assert did == ["later"]


@pytest.mark.asyncio
async def test_work_that_another_thread_took_meanwhile_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = ThreadPoolExecutor(2)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(pool)
    await in_thread(int)  # one thread is there
    taken = threading.Event()
    submit = pool.submit

    def submit_late(*work: object) -> None:
        submit(*work)  # type: ignore[arg-type]
        assert taken.wait(WAIT_S)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool, "submit", submit_late)
    await in_thread(taken.set)
    pool.shutdown()
