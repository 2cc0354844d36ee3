"""Real runner processes and real guests, well-behaved and hostile."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import struct
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from fog_compute.tasks import Fault, Limits, TaskResult
from fog_compute.units import KIB, MIB
from fog_compute.worker.job import Job
from fog_compute.worker.process import RunnerLost
from fog_compute.worker.slot import RunnerSlot

from . import guests
from .conftest import DEADLINE_S

ROOT = Path(__file__).parents[4]
ENOTCAPABLE, EPERM, ENOENT = 76, 63, 44
SECOND_TRY_S = 20.0


async def run(
    slot: RunnerSlot,
    module: bytes,
    *argv: str,
    stdin: bytes | None = None,
    inputs: Mapping[str, bytes] | None = None,
    limits: Limits | None = None,
    seed: bytes = bytes(32),
) -> TaskResult:
    async def load() -> bytes:
        return module

    return await slot.run(
        Job(
            module_id=hashlib.sha256(module).hexdigest(),
            argv=argv,
            stdin=stdin,
            inputs={} if inputs is None else inputs,
            limits=Limits() if limits is None else limits,
            seed=seed,
        ),
        load,
    )


def leftovers(home: Path) -> list[Path]:
    """What tasks left in the slot's folder."""
    return [
        path
        for path in (home / "slot").rglob("*")
        if path.name not in ("work", "out", "tmp", "stdin")
        or (path.is_file() and path.stat().st_size)
    ]


async def is_well(slot: RunnerSlot) -> bool:
    result = await run(slot, guests.HELLO)
    return (result.stdout, result.exit_code, result.fault) == (b"hello\n", 0, None)


@pytest.mark.asyncio
async def test_a_command_runs_and_says_hello(slot: RunnerSlot) -> None:
    result = await run(slot, guests.HELLO)
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"hello\n", b"")
    assert (result.fault, result.detail) == (None, "")
    assert result.fuel_used > 0
    assert result.peak_memory == 2 * 65536


@pytest.mark.asyncio
async def test_a_runner_stays_warm_and_keeps_modules(slot: RunnerSlot) -> None:
    await slot.start()
    pid = slot.pid
    asked = 0

    async def load() -> bytes:
        nonlocal asked
        asked += 1
        return guests.HELLO

    for _ in range(5):
        job = Job("hello", (), None, {}, Limits(), bytes(32))
        assert (await slot.run(job, load)).stdout == b"hello\n"
    assert (slot.pid, asked) == (pid, 1)


@pytest.mark.asyncio
async def test_stdin_and_output_are_bytes_of_any_kind(slot: RunnerSlot) -> None:
    data = bytes(range(256)) * 300
    result = await run(slot, guests.ECHO, stdin=data)
    assert result.stdout == data
    assert (await run(slot, guests.ECHO)).stdout == b""


@pytest.mark.asyncio
async def test_the_word_count_example_counts(slot: RunnerSlot) -> None:
    module = (ROOT / "examples/wordcount/wordcount.wasm").read_bytes()
    text = b"The cat, the dog; THE don't 'quoted' caf\xc3\xa9\n" * 3
    result = await run(slot, module, "-n", "2", stdin=text)
    assert result.stdout.decode().splitlines() == [
        "       9 the",
        "       3 caf\u00e9",
        f"24 words, 6 different, 3 lines, {len(text)} bytes",
    ]
    from_file = await run(slot, module, "-n", "2", "in/a.txt", inputs={"in/a.txt": text})
    assert from_file.stdout == result.stdout
    missing = await run(slot, module, "nothing.txt")
    assert missing.exit_code == 1
    assert b"nothing.txt" in missing.stderr
    assert missing.fault is None


