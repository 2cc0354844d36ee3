"""Blobs on their way to one worker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from fog_compute.coordinator.attempts import Doing, Stage
from fog_compute.coordinator.uploads import AT_ONCE, WINDOW_BYTES, send_all
from fog_compute.errors import ChannelError
from fog_compute.tasks import TaskSpec, TaskState
from fog_compute.tasks.messages import Module, Rejected, Reply, Request, Submit
from fog_compute.vpn.channel import OnSent

from .scripted import ScriptedWorker
from .test_dispatcher import reaches, running

pytestmark = pytest.mark.asyncio

TURNS = 20


async def settle() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Wire:
    """Sends when the test says so."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = {bytes([number]): size for number, size in enumerate(sizes)}
        self.begun: list[bytes] = []
        self.ends: dict[bytes, asyncio.Future[str | None]] = {}
        self.tell: dict[bytes, OnSent] = {}
        self.given_up: list[bytes] = []
        self.told: list[int] = []

    async def send(self, ref: bytes, on_sent: OnSent) -> str | None:
        self.begun.append(ref)
        self.tell[ref] = on_sent
        self.ends[ref] = asyncio.get_running_loop().create_future()
        try:
            return await self.ends[ref]
        except asyncio.CancelledError:
            self.given_up.append(ref)
            raise

    def all(self) -> asyncio.Task[str | None]:
        return asyncio.create_task(send_all(self.sizes, self.send, self.told.append))


async def test_the_next_blob_is_begun_when_little_of_the_last_is_left_to_arrive() -> None:
    """INV-TASK-131."""
    wire = Wire([3 * WINDOW_BYTES, 50, 70])
    sending = wire.all()
    await settle()
    assert wire.begun == [b"\0"]
    wire.tell[b"\0"](2 * WINDOW_BYTES)
    await settle()
    assert wire.begun == [b"\0"]
    wire.tell[b"\0"](2 * WINDOW_BYTES + 60)
    await settle()
    assert wire.begun == [b"\0", b"\1", b"\2"], "50 bytes leave room for one more"
    for ref in (b"\2", b"\0", b"\1"):
        wire.ends[ref].set_result(None)
    assert await sending is None
    assert wire.told == sorted(wire.told)
    assert wire.told[-1] == 3 * WINDOW_BYTES + 120


async def test_small_blobs_are_on_their_way_together_within_a_bound() -> None:
    """INV-TASK-131."""
    wire = Wire([10] * (AT_ONCE + 5))
    sending = wire.all()
    await settle()
    assert wire.begun == list(wire.sizes)[:AT_ONCE]
    wire.ends[b"\3"].set_result(None)
    await settle()
    assert len(wire.begun) == AT_ONCE + 1
    while not sending.done():
        for end in wire.ends.values():
            if not end.done():
                end.set_result(None)
        await settle()
    assert wire.begun == list(wire.sizes)


async def test_what_has_arrived_is_never_told_to_be_less_or_more_than_there_is() -> None:
    """INV-TASK-132."""
    wire = Wire([100, 100])
    sending = wire.all()
    await settle()
    for count in (40, 20, 90, 4_000, 95):  # a message is longer than its blob
        wire.tell[b"\0"](count)
    wire.ends[b"\0"].set_result(None)
    await settle()
    wire.tell[b"\0"](99)
    wire.ends[b"\1"].set_result(None)
    await sending
    assert wire.told == [40, 90, 100, 200]


async def test_a_refusal_gives_up_what_is_on_its_way() -> None:
    wire = Wire([10, 10, 10])
    sending = wire.all()
    await settle()
    wire.ends[b"\1"].set_result("no")
    assert await sending == "no"
    assert sorted(wire.given_up) == [b"\0", b"\2"]


async def test_a_failure_gives_up_what_is_on_its_way_and_is_raised_as_it_is() -> None:
    wire = Wire([10, 10])
    sending = wire.all()
    await settle()
    wire.ends[b"\0"].set_exception(ChannelError("lost"))
    with pytest.raises(ChannelError, match="lost"):
        await sending
    assert wire.given_up == [b"\1"]


async def test_who_gives_up_an_upload_leaves_nothing_on_its_way() -> None:
    wire = Wire([10, 10])
    sending = wire.all()
    await settle()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert sorted(wire.given_up) == [b"\0", b"\1"]


async def test_a_module_goes_first_and_its_worker_hears_of_the_order_before_the_inputs_are_there(
    tmp_path: Path,
) -> None:
    """INV-TASK-133: so it can compile it meanwhile."""
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        stages: list[Stage | None] = []

        def look(_: ScriptedWorker, request: Request) -> Reply | None:
            if isinstance(request, Module):
                stages.append(fog.coordinator._work.stage(worker.orders[0].handle.hex()))
            return None

        worker.answer = look
        blobs = fog.store.blobs
        spec = TaskSpec(
            module=await blobs.put(b"m" * (WINDOW_BYTES + 5)),
            stdin=await blobs.put(b"s" * 90_000),
            inputs={"d": await blobs.put(b"d" * 1_700_000), "e": await blobs.put(b"e" * 30)},
        )
        made = await fog.coordinator.submit(spec)
        await reaches(fog, made, TaskState.RUNNING)
        sent = [len(one.data) for one in worker.heard if isinstance(one, Module)]
        assert sent[0] == WINDOW_BYTES + 5 + 28
        assert sorted(sent) == sorted({WINDOW_BYTES + 33, 90_028, 1_700_028, 58}), "each once"
        heard = [type(one) for one in worker.heard[: len(sent) + 3]]
        assert heard[:2] == [Submit, Module]
        assert heard.count(Submit) == 3
        assert {order.handle for order in worker.orders} == {worker.orders[0].handle}
        assert {stage and stage.doing for stage in stages} == {Doing.SENDING}
        done = [stage.done for stage in stages if stage is not None]
        assert done == sorted(done)
        assert done[0] == 0
        assert done[-1] > WINDOW_BYTES


async def test_a_small_blob_has_time_for_the_large_one_that_shares_its_way(
    tmp_path: Path,
) -> None:
    """INV-TASK-131."""
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a", blob_s=25, clock=fog.clock)
        blobs = fog.store.blobs
        spec = TaskSpec(
            module=await blobs.put(b"m" * 700_000), inputs={"d": await blobs.put(b"d" * 40_000)}
        )
        made = await fog.coordinator.submit(spec)
        await reaches(fog, made, TaskState.RUNNING)
        assert len([one for one in worker.heard if isinstance(one, Module)]) == 2


async def test_a_refusal_of_an_order_that_was_announced_is_heard_at_its_submission(
    tmp_path: Path,
) -> None:
    """INV-TASK-133."""
    async with running(tmp_path) as fog:
        worker = fog.add_worker("a")
        refused: list[Submit] = []

        def refuse(_: ScriptedWorker, request: Request) -> Reply | None:
            if isinstance(request, Submit) and any(isinstance(o, Module) for o in worker.heard):
                refused.append(request)
                return Rejected("not today")
            return None

        worker.answer = refuse
        blobs = fog.store.blobs
        spec = TaskSpec(
            module=await blobs.put(b"m" * 40_000), stdin=await blobs.put(b"s" * 900_000)
        )
        made = await fog.coordinator.submit(spec)

        async def declined() -> bool:
            return (await fog.store.tasks.get(made.id)).state is not TaskState.LEASED

        await fog.until(declined)
        assert refused
        assert "not today" in ((await fog.store.tasks.get(made.id)).reason or "")
