"""What is done to a running fog: its processes are killed and frozen, and their clock jumps."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import psutil

from tests.integration.fogs import RunningFog

Kind = Literal["kill", "freeze", "jump"]
CLASSES: Final = ("worker", "runner", "node", "authority", "backend", "net")
OWNER: Final = "owner"
"""Who holds all the others: with it they all die, and somebody has to start a fog again."""
JUMPS_S: Final = (-3_600, 45, -1, 86_400, -45, 3_600)
"""How far clocks jump, one after the other; together they come back to where they were."""

_WORDS: Final = {
    "backend": "fog_compute.server",
    "worker": "fog_compute.worker",
    "net": "localnet",
    "node": "node",
    "authority": "authority",
}


@dataclass(frozen=True, slots=True)
class Blow:
    """One thing that goes wrong.

    Attributes:
        kind: what it is.
        target: the class of processes that it hits, or ``all`` of them.
        seconds: how long it freezes, or how far the clock jumps.
        hurried: whether the next one comes before this one is over.
    """

    kind: Kind
    target: str
    seconds: float = 0.0
    hurried: bool = False

    @property
    def label(self) -> str:
        """The class in which it is counted."""
        return f"{self.kind} {self.target}"


def drawn(choose: random.Random, kills: int, freezes_s: tuple[float, ...]) -> list[Blow]:
    """So many kills, of all classes alike, and for two of them a freeze, for four a jump.

    Once in eight kills all processes die. Two blows in five come while what the one before did
    is not over.
    """

    def hurried() -> bool:
        return choose.random() < 0.4

    blows = [
        Blow("kill", CLASSES[index % len(CLASSES)], hurried=hurried()) for index in range(kills)
    ]
    blows += [
        Blow("freeze", choose.choice(CLASSES), choose.choice(freezes_s), hurried())
        for _ in range(kills // 2)
    ]
    blows += [Blow("kill", OWNER)] * (kills // 8)
    blows += [Blow("jump", "all", JUMPS_S[turn % len(JUMPS_S)]) for turn in range(kills // 4)]
    choose.shuffle(blows)
    return blows


class Processes:
    """The living processes of a fog, as the kernel knows them, by their class."""

    def __init__(self, fog: RunningFog) -> None:
        self._owner = psutil.Process(fog.process.pid)
        self._frozen: list[threading.Timer] = []

    def of(self, target: str) -> list[psutil.Process]:
        """Those of one class; none where they are being started."""
        match target:
            case "node" | "authority":
                parents = self.of("net")
            case "runner":
                parents = self.of("worker")
            case _:
                parents = [self._owner]
        return [child for parent in parents for child in _children(parent, _WORDS.get(target))]

    def strike(self, blow: Blow, choose: random.Random) -> psutil.Process | None:
        """Kill one of the class, or freeze one for a while; None if none runs just now."""
        living = self.of(blow.target)
        if not living:
            return None
        victim = choose.choice(living)
        with contextlib.suppress(psutil.NoSuchProcess):
            if blow.kind == "kill":
                victim.kill()
            else:
                timer = frozen(victim, blow.seconds)
                if blow.hurried:
                    self._frozen.append(timer)
                else:
                    timer.join()
        return victim

    def let_go(self) -> None:
        """Wait until nothing is frozen."""
        for timer in self._frozen:
            timer.join()

    def counts(self) -> Counter[str]:
        """How many live of each class."""
        return Counter({target: len(self.of(target)) for target in CLASSES})


def frozen(victim: psutil.Process, seconds: float) -> threading.Timer:
    """Let a process do nothing for a while; what is returned ends when it goes on."""

    def go_on() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.resume()

    timer = threading.Timer(seconds, go_on)
    timer.start()
    victim.suspend()
    return timer


def _children(parent: psutil.Process, word: str | None) -> Iterator[psutil.Process]:
    """Children of a process, those with a word of its own in their command line if one is given."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in parent.children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if child.status() != psutil.STATUS_ZOMBIE and (
                    word is None or word in child.cmdline()
                ):
                    yield child
