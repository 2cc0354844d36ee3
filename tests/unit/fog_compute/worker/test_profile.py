"""The deterministic profile: nothing that a guest can ask tells it where or when it runs."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import wasmtime

from fog_compute.tasks import Fault, Limits, TaskResult
from fog_compute.tasks.preview1 import PREVIEW1
from fog_compute.worker.job import Job
from fog_compute.worker.slot import RunnerSlot
from fog_compute.worker.wasi import REPLACED

from . import scripted
from .scripted import BUFFER, OUT, TMP, WORK, Script, Stat, entries

ROOT = Path(__file__).parents[4]
START_NS = 946_684_800 * 10**9
EBADF, EEXIST, EFAULT, EINVAL, ENAMETOOLONG, ENOENT, ENOTEMPTY = 8, 20, 21, 28, 37, 44, 55
EMFILE, ENOTSOCK, ENOTSUP, EPERM, ESPIPE = 33, 57, 58, 63, 70
FOLDER, FILE = 3, 4
HANGUP = 1


async def run(
    slot: RunnerSlot,
    script: Script,
    inputs: Mapping[str, bytes] | None = None,
    env: Mapping[str, str] | None = None,
) -> TaskResult:
    async def load() -> bytes:
        return scripted.MODULE

    result = await slot.run(
        Job(
            module_id=hashlib.sha256(scripted.MODULE).hexdigest(),
            argv=("one", "two"),
            stdin=script.encode(),
            inputs={} if inputs is None else inputs,
            limits=Limits(),
            seed=bytes(32),
            env={} if env is None else env,
        ),
        load,
    )
    assert (result.fault, result.detail) == (None, ""), result.detail
    return result


async def answers(
    slot: RunnerSlot, script: Script, inputs: Mapping[str, bytes] | None = None
) -> list[tuple[int, bytes]]:
    return script.decode((await run(slot, script, inputs)).stdout)


# The table


def documented() -> dict[str, str]:
    """The functions of the table in the specification, and from where each answer comes."""
    text = (ROOT / "docs/spec/task.md").read_text("utf-8")
    table = text[text.index("| WASI call ") :].split("\n\n", 1)[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return {name: row[1] for row in rows for name in re.findall(r"`(\w+)`", row[0])}


def offered() -> set[str]:
    """Every function that a linker with WASI has: its names stand in the library somewhere."""
    engine = wasmtime.Engine()
    linker, store = wasmtime.Linker(engine), wasmtime.Store(engine)
    linker.define_wasi()
    library = next(Path(wasmtime.__file__).parent.glob("*/_libwasmtime.*")).read_bytes()
    begins = {name.split("_", maxsplit=1)[0] for name in PREVIEW1} | {"thread"}
    family = re.compile(rf"(?=((?:{'|'.join(sorted(begins))})_[a-z_]{{2,40}}))".encode())
    found = set()
    for candidate in {match[1].decode() for match in family.finditer(library)}:
        for end in range(len(candidate), 6, -1):
            try:
                linker.get(store, "wasi_snapshot_preview1", candidate[:end])
            except wasmtime.WasmtimeError:
                continue
            found.add(candidate[:end])
    return found


def test_the_table_has_every_function_that_a_guest_can_import() -> None:
    """INV-TASK-31."""
    assert documented().keys() == PREVIEW1.keys()
    assert offered() == PREVIEW1.keys()


def test_the_table_says_which_functions_are_ours() -> None:
    """INV-TASK-31."""
    ours = {name for name, source in documented().items() if source == "worker"}
    assert ours == {*REPLACED, "proc_exit"}


@pytest.mark.asyncio
async def test_the_environment_is_what_the_task_brings_in_the_order_of_its_names(
    slot: RunnerSlot,
) -> None:
    """INV-TASK-90."""
    script = Script()
    script.call("environ_sizes_get", OUT, OUT + 4, dump=(OUT, 8))
    script.call("environ_get", OUT, BUFFER, dump=(BUFFER, 16))
    result = await run(slot, script, env={"Ü": "2", "B": "", "A": "x=y z"})
    sizes, variables = script.decode(result.stdout)
    assert variables == (0, "A=x=y z\0B=\0Ü=2\0".encode())
    assert sizes == (0, struct.pack("<II", 3, 16))


# Two hosts


def everything() -> Script:
    """Everything that a guest can ask of its files and descriptors."""
    script = Script()
    script.call("args_sizes_get", OUT, OUT + 4, dump=(OUT, 8))
    script.call("args_get", OUT, BUFFER, dump=(BUFFER, 16))
    script.call("environ_sizes_get", OUT, OUT + 4, dump=(OUT, 8))
    for fd in (0, 1, 2, WORK, TMP, 5, 99):
        script.fstat(fd)
        script.call("fd_fdstat_get", fd, OUT, dump=(OUT, 24))
        script.call("fd_prestat_get", fd, OUT, dump=(OUT, 8))
        script.call("fd_tell", fd, OUT)
        script.call("fd_sync", fd)
        script.call("fd_datasync", fd)
        script.call("fd_advise", fd, 0, 0, 4)
        script.call("fd_allocate", fd, 0, 10)
        script.call("sock_accept", fd, 0, OUT)
        script.call("fd_filestat_set_times", fd, 7, 9, 5)
        script.read_folder(fd, length=600)
    script.read_folder(WORK)
    for path in ("b.txt", "a.txt", "d", "d/z", "d/y", "absent", "."):
        script.stat(WORK, path)
    script.open(WORK, "d")  # 5
    script.read_folder(5)
    script.open(WORK, "a.txt")  # 6
    script.call("fd_pread", 6, struct.pack("<II", BUFFER, 8), 1, 0, OUT, dump=(BUFFER, 8))
    script.fstat(6)  # reading leaves no trace
    for i in range(6):
        script.create(f"f{5 - i}")  # 7 to 12
        script.fstat(7 + i)
    script.on_path("path_create_directory", "g")
    script.on_path("path_create_directory", "g/h")
    script.call("path_symlink", b"f0", 2, TMP, b"link", 4)
    script.call("path_link", TMP, 0, b"f1", 2, TMP, b"g/hard", 6)
    script.read_folder(TMP)
    for path in ("f0", "f1", "g/hard", "link", "g", "g/h", "."):
        script.stat(TMP, path)
        script.call("path_filestat_set_times", TMP, 0, path.encode(), len(path), 3, 4, 5)
        script.stat(TMP, path, follow=True)
    for path in ("f2", "f3", "g/hard", "absent", "g"):
        script.on_path("path_unlink_file", path)
    for path in ("g", "g/h", "f0"):
        script.on_path("path_remove_directory", path)
    for i in range(5):
        script.create(f"n{i}")  # may get a number of the host's that was free again
        script.stat(TMP, f"n{i}")
    script.rename("f4", "f5")
    script.on_path("path_create_directory", "full")
    script.on_path("path_create_directory", "full/x")
    script.on_path("path_create_directory", "other")
    script.rename("other", "full")
    for fd in range(7, 13):
        script.fstat(fd)  # some have no name any more
    script.open(TMP, "f5")
    script.read_folder(TMP)
    script.call("clock_time_get", 0, 0, OUT, dump=(OUT, 8))
    return script


INPUT_FILES = {"b.txt": b"bb", "a.txt": b"a", "d/z": b"", "d/y": b"yyy", "d/e/f": b"x"}


@pytest.fixture
def another_file_system(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")  # a file system of another kind, not a place to keep
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system that anybody can write: /dev/shm")
    with tempfile.TemporaryDirectory(dir=memory, prefix="fog-test-") as folder:
        yield Path(folder)


@pytest.mark.asyncio
async def test_two_runs_on_two_file_systems_agree_byte_for_byte(
    tmp_path: Path, another_file_system: Path
) -> None:
    """INV-TASK-16, INV-TASK-32."""
    script = everything()
    seen = []
    for folder, umask, order in ((tmp_path, 0o022, 1), (another_file_system, 0o077, -1)):
        for i in range(40 if order > 0 else 3):  # other numbers of files, other dates
            (folder / f"junk-{i}").write_bytes(b"")
        before = os.umask(umask)
        slot = RunnerSlot(folder / "slot", folder / "compiled")
        try:
            for _ in range(2):
                result = await run(slot, script, dict(list(INPUT_FILES.items())[::order]))
                seen.append((result.stdout, result.stderr, result.exit_code, result.fuel_used))
        finally:
            os.umask(before)
            await slot.close()
    given = [script.decode(stdout) for stdout, *_ in seen]
    for other in given[1:]:
        assert other == given[0]
    assert len(set(seen)) == 1
    assert seen[0][3] < 1_000_000  # what the worker asks on the guest's behalf costs it nothing


@pytest.mark.asyncio
async def test_a_file_has_the_dates_that_the_guest_gave_it_until_its_name_goes(
    slot: RunnerSlot,
) -> None:
    """INV-TASK-32."""
    accessed, modified, now = 1, 4, 8  # FSTFLAGS_ATIM, _MTIM, _MTIM_NOW
    script = Script()
    script.create("f")  # 5
    script.call("fd_filestat_set_times", 5, 7, 9, accessed)
    script.fstat(5)
    script.call("path_filestat_set_times", TMP, 0, b"f", 1, 7, 2**64 - 1, modified)
    script.stat(TMP, "f")
    script.call("clock_time_get", 0, 0, OUT, dump=(OUT, 8))
    script.call("fd_filestat_set_times", 5, 0, 0, now)
    script.fstat(5)
    script.call("fd_filestat_set_times", 5, 1, 1, modified | now)
    script.call("path_filestat_set_times", TMP, 0, b"f", 1, 1, 1, 16)
    script.call("path_filestat_set_times", TMP, 0, b"absent", 6, 1, 1, accessed)
    script.call("fd_filestat_set_times", 99, 1, 1, accessed)
    script.fstat(5)
    script.on_path("path_unlink_file", "f")
    script.create("f")
    script.stat(TMP, "f")
    answers = script.decode((await run(slot, script)).stdout)[1:]
    wanted = [0] * 7 + [EINVAL, EINVAL, ENOENT, EBADF] + [0] * 4
    assert [errno for errno, _ in answers] == wanted
    time = int.from_bytes(answers[4][1], "little")
    dates = [(stat.atim, stat.mtim) for stat in (Stat.of(answers[i]) for i in (1, 3, 6, 11, 14))]
    assert dates[:2] == [(7, START_NS), (7, 2**64 - 1)]
    assert dates[2] == dates[3] == (7, time)
    assert dates[4] == (START_NS, START_NS)


@pytest.mark.asyncio
async def test_the_rest_of_the_table_is_what_wasmtime_does(slot: RunnerSlot) -> None:
    """INV-TASK-31: a later wasmtime that answers otherwise is noticed."""
    script, expected = Script(), []

    def gives(errno: int, name: str, *arguments: int | bytes) -> None:
        script.call(name, *arguments)
        expected.append(errno)

    script.create("f")  # 5
    expected.append(0)
    for fd, position in ((0, ESPIPE), (1, ESPIPE), (WORK, EBADF), (5, 0), (99, EBADF)):
        gives(position, "fd_tell", fd, OUT)
        gives(position, "fd_seek", fd, 0, 0, OUT)
        gives(ENOTSUP if fd == 5 else EBADF, "fd_allocate", fd, 0, 10)
        gives(0 if fd == 5 else EBADF, "fd_filestat_set_size", fd, 10)
        gives(0 if fd == 5 else EBADF, "fd_fdstat_set_flags", fd, 1)
        gives(ENOTSUP if fd in (WORK, 5) else EBADF, "fd_fdstat_set_rights", fd, 0, 0)
        gives(EBADF if fd == 99 else ENOTSOCK, "sock_accept", fd, 0, OUT)
        gives(EBADF if fd == 99 else ENOTSOCK, "sock_recv", fd, OUT, 0, 0, OUT, OUT + 4)
        gives(EBADF if fd == 99 else ENOTSOCK, "sock_send", fd, OUT, 0, 0, OUT)
        gives(EBADF if fd == 99 else ENOTSOCK, "sock_shutdown", fd, 1)
        for sync in ("fd_sync", "fd_datasync"):
            gives(0 if fd == 5 else EBADF, sync, fd)
        gives(0 if fd == 5 else EBADF, "fd_advise", fd, 0, 0, 3)
    gives(0, "fd_prestat_get", WORK, OUT)
    for fd in (TMP, 5):
        gives(EBADF, "fd_prestat_get", fd, OUT)
    gives(0, "fd_filestat_set_times", WORK, 1, 1, 5)
    gives(0, "path_filestat_set_times", WORK, 0, b"a.txt", 5, 1, 1, 5)
    gives(0, "path_create_directory", WORK, b"new", 3)
    gives(0, "path_link", WORK, 0, b"a.txt", 5, TMP, b"a", 1)
    gives(0, "path_rename", WORK, b"b.txt", 5, TMP, b"b", 1)
    gives(EPERM, "path_symlink", b"/tmp/b", 6, WORK, b"out/b", 5)
    gives(EPERM, "path_open", WORK, 0, b"../x", 4, 0, 2, 0, 0, OUT)
    gives(EPERM, "path_open", WORK, 0, b"/tmp", 4, 0, 2, 0, 0, OUT)
    gives(0, "path_open", WORK, 0, b"a.txt", 5, 0, 64, 0, 0, OUT)
    gives(ENOTSUP, "proc_raise", 6)
    gives(0, "sched_yield")
    gives(0, "fd_renumber", 5, TMP)
    gives(EBADF, "fd_close", 5)
    gives(EBADF, "fd_renumber", 5, 99)
    gives(0, "fd_close", TMP)
    assert [errno for errno, _ in await answers(slot, script, INPUT_FILES)] == expected


@pytest.mark.asyncio
async def test_dates_and_sizes_of_folders_are_nobodys(slot: RunnerSlot) -> None:
    """INV-TASK-32."""
    script = Script()
    script.fstat(WORK)
    script.stat(WORK, "d")
    script.stat(WORK, "b.txt")
    script.create("new")
    script.fstat(5)
    for answer in await answers(slot, script, INPUT_FILES):
        if len(answer[1]) != 64:
            continue
        stat = Stat.of(answer)
        assert {stat.atim, stat.mtim, stat.ctim} == {START_NS}
        assert (stat.dev, stat.nlink) == (1, 1)
        assert stat.size == (2 if stat.filetype == FILE and stat.ino == 3 else 0)


@pytest.mark.asyncio
async def test_a_number_belongs_to_one_file_as_long_as_it_is_there(slot: RunnerSlot) -> None:
    """INV-TASK-32."""
    script = Script()
    script.create("a")  # 5
    script.stat(TMP, "a")
    script.fstat(5)
    script.call("path_link", TMP, 0, b"a", 1, TMP, b"b", 1)
    script.stat(TMP, "b")
    script.on_path("path_unlink_file", "a")
    script.rename("b", "c")
    script.stat(TMP, "c")
    script.on_path("path_unlink_file", "c")
    script.fstat(5)
    script.create("d")
    script.stat(TMP, "d")
    stats = [Stat.of(a) for a in await answers(slot, script) if len(a[1]) == 64]
    same, removed, fresh = stats[:4], stats[4], stats[5]
    assert len({stat.ino for stat in same}) == 1
    assert [stat.nlink for stat in same] == [1, 1, 2, 1]
    assert removed.nlink == 0
    assert len({same[0].ino, removed.ino, fresh.ino}) == 3


# Folders


@pytest.mark.asyncio
@pytest.mark.parametrize("length", [24, 25, 60, 61, 300, 8192])
async def test_a_folder_is_listed_by_name_in_buffers_of_any_size(
    slot: RunnerSlot, length: int
) -> None:
    """INV-TASK-32: a buffer is filled to its end unless the folder's end is in it."""
    names = ["zeta", "B", "b", "ä", "a" * 30, "a", "10", "9", "_"]
    expected = [".", "..", *sorted([*names, "out", "tmp"], key=str.encode)]
    script = Script()
    for cookie in range(len(expected) + 1):
        script.read_folder(WORK, cookie=cookie, length=length)
    script.read_folder(WORK, cookie=2**64 - 1, length=length)
    given = await answers(slot, script, dict.fromkeys(names, b""))
    for cookie, answer in enumerate(given):
        used = int.from_bytes(answer[1][:4], "little")
        rest = [(at + 1, name) for at, name in enumerate(expected)][cookie:]
        whole = sum(24 + len(name.encode()) for _, name in rest)
        assert used == min(length, whole)
        found = [(entry.next, entry.name) for entry in entries(answer)]
        assert found == rest[: len(found)]
        if used < length:
            assert len(found) == len(rest)


