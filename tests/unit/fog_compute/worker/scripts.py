"""Scripts in real runners, with the interpreter compiled once for all tests of a session."""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from fog_compute.tasks import Limits, TaskResult
from fog_compute.tasks.runtimes import PYTHON
from fog_compute.worker.job import Job
from fog_compute.worker.python import PythonRuntime, script_job
from fog_compute.worker.slot import RunnerSlot


def installed() -> bool:
    try:
        importlib.metadata.distribution(PYTHON.package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_python = pytest.mark.skipif(
    not installed(), reason=f"{PYTHON.package} is not installed: make build"
)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the first test leaves the compiled interpreter to the others."""
    folder = tmp_path_factory.mktemp("python") / "compiled"
    folder.mkdir(mode=0o700)
    return folder


class Scripts:
    """A slot that runs scripts."""

    def __init__(self, slot: RunnerSlot) -> None:
        self.slot = slot
        self.runtime = PythonRuntime.found()

    async def run(
        self,
        source: str | bytes,
        *argv: str,
        name: str = "job.py",
        stdin: bytes | None = None,
        inputs: Mapping[str, bytes] | None = None,
        env: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        seed: bytes = bytes(32),
    ) -> TaskResult:
        script = source.encode() if isinstance(source, str) else source
        job = Job(
            module_id="",
            argv=argv,
            stdin=stdin,
            inputs={**(inputs or {}), name: script},
            limits=Limits() if limits is None else limits,
            seed=seed,
            env={} if env is None else env,
        )
        return await self.slot.run(script_job(self.runtime, job, name), self.runtime.load)


@pytest_asyncio.fixture
async def scripts(tmp_path: Path, compiled: Path) -> AsyncIterator[Scripts]:
    slot = RunnerSlot(tmp_path / "slot", compiled)
    yield Scripts(slot)
    await slot.close()
