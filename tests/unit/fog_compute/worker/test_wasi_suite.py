"""The published test suite of WASI preview 1, whose modules others wrote and built.

It is not kept here.  ``WASI_TESTSUITE`` names a folder with a checkout of its branch
``prod/testsuite-base`` (https://github.com/WebAssembly/wasi-testsuite).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from fog_compute.tasks import Limits
from fog_compute.worker.job import Job
from fog_compute.worker.slot import RunnerSlot

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUITE = os.environ.get("WASI_TESTSUITE", "")
MODULES = sorted(Path(SUITE).glob("tests/*/testsuite/wasm32-wasip1/*.wasm")) if SUITE else []

REFUSED = {"sock_shutdown-invalid_fd"}
"""Tests that fail because the sandbox refuses on purpose what they want; docs/spec/task.md has the
reasons."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slot(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunnerSlot]:
    home = tmp_path_factory.mktemp("suite")
    opened = RunnerSlot(home / "slot", home / "compiled")
    yield opened
    await opened.close()


def whole(path: Path) -> bytes:
    return path.read_bytes()


@pytest.mark.skipif(not MODULES, reason="WASI_TESTSUITE names no checkout of the WASI test suite")
@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
async def test_a_module_of_the_published_suite_finds_the_wasi_that_it_expects(
    slot: RunnerSlot, path: Path
) -> None:
    """INV-TASK-83."""
    described = path.with_suffix(".json")
    wanted = json.loads(described.read_text()) if described.exists() else {}
    root = path.parent / wanted["root"] if "root" in wanted else None
    inputs = {
        str(file.relative_to(root)): whole(file)
        for file in (root.rglob("*") if root else ())
        if file.is_file()
    }
    module = whole(path)

    async def load() -> bytes:
        return module

    job = Job(
        hashlib.sha256(module).hexdigest(),
        tuple(wanted.get("args", ())),
        None,
        inputs,
        Limits(),
        bytes(32),
        env=wanted.get("env", {}),
    )
    result = await slot.run(job, load)
    failed = (
        result.fault is not None
        or result.exit_code != wanted.get("exit_code", 0)
        or result.stdout.decode() != wanted.get("stdout", result.stdout.decode())
        or result.stderr.decode() != wanted.get("stderr", result.stderr.decode())
    )
    assert failed == (path.stem in REFUSED), (
        result.exit_code,
        result.detail,
        result.stderr.decode(),
    )