@pytest.mark.asyncio
async def test_who_removes_what_he_lists_misses_nothing(slot: RunnerSlot) -> None:
    """INV-TASK-32: a listing stands from its first part on."""
    names = [f"file-{i:02}" for i in range(20)]
    script = Script()
    for name in names:
        script.create(name)
        script.call("fd_close", 5)
    script.read_folder(TMP, length=200)
    seen = 2  # "." and ".."
    while seen < len(names) + 2:
        script.read_folder(TMP, cookie=seen, length=200)
        for name in names[seen - 2 : seen + 3]:
            script.on_path("path_unlink_file", name)
        seen += 5
    script.read_folder(TMP)
    given = await answers(slot, script)
    assert {errno for errno, _ in given} == {0}
    listed = {e.name for a in given if len(a[1]) == 204 for e in entries(a)}
    assert listed == {".", "..", *names}
    assert [entry.name for entry in entries(given[-1])] == [".", ".."]


@pytest.mark.asyncio
async def test_listing_what_is_no_folder_is_an_error(slot: RunnerSlot) -> None:
    script = Script()
    script.open(WORK, "a.txt")  # 5
    for fd in (0, 5, 99, 2**32 - 1):
        script.read_folder(fd, length=100)
    script.call("fd_close", 5)
    script.open(WORK, "d")  # 5
    script.read_folder(5, length=100)
    script.call("fd_close", 5)
    script.read_folder(5, cookie=1, length=100)
    errnos = [errno for errno, _ in await answers(slot, script, INPUT_FILES)]
    assert errnos == [0, EBADF, EBADF, EBADF, EBADF, 0, 0, 0, 0, EBADF]