@pytest.mark.asyncio
async def test_an_exit_code_is_a_result_and_no_fault(slot: RunnerSlot) -> None:
    result = await run(slot, guests.EXITS_200)
    assert (result.exit_code, result.fault) == (200, None)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("module", "fault", "words"),
    [
        (b"\x7fELF and so on", Fault.NOT_WASM, "7f 45 4c 46"),
        (b"", Fault.NOT_WASM, "nothing"),
        (b'(module (func (export "_start")))', Fault.NOT_WASM, "not WebAssembly"),
        (guests.NOT_VALID, Fault.NOT_WASM, "not valid: malformed section"),
        (guests.COMPONENT, Fault.NOT_WASM, "component"),
        (guests.LIBRARY, Fault.NO_START, "_start"),
        (guests.TAKES_ARGUMENTS, Fault.NO_START, "_start"),
        (guests.NEEDS_A_HOST, Fault.MISSING_IMPORT, "env::secret"),
        (guests.BAD_SIGNATURE, Fault.MISSING_IMPORT, "proc_exit"),
        (guests.TRAPS, Fault.TRAP, "unreachable"),
        (guests.DIVIDES, Fault.TRAP, "integer division by zero in f"),
        (guests.OVERFLOWS, Fault.TRAP, "stack overflow"),
        (guests.WANTS_10_GB, Fault.OUT_OF_MEMORY, "256.0 MiB"),
    ],
)
async def test_a_module_at_fault_gets_one_line(
    slot: RunnerSlot, module: bytes, fault: Fault, words: str
) -> None:
    """INV-TASK-18."""
    await slot.start()
    runner = slot.pid
    result = await run(slot, module)
    assert result.fault is fault
    assert words in result.detail
    assert "\n" not in result.detail
    assert result.exit_code == -1
    assert await is_well(slot)
    assert slot.pid == runner


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "name", ["\\1b]0;owned\\07\\1b[2J\\0asecond line\\c2\\9b", "N" * 3_000_000]
)
async def test_the_modules_own_words_in_a_fault_are_one_short_line(
    slot: RunnerSlot, name: str
) -> None:
    """INV-TASK-33."""
    text = f'(module (func (@name "{name}") (export "_start") unreachable))'
    result = await run(slot, guests.assemble(text))
    assert result.fault is Fault.TRAP
    assert result.detail.isprintable()
    assert "unreachable" in result.detail
    assert len(result.detail) < 500
    text = f'(module (import "env" "{name[:50_000]}" (func)) (func (export "_start")))'
    result = await run(slot, guests.assemble(text))
    assert result.fault is Fault.MISSING_IMPORT
    assert result.detail.isprintable()
    assert len(result.detail) < 500


@pytest.mark.asyncio
async def test_compiled_code_from_outside_is_refused(slot: RunnerSlot, tmp_path: Path) -> None:
    """INV-TASK-21."""
    assert await is_well(slot)
    compiled = next((tmp_path / "compiled").glob("*.cwasm")).read_bytes()
    result = await run(slot, compiled)
    assert result.fault is Fault.NOT_WASM


@pytest.mark.asyncio
async def test_compiled_code_is_found_again_by_another_runner(tmp_path: Path) -> None:
    """INV-TASK-21."""

    async def refuse() -> bytes:
        raise AssertionError("the module was compiled before")

    folder = tmp_path / "compiled"
    first = RunnerSlot(tmp_path / "a", folder)
    await run(first, guests.HELLO)
    await first.close()
    assert folder.stat().st_mode & 0o777 == 0o700
    job = Job(hashlib.sha256(guests.HELLO).hexdigest(), (), None, {}, Limits(), bytes(32))
    second = RunnerSlot(tmp_path / "b", folder)
    assert (await second.run(job, refuse)).stdout == b"hello\n"
    await second.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("spoil", ["mode", "damage"])
async def test_compiled_code_that_others_could_write_is_not_used(
    tmp_path: Path, spoil: str
) -> None:
    """INV-TASK-21."""
    folder = tmp_path / "compiled"
    first = RunnerSlot(tmp_path / "a", folder)
    await run(first, guests.HELLO)
    await first.close()
    if spoil == "mode":
        folder.chmod(0o777)
    else:
        next(folder.glob("*.cwasm")).write_bytes(b"\x7fELF damaged")
    asked = 0

    async def load() -> bytes:
        nonlocal asked
        asked += 1
        return guests.HELLO

    job = Job(hashlib.sha256(guests.HELLO).hexdigest(), (), None, {}, Limits(), bytes(32))
    second = RunnerSlot(tmp_path / "b", folder)
    assert (await second.run(job, load)).stdout == b"hello\n"
    assert asked == 1
    await second.close()


@pytest.mark.asyncio
async def test_fuel_ends_a_loop(slot: RunnerSlot) -> None:
    """INV-TASK-18."""
    result = await run(slot, guests.FOREVER, limits=Limits(fuel=1_000_000))
    assert (result.fault, result.fuel_used) == (Fault.OUT_OF_FUEL, 1_000_000)
    assert "1000000" in result.detail
    assert await is_well(slot)


