"""What the machine refuses is the machine's fault, and a runner is left as it was found."""

from __future__ import annotations

import asyncio
import errno
import gc
import hashlib
import os
import resource
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import wasmtime

from fog_compute import spawn
from fog_compute.backoff import Backoff
from fog_compute.tasks import Fault, Limits, TaskResult
from fog_compute.tasks.messages import LOST, RETURNED, Accepted, Ack, Busy, Cancel, Rejected
from fog_compute.units import GIB, KIB, MIB
from fog_compute.worker.engine import PROFILES, Sandbox
from fog_compute.worker.footprint import Footprint, left_behind
from fog_compute.worker.job import Job
from fog_compute.worker.process import RunnerLost
from fog_compute.worker.protocol import Run
from fog_compute.worker.slot import RunnerSlot

from . import guests
from .conftest import DEADLINE_S, Refuse, Requester, Start, handle_of

EMFILE = 33  # of WASI
# Runs two tasks and kills a third under the limits of its arguments; prints what became of them.
TRIES = textwrap.dedent(
    """
    import asyncio, os, resource, sys
    from pathlib import Path
    from fog_compute.tasks import Limits
    from fog_compute.worker.job import Job
    from fog_compute.worker.process import RunnerLost
    from fog_compute.worker.slot import RunnerSlot

    home = Path(sys.argv[1])
    for setting in sys.argv[2:]:
        name, _, value = setting.partition("=")
        limit = getattr(resource, "RLIMIT_" + name)
        resource.setrlimit(limit, (int(value), int(value)))

    async def tries(slot, name, limits):
        async def load():
            return (home / name).read_bytes()

        try:
            result = await slot.run(Job(name, (), None, {}, limits, bytes(32)), load)
        except RunnerLost as lost:
            print("lost:", lost.message, flush=True)
        else:
            print(result.exit_code, result.fault, result.stdout, result.detail, flush=True)

    async def main():
        slot = RunnerSlot(home / "slot", home / "compiled")
        await tries(slot, "hello", Limits())
        await tries(slot, "overflows", Limits())
        pid = slot.pid
        await tries(slot, "forever", Limits(wall_s=0.3))
        print("gone" if pid is None or not os.path.exists(f"/proc/{pid}") else "left", flush=True)
        await slot.close()

    asyncio.run(main())
    """
)
FINE = [
    r"0 None b'hello\n' ",
    "-1 trap b'' the module trapped: stack overflow in f",
    (
        "-1 timeout b'' the module took longer than its limit of 0.3 s to compile and run:"
        " `limits.wall_s` allows more"
    ),
    "gone",
]
LEAKS = textwrap.dedent(
    """
    import os, sys
    from fog_compute.worker import engine, runner

    run = engine.Sandbox.run

    def leaking(self, task):
        for _ in range(10):
            os.open(os.devnull, os.O_RDONLY)
        return run(self, task)

    engine.Sandbox.run = leaking
    sys.exit(runner.main(sys.argv[1:]))
    """
)
REFUSES = textwrap.dedent(
    """
    import resource, sys
    from pathlib import Path
    from fog_compute.worker import runner

    if (Path(__file__).parent / "refuse").exists():
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    sys.exit(runner.main(sys.argv[1:]))
    """
)


async def run(slot: RunnerSlot, module: bytes, limits: Limits | None = None) -> TaskResult:
    async def load() -> bytes:
        return module

    name = hashlib.sha256(module).hexdigest()
    inputs = {"a.txt": b"a"}
    job = Job(name, (), None, inputs, Limits() if limits is None else limits, bytes(32))
    return await slot.run(job, load)


def descriptors(slot: RunnerSlot) -> int:
    """How many files a runner has open beside those of the modules that it keeps."""
    found = 0
    for path in Path(f"/proc/{slot.pid}/fd").iterdir():
        try:
            target = str(path.readlink())
        except OSError:
            continue
        found += "wasm-memory-image" not in target and not target.endswith(".cwasm")
    return found


def started_by(monkeypatch: pytest.MonkeyPatch, script: Path, text: str) -> None:
    """Have runners started by a script in place of the module."""
    script.write_text(text)
    monkeypatch.setattr(
        spawn, "python_command", lambda _, *arguments: [sys.executable, str(script), *arguments]
    )


# A task leaves its runner as it found it


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["(call $proc_exit (local.get $errno))", "unreachable"])
async def test_a_guest_that_opens_files_until_refused_leaves_none_open(
    slot: RunnerSlot, end: str
) -> None:
    """INV-TASK-25."""
    await run(slot, guests.HELLO)
    pid, before = slot.pid, descriptors(slot)
    for _ in range(3):
        result = await run(slot, guests.opens_until_refused(end))
        if end == "unreachable":
            assert result.fault is Fault.TRAP
        else:
            assert (result.exit_code, result.fault) == (EMFILE, None)
        assert (await run(slot, guests.opens("a.txt"))).exit_code == 0
    assert slot.pid == pid
    assert descriptors(slot) <= before + 2  # a standard input closes in a moment


