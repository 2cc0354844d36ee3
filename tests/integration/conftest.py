"""A real local net, shared by the tests that need one."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0


def scripts_folder() -> Path:
    """Where this interpreter's console scripts are, `betanet` and `fog` among them."""
    return Path(sys.executable).parent


def bench_program(name: str) -> Path:
    """A program of the benchmarks, as the tests of the Rust crates have built it."""
    target = Path(__file__).resolve().parents[2] / os.environ.get("CARGO_TARGET_DIR", "target")
    program = target / "debug" / name
    if not program.exists():
        build = f"cargo build --locked --package betanet-bench --bin {name}"
        pytest.fail(f"{program} is missing: `make test` builds it, or {build}")
    return program


@pytest.fixture(scope="session")
def localnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The `net.json` of a running local net with exact metrics and short delays."""
    folder = tmp_path_factory.mktemp("localnet")
    log = folder.with_suffix(".log")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [
                scripts_folder() / "betanet",
                *("localnet", "run", "--dir", folder, "--mean-delay", "2ms"),
                *("--exact-metrics", "--die-with-parent", "--json"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    with process:
        lines: queue.Queue[bytes] = queue.Queue()
        reader = threading.Thread(target=_read_lines, args=(process, lines))
        reader.start()
        try:
            _await_ready(process, lines, log)
            yield folder / "net.json"
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            finally:
                reader.join(STOP_TIMEOUT_S)
    assert status == 0, f"the local net ended with {status}: {log.read_text()[-2000:]}"


def _await_ready(process: subprocess.Popen[bytes], lines: queue.Queue[bytes], log: Path) -> None:
    try:
        line = lines.get(timeout=START_TIMEOUT_S)
    except queue.Empty:
        pytest.fail(f"the local net is not ready after {START_TIMEOUT_S} s: {log.read_text()}")
    if not line:
        pytest.fail(f"the local net ended with {process.wait()}: {log.read_text()}")
    event = json.loads(line)
    assert event["event"] == "ready", event


def _read_lines(process: subprocess.Popen[bytes], lines: queue.Queue[bytes]) -> None:
    """Hand on every line, then an empty one; the pipe never fills."""
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(b"")