@pytest.mark.asyncio
async def test_the_wall_clock_ends_a_loop_and_keeps_what_was_written(slot: RunnerSlot) -> None:
    """INV-TASK-18."""
    # Compiled before, which counts too and may take long on a busy machine.
    compiled = await run(slot, guests.SAYS_AND_LOOPS, limits=Limits(fuel=1000))
    assert compiled.fault is Fault.OUT_OF_FUEL
    first = slot.pid
    wall_s = 0.5
    result = await run(slot, guests.SAYS_AND_LOOPS, limits=Limits(wall_s=wall_s))
    while not result.stderr and wall_s < SECOND_TRY_S:  # on a busy machine it got no turn
        wall_s *= 5
        result = await run(slot, guests.SAYS_AND_LOOPS, limits=Limits(wall_s=wall_s))
    assert result.fault is Fault.TIMEOUT
    assert f"{wall_s} s" in result.detail
    assert (result.stdout, result.stderr) == (b"begun\n", b"error")
    assert await is_well(slot)
    assert slot.pid != first


@pytest.mark.asyncio
async def test_growing_memory_fails_inside_the_guest(slot: RunnerSlot) -> None:
    """INV-TASK-18."""
    result = await run(slot, guests.GROWS_TO_10_GB, limits=Limits(memory_bytes=64 * MIB))
    assert (result.exit_code, result.fault) == (3, None)
    assert 60 * MIB < result.peak_memory <= 64 * MIB
    assert await is_well(slot)


@pytest.mark.asyncio
@pytest.mark.parametrize("scratch_bytes", [0, 4 * MIB])
async def test_a_flood_of_output_is_cut_off(slot: RunnerSlot, scratch_bytes: int) -> None:
    """INV-TASK-18."""
    limits = Limits(output_bytes=100_000, scratch_bytes=scratch_bytes)
    result = await run(slot, guests.FLOOD, limits=limits)
    assert result.fault is Fault.OUTPUT_LIMIT
    assert len(result.stdout) == 100_000
    assert await is_well(slot)


@pytest.mark.asyncio
async def test_output_of_exactly_the_limit_is_no_fault(slot: RunnerSlot) -> None:
    """INV-TASK-18."""
    data = b"x" * 10_000
    fits = await run(slot, guests.ECHO, stdin=data, limits=Limits(output_bytes=10_000))
    assert (fits.fault, fits.stdout) == (None, data)
    over = await run(slot, guests.ECHO, stdin=data, limits=Limits(output_bytes=9_999))
    assert (over.fault, over.stdout) == (Fault.OUTPUT_LIMIT, data[:-1])


@pytest.mark.asyncio
async def test_a_scratch_that_grows_too_large_is_cut_off(slot: RunnerSlot, tmp_path: Path) -> None:
    """INV-TASK-18."""
    result = await run(slot, guests.fills_scratch(files=4), limits=Limits(scratch_bytes=1 * MIB))
    assert result.fault is Fault.SCRATCH_LIMIT
    assert await is_well(slot)
    assert leftovers(tmp_path) == []


