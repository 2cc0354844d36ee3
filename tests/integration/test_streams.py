"""Every command with each of its standard streams closed, full or at its end.

A command whose result cannot be written fails; one that is only overheard by nobody does not. The
exit code is the true one, nothing is a traceback, and no message is lost.
"""

from __future__ import annotations

import contextlib
import itertools
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

from fog_compute.cli.commands import COMMANDS
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
    meanwhile: Callable[[subprocess.Popen[bytes]], None] = lambda _: None,
) -> Done:
    """Run a command with one broken stream; the others are files, standard input an empty one.

    ``meanwhile`` is called once it runs.
    """
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
            meanwhile(process)
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
    commands: dict[str, Callable[[int], Sequence[str | Path]]],
    environment: dict[str, str],
    every: int = 1,
) -> list[str]:
    """Run each command, which is made anew for each number, with each broken stream.

    With ``every`` 3, each meets a third of them: neighbours in the list meet others.
    """
    usual = {name: run_with(make(0), environment) for name, make in commands.items()}
    assert {name: done for name, done in usual.items() if "Traceback" in done.err} == {}

    def one(number: int, name: str, stream: str, condition: str) -> str | None:
        done = run_with(commands[name](number), environment, stream, condition)
        return judge(f"{name} with {stream} {condition}", stream, usual[name], done)

    cases = [
        (name, broken)
        for (i, name), (k, broken) in itertools.product(enumerate(commands), enumerate(BROKEN))
        if (i + k + k // every) % every == 0
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(
            lambda numbered: one(numbered[0], numbered[1][0], *numbered[1][1]),
            enumerate(cases, start=1),
        )
        return [fault for fault in found if fault is not None]


def commands_of_fog() -> set[tuple[str, ...]]:
    """The words of every command of `fog`."""
    return {tuple(command.words.split()) for command in COMMANDS}


def commands_of_betanet(*before: str) -> set[tuple[str, ...]]:
    """The words of every command that the help of `betanet` lists."""
    told = run_with([BETANET, *before, "--help"], dict(os.environ)).out
    listed = told.partition("Commands:\n")[2].partition("\n\n")[0]
    words = {line.split()[0] for line in listed.splitlines() if line[2] != " "} - {"help"}
    if not words:
        return {before}
    return {found for word in words for found in commands_of_betanet(*before, word)}


def tried(commands: dict[str, Callable[[int], Sequence[str | Path]]]) -> set[tuple[str, ...]]:
    """The words of all commands that are run for what they do, not for their help."""
    known = commands_of_fog() | commands_of_betanet()
    runs = [tuple(map(str, make(0)[1:])) for make in commands.values()]
    return {
        words
        for words, run in itertools.product(known, runs)
        if run[: len(words)] == words and "--help" not in run
    }


def test_commands_of_fog_bear_broken_streams(
    fog: RunningFog, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
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
        "task without a word": lambda _: [FOG, "task"],
        "health": lambda _: [FOG, "health"],
        "task ls": lambda _: [FOG, "task", "ls"],
        "task show": lambda _: [FOG, "task", "show", task_id],
        "task show --wait": lambda _: [FOG, "task", "show", task_id, "--wait"],
        "task of no such id": lambda _: [FOG, "task", "show", "0" * 26],
        "task cancel of a task that is over": lambda _: [FOG, "task", "cancel", task_id],
        "worker without a word": lambda _: [FOG, "worker"],
        "worker ls": lambda _: [FOG, "worker", "ls"],
        "worker show of no such name": lambda _: [FOG, "worker", "show", "nobody"],
        "node ls": lambda _: [FOG, "node", "ls"],
        "node show of no such id": lambda _: [FOG, "node", "show", "f" * 64],
        "top": lambda _: [FOG, "top"],
        "alerts of a fog that nobody watches": lambda _: [FOG, "alerts"],
        "worker ls as JSON": lambda _: [FOG, "worker", "ls", "--json"],
        "a second start": lambda _: [FOG, "up"],
        "map": lambda _: [FOG, "map", WORDCOUNT, text],
        "map into a folder": lambda n: [
            *(FOG, "map", WORDCOUNT, text),
            *("--output-dir", tmp_path / f"map-{n}"),
        ],
        "task logs": lambda _: [FOG, "task", "logs", task_id],
        "task files": lambda _: [FOG, "task", "files", task_id],
        "task get": lambda _: [FOG, "task", "get", task_id],
        "completion for no such shell": lambda _: [FOG, "completion", "cmd"],
        "circuit ls": lambda _: [FOG, "circuit", "ls"],
        "circuit show": lambda _: [FOG, "circuit", "show", "private"],
        "worker status": lambda _: [FOG, "worker", "status"],
        "worker stop": lambda _: [FOG, "worker", "stop"],
        "worker start without a token": lambda _: [FOG, "worker", "start"],
        "chat without a name": lambda _: [FOG, "chat"],
        "chat send to nobody": lambda _: [FOG, "chat", "send", "nobody", "hello"],
        "chat log": lambda _: [FOG, "chat", "log"],
        "chat save of nobody": lambda _: [FOG, "chat", "save", "nobody"],
        "chat me": lambda _: [FOG, "chat", "me"],
        "chat who": lambda _: [FOG, "chat", "who"],
        "chat trace of nobody": lambda _: [FOG, "chat", "trace", "nobody"],
        "chat cancel of nothing": lambda _: [FOG, "chat", "cancel", "0" * 32],
        "chat group ls": lambda _: [FOG, "chat", "group", "ls"],
        "chat group new of nobody": lambda _: [FOG, "chat", "group", "new", "lab", "nobody"],
        "chat group add to none": lambda _: [FOG, "chat", "group", "add", "lab", "nobody"],
        "chat group remove of none": lambda _: [FOG, "chat", "group", "remove", "lab", "nobody"],
        "chat group rename of none": lambda _: [FOG, "chat", "group", "rename", "lab", "work"],
        "chat group leave of none": lambda _: [FOG, "chat", "group", "leave", "lab"],
        "chat wipe without a word": lambda _: [FOG, "chat", "wipe"],
        "peer ls": lambda _: [FOG, "peer", "ls"],
        "peer add of no card": lambda _: [FOG, "peer", "add", "fogcard1aaaa"],
        "peer card": lambda _: [FOG, "peer", "card"],
        "peer verify of nobody": lambda _: [FOG, "peer", "verify", "nobody"],
        "peer name of nobody": lambda _: [FOG, "peer", "name", "nobody", "ada"],
        "peer block of nobody": lambda _: [FOG, "peer", "block", "nobody"],
        "peer rm of nobody": lambda _: [FOG, "peer", "rm", "nobody"],
        "key create": lambda _: [FOG, "key", "create", "a"],
        "key ls": lambda _: [FOG, "key", "ls"],
        "logs": lambda _: [FOG, "logs"],
        "key revoke of no such key": lambda _: [FOG, "key", "revoke", "0" * 12],
        "net token": lambda _: [FOG, "net", "token"],
        "net tokens": lambda _: [FOG, "net", "tokens"],
        "net groups": lambda _: [FOG, "net", "groups"],
        "net revoke of no such token": lambda _: [FOG, "net", "revoke", "0" * 16],
        "net join by a damaged token": lambda _: [FOG, "net", "join", "--token", text],
        "db check": lambda _: [FOG, "db", "check"],
        "db backup": lambda n: [FOG, "db", "backup", tmp_path / f"backup-{n}"],
        "db restore below a fog": lambda _: [FOG, "db", "restore", tmp_path / "backup-0"],
        "db vacuum below a fog": lambda _: [FOG, "db", "vacuum"],
    }
    # `fog down` and `doctor` are tried where no fog runs; what measures would measure the other
    # commands.
    assert commands_of_fog() - tried(commands) == {("bench", "tasks"), ("doctor",), ("down",)}
    every = 1 if request.config.getoption("--slow") else 3
    assert try_all(commands, fog.environment, every) == []


def test_commands_without_a_fog_bear_broken_streams(tmp_path: Path) -> None:
    environment = {**os.environ, "FOG_HOME": str(tmp_path / "none"), "FOG_WORKERS": "0"}
    commands: dict[str, Callable[[int], Sequence[str | Path]]] = {
        "doctor": lambda _: [FOG, "doctor"],
        "health": lambda _: [FOG, "health"],
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
        "recv": lambda n: [BETANET, "recv", *own, tmp_path / f"recv-{n}", "--timeout", "200ms"],
        "a client's status": lambda n: [BETANET, "status", *own, tmp_path / f"status-{n}"],
        "localnet without a word": lambda _: [BETANET, "localnet"],
        "status": lambda _: [BETANET, "localnet", "status", "--dir", net.parent],
        "health of nobody": lambda _: [BETANET, "health", "--port", "1"],
        "metrics": lambda _: [BETANET, "metrics", "node"],
        "a second net": lambda _: [BETANET, "localnet", "run", "--dir", net.parent],
        "a second authority": lambda _: [
            *(BETANET, "authority", "run", "--network", "second"),
            *("--dir", net.parent / "authority"),
        ],
        "authority without a word": lambda _: [BETANET, "authority"],
        "token": lambda _: [
            *(BETANET, "authority", "token", "--operator", "anna"),
            *("--dir", net.parent / "authority"),
        ],
        "tokens": lambda _: [BETANET, "authority", "tokens", "--dir", net.parent / "authority"],
        "a token that is none": lambda _: [
            *(BETANET, "authority", "revoke", "ab" * 16),
            *("--dir", net.parent / "authority"),
        ],
        "net without a word": lambda _: [BETANET, "net"],
        "net show": lambda _: [BETANET, "net", "show", "--net", net],
        "net show as JSON": lambda _: [BETANET, "net", "show", "--net", net, "--json"],
        "a second node": lambda _: [
            *(BETANET, "node", "--http-port", "0", "--bootstrap", net),
            *("--dir", net.parent / "middle-1"),
        ],
    }
    assert commands_of_betanet() == tried(commands)
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


def test_services_of_betanet_bear_broken_streams(tmp_path: Path) -> None:
    environment = {**os.environ, "RUST_LOG": "debug"}
    net = tmp_path / "net"
    services: dict[str, tuple[list[str | Path], str]] = {
        "localnet": (
            ["localnet", "run", "--entry", "1", "--middle", "0", "--exit", "0"],
            "net.json",
        ),
        "authority": (["authority", "run", "--network", "small"], "authority.json"),
        "node": (["node", "--http-port", "0", "--bootstrap", net / "net.json"], "node.json"),
    }

    def run_service(name: str, folder: Path, stream: str = "", condition: str = "") -> Done:
        """Run one until it is at work, and stop it in order."""
        command, written_at_work = services[name]

        def stop(process: subprocess.Popen[bytes]) -> None:
            until(
                lambda: process.poll() is not None or (folder / written_at_work).exists(),
                TASK_S,
                lambda: f"{folder.name} does not begin",
            )
            process.terminate()

        return run_with([BETANET, *command, "--dir", folder], environment, stream, condition, stop)

    # The node joins a network that was.
    usual = {"localnet": run_service("localnet", net)}
    usual |= {name: run_service(name, tmp_path / name) for name in ("authority", "node")}
    assert {name: done.code for name, done in usual.items()} == dict.fromkeys(services, 0), usual

    def one(case: tuple[str, tuple[str, str]]) -> str | None:
        name, (stream, condition) = case
        done = run_service(name, tmp_path / f"{name} {stream} {condition}", stream, condition)
        return judge(f"{name} with {stream} {condition}", stream, usual[name], done)

    # A network that nobody hears of ends by itself, which is tried elsewhere.
    cases = [
        (name, broken)
        for name, broken in itertools.product(services, BROKEN)
        if (name, broken[0]) != ("localnet", "stdout")
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert [fault for fault in pool.map(one, cases) if fault is not None] == []


@pytest.mark.parametrize("condition", [CLOSED, FULL, AT_END])
def test_fog_starts_and_stops_whatever_its_streams_are(tmp_path: Path, condition: str) -> None:
    home = tmp_path / "home"
    environment = {**os.environ, "FOG_HOME": str(home), "FOG_WORKERS": "0"}
    redirect = "<&- >&- 2>&-" if condition == CLOSED else ""
    into = out = None
    if condition == FULL:
        into = out = os.open("/dev/full", os.O_RDWR)
    elif condition == AT_END:
        into, out = os.pipe()
        os.close(into)
        into = os.open(os.devnull, os.O_RDONLY)
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {redirect}', "sh", FOG, "up", "--port", "0"],
        env=environment,
        stdin=into,
        stdout=out,
        stderr=out,
    )
    for descriptor in {into, out}:
        if descriptor is not None:
            os.close(descriptor)
    try:
        until(
            lambda: run_with([FOG, "status"], environment).code == 0,
            TASK_S,
            lambda: f"no fog came up; it is {process.poll()}",
        )
        # It stops the fog, and its answer is lost; who has gone does not want to know.
        down = run_with([FOG, "down", "--json"], environment, "stdout", condition)
        assert (down.code, down.err.count("\n")) == (1, condition != AT_END), down
        assert process.wait(STOP_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
