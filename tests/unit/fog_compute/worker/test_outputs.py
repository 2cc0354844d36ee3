"""Files that a task leaves below out/ come back; nothing else does."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from fog_compute.tasks import Fault, Limits
from fog_compute.tasks.result import OutputFile, TaskResult
from fog_compute.worker.job import Job
from fog_compute.worker.outputs import OutputRefused, read_outputs
from fog_compute.worker.slot import RunnerSlot

from . import scripted
from .scripted import OUT, WORK, Script

FILES = {"b": b"bb", "a/c": b"c", "a.txt": b"a", "a/b/d": b"", "ü": b"x" * 5000}


async def run(
    slot: RunnerSlot, script: Script, limits: Limits | None = None, **inputs: bytes
) -> TaskResult:
    async def load() -> bytes:
        return scripted.MODULE

    name = hashlib.sha256(scripted.MODULE).hexdigest()
    limits = Limits() if limits is None else limits
    return await slot.run(Job(name, (), script.encode(), inputs, limits, bytes(32)), load)


@pytest.mark.asyncio
async def test_files_below_out_come_back_in_the_order_of_their_names(slot: RunnerSlot) -> None:
    """INV-TASK-93."""
    script = Script()
    for path, data in FILES.items():
        script.write(f"out/{path}", data)
    script.write("beside", b"no")
    script.write("tmp/no", b"no")
    result = await run(slot, script)
    assert (result.fault, result.detail) == (None, "")
    paths = [file.path for file in result.head.files]
    assert paths == sorted(FILES, key=str.encode)
    assert {path: result.file(path) for path in paths} == FILES


@pytest.mark.asyncio
async def test_links_bring_nothing_back_that_the_task_did_not_put_there(slot: RunnerSlot) -> None:
    """INV-TASK-93: a symbolic link is no file; a file with two names is two."""
    script = Script()
    script.write("out/a", b"a")
    script.call("path_link", WORK, 0, b"out/a", 5, WORK, b"out/b", 5)
    script.call("path_link", WORK, 0, b"data", 4, WORK, b"out/data", 8)
    script.call("path_symlink", b"a", 1, WORK, b"out/link", 8)
    script.call("path_symlink", b"../tmp", 6, WORK, b"out/folder", 10)
    script.write("tmp/secret", b"no")
    result = await run(slot, script, data=b"an input")
    assert {file.path: result.file(file.path) for file in result.head.files} == {
        "a": b"a",
        "b": b"a",
        "data": b"an input",
    }


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["removed", "a file", "a link"])
async def test_a_task_that_has_no_folder_out_brings_no_files(slot: RunnerSlot, how: str) -> None:
    """INV-TASK-93."""
    script = Script()
    script.write("tmp/a", b"a")
    script.on_path("path_remove_directory", "out", WORK)
    if how == "a file":
        script.write("out", b"no folder")
    if how == "a link":
        script.call("path_symlink", b"tmp", 3, WORK, b"out", 3)
    result = await run(slot, script)
    assert (result.fault, result.head.files) == (None, ())
    script = Script()
    script.write("out/a", b"a")
    assert (await run(slot, script)).file("a") == b"a"


@pytest.mark.asyncio
@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("sizes", [(9000,), (2000, 3000, 3978)])
async def test_files_are_as_large_as_they_may_and_a_byte_more_is_a_fault(
    slot: RunnerSlot, sizes: tuple[int, ...], beyond: int
) -> None:
    """INV-TASK-30, INV-TASK-93."""
    script = Script()
    for name, size in enumerate(sizes):
        script.write(f"out/{name}", bytes(size))
    limit = sum(OutputFile(str(n), size).counts for n, size in enumerate(sizes)) - beyond
    result = await run(slot, script, Limits(output_bytes=limit))
    if beyond <= 0:
        assert (result.fault, len(result.head.files)) == (None, len(sizes))
        assert TaskResult.parse(result.data, Limits(output_bytes=limit)) == result
    else:
        assert (result.fault, result.exit_code, result.head.files) == (Fault.OUTPUT_LIMIT, -1, ())
        assert "`limits.output_bytes`" in result.detail


@pytest.mark.asyncio
async def test_a_file_that_no_other_machine_may_be_able_to_hold_is_named(slot: RunnerSlot) -> None:
    script = Script()
    script.write("out/a\nb", b"")
    result = await run(slot, script)
    assert result.fault is Fault.OUTPUT_LIMIT
    assert "'a\\nb' below out/ cannot come back" in result.detail


@pytest.mark.asyncio
async def test_beside_a_fault_no_files_come_back(slot: RunnerSlot) -> None:
    script = Script()
    script.write("out/a", b"a")
    script.call("path_open", WORK, 0, b"a", 1, 0x7FFF, 2, 0, 0, OUT)  # flags that mean nothing
    result = await run(slot, script)
    assert (result.fault, result.head.files) == (Fault.TRAP, ())


def test_what_is_no_regular_file_is_never_read(tmp_path: Path) -> None:
    """INV-TASK-93: a runner that was broken into could put anything there."""
    (tmp_path / "secret").write_bytes(b"secret")
    out = tmp_path / "out"
    out.mkdir()
    (out / "link").symlink_to(tmp_path / "secret")
    (out / "folder").symlink_to(tmp_path)
    os.mkfifo(out / "pipe")
    (out / "file").write_bytes(b"x")
    assert read_outputs(out, 100) == {"file": b"x"}
    (tmp_path / "other").symlink_to(out)
    assert read_outputs(tmp_path / "other", 100) == {}
    assert read_outputs(tmp_path / "absent", 100) == {}
    with pytest.raises(OutputRefused, match="its limit of 20 B, names"):
        read_outputs(out, 20)