@pytest.mark.parametrize("end", ["(call $proc_exit (local.get $errno))", "unreachable"])
def test_what_a_task_opened_is_closed_at_its_end_and_not_by_a_collection(
    tmp_path: Path, end: str
) -> None:
    """INV-TASK-25."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.txt").write_text("a")
    module = guests.opens_until_refused(end, most=12)
    outputs = [os.memfd_create("output") for _ in range(2)]
    task = Run(
        "x",
        (),
        os.fsencode(os.devnull),
        os.fsencode(tmp_path / "work"),
        64 * MIB,
        10**9,
        0,
        0,
        bytes(32),
    )
    sandbox = Sandbox(tmp_path / "compiled", outputs[0], outputs[1], PROFILES[-1])
    sandbox.compile("x", module)
    sandbox.run(task)
    gc.collect()
    before = Footprint.measured()
    gc.disable()
    try:
        for _ in range(4):
            assert sandbox.run(task).fault == ("trap" if end == "unreachable" else None)
        deadline = time.monotonic() + DEADLINE_S
        while left := Footprint.measured().beyond(before):
            assert time.monotonic() < deadline, left
            time.sleep(0.001)
    finally:
        gc.enable()
        for descriptor in outputs:
            os.close(descriptor)


@pytest.mark.asyncio
async def test_hundreds_of_modules_that_trap_at_their_start_leave_the_runner_as_it_was(
    slot: RunnerSlot,
) -> None:
    """INV-TASK-25."""
    await run(slot, guests.HELLO)
    pid, before = slot.pid, descriptors(slot)
    for number in range(300):
        result = await run(slot, guests.traps_at_its_start(number))
        assert (result.fault, "unreachable" in result.detail) == (Fault.TRAP, True)
    assert slot.pid == pid
    assert descriptors(slot) <= before + 2
    assert (await run(slot, guests.HELLO)).stdout == b"hello\n"


@pytest.mark.asyncio
async def test_a_runner_that_is_no_longer_as_it_was_is_replaced_between_tasks(
    slot: RunnerSlot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-25."""
    started_by(monkeypatch, tmp_path / "leaks.py", LEAKS)
    runners = set()
    for _ in range(3):
        await slot.start()
        runners.add(slot.pid)
        result = await run(slot, guests.HELLO)
        assert (result.stdout, result.fault) == (b"hello\n", None)
        assert slot.pid is None
    assert len(runners) == 3


def test_what_was_left_is_counted_and_named() -> None:
    """INV-TASK-25."""
    before = Footprint.measured()
    assert left_behind(before) == ""
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(9)]
    assert left_behind(before) == "9 descriptors more"
    for descriptor in opened:
        os.close(descriptor)
    assert left_behind(before) == ""
    small = Footprint(descriptors=10, threads=5, own_bytes=20 * MIB)
    large = Footprint(descriptors=10, threads=500, own_bytes=GIB)
    assert large.beyond(small) == f"495 threads more, {GIB - 20 * MIB} bytes of memory more"
    assert small.beyond(large) == ""


# What the machine refuses


