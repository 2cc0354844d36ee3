"""`fog up` in environments drawn at random: it works, or says why in lines and leaves nothing.

Each environment is a shell script in namespaces of its own: it moves somewhere, limits itself,
starts a fog, runs a task and stops the fog. The draw is the same each time; FOG_TEST_SEED draws
another one.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.integration.fogs import FOG, GONE_S, PAUSE_S

pytestmark = pytest.mark.timeout(900)

WORDCOUNT: Final = Path(__file__).resolve().parents[2] / "examples" / "wordcount" / "wordcount.wasm"
RIGHTS: Final = () if os.geteuid() == 0 else ("--user", "--map-root-user")
ENVIRONMENTS: Final = 30
AT_ONCE: Final = 3
PATIENCE_S: Final = 120
TIMED_OUT: Final = 124
SAID_AT_MOST: Final = 12
SMALL: Final = {
    "FOG_ENTRY_NODES": "1",
    "FOG_MIDDLE_NODES": "1",
    "FOG_EXIT_NODES": "1",
    "FOG_KINDS": "wasm",  # each home would compile the interpreter of scripts anew
}

# Below the folder of the case; what follows "~" is below HOME.
HOMES: Final[tuple[bytes, ...]] = (
    b"home",
    b"with space",
    b"q?mark&x=1",
    b"per%41cent%",
    b"hash#tag",
    b"quo'te\"s",
    "gr\u00fc\u00dfe-\u2603".encode(),
    b"latin-\xfc\xff",
    b"new\nline",
    b"-dash",
    b"deep/er/and/deeper",
    b"~/below",
    b"link/home",
    b"text/below-a-file",
    b"link-to-nothing",
    b"x" * 100,
    b"y" * 200 + b"/" + b"z" * 200,
    b"w" * 300,
)
UMASKS: Final = ("000", "022", "077", "277", "777")
LOCALES: Final[tuple[dict[str, str], ...]] = (
    {},
    {"LC_ALL": "C"},
    {"LC_ALL": "C.UTF-8"},
    {"LANG": "de_DE.ISO-8859-1"},
    {"LC_ALL": "no-such-locale", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)
LIMITS: Final = (
    *("", "", "", ""),
    "ulimit -n 33",
    "ulimit -n 64",
    "ulimit -n 256",
    "ulimit -s 512",
    "ulimit -v 4000000",
    "ulimit -v 300000",
    "ulimit -f 2048",
    "ulimit -f 100000",
    "ulimit -c unlimited",
)
VARIABLES: Final[tuple[dict[str, str | None], ...]] = (
    {},
    {"PATH": None},
    {"HOME": None},
    {"HOME": ""},
    {"HOME": "/proc/nonexistent"},  # where nobody can make it
    {"HOME": "relative"},
    {"TMPDIR": "/nonexistent"},
    {"TERM": None, "USER": None, "LOGNAME": None, "LANG": None},
    {"PYTHONPATH": "/nonexistent", "LD_LIBRARY_PATH": ":."},
    {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"},
    {"PYTHONOPTIMIZE": "2", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "ascii"},
    {"PATH": ".:/usr/bin:/bin", "XDG_DATA_HOME": "relative"},
    {"COLUMNS": "many", "TERM": "nonsense", "FOG_HOST": "LOCALHOST"},
    {"FOG_HOST": "127.9.9.9"},
    {"RUST_LOG": "[[[", "RUST_BACKTRACE": "full"},
    {"FOG_LOG_LEVEL": "debug", "FOG_LOG_JSON": "1"},
    {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"},
)
TRAPS: Final = ("random", "secrets", "msgspec", "asyncio", "fog_compute", "sitecustomize")
PLACES: Final = (
    "plain",
    "plain",
    "plain",
    "plain",
    "traps",
    "removed",
    "read-only home",
    "no space",
)
NETWORKS: Final = ("usual", "usual", "usual", "own", "IPv6 alone", "no loopback")


STREAMS: Final = (
    *("", "", "", "<&-", ">&-", "2>&-", "<&- >&- 2>&-"),
    *("</dev/full >/dev/full", "2>/dev/full"),
)


@dataclass(frozen=True, slots=True)
class Environment:
    """One odd machine."""

    number: int
    home: bytes
    umask: str
    locale: dict[str, str]
    limit: str
    variables: dict[str, str | None]
    place: str
    network: str
    closed: str

    def __str__(self) -> str:
        """All that a person needs to build it again."""
        return (
            f"environment {self.number}: home {self.home[:60]!r}, umask {self.umask},"
            f" {self.locale or 'usual locale'}, {self.limit or 'no limit'}, {self.variables},"
            f" {self.place}, network {self.network}, {self.closed or 'streams open'}"
        )


@dataclass(slots=True)
class Outcome:
    """What the commands ended with and said."""

    codes: dict[str, int] = field(default_factory=dict)
    said: str = ""
    counted: str = ""
    cannot_run: bool = False
    left: list[str] = field(default_factory=list)


def draw(seed: int) -> list[Environment]:
    """Environments in which each oddity comes up once before any comes up again."""
    choose = random.Random(seed)

    def deck(cards: tuple[object, ...]) -> list[object]:
        drawn: list[object] = []
        while len(drawn) < ENVIRONMENTS:
            drawn += choose.sample(cards, len(cards))
        return drawn[:ENVIRONMENTS]

    decks = zip(
        *map(deck, (HOMES, UMASKS, LOCALES, LIMITS, VARIABLES, PLACES, NETWORKS, STREAMS)),
        strict=True,
    )
    return [Environment(number, *cards) for number, cards in enumerate(decks)]


def script(case: Environment, folder: Path) -> str:
    """The commands that make the environment and try a fog in it."""
    home = folder.joinpath(os.fsdecode(case.home))
    lines = ["exec 9>results"]
    if case.network == "IPv6 alone":
        lines += ["ip link set lo up", "ip -4 address flush dev lo", "export FOG_HOST=::1"]
    elif case.network == "own":
        lines.append("ip link set lo up")
    if case.place == "read-only home":
        lines += ["mkdir part", "mount -t tmpfs -o ro none part"]
        home = folder / "part" / os.fsdecode(case.home)
    elif case.place == "no space":
        lines += ["mkdir part", "mount -t tmpfs -o size=64k none part"]
        home = folder / "part" / os.fsdecode(case.home)
    elif case.place == "removed":
        lines += ["mkdir gone", "cd gone", "rmdir ../gone"]
    elif case.place == "traps":
        lines.append("cd traps")
    chosen: dict[str, str | None] = {**SMALL, **case.locale, **case.variables}
    relative = case.home.startswith((b"~", b"deep"))
    chosen["FOG_HOME"] = os.fsdecode(case.home) if relative else str(home)
    for name, value in chosen.items():
        assign = f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"
        lines.append(assign)
    lines += [f"umask {case.umask}", case.limit]
    fog, module, text = (shlex.quote(str(path)) for path in (FOG, WORDCOUNT, folder / "text"))
    out, err = (shlex.quote(str(folder / name)) for name in ("counted", "said"))
    lines += [
        f"{fog} up --detach --port 0 >>{err} 2>>{err} {case.closed}",
        "code=$?; echo up $code >&9; test $code = 0 || exit",
        f"{fog} run {module} --stdin {text} --timeout 60s >{out} 2>>{err}",
        "echo run $? >&9",
        f"{fog} down >>{err} 2>>{err}",
        "echo down $? >&9",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def live_in(case: Environment, folder: Path) -> Outcome:
    """Try a fog in an environment, and see what is left of it."""
    folder.mkdir()
    (folder / "text").write_text("to be or not to be")
    (folder / "elsewhere").mkdir()
    (folder / "link").symlink_to("elsewhere")
    (folder / "link-to-nothing").symlink_to("nothing")
    (folder / "traps").mkdir()
    for name in TRAPS:
        sprung = f"open({str(folder / 'sprung')!r}, 'a').write({name!r})"
        (folder / "traps" / f"{name}.py").write_text(sprung + "\n")
    (folder / "script").write_bytes(os.fsencode(script(case, folder)))
    for name in ("said", "counted", "results"):
        (folder / name).touch()
    before = files_below(folder)
    namespaces = [*RIGHTS, "--mount", *([] if case.network == "usual" else ["--net"])]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FOG_")},
        "HOME": str(folder),
        "CASE_UNDER_TEST": str(folder),
    }
    outcome = Outcome()
    process = subprocess.Popen(
        ["unshare", *namespaces, "sh", str(folder / "script")],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        outcome.left.append(f"not over after {PATIENCE_S} s")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + GONE_S
    while (there := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
    for left in there:
        outcome.left.append(f"process {left.pid}: {left.cmdline()}")
        left.kill()
    results = (folder / "results").read_text("utf-8").splitlines()
    outcome.codes = {name: int(code) for name, code in map(str.split, results)}
    outcome.said = (folder / "said").read_text("utf-8", "replace")
    outcome.counted = (folder / "counted").read_text("utf-8", "replace")
    if (folder / "sprung").exists():
        outcome.left.append(f"foreign code ran: {(folder / 'sprung').read_text()}")
    if outcome.codes.get("up") != 0:
        outcome.left += sorted(str(path) for path in files_below(folder) - before)
    for log in folder.rglob("worker-0.log"):
        outcome.cannot_run |= "cannot run tasks" in log.read_text("utf-8", "replace")
    return outcome


def files_below(folder: Path) -> set[Path]:
    """All that lies below the folder of a case, but what its shell makes."""
    made = {folder / "part", folder / "gone"}
    return {path for path in folder.rglob("*") if path not in made}


def processes_of(folder: Path) -> list[psutil.Process]:
    """Living processes of a case."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            ours = process.environ().get("CASE_UNDER_TEST") == str(folder)
            if ours or any(argument.startswith(f"{folder}/") for argument in process.cmdline()):
                found.append(process)
    return found