@pytest.mark.asyncio
async def test_more_names_than_one_page_holds_are_all_listed(slot: RunnerSlot) -> None:
    """INV-TASK-32."""
    names = {f"z{i:03}-{'n' * 240}" for i in range(255)}
    script = Script()
    script.read_folder(WORK, length=100)
    last = 2 + 2 + len(names) - 3
    script.read_folder(WORK, cookie=last, length=4096)
    given = await answers(slot, script, dict.fromkeys(names, b""))
    assert [entry.name for entry in entries(given[1])] == sorted(names)[-3:]


@pytest.mark.asyncio
async def test_a_guest_has_as_many_descriptors_on_every_host(slot: RunnerSlot) -> None:
    """INV-TASK-32: one that is refused makes nothing, and one that is closed is free again."""
    script = Script()
    for _ in range(130):
        script.open(WORK, "a.txt")
    script.create("new")
    script.read_folder(TMP, length=100)
    script.call("fd_close", 60)
    script.create("new")
    script.create("newer")
    given = await answers(slot, script, INPUT_FILES)
    opened = [int.from_bytes(dump, "little") for errno, dump in given[:130] if errno == 0]
    assert opened == list(range(5, 128))
    assert {errno for errno, _ in given[123:131]} == {EMFILE}
    assert [entry.name for entry in entries(given[131])] == [".", ".."]
    assert [errno for errno, _ in given[132:]] == [0, 0, EMFILE]
    assert await answers(slot, script, INPUT_FILES) == given


