"""Starts in drawn environments: a fog works, or says why not in a few lines and leaves nothing."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import wasmtime

from fog_compute.layout import HOME_BYTES
from tests.integration.fogs import FOG, GONE_S, TASK_S, until
from tests.integration.test_odd import EXIT_5

DRAWS = 30
FEW = (8, 29)  # those that `make test` runs
MOST_LINES = 6

# Left out again and again: whatever a shell, a container or a job scheduler may not give.
VARIABLES = {
    "HOME": (None, None, "/nonexistent", "relative", "", "/"),
    "PATH": ("/usr/bin:/bin", "/usr/bin:/bin", None, "", ".:/usr/bin:/bin"),
    "LANG": (None, "C", "de_DE.ISO-8859-1", "nonsense"),
    "LC_ALL": (None, None, "POSIX", "C.UTF-8"),
    "TMPDIR": (None, None, "/nonexistent"),
    "XDG_DATA_HOME": (None, None, "relative", "/proc/none"),
    "PYTHONIOENCODING": (None, None, "ascii"),
    "PYTHONUTF8": (None, None, "0"),
    "COLUMNS": (None, "0", "many"),
    "TERM": (None, "dumb", "nonsense"),
    "FOG_HOST": (None, None, None, "::1", "LOCALHOST", "[::1]", "127.9.9.9"),
}
LIMITS = (
    *("", "", ""),
    *("ulimit -n 33", "ulimit -n 300", "ulimit -s 512", "ulimit -c 0", "ulimit -f 100000"),
)
STREAMS = ("", "", "<&-", ">&-", "<&- >&- 2>&-", "</dev/full >/dev/full", "2>/dev/full")
UNSHARE, IP = shutil.which("unshare"), shutil.which("ip")
UP = f"{IP} link set lo up"
NETWORKS = ("", "", "", UP, f"{UP}; {IP} address delete 127.0.0.1/8 dev lo", ":")
HOMES = (
    *("home", "a/b/c", "?#%41 &=:", "ümläut", "n\new", "-dash", "~", "long", "longest", "too long"),
    *("no text", "below a file", "a link", "a link to nothing", "read-only"),
)


@dataclass(frozen=True, slots=True)
class Draw:
    """One environment."""

    home: bytes
    variables: dict[str, str]
    before: Sequence[str]
    script: str


def place(folder: Path, kind: str) -> bytes:
    """A home folder of a kind; what has to be there for it is made."""
    root = bytes(folder)
    match kind:
        case "long" | "longest" | "too long":
            length = {"long": 300, "longest": HOME_BYTES, "too long": HOME_BYTES + 9}[kind]
            while (left := length - len(root) - 1) > 250:
                root += b"/" + b"d" * 100
            return root + b"/" + b"e" * left
        case "no text":
            return root + b"/\xff\xfe"
        case "below a file":
            (folder / "file").touch()
            return root + b"/file/home"
        case "a link":
            (folder / "there").mkdir()
            (folder / "link").symlink_to(folder / "there")
            return root + b"/link"
        case "a link to nothing":
            (folder / "link").symlink_to(folder / "gone")
            return root + b"/link"
        case "read-only":
            return b"/proc/fog"
        case _:
            return root + b"/" + kind.encode()


def draw(seed: int, folder: Path) -> Draw:
    rng = random.Random(seed)
    home = place(folder, rng.choice(HOMES))
    variables = {
        name: value
        for name, choices in VARIABLES.items()
        if (value := rng.choice(choices)) is not None
    }
    network = rng.choice(NETWORKS)
    before: list[str] = []
    if network:
        before = [UNSHARE or "unshare", "--user", "--map-root-user", "--net"]
    lines = [
        network,
        f"umask {rng.choice(('000', '022', '077', '777'))}",
        rng.choice(LIMITS),
        f'"$1" up --port 0 --detach {rng.choice(STREAMS)}; code=$?',
        '[ "$code" = 0 ] || exit 100',
        '"$1" run "$2" --timeout 60s; echo "ran $?"',
        '"$1" down; echo "down $?"',
    ]
    return Draw(home, variables, before, "\n".join(filter(None, lines)))


def belongs_to(home: bytes) -> list[psutil.Process]:
    """Living processes with this home in their environment or command line."""
    found = []
    text = os.fsdecode(home)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            named = (process.environ().get("FOG_HOME"), *process.cmdline())
            if any(str(name).startswith(text) for name in named):
                found.append(process)
    return found


@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=() if seed in FEW else pytest.mark.slow) for seed in range(DRAWS)],
)
def test_start_in_a_drawn_environment_works_or_leaves_nothing(tmp_path: Path, seed: int) -> None:
    drawn = draw(seed, tmp_path)
    if drawn.before:
        if UNSHARE is None or IP is None:
            pytest.skip("this machine has no unshare or no ip")
        tried = subprocess.run([*drawn.before, IP, "link"], capture_output=True, check=False)
        if tried.returncode:
            pytest.skip("this machine gives no namespaces")
    module = tmp_path / "module.wasm"
    module.write_bytes(wasmtime.wat2wasm(EXIT_5))
    there = sorted(os.fsencode(path) for path in tmp_path.rglob("*"))

    done = subprocess.run(
        [*drawn.before, "/bin/sh", "-c", drawn.script, "sh", FOG, module],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={os.fsencode(name): os.fsencode(value) for name, value in drawn.variables.items()}
        | {b"FOG_HOME": drawn.home},
        timeout=3 * TASK_S,
    )

    shown = f"seed {seed}: {drawn}\n{done.stdout!r}\n{done.stderr!r}"
    assert b"Traceback" not in done.stderr, shown
    assert b"Exception ignored" not in done.stderr, shown
    if done.returncode == 100:
        lines = done.stderr.splitlines()
        assert len(lines) <= MOST_LINES, shown
        assert all(line.startswith(b"fog: ") for line in lines), shown
        left = sorted(os.fsencode(path) for path in tmp_path.rglob("*"))
        assert [path for path in left if path not in there] == [], shown
    else:
        assert b"ran 5" in done.stdout, shown
        assert b"down 0" in done.stdout, shown
    until(
        lambda: not belongs_to(drawn.home),
        GONE_S,
        lambda: f"still there: {belongs_to(drawn.home)}, {shown}",
    )