def tried(
    home: Path, *settings: str, prefix: tuple[str, ...] = (), first: bytes = guests.HELLO
) -> list[str]:
    """What became of the tasks on such a machine, one line each, without the log."""
    modules = {"hello": first, "overflows": guests.OVERFLOWS, "forever": guests.FOREVER}
    for name, module in modules.items():
        (home / name).write_bytes(module)
    ended = subprocess.run(
        [*prefix, sys.executable, "-c", TRIES, str(home), *settings],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
    return [line for line in ended.stdout.splitlines() if "[" not in line]


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
@pytest.mark.parametrize(
    "call",
    [
        *("memfd_create", "pidfd_open", "pidfd_send_signal", "prctl"),
        *("capset", "landlock_create_ruleset", "mount_setattr", "pivot_root", "seccomp", "unshare"),
    ],
)
def test_a_worker_works_where_a_container_refuses_system_calls(
    tmp_path: Path, refuse: Refuse, call: str, error: int
) -> None:
    """INV-TASK-26, INV-TASK-81."""
    assert tried(tmp_path, prefix=tuple(refuse(call, error))) == FINE


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_a_machine_on_which_nothing_bounds_a_task_says_so_in_one_line(
    tmp_path: Path, refuse: Refuse, error: int
) -> None:
    """INV-TASK-29."""
    *results, end = tried(tmp_path, prefix=tuple(refuse("prlimit64", error)))
    assert end == "gone"
    assert len(results) == 3
    for line in results:
        assert line.startswith("lost: this machine cannot run tasks:")
        assert "nothing can bound what a task uses here" in line


def test_a_runner_that_the_kernel_does_not_tie_to_its_parent_ends_soon_after_it() -> None:
    child = "import sys; from fog_compute.worker import runner; runner._end_after(int(sys.argv[1]))"
    parent = (
        "import os, subprocess, sys;"
        "subprocess.Popen([sys.executable, '-c', sys.argv[1], str(os.getpid())]);"
        "print('started', flush=True)"
    )
    # Both hold the pipe, whose end comes when both have ended.
    done = subprocess.run(
        [sys.executable, "-c", parent, child],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("started\n", "", 0)


@pytest.mark.parametrize("setting", [f"AS={500 * MIB}", f"STACK={300 * KIB}", "NOFILE=300"])
def test_a_worker_works_under_small_limits(tmp_path: Path, setting: str) -> None:
    """INV-TASK-26."""
    assert tried(tmp_path, setting) == FINE


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (f"AS={280 * MIB}", "this machine cannot run tasks: the machine refuses 256 MiB"),
        ("NOFILE=100", "this machine cannot run tasks: a process may open 100 files"),
        ("CPU=30", "seconds of processor time are limited to 30 here"),
    ],
)
def test_what_a_machine_cannot_do_is_never_a_fault_of_the_module(
    tmp_path: Path, setting: str, words: str
) -> None:
    """INV-TASK-26."""
    *results, end = tried(tmp_path, setting)
    assert end == "gone"
    assert len(results) == 3
    for line in results[:2]:
        assert line.startswith("lost: ")
        assert words in line


def test_a_machine_that_bounds_files_runs_what_writes_less_and_loses_what_writes_more(
    tmp_path: Path,
) -> None:
    """INV-TASK-26."""
    first, *others = tried(tmp_path, f"FSIZE={300 * KIB}", first=guests.writes(400 * KIB))
    assert first.startswith("lost: this machine lets no file grow beyond 307200 bytes")
    assert others == FINE[1:]