@pytest.mark.asyncio
async def test_bad_arguments_are_errors_of_the_guest(slot: RunnerSlot) -> None:
    script = Script()
    script.call("fd_filestat_get", WORK, -4)
    script.call("path_filestat_get", WORK, 0, -4, 100, OUT)
    script.call("path_filestat_get", WORK, 2, b"a", 1, OUT)
    script.call("path_filestat_get", WORK, 0, b"a" * 5000, 5000, OUT)
    script.call("fd_readdir", WORK, -4, 100, 0, OUT)
    script.call("fd_readdir", WORK, BUFFER, 100, 0, -2)
    script.call("path_unlink_file", TMP, -4, 100)
    script.call("path_rename", TMP, b"a", 1, TMP, -4, 100)
    script.call("fd_advise", WORK, 0, 0, 6)
    script.call("path_open", WORK, 0, b"a.txt", 5, 0, 2, 0, 0, -2)
    script.call("random_get", -1, 8)
    errnos = [errno for errno, _ in await answers(slot, script, INPUT_FILES)]
    assert errnos == [
        *(
            EFAULT,
            EFAULT,
            EINVAL,
            ENAMETOOLONG,
            EFAULT,
            EFAULT,
            EFAULT,
            EFAULT,
            EINVAL,
            EFAULT,
            EFAULT,
        )
    ]