def judge(outcome: Outcome) -> str | None:
    """Say what is wrong with an outcome."""
    said = outcome.said
    if outcome.left:
        return f"left behind: {outcome.left}"
    if any(word in said for word in ("Traceback", "panicked", "Exception ignored")):
        return "a traceback"
    up = outcome.codes.get("up")
    if up == 0:
        if outcome.cannot_run:  # what it said in one line, and the task waits for another worker
            return None if outcome.codes == {"up": 0, "run": TIMED_OUT, "down": 0} else "no answer"
        if outcome.codes != {"up": 0, "run": 0, "down": 0}:
            return "it came up and did not work"
        return None if "6 words, 4 different" in outcome.counted else "a wrong result"
    lines = [line for line in said.splitlines() if line.strip()]
    if up not in (1, 2) or len(lines) > SAID_AT_MOST:
        return f"it ended with {up} and {len(lines)} lines"
    return None


def cannot() -> str | None:
    """Why this machine cannot make such environments, if it cannot."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "namespaces need `unshare` and `ip`"
    tried = subprocess.run(
        ["unshare", *RIGHTS, "--mount", "--net", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    return None if tried.returncode == 0 else "this machine gives no namespaces"


def test_fog_works_in_drawn_environments_or_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    if (reason := cannot()) is not None:
        pytest.skip(reason)
    seed = int(os.environ.get("FOG_TEST_SEED", "1"))
    cases = draw(seed)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(lambda case: live_in(case, tmp_path / str(case.number)), cases))

    faults = [
        f"{case}\n  {fault}: {outcome.codes}\n  {outcome.said[-2000:]}"
        for case, outcome in zip(cases, outcomes, strict=True)
        if (fault := judge(outcome)) is not None
    ]
    assert not faults, f"FOG_TEST_SEED={seed}\n" + "\n".join(faults)
    assert [outcome.codes["up"] for outcome in outcomes].count(0) > ENVIRONMENTS // 4