@pytest.mark.asyncio
async def test_a_machine_that_refuses_is_not_offered_until_it_can_again(
    start: Start,
    requester: Requester,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """INV-TASK-27."""
    monkeypatch.setattr("fog_compute.worker.slots.RESTART", Backoff(0.01, 0.02))
    monkeypatch.setattr("fog_compute.worker.publishing.LOOK_S", 0.01)
    started_by(monkeypatch, tmp_path / "refuses.py", REFUSES)
    (tmp_path / "refuse").touch()
    async with start(publish_s=0.01) as worker:
        first = requester.submission(guests.HELLO)
        assert isinstance(await requester.submit(first), Busy)
        assert worker.offers.published == []
        (tmp_path / "refuse").unlink()
        async with asyncio.timeout(DEADLINE_S):
            while not worker.offers.published:
                await asyncio.sleep(0.005)
        assert (await requester.run(first)).stdout == b"hello\n"
        # It begins to refuse while one runs and one waits: both go elsewhere.
        running, waiting = (requester.submission(guests.SAYS_AND_LOOPS) for _ in range(2))
        assert isinstance(await requester.submit(running), Accepted)
        assert isinstance(await requester.submit(waiting), Accepted)
        await requester.until(handle_of(running), lambda status: status.log_tail == b"error")
        (tmp_path / "refuse").touch()
        pid = next(iter(worker.agent._slots)).pid
        assert pid is not None
        os.kill(pid, 9)
        await requester.until(handle_of(running), lambda status: status.state == LOST)
        await requester.until(handle_of(waiting), lambda status: status.state == RETURNED)
        assert isinstance(await requester.submit(requester.submission(guests.HELLO)), Busy)
        await requester.ask(Ack(handles=(handle_of(running), handle_of(waiting))))
    begun, well, again = worker.troubles
    assert begun == again
    assert "may open 100 files" in begun
    assert "\n" not in begun
    assert well == ""


@pytest.mark.asyncio
async def test_a_runner_that_a_library_ends_at_its_start_says_how(
    slot: RunnerSlot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-27."""
    started_by(monkeypatch, tmp_path / "aborts.py", "import os; os.abort()")
    with pytest.raises(RunnerLost, match="ended by SIGABRT before it was ready"):
        await slot.start()


@pytest.mark.asyncio
async def test_a_worker_lends_no_more_than_its_machine_lets_it(
    start: Start, requester: Requester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-27."""
    limited = REFUSES.replace("RLIMIT_NOFILE, (100, 100)", f"RLIMIT_AS, ({GIB}, {GIB})")
    started_by(monkeypatch, tmp_path / "refuses.py", limited)
    (tmp_path / "refuse").touch()
    async with start(memory_bytes=2 * GIB) as worker:
        large = requester.submission(guests.HELLO, limits=Limits(memory_bytes=1100 * MIB))
        reply = await requester.submit(large)
        assert isinstance(reply, Rejected)
        assert "lends at most" in reply.reason
        small = requester.submission(guests.GROWS_TO_10_GB, limits=Limits(memory_bytes=48 * MIB))
        result = await requester.run(small)
        assert (result.exit_code, result.fault) == (3, None)
        assert 44 * MIB < result.peak_memory <= 48 * MIB
        (offer,) = {offer.memory_bytes for offer in worker.offers.published}
        assert 48 * MIB < offer < GIB


@pytest.mark.asyncio
async def test_a_blob_that_the_machine_lost_is_no_fault_of_the_task(
    start: Start, requester: Requester, tmp_path: Path
) -> None:
    """INV-TASK-26."""
    async with start(slots=1):
        first = requester.submission(guests.SAYS_AND_LOOPS)
        assert isinstance(await requester.submit(first), Accepted)
        await requester.until(handle_of(first), lambda status: status.log_tail == b"error")
        waiting = requester.submission(guests.ECHO, stdin=b"x" * 100)
        assert isinstance(await requester.submit(waiting), Accepted)
        for path in (tmp_path / "worker" / "blobs").iterdir():
            path.unlink()
        await requester.ask(Cancel(handles=(handle_of(first),)))
        await requester.until(handle_of(waiting), lambda status: status.state == RETURNED)
        again = requester.submission(guests.ECHO, stdin=b"x" * 100)
        assert (await requester.run(again)).stdout == b"x" * 100


@pytest.mark.asyncio
async def test_a_machine_without_another_thread_is_busy_for_a_while(
    start: Start, requester: Requester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-26."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with start():
        assert (await requester.run(requester.submission(guests.HELLO))).stdout == b"hello\n"
        large = requester.submission(guests.ECHO, stdin=bytes(1_000_000))
        with monkeypatch.context() as limited:
            limited.setattr(threading.Thread, "start", refuse)
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
            assert isinstance(await requester.submit(large), Busy)
        assert (await requester.run(large)).stdout == bytes(1_000_000)


# Faults that name the feature


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '(module (tag $t) (func (export "_start") (throw $t)))',
            "exception that nothing caught: catch it, or compile for wasm32-wasip1 without",
        ),
        (
            '(module (memory 1 16 shared) (func (export "_start")))',
            "it needs threads: compile for wasm32-wasip1",
        ),
        (
            '(module (memory 1) (func (export "_start") (drop (i32.atomic.load (i32.const 0)))))',
            "it needs threads: compile for wasm32-wasip1, without -matomics",
        ),
        (
            '(module (type $f (func)) (type (cont $f)) (func (export "_start")))',
            "it needs stack switching: compile without it",
        ),
        (
            (
                '(module (import "wasi" "thread-spawn" (func (param i32) (result i32)))'
                ' (func (export "_start")))'
            ),
            "it needs threads: compile for wasm32-wasip1",
        ),
        (
            (
                '(module (import "wasi_unstable" "proc_exit" (func (param i32)))'
                ' (func (export "_start")))'
            ),
            "compile anew, for wasm32-wasip1",
        ),
    ],
)
async def test_a_feature_that_no_worker_has_is_named_with_what_to_compile_for(
    slot: RunnerSlot, text: str, words: str
) -> None:
    """INV-TASK-18, INV-WORDS-04."""
    result = await run(slot, bytes(wasmtime.wat2wasm(text)))
    assert result.fault is not None
    assert words in result.detail
    assert "\n" not in result.detail
    assert "Caused by" not in result.detail
    assert ";" not in result.detail


@pytest.mark.asyncio
async def test_a_module_that_takes_too_long_to_compile_is_one_clear_fault(
    slot: RunnerSlot,
) -> None:
    """INV-TASK-18."""
    blocks = "(block (local.set 0 (i32.add (i32.const 1) (local.get 0))))" * 60_000
    module = bytes(wasmtime.wat2wasm(f'(module (func (export "_start") (local i32) {blocks}))'))
    result = await run(slot, module, Limits(wall_s=0.5))
    assert result.fault is Fault.TIMEOUT
    assert "to compile and run" in result.detail
    assert (await run(slot, guests.HELLO)).stdout == b"hello\n"


def test_the_limits_of_this_process_are_as_they_were() -> None:
    """The tests above must not have limited their own process."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 256