@pytest.mark.asyncio
async def test_flags_that_mean_nothing_are_a_trap_and_leave_the_slot_well(slot: RunnerSlot) -> None:
    script = Script()
    script.call("path_open", WORK, 0, b"a.txt", 5, 0x7FFF, 2, 0, 0, OUT)

    async def load() -> bytes:
        return scripted.MODULE

    name = hashlib.sha256(scripted.MODULE).hexdigest()
    ended = []
    for _ in range(2):
        job = Job(name, (), script.encode(), INPUT_FILES, Limits(), bytes(32))
        ended.append(await slot.run(job, load))
    assert [result.fault for result in ended] == [Fault.TRAP, Fault.TRAP]
    assert "flag" in ended[0].detail
    assert ended[0].fuel_used == ended[1].fuel_used < 100_000
    assert (await answers(slot, everything(), INPUT_FILES))[0][0] == 0


@pytest.mark.asyncio
async def test_what_is_not_empty_is_not_replaced(slot: RunnerSlot) -> None:
    """INV-TASK-32: some hosts say that the target exists, others that it is not empty."""
    script = Script()
    for path in ("full", "full/x", "other"):
        script.on_path("path_create_directory", path)
    script.rename("other", "full")
    script.on_path("path_remove_directory", "full")
    script.on_path("path_create_directory", "full")
    errnos = [errno for errno, _ in await answers(slot, script)]
    assert errnos == [0, 0, 0, ENOTEMPTY, ENOTEMPTY, EEXIST]


