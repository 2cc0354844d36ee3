"""A task of many megabytes over a real network: what is shown of it, what crosses, what comes."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fog_compute.cli.client import Backend
from fog_compute.client.places import Home
from fog_compute.layout import HomeLayout

from .fogs import TASK_S, RunningFog, running_fog
from .test_fog import WORDCOUNT

MODULE_BYTES = 2_900_017
TEXT_BYTES = 5_300_000
WORDS = tuple(f"word{number}" for number in range(700))
LOOK_S = 0.01


@pytest.fixture
def fog(tmp_path: Path) -> Iterator[RunningFog]:
    with running_fog(tmp_path / "home") as made:
        yield made


def padded(module: bytes, size: int) -> bytes:
    """The module with a section of random bytes that nothing reads."""
    content = b"\7padding" + random.Random(5).randbytes(size - len(module))
    length, number = bytearray(), len(content)
    while number > 0x7F:
        length.append(number & 0x7F | 0x80)
        number >>= 7
    return module + b"\0" + bytes([*length, number]) + content


def write_text(path: Path, seed: int) -> Counter[str]:
    draw = random.Random(seed)
    words = [draw.choice(WORDS) for _ in range(TEXT_BYTES // 8)]
    path.write_text(" ".join(words))
    return Counter(words)


def followed(
    fog: RunningFog, *arguments: str | Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a task; return its report, and each stage that it was seen in."""
    stages: list[dict[str, Any]] = []
    deadline = time.monotonic() + TASK_S
    with Backend(Home(HomeLayout(fog.home))) as backend:
        before = {task["id"] for task in backend.get("/api/v1/tasks", dict[str, Any])["tasks"]}
        process = fog.start("run", "--json", *arguments)
        while process.poll() is None:
            assert time.monotonic() < deadline
            for task in backend.get("/api/v1/tasks", dict[str, Any])["tasks"]:
                if task["id"] not in before:
                    one = backend.get(f"/api/v1/tasks/{task['id']}", dict[str, Any])
                    if one["stage"] is not None and one["stage"] not in stages[-1:]:
                        stages.append(one["stage"])
            time.sleep(LOOK_S)
    out, err = process.communicate()
    assert process.returncode == 0, err
    report: dict[str, Any] = json.loads(out)
    return report, stages


def sent(stages: list[dict[str, Any]]) -> tuple[list[int], set[int]]:
    """How many bytes were on their way over time, and of how many."""
    sending = [stage for stage in stages if stage["doing"] == "sending"]
    return [stage["done"] for stage in sending], {stage["total"] for stage in sending}


def test_a_big_task_says_how_far_it_is_and_sends_nothing_twice(
    fog: RunningFog, tmp_path: Path
) -> None:
    """INV-TASK-73, INV-TASK-132, INV-TASK-133."""
    module = tmp_path / "big.wasm"
    module.write_bytes(padded(WORDCOUNT.read_bytes(), MODULE_BYTES))
    parts = tmp_path / "parts"
    parts.mkdir()
    for number in range(37):
        (parts / f"{number}.txt").write_text(f"small file {number} " * 900)
    for seed in (1, 2):
        text = tmp_path / f"{seed}.txt"
        counted = write_text(text, seed)
        inputs = ("--input", f"{text}=text.txt", "--input", parts, "--privacy", "private")
        report, stages = followed(fog, module, *inputs, "--", "-n", "3", "text.txt")

        top = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:3]
        assert [line.split() for line in report["stdout"].splitlines()[:3]] == [
            [str(count), word] for word, count in top
        ]
        done, total = sent(stages)
        assert len(set(done)) > 3, "piece by piece"
        assert done == sorted(done)
        assert len(total) == 1
        new = text.stat().st_size
        if seed == 1:
            new += module.stat().st_size + sum(part.stat().st_size for part in parts.iterdir())
        assert new < total.pop() < new + 50_000, "what the worker has of the session stays there"
