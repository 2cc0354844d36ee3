"""Nodes, authority and clients are killed, frozen and set to other times while two clients talk.

Meanwhile every node is sent packets again that it has let in before.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.integration.blows import JUMPS_S, Blow
from tests.integration.clocks import JumpingClock
from tests.integration.conftest import scripts_folder
from tests.integration.correspondent import GAPS, Books
from tests.integration.fogs import START_S, STOP_S, TASK_S, until
from tests.integration.replays import Replays, replaying

ROOT: Final = Path(__file__).resolve().parents[2]
NAMES: Final = ("alice", "bob")
KINDS: Final = ("entry", "middle", "exit")
NUMBERS: Final = 4


def drawn(choose: random.Random, rounds: int, freeze_s: float) -> list[Blow]:
    """Blows in mixed order, of each class ``rounds`` times."""
    blows = [
        blow
        for turn in range(rounds)
        for blow in (
            *(Blow("kill", target) for target in (*KINDS, "authority", "client")),
            *(Blow("freeze", target, freeze_s) for target in ("node", "authority", "client")),
            Blow("jump", "all", JUMPS_S[turn % len(JUMPS_S)]),
        )
    ]
    choose.shuffle(blows)
    return blows


class Net:
    """A local net of its own, owner included."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *flags: str) -> None:
        self.folder = folder
        self._log = folder.with_suffix(".log")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(scripts_folder() / "betanet", "localnet", "run", "--dir", folder),
                    *("--mean-delay", "2ms", "--exact-metrics", *flags),
                ],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(lambda: "nodes are ready" in self.log(), START_S, self.log)

    def log(self) -> str:
        """The end of what it says."""
        return self._log.read_text()[-3000:]

    def pids(self) -> dict[str, int]:
        """Its children by name."""
        state = json.loads((self.folder / "localnet.json").read_text())
        return {name: int(pid) for name, pid in state["children"].items()}

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        assert self._process.wait(STOP_S) == 0, self.log()