# Time and polling


def sleep(script: Script, nanoseconds: int, *, clock: int = 1, flags: int = 0) -> None:
    script.call("poll_oneoff", subscription(0, clock, nanoseconds, flags), OUT, 1, OUT - 4)


def subscription(tag: int, subject: int, timeout: int = 0, flags: int = 0) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", 7, tag, subject, timeout, 0, flags)


@pytest.mark.asyncio
@pytest.mark.parametrize("clock", [0, 1, 2, 3])
async def test_clocks_never_go_back(slot: RunnerSlot, clock: int) -> None:
    """INV-TASK-32: neither for a guest that reads them with a sign."""
    script = Script()
    for nanoseconds, flags in (
        *((0, 0), (1, 0), (2**62, 0), (2**63, 0), (2**63, 0), (2**64 - 1, 0)),
        *((5, 1), (2**64 - 1, 1), (0, 0)),
    ):
        script.call("clock_time_get", clock, 0, OUT, dump=(OUT, 8))
        sleep(script, nanoseconds, clock=clock, flags=flags)
    script.call("clock_time_get", clock, 0, OUT, dump=(OUT, 8))
    given = await answers(slot, script)
    assert {errno for errno, _ in given} == {0}
    times = [int.from_bytes(dump, "little", signed=True) for _, dump in given if len(dump) == 8]
    assert times == sorted(times)
    assert times[0] == (START_NS if clock == 0 else 0) + 1000
    assert times[3] - times[2] >= 2**62


@pytest.mark.asyncio
async def test_a_poll_says_what_is_wrong_with_each_descriptor(slot: RunnerSlot) -> None:
    """INV-TASK-32: a descriptor that is not open is an event with an error."""
    script = Script()
    script.open(WORK, "d/y")  # 5
    asked = [(1, 99), (2, 99), (1, WORK), (1, 5), (2, 5), (1, 0), (2, 0), (2, 1), (1, 1)]
    asked += [(0, 9), (0, 1)]
    polled = b"".join(subscription(tag, subject) for tag, subject in asked)
    script.call("poll_oneoff", polled, BUFFER, len(asked), OUT, dump=(OUT, 4))
    script.call("fd_seek", 5, 3, 0, OUT, dump=(BUFFER, 32 * len(asked)))
    script.call("poll_oneoff", subscription(1, 5), BUFFER, 1, OUT, dump=(BUFFER, 32))
    script.call("poll_oneoff", subscription(3, 5), BUFFER, 1, OUT)
    script.call("poll_oneoff", polled, BUFFER, 0, OUT)
    given = await answers(slot, script, INPUT_FILES)
    assert [errno for errno, _ in given] == [0, 0, 0, 0, EINVAL, EINVAL]
    assert int.from_bytes(given[1][1], "little") == len(asked)
    events = list(struct.iter_unpack("<QHB5xQH6x", given[2][1]))
    assert {event[0] for event in events} == {7}
    assert [(event[2], event[1], event[3]) for event in events] == [
        *((1, EBADF, 0), (2, EBADF, 0), (1, EBADF, 0)),
        *((1, 0, 3), (2, EBADF, 0), (1, 0, 1), (2, EBADF, 0), (2, 0, 1), (1, EBADF, 0)),
        *((0, EINVAL, 0), (0, 0, 0)),
    ]
    assert struct.unpack("<QHB5xQH6x", given[3][1])[1:] == (0, 1, 0, HANGUP)


@pytest.mark.asyncio
async def test_much_randomness_is_made_in_parts_that_differ(slot: RunnerSlot) -> None:
    script = Script()
    script.call("random_get", BUFFER, 0x8000, dump=(BUFFER, 0x8000))
    script.call("random_get", BUFFER, 0x8000, dump=(BUFFER, 0x8000))
    first, second = (dump for _, dump in await answers(slot, script))
    assert first != second
    assert hashlib.shake_256(bytes(32) + bytes(8)).digest(0x8000) == first
