"""What a guest that broke out of WebAssembly would try next, from inside a runner's walls."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fog_compute.worker.slot import RunnerSlot
from fog_compute.worker.wall import landlock
from fog_compute.worker.wall.calls import MACHINES
from fog_compute.worker.wall.seccomp import ALLOWED, assemble
from tests import measured

from .conftest import DEADLINE_S, Refuse

NAMES = ("no_new_privs", "namespaces", "landlock", "capabilities", "seccomp")
# Raises the walls that are named, tries everything, and prints what came of each.
TRIES = textwrap.dedent(
    """
    import ctypes, errno, json, os, socket, sys, threading
    from pathlib import Path
    from fog_compute.worker import wall
    from tests.measured import Lines

    folder, victim, port, names = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    libc = ctypes.CDLL(None, use_errno=True)
    rooms = wall.Rooms((folder / "slot",), (folder / "compiled", *wall.of_python()))
    for name in list(wall._WALLS):
        if name not in names.split(","):
            del wall._WALLS[name]
    with Lines() as lines:
        walls = wall.raise_walls(rooms)

    def call(name, *arguments):
        if getattr(libc, name)(*arguments) < 0:
            raise OSError(ctypes.get_errno(), name)

    def connect():
        with socket.socket() as opened:
            opened.connect(("127.0.0.1", port))

    def program():
        try:
            child = os.fork()
        except OSError:
            os.execv("/bin/true", ["true"])
        if child == 0:
            try:
                os.execv("/bin/true", ["true"])
            except OSError as error:
                os._exit(error.errno)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            raise OSError(code, "execv")

    def device():
        os.mknod(folder / "slot" / "null", 0o020600, os.makedev(1, 3))

    def status(name):
        (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if name in one)
        return line.split()[1]

    def thread():
        started = threading.Thread(target=lambda: None)
        started.start()
        started.join()

    tries = {
        "token": lambda: (folder / "token").read_text(),
        "passwd": lambda: Path("/etc/passwd").read_text(),
        "write outside": lambda: (folder / "planted").write_text("x"),
        "write python": lambda: Path(os.__file__).open("r+"),
        "connect": connect,
        "local socket": lambda: socket.socket(socket.AF_UNIX),
        "program": program,
        "fork": lambda: os.fork() or os._exit(0),
        "signal": lambda: os.kill(victim, 18),
        "trace": lambda: call("ptrace", 16, victim, 0, 0),
        "memory": lambda: Path(f"/proc/{victim}/mem").open("rb"),
        "environment": lambda: Path(f"/proc/{victim}/environ").read_bytes(),
        "mount": lambda: call("mount", b"none", bytes(folder / "slot"), b"tmpfs", 0, None),
        "namespace": lambda: call("unshare", 0x10000000),
        "device": device,
        "owner": lambda: os.chown(folder / "slot", 12345, -1),
        "ring": lambda: call("syscall", 425, 1, None),
        "keys": lambda: call("syscall", 250, 0, 0) if os.uname().machine == "x86_64" else device(),
        "scratch": lambda: (folder / "slot" / "made").write_text("x"),
        "rename": lambda: (folder / "slot" / "made").rename(folder / "slot" / "moved"),
        "cache": lambda: (folder / "compiled" / "made").write_text("x"),
        "import": lambda: __import__("wave"),
        "thread": thread,
    }
    came = {}
    for name, attempt in tries.items():
        try:
            attempt()
        except OSError as error:
            came[name] = errno.errorcode[error.errno]
        else:
            came[name] = "done"
    sets = {name: status(name) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd")}
    sets["NoNewPrivs"] = status("NoNewPrivs")
    print(json.dumps({
        "came": came, "sets": sets, "walls": {one.name: [one.stands, one.says] for one in walls},
        "lines": lines.text,
    }))
    """
)
FINE = {"scratch", "rename", "import", "thread"}


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same user that is nobody's parent."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


class Tried:
    """What came of the attempts, behind the walls of these names."""

    def __init__(
        self, folder: Path, victim: int, names: Sequence[str] = NAMES, prefix: Sequence[str] = ()
    ) -> None:
        for name in ("slot", "compiled"):
            (folder / name).mkdir(mode=0o700)
        (folder / "token").write_text("secret")
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            arguments = (str(folder), str(victim), str(port), ",".join(names))
            ended = subprocess.run(
                [*prefix, sys.executable, "-c", TRIES, *arguments],
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                check=False,
                env=measured.environment(),
            )
        assert ended.returncode == 0, ended.stderr
        found = json.loads(ended.stdout.splitlines()[-1])
        measured.add(found["lines"])
        self.came: dict[str, str] = found["came"]
        self.sets: dict[str, str] = found["sets"]
        self.walls: dict[str, list[object]] = found["walls"]

    def need(self, *names: str) -> None:
        """Skip the test where the kernel lacks one of the walls."""
        for name in names:
            stands, says = self.walls[name]
            if not stands:
                pytest.skip(f"{name}: {says}")

    def refused(self) -> set[str]:
        return {name for name, outcome in self.came.items() if outcome != "done"}


def test_whoever_breaks_out_into_the_runner_gets_nowhere_from_there(
    tmp_path: Path, victim: subprocess.Popen[bytes]
) -> None:
    """INV-TASK-80."""
    tried = Tried(tmp_path, victim.pid)
    tried.need(*NAMES)
    assert tried.refused() == tried.came.keys() - FINE
    assert tried.sets == dict.fromkeys(tried.sets, "0" * 16) | {"NoNewPrivs": "1"}
    assert not (tmp_path / "planted").exists()
    assert (tmp_path / "slot" / "moved").read_text() == "x"
    assert victim.poll() is None


@pytest.mark.parametrize(
    ("wall", "refuses"),
    [
        (
            "namespaces",
            {
                *("token", "passwd", "write outside", "write python", "cache", "connect"),
                *("program", "trace", "memory", "environment", "device"),
            },
        ),
        (
            "landlock",
            {
                *("token", "passwd", "write outside", "write python", "cache", "connect"),
                *("signal", "program", "trace", "memory", "environment", "mount", "device"),
            },
        ),
        ("capabilities", {"mount", "device", "owner"}),
        (
            "seccomp",
            {
                *("connect", "local socket", "program", "fork", "signal", "trace", "mount"),
                *("namespace", "device", "owner", "ring", "keys"),
            },
        ),
    ],
)
def test_each_wall_stands_without_the_others(
    tmp_path: Path, victim: subprocess.Popen[bytes], wall: str, refuses: set[str]
) -> None:
    """INV-TASK-80."""
    tried = Tried(tmp_path, victim.pid, ("no_new_privs", wall))
    tried.need(wall)
    if wall == "landlock" and landlock.version() < 6:
        refuses = refuses - {"signal", "connect"}
    assert refuses - tried.refused() == set()
    assert FINE & tried.refused() == set()


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
@pytest.mark.parametrize(
    ("call", "wall"),
    [
        ("prctl", "no_new_privs"),
        ("unshare", "namespaces"),
        ("mount_setattr", "namespaces"),
        ("pivot_root", "namespaces"),
        ("landlock_create_ruleset", "landlock"),
        ("capset", "capabilities"),
        ("seccomp", "seccomp"),
    ],
)
def test_a_wall_that_the_machine_refuses_is_said_and_the_others_stand(
    tmp_path: Path,
    refuse: Refuse,
    victim: subprocess.Popen[bytes],
    call: str,
    wall: str,
    error: int,
) -> None:
    """INV-TASK-81."""
    whole = Tried(tmp_path, victim.pid)
    whole.need(*NAMES)
    (second := tmp_path / "second").mkdir()
    tried = Tried(second, victim.pid, prefix=refuse(call, error))
    fallen = {name for name, (stands, _) in tried.walls.items() if not stands}
    assert fallen == {wall}
    says = str(tried.walls[wall][1])
    assert says.startswith("this machine refuses it: ")
    assert os.strerror(error) in says or call == "prctl"
    assert "\n" not in says
    assert FINE & tried.refused() == set()
    assert {"token", "signal", "trace", "write outside", "mount"} - tried.refused() == set()


@pytest.mark.asyncio
async def test_a_runner_says_which_walls_stand_around_it(slot: RunnerSlot) -> None:
    """INV-TASK-81."""
    await slot.start()
    assert slot.lends is not None
    assert [one.name for one in slot.lends.walls] == list(NAMES)
    for one in slot.lends.walls:
        assert one.says
        assert "\n" not in one.says
        assert one.stands or any(note.startswith(one.name) for note in slot.lends.notes)


def test_a_filter_is_one_that_the_kernel_can_take_on_each_machine() -> None:
    """INV-TASK-80: 4,096 instructions at most, and none jumps beyond the end."""
    for machine in MACHINES.values():
        code = assemble(machine, 4711)
        count, rest = divmod(len(code), 8)
        assert rest == 0
        assert count <= 4096
        for at in range(count):
            opcode, if_true, if_false = (
                code[8 * at] | code[8 * at + 1] << 8,
                *code[8 * at + 2 : 8 * at + 4],
            )
            if opcode == 0x15:
                assert at + 1 + max(if_true, if_false) < count
        assert len(set(machine.numbers.values())) == len(machine.numbers)


def test_what_starts_programs_or_reaches_others_is_in_no_table() -> None:
    """INV-TASK-80."""
    never = {
        "execve",
        "execveat",
        "fork",
        "vfork",
        "clone3",
        "ptrace",
        "socket",
        "connect",
        "mount",
    }
    never |= {"unshare", "setns", "kill", "tkill", "bpf", "keyctl", "io_uring_setup", "mknodat"}
    never |= {"process_vm_readv", "pidfd_getfd", "perf_event_open", "userfaultfd", "chroot"}
    assert ALLOWED & never == set()
    assert all(name in MACHINES["x86_64"].numbers for name in ALLOWED)