@pytest.mark.asyncio
async def test_a_module_that_takes_too_much_memory_to_compile_is_cut_off(
    slot: RunnerSlot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-18."""
    monkeypatch.setattr("fog_compute.worker.slot.RUNNER_BYTES", 150 * MIB)
    limits = Limits(memory_bytes=64 * KIB)
    result = await run(slot, guests.TAKES_MEMORY_TO_COMPILE, limits=limits)
    assert result.fault is Fault.OUT_OF_MEMORY
    assert "to compile it" in result.detail
    assert await is_well(slot)


@pytest.mark.asyncio
async def test_sleeping_takes_no_time_and_moves_the_clock(slot: RunnerSlot) -> None:
    """INV-TASK-16, INV-TASK-18: no host call holds a slot asleep."""
    result = await run(slot, guests.SLEEPS, limits=Limits(wall_s=SECOND_TRY_S))
    before, after, userdata, events = struct.unpack("<QQQI", result.stdout)
    assert after - before >= 1000 * 10**9
    assert (userdata, events) == (77, 1)
    assert result.fault is None


@pytest.mark.asyncio
async def test_the_same_task_gives_the_same_bytes_and_fuel(tmp_path: Path) -> None:
    """INV-TASK-16."""
    seen = set()
    for i in range(3):
        slot = RunnerSlot(tmp_path / str(i), tmp_path / f"compiled-{i % 2}")
        for _ in range(2):
            result = await run(slot, guests.LOOKS_AROUND, seed=b"s" * 32)
            seen.add((result.stdout, result.stderr, result.exit_code, result.fuel_used))
        await slot.close()
    assert len(seen) == 1
    stdout = seen.pop()[0]
    assert len(set(stdout[:64])) > 20
    assert stdout[:32] != stdout[32:64]
    wall, resolution, nan, variables, size = struct.unpack("<QQQII", stdout[64:])
    assert wall == 946_684_800 * 10**9 + 1000
    assert (resolution, nan) == (1000, 0x7FF8000000000000)
    assert (variables, size) == (0, 0)


@pytest.mark.asyncio
async def test_another_seed_gives_other_randomness(slot: RunnerSlot) -> None:
    """INV-TASK-16, INV-WORDS-07."""
    first = await run(slot, guests.LOOKS_AROUND, seed=b"1" * 32)
    second = await run(slot, guests.LOOKS_AROUND, seed=b"2" * 32)
    assert first.stdout[:64] != second.stdout[:64]
    assert first.stdout[64:] == second.stdout[64:]


@pytest.mark.asyncio
async def test_bad_pointers_are_errors_of_the_guest(slot: RunnerSlot) -> None:
    result = await run(slot, guests.BAD_POINTERS)
    assert (result.exit_code, result.fault) == (21 + 21 + 21 + 28, None)
    assert await is_well(slot)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "errnos"),
    [
        ("/etc/passwd", {ENOTCAPABLE, EPERM}),
        ("../../../../../../etc/passwd", {ENOTCAPABLE, EPERM}),
        ("etc/passwd", {ENOENT}),
        ("a/../../x", {ENOTCAPABLE, EPERM}),
        ("/proc/self/environ", {ENOTCAPABLE, EPERM}),
    ],
)
async def test_a_guest_reads_no_file_of_the_host(
    slot: RunnerSlot, path: str, errnos: set[int]
) -> None:
    """INV-TASK-17."""
    result = await run(slot, guests.opens(path), inputs={"a/b": b""})
    assert result.exit_code in errnos
    assert result.fault is None


@pytest.mark.asyncio
async def test_inputs_are_copies_that_a_task_may_change_and_the_next_finds_them_whole(
    slot: RunnerSlot,
) -> None:
    """INV-TASK-17, INV-TASK-91."""
    inputs = {"a/b.txt": b"x"}
    opened = guests.opens("a/b.txt")
    # Written to, cut off, made anew beside it: none of it is there for the next.
    for flags, rights, path in ((0, 64, "a/b.txt"), (8, 64, "a/b.txt"), (1, 64, "a/new.txt")):
        changes = guests.opens(path, flags=flags, rights=rights)
        assert (await run(slot, changes, inputs=inputs)).exit_code == 0, (flags, rights)
        assert (await run(slot, opened, inputs=inputs)).exit_code == 0
        assert (await run(slot, guests.opens("a/new.txt"), inputs=inputs)).exit_code == ENOENT
    assert inputs == {"a/b.txt": b"x"}


@pytest.mark.asyncio
async def test_what_a_task_made_of_its_folders_is_gone_before_the_next(
    slot: RunnerSlot, tmp_path: Path
) -> None:
    """INV-TASK-17, INV-TASK-91: also where it put a file in the place of a folder."""
    for name in ("tmp", "out"):
        spoils = guests.replaces_folder_by_file(name)
        assert (await run(slot, spoils, inputs={"a/b.txt": b"x"})).exit_code == 0
        assert leftovers(tmp_path) == []
        assert (await run(slot, guests.opens(name, flags=2))).exit_code == 0  # a folder again


@pytest.mark.asyncio
async def test_a_task_finds_nothing_of_the_task_before(slot: RunnerSlot, tmp_path: Path) -> None:
    """INV-TASK-17."""
    inputs = {"a/b.txt": b"x"}
    assert (await run(slot, guests.ECHO, stdin=b"secret", inputs=inputs)).stdout == b"secret"
    assert leftovers(tmp_path) == []
    assert (await run(slot, guests.opens("a/b.txt"))).exit_code == ENOENT
    assert (await run(slot, guests.ECHO)).stdout == b""


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["f", "tmp/f", "out/f"])
async def test_what_a_task_writes_is_gone_before_the_next(slot: RunnerSlot, path: str) -> None:
    """INV-TASK-17, INV-TASK-91."""
    makes = guests.opens(path, flags=1 | 4, rights=64)  # create, and it must be new
    for _ in range(2):
        assert (await run(slot, makes)).exit_code == 0


@pytest.mark.asyncio
async def test_a_task_without_a_scratch_writes_no_byte(slot: RunnerSlot) -> None:
    """INV-TASK-30."""
    limits = Limits(scratch_bytes=0)
    assert (await run(slot, guests.writes(0), limits=limits)).fault is None
    assert (await run(slot, guests.writes(1), limits=limits)).fault is Fault.SCRATCH_LIMIT


@pytest.mark.asyncio
async def test_a_guest_has_one_folder_and_no_socket(slot: RunnerSlot) -> None:
    """INV-TASK-17."""
    assert (await run(slot, guests.SOCKETS)).exit_code == 11


@pytest.mark.asyncio
async def test_a_killed_runner_loses_its_attempt_and_nothing_else(slot: RunnerSlot) -> None:
    """INV-TASK-19."""
    await slot.start()
    running = asyncio.create_task(run(slot, guests.SAYS_AND_LOOPS))
    async with asyncio.timeout(SECOND_TRY_S):
        while slot.place.log_tail() != b"error":
            await asyncio.sleep(0.005)
    assert slot.pid is not None
    os.kill(slot.pid, signal.SIGKILL)
    with pytest.raises(RunnerLost, match="SIGKILL"):
        await running
    assert await is_well(slot)


@pytest.mark.asyncio
async def test_cancelling_a_job_ends_its_runner(slot: RunnerSlot, tmp_path: Path) -> None:
    await slot.start()
    pid = slot.pid
    assert pid is not None
    running = asyncio.create_task(run(slot, guests.SAYS_AND_LOOPS))
    async with asyncio.timeout(SECOND_TRY_S):
        while slot.place.log_tail() != b"error":
            await asyncio.sleep(0.005)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not psutil.pid_exists(pid)
    assert leftovers(tmp_path) == []
    assert await is_well(slot)


@pytest.mark.asyncio
async def test_closing_waits_for_a_runner_whose_end_was_cut_short(slot: RunnerSlot) -> None:
    """INV-TASK-20."""
    await slot.start()
    process = slot._runner._process
    assert process is not None
    running = asyncio.create_task(run(slot, guests.SAYS_AND_LOOPS))
    async with asyncio.timeout(SECOND_TRY_S):
        while slot.place.log_tail() != b"error":
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.sleep(0)
    while slot._runner._process is not None:
        await asyncio.sleep(0)
    running.cancel()
    await slot.close()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.asyncio
async def test_a_runner_has_few_descriptors_no_environment_and_no_core_files(
    slot: RunnerSlot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-17."""
    monkeypatch.setenv("FOG_SECRET", "do not pass on")
    await slot.start()
    assert slot.pid is not None
    process = psutil.Process(slot.pid)
    assert "FOG_SECRET" not in process.environ()
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_NOFILE)[1] <= 256
    status = await asyncio.to_thread(Path(f"/proc/{slot.pid}/status").read_text, "ascii")
    assert "NoNewPrivs:\t1" in status
    assert process.net_connections() == []