class Talk:
    """Two correspondents and the net between them."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *flags: str) -> None:
        self._folder = folder
        self._environment = environment
        self.count = 0
        """What each wants to say; without an end if 0."""
        self.net = Net(folder / "net", environment, *flags)
        self.heard: Counter[str] = Counter()
        self.troubles: Counter[str] = Counter()
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self._listeners: list[threading.Thread] = []

    def begin(self, name: str, **environment: str) -> None:
        """Start one of the two, or start it again."""
        (peer,) = set(NAMES) - {name}
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.integration.correspondent"),
                *(self.net.folder / "net.json", self._folder / name, self._folder),
                *(name, peer, str(self.count)),
            ],
            cwd=ROOT,
            env={**os.environ, **self._environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes[name] = process
        listener = threading.Thread(target=self._listen, args=(name, process))
        listener.start()
        self._listeners.append(listener)

    def begin_again(self, name: str) -> None:
        """Start one that has ended."""
        stdin = self.processes[name].stdin
        assert stdin is not None
        stdin.close()
        self.begin(name)

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                match json.loads(line):
                    case {"heard": int()}:
                        self.heard[name] += 1
                    case {"trouble": str(text)}:
                        self.troubles[text] += 1

    def end(self) -> None:
        """Let both finish what they have begun, and hear the rest."""
        self._join()
        while any(missing(*pair) for pair in self.books().values()):
            before = self.heard.total()
            for name in NAMES:
                self.begin_again(name)
            self._join()
            assert self.heard.total() > before, self.state()

    def _join(self) -> None:
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes.values():
            assert process.wait(TASK_S) == 0, self.state()
        for listener in self._listeners:
            listener.join()

    def books(self) -> dict[str, tuple[Books, Books]]:
        """For each: what it wanted to say, and what the other heard."""
        alice, bob = (Books.read(self._folder / name) for name in NAMES)
        return {"alice": (alice, bob), "bob": (bob, alice)}

    def state(self) -> str:
        """What there is to say when something is wrong."""
        return f"heard {self.heard}; troubles {self.troubles}\n{self.net.log()}"

    def close(self) -> None:
        """Leave nothing behind."""
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.close()
            process.kill()
            process.wait()
        for listener in self._listeners:
            listener.join()
        self.net.close()


def missing(speaker: Books, listener: Books) -> set[int]:
    """What was said and did not take effect."""
    return set(speaker.drawn) - set(listener.heard)


def check_books(talk: Talk) -> int:
    """Each number that was drawn was sent, and took effect once; how many there are."""
    total = 0
    for name, (speaker, listener) in talk.books().items():
        assert missing(speaker, listener) == set(), f"{name} was not heard: {talk.state()}"
        assert all(speaker.drawn.values()), f"{name} has not sent all: {talk.state()}"
        assert set(listener.heard) == set(speaker.drawn), name
        assert set(listener.heard.values()) == {1}, name
        assert listener.after_commit == 0, name
        total += len(speaker.drawn)
    return total


@contextlib.contextmanager
def talking(talk: Talk) -> Iterator[Talk]:
    """Hold a talk; nothing of it is left afterwards."""
    try:
        yield talk
    finally:
        talk.close()


def strike(talk: Talk, blow: Blow, clock: JumpingClock, choose: random.Random) -> None:
    """Do one thing to the talk, and undo it where it does not pass by itself."""
    if blow.kind == "jump":
        clock.jump(int(blow.seconds))
        return
    if blow.target == "client":
        name = choose.choice(NAMES)
        pid = talk.processes[name].pid
    else:
        pids = talk.net.pids()
        prefixes = KINDS if blow.target == "node" else blow.target
        name = choose.choice([child for child in pids if child.startswith(prefixes)])
        pid = pids[name]
    if blow.kind == "freeze":
        os.kill(pid, signal.SIGSTOP)
        time.sleep(blow.seconds)  # this long it is frozen; nothing to wait for
        os.kill(pid, signal.SIGCONT)
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if blow.target == "client":
        talk.processes[name].wait()
        talk.begin_again(name)
    else:
        until(lambda: talk.net.pids().get(name, pid) != pid, START_S, talk.state)


def await_both(talk: Talk, blow: Blow) -> None:
    """Wait until each has heard something new."""
    before = Counter(talk.heard)

    def both_heard() -> bool:
        assert all(process.poll() is None for process in talk.processes.values()), talk.state()
        return all(talk.heard[name] > before[name] for name in NAMES)

    until(
        both_heard,
        TASK_S,
        lambda: f"no message came after {blow}: {talk.state()}",
    )


def live_through(
    talk: Talk,
    replays: Replays,
    blows: list[Blow],
    clock: JumpingClock,
    choose: random.Random,
) -> None:
    """Strike again and again; after each blow both still hear the other.

    INV-LINK-07: no packet is let in a second time.
    """
    began = time.monotonic()
    for name in NAMES:
        talk.begin(name)
    for number, blow in enumerate(blows):
        tell(f"{time.monotonic() - began:6.1f} s, blow {number}: {blow}")
        strike(talk, blow, clock, choose)
        await_both(talk, blow)
    talk.end()
    total = check_books(talk)
    sent_again = check_replays(replays)
    tell(
        f"{len(blows)} blows in {time.monotonic() - began:.0f} s,"
        f" {dict(sorted(Counter(blow.label for blow in blows).items()))}:"
        f" {total} messages took effect once, 0 of {sent_again} replays were let in;"
        f" troubles: {dict(talk.troubles)}"
    )


def check_replays(replays: Replays) -> int:
    """Nodes of every kind let packets in, and none twice; how many were sent again."""
    found = replays.end()
    tell(f"packets that were sent again: {found}")
    assert set(found) == set(KINDS)
    for kind, counts in found.items():
        assert counts["let_in_again"] == 0, (kind, counts)
        assert counts["came"] > 0, (kind, counts)
        assert counts["sent_again"] > counts["came"], (kind, counts)
    return sum(counts["sent_again"] for counts in found.values())


def tell(text: str) -> None:
    """Write a line of the report."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@pytest.mark.timeout(300)
def test_what_is_said_is_heard_once_whatever_is_killed_or_frozen(
    tmp_path: Path, wall_clock_shim: Path
) -> None:
    choose = random.Random(os.environ.get("CHAOS_SEED", "1"))
    blows = drawn(choose, rounds=3, freeze_s=2.0)
    clock = JumpingClock(wall_clock_shim, tmp_path)
    with (
        talking(Talk(tmp_path, clock.environment, "--epoch", "10s")) as talk,
        replaying(talk.net.folder, tmp_path, clock) as replays,
    ):
        live_through(talk, replays, blows, clock, choose)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_is_said_is_heard_once_through_long_chaos(
    tmp_path: Path,
    wall_clock_shim: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = os.environ.get("CHAOS_SEED", str(random.SystemRandom().randrange(2**32)))
    choose = random.Random(seed)
    blows = drawn(choose, rounds=3, freeze_s=60.0)
    clock = JumpingClock(wall_clock_shim, tmp_path)
    with (
        capsys.disabled(),
        talking(Talk(tmp_path, clock.environment, "--epoch", "20s")) as talk,
        replaying(talk.net.folder, tmp_path, clock) as replays,
    ):
        tell(f"\nCHAOS_SEED={seed}")
        live_through(talk, replays, blows, clock, choose)


@pytest.mark.timeout(180)
def test_a_death_between_a_row_and_the_network_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with talking(Talk(tmp_path, {})) as talk:
        for gap in GAPS:
            talk.count += NUMBERS
            for name in NAMES:
                talk.begin(name, DIE_AT=gap if name == "alice" else "")
            assert talk.processes["alice"].wait(TASK_S) == -signal.SIGKILL, gap
            talk.begin_again("alice")
            talk.end()
            assert check_books(talk) == 2 * talk.count
