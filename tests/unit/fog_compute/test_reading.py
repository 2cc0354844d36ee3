"""Reading within a limit, from everything that can be opened."""

from __future__ import annotations

import ast
import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import fog_compute
from fog_compute import reading
from fog_compute.reading import TooLarge, read_descriptor, read_file, read_state, read_tail
from tests.unit.fog_compute.cli.backends import backend

SOURCES = Path(fog_compute.__file__).parent
WORDCOUNT = Path(__file__).parents[3] / "examples" / "wordcount" / "wordcount.wasm"
LIMIT = 300_001  # more than one piece, and not a whole number of them


def given_as(kind: str, path: Path, data: bytes) -> str:
    """Offer data at a path; return the path."""
    if kind == "file":
        path.write_bytes(data)
        return str(path)
    os.mkfifo(path)

    def feed() -> None:
        with path.open("wb", buffering=0) as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(data)

    threading.Thread(target=feed, daemon=True).start()
    return str(path)


@pytest.mark.parametrize("kind", ["file", "fifo"])
@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT])
def test_what_fits_is_read_whole(tmp_path: Path, kind: str, size: int) -> None:
    data = os.urandom(size)

    assert read_file(given_as(kind, tmp_path / "x", data), LIMIT) == data


@pytest.mark.parametrize("kind", ["file", "fifo"])
@pytest.mark.parametrize("size", [LIMIT + 1, 3 * LIMIT])
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, kind: str, size: int) -> None:
    path = given_as(kind, tmp_path / "x", bytes(size))

    with pytest.raises(TooLarge, match=r"293\.0 KiB|has 300002 bytes, .* 300001 fit") as caught:
        read_file(path, LIMIT)

    assert caught.value.filename == path


def test_one_byte_more_than_the_limit_is_read_and_no_other() -> None:
    descriptor, writing = os.pipe()
    os.write(writing, b"x" * 1000)
    with pytest.raises(TooLarge):
        read_descriptor(descriptor, 77, "a pipe")
    os.close(writing)

    assert len(os.read(descriptor, 10_000)) == 1000 - 78
    os.close(descriptor)


def test_device_without_an_end_is_refused() -> None:
    with pytest.raises(TooLarge):
        read_file("/dev/zero", LIMIT)


def test_file_of_the_kernel_that_tells_no_size_is_read_whole() -> None:
    path = Path("/proc/self/status")

    assert path.stat().st_size == 0
    assert b"VmRSS" in read_file(path, LIMIT)


def test_descriptor_that_does_not_wait_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor, writing = os.pipe()
    os.set_blocking(descriptor, False)
    wait = reading._wait_readable

    def feed_and_wait(waited: int) -> None:
        os.write(writing, b"late")
        os.close(writing)
        wait(waited)

    monkeypatch.setattr(reading, "_wait_readable", feed_and_wait)

    assert read_descriptor(descriptor, LIMIT, "a pipe") == b"late"
    os.close(descriptor)


def test_closed_descriptor_is_named() -> None:
    descriptor, writing = os.pipe()
    os.close(writing)
    os.close(descriptor)

    with pytest.raises(OSError, match="it is closed: 'standard input'"):
        read_descriptor(descriptor, LIMIT, "standard input")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_state_is_no_pipe_and_no_folder(tmp_path: Path, make: object) -> None:
    path = tmp_path / "fog.json"
    assert callable(make)
    make(path)

    with pytest.raises(OSError, match="no regular file"):
        read_state(path)


def test_state_of_a_stranger_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fog.json"
    with path.open("wb") as file:
        file.truncate(10**12)

    with pytest.raises(TooLarge, match="more than 64 B"):
        read_state(path, 64)


@pytest.mark.parametrize("size", [0, 1, 77, 78, 5000])
def test_tail_is_the_end(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "log").write_bytes(data)

    assert read_tail(tmp_path / "log", 77) == data[-77:]


def test_process_substitution_and_pipes_are_inputs_of_a_run(tmp_path: Path) -> None:
    blob = b'{"sha256": "' + b"0" * 64 + b'"}'
    made = b'{"id": "01k", "state": "queued", "warning": ""}'
    command = f"{sys.executable} -m fog_compute.cli.main"
    script = (
        f"printf in | {command} run <(cat {WORDCOUNT}) --stdin - --input <(printf data)=data"
        " --detach"
    )
    with backend(tmp_path, *[(201, blob)] * 3, (201, made)) as asked:
        done = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            check=False,
            env={**os.environ, "FOG_HOME": str(tmp_path)},
            timeout=60,
        )

    assert (done.returncode, done.stdout) == (0, b"01k\n"), done.stderr
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("redirection", "reason"),
    [("<&-", "it is closed"), ("</dev/zero", "it has more than 48.0 MiB"), ("</", "directory")],
)
def test_standard_input_that_cannot_be_sent_is_one_line(
    tmp_path: Path, redirection: str, reason: str
) -> None:
    command = f"{sys.executable} -m fog_compute.cli.main run {__file__} --stdin - {redirection}"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        check=False,
        env={**os.environ, "FOG_HOME": str(tmp_path)},
        text=True,
        timeout=60,
    )

    assert reason in done.stderr
    if redirection != "</":  # the interpreter itself does not start there
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1


ALLOWED = {
    "clock.py": "a line of the kernel",
    "processes.py": "a line of the kernel",
    "worker/footprint.py": "a line of the kernel",
    "worker/cache.py": "a file that this program wrote, after a look at its size",
    "worker/runner.py": "a frame with its own limit",
    "lifetime.py": "waits for the end of its input in pieces",
    "reading.py": "is the place",
    "cli/bench.py": "a file of this package, and a line of the kernel",
    "cli/doctor/machine.py": "a line of the kernel",
    "cli/doctor/sandbox.py": "a module of a package",
    "cli/follow.py": "a file that was written within a limit",
    "store/folder.py": "a file in pieces, of which none is kept",
    "worker/python/preparation.py": "a file that this program wrote",
}


def test_nothing_is_read_without_a_limit() -> None:
    found = set()
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            match node:
                case ast.Attribute(attr="read_bytes" | "read_text" | "readlines"):
                    pass
                case ast.Call(ast.Attribute(attr="read" | "readline" | "readall"), [], []):
                    pass
                case ast.Attribute(ast.Name("json" | "tomllib"), "load"):
                    pass
                case ast.Attribute(ast.Name("os"), "read"):
                    pass
                case _:
                    continue
            found.add(f"{path.relative_to(SOURCES)}")

    # A child's output is read by lines that its stream bounds.
    assert found - {"cli/children.py"} == set(ALLOWED), "use fog_compute.reading"
