"""Programs as people run them: they read and write megabytes, beside and in place of files."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from fog_compute.tasks import Limits
from fog_compute.tasks.result import TaskResult
from fog_compute.worker.job import Job
from fog_compute.worker.slot import RunnerSlot

PROGRAMS = Path(__file__).parents[3] / "programs"


async def run(
    slot: RunnerSlot,
    program: str,
    *argv: str,
    stdin: bytes = b"",
    inputs: Mapping[str, bytes] | None = None,
) -> TaskResult:
    module = (PROGRAMS / f"{program}.wasm").read_bytes()

    async def load() -> bytes:
        return module

    name = hashlib.sha256(module).hexdigest()
    return await slot.run(Job(name, argv, stdin, inputs or {}, Limits(), bytes(32)), load)


@pytest.mark.asyncio
@pytest.mark.parametrize("source", ["numbers.txt", "/numbers.txt", "./numbers.txt"])
@pytest.mark.parametrize("target", ["out/sorted.txt", "/out/sorted.txt"])
async def test_numbers_are_sorted_into_a_file_that_comes_back(
    slot: RunnerSlot, source: str, target: str
) -> None:
    """INV-TASK-91, INV-TASK-93: the program removes its input and renames across folders."""
    rng = random.Random(1)
    numbers = [rng.randrange(10**9) for _ in range(150_000)]
    text = "".join(f"{number}\n" for number in numbers).encode()
    result = await run(slot, "sort", source, target, inputs={"numbers.txt": text})
    assert (result.stderr, result.exit_code) == (b"", 0)
    assert result.stdout == b"150000 numbers\n"
    assert [int(line) for line in result.file("sorted.txt").split()] == sorted(numbers)


@pytest.mark.asyncio
async def test_megabytes_are_compressed_from_input_to_output(slot: RunnerSlot) -> None:
    data = random.Random(1).randbytes(1_500_000) + b"the same again " * 100_000
    piped = await run(slot, "gzip", stdin=data)
    assert (piped.fault, piped.exit_code) == (None, 0)
    assert gzip.decompress(piped.stdout) == data
    filed = await run(slot, "gzip", "in/data", "out/data.gz", inputs={"in/data": data})
    assert filed.file("data.gz") == piped.stdout
