"""No limit cuts in silence: each is tried one below, at, and one above."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from fog_compute.tasks import Fault, Limits, TaskResult
from fog_compute.tasks.folder import FOLDER_DEPTH, FOLDER_ENTRIES
from fog_compute.units import KIB, MIB
from fog_compute.worker.folders import Excess, excess_of
from fog_compute.worker.job import Job
from fog_compute.worker.slot import RunnerSlot

from . import guests

BOUND = 300_007  # no multiple of what is written at once
PAGE = 64 * KIB


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slot(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerSlot]:
    home = tmp_path_factory.mktemp("limits")
    opened = RunnerSlot(home / "slot", home / "compiled")
    yield opened
    await opened.close()


async def run(slot: RunnerSlot, module: bytes, limits: Limits, **job: bytes) -> TaskResult:
    async def load() -> bytes:
        return module

    name = hashlib.sha256(module).hexdigest()
    return await slot.run(Job(name, (), job.get("stdin"), {}, limits, bytes(32)), load)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("output_bytes", [1000, BOUND, BOUND + 1])
@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("beyond", [-1, 0, 1, 3 * MIB])
async def test_a_scratch_holds_what_it_may_and_a_byte_more_is_a_fault(
    slot: RunnerSlot, beyond: int, files: int, output_bytes: int
) -> None:
    """INV-TASK-30: in one file and in several, whatever the limit of output is."""
    limits = Limits(scratch_bytes=BOUND, output_bytes=output_bytes)
    result = await run(slot, guests.writes(BOUND + beyond, files=files), limits)
    expected = (0, None) if beyond <= 0 else (-1, Fault.SCRATCH_LIMIT)
    assert (result.exit_code, result.fault) == expected
    assert (await run(slot, guests.HELLO, Limits())).stdout == b"hello\n"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("beyond", [-1, 0, 1, 2, 20 * MIB])
@pytest.mark.parametrize(
    "how",
    [
        "(drop (call $set_size (i32.const 4) (i64.const {size})))",
        """(drop (call $seek (i32.const 4) (i64.const {last}) (i32.const 0) (i32.const 16)))
        (drop (call $write (i32.const 4) (i32.const 2048) (i32.const 1)))""",
    ],
    ids=["set to a size", "written at its end"],
)
async def test_a_file_that_is_made_too_large_in_one_step_is_a_fault(
    slot: RunnerSlot, how: str, beyond: int
) -> None:
    """INV-TASK-30."""
    size = BOUND + beyond
    module = guests.writes(0, before=how.format(size=size, last=size - 1))
    result = await run(slot, module, Limits(scratch_bytes=BOUND, output_bytes=1000))
    expected = (0, None) if beyond <= 0 else (-1, Fault.SCRATCH_LIMIT)
    assert (result.exit_code, result.fault) == expected


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("beyond", [-1, 0, 1, 3 * MIB])
@pytest.mark.parametrize("files", [1, 3])
async def test_files_that_were_removed_and_are_open_count(
    slot: RunnerSlot, files: int, beyond: int
) -> None:
    """INV-TASK-30."""
    removed = "(drop (call $unlink (i32.const 3) (i32.const 1024) (i32.const 1)))"
    module = guests.writes(BOUND + beyond, files=files, before=removed)
    result = await run(slot, module, Limits(scratch_bytes=BOUND))
    assert result.fault is (None if beyond <= 0 else Fault.SCRATCH_LIMIT)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("scratch_bytes", [0, BOUND, BOUND + 1])
@pytest.mark.parametrize("beyond", [-1, 0, 1, 3 * MIB])
async def test_an_output_holds_what_it_may_and_a_byte_more_is_a_fault(
    slot: RunnerSlot, beyond: int, scratch_bytes: int
) -> None:
    """INV-TASK-30: whatever the limit of the scratch is."""
    limits = Limits(output_bytes=BOUND, scratch_bytes=scratch_bytes)
    data = bytes(BOUND + beyond)
    result = await run(slot, guests.ECHO, limits, stdin=data)
    assert result.fault is (None if beyond <= 0 else Fault.OUTPUT_LIMIT)
    assert result.stdout == data[:BOUND]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("beyond", [-1, 0, 1])
async def test_a_memory_is_as_large_as_it_may_and_a_byte_more_is_a_fault(
    slot: RunnerSlot, beyond: int
) -> None:
    """INV-TASK-30."""
    limits = Limits(memory_bytes=7 * PAGE - beyond)
    result = await run(slot, guests.has_memory(7), limits)
    assert result.fault is (None if beyond <= 0 else Fault.OUT_OF_MEMORY)


@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("name_bytes", [1, 200])
def test_a_scratch_is_as_deep_as_it_may_however_long_its_names(
    tmp_path: Path, beyond: int, name_bytes: int
) -> None:
    """INV-TASK-30: a path may be longer than the host takes in one piece."""
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(FOLDER_DEPTH + beyond):
        os.mkdir("d" * name_bytes, dir_fd=at)
        nested = os.open("d" * name_bytes, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = nested
    os.close(os.open("file", os.O_CREAT, dir_fd=at))
    os.truncate(at_path := f"/proc/self/fd/{at}/file", BOUND)
    assert Path(at_path).stat().st_size == BOUND
    os.close(at)
    deep = Excess.DEPTH if beyond > 0 else None
    assert excess_of(str(tmp_path), BOUND, FOLDER_ENTRIES, FOLDER_DEPTH) is deep
    assert excess_of(str(tmp_path), BOUND - 1, FOLDER_ENTRIES, FOLDER_DEPTH) is (
        deep or Excess.BYTES
    )


def test_a_scratch_has_as_many_entries_as_it_may(tmp_path: Path) -> None:
    """INV-TASK-30: files and folders, wherever they are."""
    places = [tmp_path / name for name in ("one", "two", "three")]
    for place in places:
        place.mkdir()
    (tmp_path / "first").touch()
    for number in range(FOLDER_ENTRIES - len(places) - 2):
        os.link(tmp_path / "first", places[number % 3] / str(number))
    for place, over in zip(places, (None, None, Excess.FILES), strict=True):
        assert excess_of(str(tmp_path), 0, FOLDER_ENTRIES, FOLDER_DEPTH) is over
        (place / "more").touch()


def test_a_scratch_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert excess_of(str(tmp_path / "none"), 0, 0, 0) is None
