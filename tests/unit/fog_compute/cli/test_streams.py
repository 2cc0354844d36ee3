"""Standard streams that are closed, full or at their end: the true exit code, and nothing lost."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fog_compute
from tests.unit.fog_compute.cli.backends import RESULT, STATUS, TASK, WORDCOUNT, Answer, backend

FOG = (sys.executable, "-m", "fog_compute.cli.main")
BACKEND = (sys.executable, "-m", "fog_compute.server")
WORKER = (sys.executable, "-m", "fog_compute.worker")
SOURCES = Path(fog_compute.__file__).parent
TIMEOUT_S = 60

STREAMS = ("<&-", ">&-", "2>&-", ">/dev/full", "2>/dev/full", "<&- >&- 2>&-", "</dev/null")
ALL_FULL = "</dev/full >/dev/full 2>/dev/full"
NO_HOME = ("--home", "/proc/no", "--net", "/", "--groups", "/")
EXITS_WITH_7 = {**TASK, "result": {**RESULT, "exit_code": 7}}


def run(home: Path, command: tuple[str, ...], streams: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {streams}', "sh", *command],
        capture_output=True,
        check=False,
        env={**os.environ, "FOG_HOME": str(home), "NO_COLOR": "1"},
        timeout=TIMEOUT_S,
    )


def loses_output(streams: str) -> bool:
    return any(part in (">&-", ">/dev/full") for part in streams.split())


@pytest.mark.parametrize(
    ("command", "code", "streams"),
    [
        *(((*FOG, "--version"), 0, streams) for streams in STREAMS),
        *(((*FOG, "--help"), 0, streams) for streams in (">&-", "2>&-", ">/dev/full")),
        *(((*FOG, "status"), 3, streams) for streams in ("<&- >&- 2>&-", ">/dev/full")),
        ((*FOG, "run", "/nonexistent"), 2, "2>/dev/full"),
        ((*FOG, "run", WORDCOUNT), 3, "2>&-"),
        *(((*BACKEND, "--port", "99999"), 78, streams) for streams in ("<&- >&- 2>&-", ALL_FULL)),
        *(((*WORKER, *NO_HOME), 1, streams) for streams in ("<&- >&- 2>&-", ALL_FULL)),
        ((*WORKER, "--help"), 0, ">/dev/full"),
    ],
)
def test_exit_code_is_true_and_there_is_no_traceback(
    tmp_path: Path, command: tuple[str, ...], code: int, streams: str
) -> None:
    done = run(tmp_path, command, streams)

    # What was only to be printed and is lost is a failure.
    assert done.returncode == (1 if code == 0 and loses_output(streams) else code), done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert done.stderr.count(b"\n") <= 1
    if code == 0 and loses_output(streams) and "2>" not in streams:
        assert b": standard output: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "answers"),
    [
        (("task", "ls"), [(200, b'{"tasks": []}')]),
        (("task", "ls", "--json"), [(200, b'{"tasks": []}')]),
        (("worker", "ls"), [(200, json.dumps(STATUS).encode())]),
        (("task", "cancel", "0" * 26), [(200, b'{"id": "0", "state": "cancelled"}')]),
        (("task", "show", "0" * 26, "--json"), [(200, json.dumps(TASK).encode())]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("streams", [">&-", ">/dev/full"])
def test_answer_that_cannot_be_printed_is_an_error(
    tmp_path: Path, arguments: tuple[str, ...], answers: list[Answer], streams: str
) -> None:
    with backend(tmp_path, *answers):
        done = run(tmp_path, (*FOG, *arguments), streams)

    assert done.returncode == 1
    assert done.stderr.startswith(b"fog: standard output: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("stdout", "stderr", "streams", "code"),
    [
        (b"out", b"err", ">&-", 1),
        (b"out", b"err", ">/dev/full", 1),
        (b"", b"err", ">/dev/full", 7),
        (b"out", b"err", "2>/dev/full", 1),
        (b"out", b"", "2>/dev/full", 7),
        (b"out", b"err", "2>&-", 7),
    ],
)
def test_output_of_a_module_is_delivered_or_its_exit_code_is_not(
    tmp_path: Path, stdout: bytes, stderr: bytes, streams: str, code: int
) -> None:
    sizes = {"stdout_bytes": len(stdout), "stderr_bytes": len(stderr)}
    task = {**EXITS_WITH_7, "result": {**RESULT, "exit_code": 7, **sizes}}
    outputs = [(200, output) for output in (stdout, stderr) if output]
    with backend(tmp_path, (200, json.dumps(task).encode()), *outputs):
        done = run(tmp_path, (*FOG, "task", "show", "0" * 26, "--wait"), streams)

    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr


def test_reader_that_went_away_is_told_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([*FOG, "--help"], stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (1, b"")


def test_pipe_that_does_not_wait_gets_everything() -> None:
    size = 1_234_567
    code = (
        "from fog_compute.cli.output import write\n"
        "from fog_compute.descriptors import run_program\n"
        f"raise SystemExit(run_program('x', lambda: write('x' * {size}) or 0))"
    )
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(reading, "rb") as pipe:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=writing)
        os.close(writing)
        got = pipe.read()

        assert process.wait() == 0
    assert got == b"x" * size


def test_closed_descriptors_are_not_given_to_the_next_file(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "from fog_compute.descriptors import fill_descriptors\n"
        "fill_descriptors()\n"
        f"number = os.open({str(tmp_path / 'new')!r}, os.O_RDWR | os.O_CREAT)\n"
        "raise SystemExit(number > 2 and all(map(os.get_inheritable, range(3))))"
    )

    done = run(tmp_path, (sys.executable, "-c", code), "<&- >&- 2>&-")

    assert done.returncode == 1


def test_logging_to_a_full_disk_costs_lines_and_not_the_program() -> None:
    code = (
        "from fog_compute.descriptors import run_program\n"
        "from fog_compute.observability import configure_logging, get_logger\n"
        "def main():\n"
        "    configure_logging(service='fog-worker', node='x')\n"
        "    for _ in range(1000):\n"
        "        get_logger('x').warning('disk.full', text='x' * 100)\n"
        "    return 5\n"
        "raise SystemExit(run_program('x', main))"
    )
    done = run(Path("/nonexistent"), (sys.executable, "-c", code), "2>/dev/full")

    assert done.returncode == 5


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("MemoryError()", True),
        ('RuntimeError("can\'t start new thread")', True),
        ("ExceptionGroup('', [MemoryError(), RuntimeError(\"can't start new thread\")])", True),
        ("ExceptionGroup('', [MemoryError(), RuntimeError('a bug')])", False),
    ],
)
def test_machine_that_gives_no_more_is_told_in_one_line(error: str, told: bool) -> None:
    code = (
        "from fog_compute.descriptors import run_program\n"
        f"def main():\n    raise {error}\n"
        "raise SystemExit(run_program('x', main))"
    )
    done = run(Path("/nonexistent"), (sys.executable, "-c", code), "")
    lines = done.stderr.decode().splitlines()

    assert done.returncode == 1
    assert (len(lines) == 1 and "gives no more threads or memory" in lines[0]) is told


def test_commands_print_through_one_module() -> None:
    """Elsewhere a write might not be flushed, and its loss would be found by the interpreter."""
    printing = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            match node:
                case ast.Attribute(ast.Name("sys"), "stdout" | "stdin" | "stderr", ast.Load()):
                    printing.append(str(path.relative_to(SOURCES)))
                case ast.Call(ast.Name("print")):
                    printing.append(str(path.relative_to(SOURCES)))

    assert sorted(set(printing)) == [
        "cli/chat/command.py",  # lines that are read
        "cli/follow.py",  # whether standard error is a terminal
        "cli/output.py",
        "cli/progress.py",  # the same
        "descriptors.py",
        "lifetime.py",  # events for the owner
        "observability/logs.py",
    ]