@pytest.mark.asyncio
async def test_what_other_tasks_run_too_is_compiled_by_a_runner_in_which_nothing_has_run(
    slot: RunnerSlot, tmp_path: Path
) -> None:
    """INV-TASK-21."""

    async def load() -> bytes:
        return guests.ECHO

    async def shared() -> int | None:
        job = Job("everybody's", (), b"x", {}, Limits(), bytes(32), shared=True)
        assert (await slot.run(job, load)).stdout == b"x"
        return slot.pid

    await run(slot, guests.HELLO)
    used = slot.pid
    fresh = await shared()
    assert fresh != used
    assert await shared() == fresh
    for path in (tmp_path / "compiled").iterdir():
        path.unlink()
    assert await shared() != fresh
    assert len(list((tmp_path / "compiled").iterdir())) == 1


@pytest.mark.asyncio
async def test_a_slot_says_whether_its_job_is_compiled_or_runs(slot: RunnerSlot) -> None:
    def compiling() -> bool:
        return slot.compiling

    blocks = "(block (local.set 0 (i32.add (i32.const 1) (local.get 0))))" * 2_000
    module = guests.command(f"(local i32) {blocks} (loop (br 0))")
    running = asyncio.create_task(run(slot, module, limits=Limits(fuel=10**13)))
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not compiling():
                await asyncio.sleep(0)
            while compiling():
                await asyncio.sleep(0)
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert not compiling()


@pytest.mark.asyncio
async def test_compiling_stands_beside_running_once(slot: RunnerSlot) -> None:
    """INV-WORDS-06: also of a module that a limit ends, whose fuel nobody saw."""
    first = await run(slot, guests.TAKES_MEMORY_TO_COMPILE)
    again = await run(slot, guests.TAKES_MEMORY_TO_COMPILE)
    ended = await run(slot, guests.FOREVER, limits=Limits(wall_s=0.4))

    assert first.head.compile_ms > 0
    assert again.head.compile_ms == 0
    assert first.head.measured
    assert not ended.head.measured
    assert ended.fault is Fault.TIMEOUT
