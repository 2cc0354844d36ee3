"""What is left, and what is not, when a worker process is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from fog_compute.worker.journal import Journal

from . import guests

DEADLINE_S = 30.0
OWNER = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from fog_compute.tasks import Limits
    from fog_compute.worker.job import Job
    from fog_compute.worker.slot import RunnerSlot

    async def main():
        home = Path(sys.argv[1])
        slot = RunnerSlot(home / "slot", home / "compiled")

        async def load():
            return (home / "module").read_bytes()

        running = asyncio.create_task(
            slot.run(Job("m", (), None, {}, Limits(), bytes(32)), load)
        )
        while slot.place.log_tail() != b"error":
            await asyncio.sleep(0.005)
        print(slot.pid, flush=True)
        await running

    asyncio.run(main())
    """
)
RUNS_ONE = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from fog_compute.tasks import Limits
    from fog_compute.worker.job import Job
    from fog_compute.worker.slot import RunnerSlot

    async def main():
        home = Path(sys.argv[1])
        slot = RunnerSlot(home / "slot", home / "compiled")

        async def load():
            return (home / "module").read_bytes()

        result = await slot.run(Job("m", (), None, {}, Limits(), bytes(32)), load)
        await slot.close()
        print(sys.getfilesystemencoding(), result.exit_code)

    asyncio.run(main())
    """
)
KEEPER = textwrap.dedent(
    """
    import asyncio, itertools, sys
    from pathlib import Path
    from fog_compute.worker.journal import Journal
    from fog_compute.worker.shares import Owner

    async def main():
        journal = Journal(Path(sys.argv[1]))
        for i in itertools.count(int(sys.argv[2])):
            handle = i.to_bytes(16, "big")
            body = handle * (2000 if i % 7 else 20_000)
            await journal.finish(handle, Owner("", b"session"), body, 0.0, 1e12)
            if i % 3 == 0:
                await journal.forget([handle], 1e12)
            print(i, flush=True)

    asyncio.run(main())
    """
)


def is_gone(pid: int) -> bool:
    """Wait until a process has ended; one that nobody collected has ended too."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.005)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_busy_runner_ends_with_its_worker(tmp_path: Path, number: int) -> None:
    """INV-TASK-20."""
    (tmp_path / "module").write_bytes(guests.SAYS_AND_LOOPS)
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert owner.stdout is not None
    with owner:
        runner = int(owner.stdout.readline())
        assert psutil.Process(runner).ppid() == owner.pid
        owner.send_signal(number)
        assert is_gone(runner)


def start_runner(tmp_path: Path, parent: int) -> subprocess.Popen[bytes]:
    outputs = [os.memfd_create(name) for name in ("stdout", "stderr", "code")]
    try:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "fog_compute.worker.runner"),
                *(str(parent), *map(str, outputs)),
                *(str(tmp_path), str(tmp_path / "compiled"), "1000000"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=outputs,
        )
    finally:
        for descriptor in outputs:
            os.close(descriptor)


def test_an_idle_runner_leaves_at_the_end_of_its_input(tmp_path: Path) -> None:
    """INV-TASK-20."""
    with start_runner(tmp_path, os.getpid()) as runner:
        assert runner.stdin is not None
        runner.stdin.close()
        assert runner.wait(DEADLINE_S) == 0


def test_a_runner_whose_parent_is_gone_already_does_not_start(tmp_path: Path) -> None:
    """INV-TASK-20."""
    with start_runner(tmp_path, 2**22 + 1) as runner:
        assert runner.wait(DEADLINE_S) == 1


def test_results_that_were_kept_survive_a_kill_at_any_moment(tmp_path: Path) -> None:
    """INV-TASK-14."""
    path = tmp_path / "attempts.db"
    rng = random.Random(7)
    kept = -1
    for _ in range(5):
        keeper = subprocess.Popen(
            [sys.executable, "-c", KEEPER, str(path), str(kept + 1)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert keeper.stdout is not None
        with keeper:
            for line in keeper.stdout:
                kept = int(line)
                if rng.random() < 0.03:
                    break
            keeper.kill()
            for line in keeper.stdout.read().splitlines(keepends=True):
                kept = int(line) if line.endswith("\n") else kept
    journal = Journal(path)
    assert kept > 10
    for i in range(kept + 1):
        handle = i.to_bytes(16, "big")
        found = journal.get(handle, 0, 1_000_000)
        if i % 3 == 0:
            assert journal.over(handle)
            assert found is None
        else:
            assert found is not None
            assert found.piece == handle * (2000 if i % 7 else 20_000)
    journal.close()


def test_a_worker_whose_locale_knows_no_letters_of_a_path_runs_tasks_all_the_same(
    tmp_path: Path,
) -> None:
    home = tmp_path / "gr\u00fc\u00dfe-\u2603"
    home.mkdir()
    (home / "module").write_bytes(guests.HELLO)
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    done = subprocess.run(
        [sys.executable, "-c", RUNS_ONE, home],
        capture_output=True,
        check=False,
        env={**os.environ, **ascii_locale},
        text=True,
        timeout=DEADLINE_S * 2,
    )

    assert done.stdout == "ascii 0\n", done.stderr
