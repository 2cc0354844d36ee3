"""Every command with each of its standard streams closed, full or at its end.

A command whose result cannot be written fails; one that is only overheard by nobody does not. The
exit code is the true one, nothing is a traceback, and no message is lost.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import wasmtime

from tests.integration.fogs import FOG, STOP_S, TASK_S, RunningFog, running_fog, until

pytestmark = pytest.mark.timeout(600)

BETANET: Final = FOG.with_name("betanet")
EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
WORDCOUNT: Final = EXAMPLES / "wordcount" / "wordcount.wasm"
AT_ONCE: Final = 4
CLOSED, FULL, AT_END = "closed", "full", "at its end"
STREAMS: Final = ("stdin", "stdout", "stderr")
BROKEN: Final = tuple(itertools.product(STREAMS, (CLOSED, FULL, AT_END)))
NUMBERS: Final = {"stdin": 0, "stdout": 1, "stderr": 2}
EXITS_WITH_7: Final = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 7))))"""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it wrote where that could be read."""

    code: int
    out: str
    err: str


def run_with(
    command: Sequence[str | Path],
    environment: dict[str, str],
    stream: str = "",
    condition: str = "",
) -> Done:
    """Run a command with one broken stream; the others are files, standard input an empty one."""
    arguments = list(map(str, command))
    if condition == CLOSED:
        arguments = ["sh", "-c", f'exec "$@" {NUMBERS[stream]}>&-', "sh", *arguments]
    with contextlib.ExitStack() as files:
        into, out, err = (files.enter_context(tempfile.TemporaryFile()) for _ in STREAMS)
        streams = {"stdin": into.fileno(), "stdout": out.fileno(), "stderr": err.fileno()}
        opened = []
        if condition == FULL:
            opened = [os.open("/dev/full", os.O_RDWR)]
        elif condition == AT_END and stream == "stdin":
            opened = [os.open(os.devnull, os.O_RDONLY)]
        elif condition == AT_END:
            reading, writing = os.pipe()
            os.close(reading)
            opened = [writing]
        if opened:
            streams[stream] = opened[0]
        process = subprocess.Popen(
            arguments,
            env=environment,
            stdin=streams["stdin"],
            stdout=streams["stdout"],
            stderr=streams["stderr"],
        )
        for descriptor in opened:
            os.close(descriptor)
        try:
            code = process.wait(TASK_S)
        except BaseException:
            process.kill()
            process.wait()
            raise
        out.seek(0)
        err.seek(0)
        return Done(code, out.read().decode(), err.read().decode())


def judge(case: str, stream: str, usual: Done, done: Done) -> str | None:
    """Say what is wrong with how a command took a broken stream."""
    said = done.out + done.err
    if any(word in said for word in ("Traceback", "panicked", "Exception ignored")):
        return f"{case}: {said}"
    if done.code < 0:
        return f"{case}: killed by {signal.Signals(-done.code).name}"
    if stream == "stdout" and usual.out:
        if done.code == 0 or (usual.code == 0 and done.code != 1):
            return f"{case}: its output was lost, and the exit code is {done.code}"
    elif done.code != usual.code:
        return f"{case}: exit code {done.code} instead of {usual.code}: {done.err}"
    if stream == "stderr" and bool(usual.out) != bool(done.out):
        return f"{case}: printed {done.out!r} instead of {usual.out!r}"
    return None


@pytest.fixture(scope="module")
def fog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFog]:
    with running_fog(tmp_path_factory.mktemp("streams") / "home") as made:
        yield made


def joining(fog: RunningFog) -> tuple[str | Path, ...]:
    """How a client joins the net of a fog; its folder follows."""
    return ("--net", fog.home / "net" / "net.json", "--dir")


def try_all(
    commands: dict[str, Callable[[int], Sequence[str | Path]]], environment: dict[str, str]
) -> list[str]:
    """Run each command, which is made anew for each number, with each broken stream."""
    usual = {name: run_with(make(0), environment) for name, make in commands.items()}
    assert {name: done for name, done in usual.items() if "Traceback" in done.err} == {}

    def one(number: int, name: str, stream: str, condition: str) -> str | None:
        done = run_with(commands[name](number), environment, stream, condition)
        return judge(f"{name} with {stream} {condition}", stream, usual[name], done)

    cases = list(itertools.product(commands, BROKEN))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(
            lambda numbered: one(numbered[0], numbered[1][0], *numbered[1][1]),
            enumerate(cases, start=1),
        )
        return [fault for fault in found if fault is not None]


def test_commands_of_fog_bear_broken_streams(fog: RunningFog, tmp_path: Path) -> None:
    silent = tmp_path / "seven.wasm"
    silent.write_bytes(wasmtime.wat2wasm(EXITS_WITH_7))
    text = tmp_path / "text"
    text.write_text("to be or not to be")
    task_id = fog.json("run", WORDCOUNT, "--stdin", text, "--detach")["id"]
    fog.run("task", "show", task_id, "--wait")
    commands: dict[str, Callable[[int], Sequence[str | Path]]] = {
        "version": lambda _: [FOG, "--version"],
        "help": lambda _: [FOG, "--help"],
        "run's help": lambda _: [FOG, "run", "--help"],
        "no command": lambda _: [FOG],
        "wrong usage": lambda _: [FOG, "walk"],
        "status": lambda _: [FOG, "status"],
        "status as JSON": lambda _: [FOG, "status", "--json"],
        "run": lambda _: [FOG, "run", WORDCOUNT, "--stdin", text],
        "run of a silent module": lambda _: [FOG, "run", silent],
        "run without waiting": lambda _: [FOG, "run", silent, "--detach", "--json"],
        "task ls": lambda _: [FOG, "task", "ls"],
        "task show": lambda _: [FOG, "task", "show", task_id],
        "task show --wait": lambda _: [FOG, "task", "show", task_id, "--wait"],
        "task of no such id": lambda _: [FOG, "task", "show", "0" * 26],
        "worker ls": lambda _: [FOG, "worker", "ls", "--json"],
        "a second start": lambda _: [FOG, "up"],
    }
    assert try_all(commands, fog.environment) == []


def test_commands_without_a_fog_bear_broken_streams(tmp_path: Path) -> None:
    environment = {**os.environ, "FOG_HOME": str(tmp_path / "none")}
    commands: dict[str, Callable[[int], Sequence[str | Path]]] = {
        "status": lambda _: [FOG, "status"],
        "down": lambda _: [FOG, "down", "--json"],
        "run": lambda _: [FOG, "run", WORDCOUNT],
    }
    assert try_all(commands, environment) == []


def test_standard_input_that_cannot_be_read_or_has_no_end_is_refused(fog: RunningFog) -> None:
    command: list[str | Path] = [FOG, "run", WORDCOUNT, "--stdin", "-"]
    for condition, codes in ((CLOSED, (1, 2)), (FULL, (2,)), (AT_END, (0,))):
        done = run_with(command, fog.environment, "stdin", condition)
        assert done.code in codes, (condition, done)
        assert "Traceback" not in done.err
        assert done.code == 0 or len(done.err.splitlines()) == 1, (condition, done.err)


def test_commands_of_betanet_bear_broken_streams(fog: RunningFog, tmp_path: Path) -> None:
    net = fog.home / "net" / "net.json"
    own = joining(fog)
    address = run_with([BETANET, "address", *own, tmp_path / "sink"], fog.environment).out.strip()
    assert address.startswith("fog1")
    commands: dict[str, Callable[[int], Sequence[str | Path]]] = {
        "version": lambda _: [BETANET, "--version"],
        "help": lambda _: [BETANET, "--help"],
        "ping's help": lambda _: [BETANET, "ping", "--help"],
        "no command": lambda _: [BETANET],
        "wrong usage": lambda _: [BETANET, "walk"],
        "address": lambda n: [BETANET, "address", *own, tmp_path / f"address-{n}"],
        "send": lambda n: [BETANET, "send", *own, tmp_path / f"send-{n}", "--to", address, "hi"],
        "ping": lambda n: [BETANET, "ping", "--count", "1", *own, tmp_path / f"ping-{n}"],
        "status": lambda _: [BETANET, "localnet", "status", "--dir", net.parent],
        "a second net": lambda _: [BETANET, "localnet", "run", "--dir", net.parent],
    }
    assert try_all(commands, fog.environment) == []


def test_message_from_standard_input_is_whole_or_not_sent(fog: RunningFog, tmp_path: Path) -> None:
    own = joining(fog)
    address = run_with([BETANET, "address", *own, tmp_path / "sink"], fog.environment).out.strip()
    command = [BETANET, "send", *own, tmp_path / "sender", "--to", address, "-"]
    for condition, codes in ((CLOSED, (1, 2)), (FULL, (2,)), (AT_END, (0,))):
        done = run_with(command, fog.environment, "stdin", condition)
        assert done.code in codes, (condition, done)
        assert "panicked" not in done.err


@pytest.mark.parametrize("condition", [CLOSED, FULL, AT_END])
def test_message_that_cannot_be_written_stays_in_the_mailbox(
    fog: RunningFog, tmp_path: Path, condition: str
) -> None:
    own = joining(fog)
    mine = (*own, tmp_path / "bob")
    address = run_with([BETANET, "address", *mine], fog.environment).out.strip()
    send = [BETANET, "send", *own, tmp_path / "alice", "--to", address, f"kept when {condition}"]
    assert run_with(send, fog.environment).code == 0
    receive = [BETANET, "recv", "--count", "1", "--timeout", f"{TASK_S:.0f}s", *mine]

    lost = run_with(receive, fog.environment, "stdout", condition)
    again = run_with(receive, fog.environment)

    assert lost.code == 1, lost
    assert (again.code, again.out) == (0, f"kept when {condition}\n"), again


@pytest.mark.parametrize("broken", [(CLOSED, STREAMS), (FULL, ("stdout",)), (AT_END, ("stdout",))])
def test_fog_starts_and_stops_whatever_its_streams_are(
    tmp_path: Path, broken: tuple[str, tuple[str, ...]]
) -> None:
    condition, streams = broken
    home = tmp_path / "home"
    environment = {**os.environ, "FOG_HOME": str(home), "FOG_WORKERS": "0"}
    closed = streams if condition == CLOSED else ()
    redirect = " ".join(f"{NUMBERS[stream]}>&-" for stream in closed)
    out: int | None = None
    if condition == FULL:
        out = os.open("/dev/full", os.O_WRONLY)
    elif condition == AT_END:
        reading, out = os.pipe()
        os.close(reading)
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {redirect}', "sh", FOG, "up", "--port", "0"],
        env=environment,
        stdout=out,
    )
    if out is not None:
        os.close(out)
    try:
        until(
            lambda: run_with([FOG, "status"], environment).code == 0,
            TASK_S,
            lambda: f"no fog came up; it is {process.poll()}",
        )
        down = run_with([FOG, "down", "--json"], environment)
        assert json.loads(down.out)["stopped"] is True
        assert process.wait(STOP_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
