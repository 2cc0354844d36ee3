"""The stack in real containers, on an engine of its own: built, started, asked, and taken away.

Only `make compose-test` runs it, in the order of this page. Base images that the engine does not
have are stood in for by Debian's packages (`stand_ins`); Grafana, Loki and Alloy, which Debian has
not, are left out unless their images are there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from tests.compose import stand_ins
from tests.compose.engine import Engine, engine, lacking
from tests.compose.merged import BETANET, MAIN, ROOT, SECRETS, compose_program, merged

PLACE: Final = Path(os.environ.get("COMPOSE_TEST", ROOT / "target" / "compose-test"))
PROFILE: Final = os.environ.get("BUILD_PROFILE", "quick")
VARIABLES: Final = {
    **SECRETS,
    "BUILD_PROFILE": PROFILE,
    "COMPOSE_PROFILES": "worker,full",
    "FOG_TARGETS": "betanet-full",
}
ALONE: Final = {"COMPOSE_PROFILES": "", "FOG_TARGETS": "alone"}
UP_S: Final = 420
ASK_S: Final = 120
NOT_OF_DEBIAN: Final = {"grafana", "loki", "alloy"}
ASK: Final = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
RUN: Final = ("exec", "-T", "backend", "fog")

pytestmark = [
    pytest.mark.skipif("COMPOSE_TEST" not in os.environ, reason="only `make compose-test` runs it"),
    pytest.mark.timeout(5400),
]


def built_by(project: dict[str, Any]) -> dict[str, str]:
    """The images that are ours, and what each is built from."""
    services = project["services"].values()
    return {one["image"]: one["build"]["dockerfile"] for one in services if "build" in one}


def bases(dockerfiles: Iterable[str]) -> set[str]:
    """The images that ours begin with."""
    lines = (line for name in dockerfiles for line in (ROOT / name).read_text().splitlines())
    return {line.split()[1] for line in lines if line.startswith("FROM ")}


class Stack:
    """The project on one engine."""

    def __init__(self, engine: Engine, services: list[str]) -> None:
        """Know which services can be had."""
        self.engine: Final = engine
        self.services: Final = services

    def compose(
        self,
        *words: str,
        files: Sequence[str] = (MAIN, BETANET),
        given: str = "",
        timeout: float = ASK_S,
        **variables: str,
    ) -> str:
        """Run a command of Compose; return what it prints."""
        program = compose_program()
        assert program is not None
        named = [word for file in files for word in ("--file", file)]
        done = subprocess.run(
            [program, *named, "--progress", "plain", *words],
            capture_output=True,
            check=False,
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "HOME": "/nonexistent",
                "COMPOSE_DISABLE_ENV_FILE": "1",
                "DOCKER_HOST": self.engine.host,
                **VARIABLES,
                **variables,
            },
            input=given,
            text=True,
            timeout=timeout,
        )
        if done.returncode:
            raise RuntimeError(f"compose {words[0]}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout

    def up(self, *services: str, files: Sequence[str] = (MAIN, BETANET), **variables: str) -> None:
        """Start services, and wait until all of them are healthy."""
        words = ("up", "--detach", "--no-build", "--wait", *services)
        self.compose(*words, files=files, timeout=UP_S, **variables)

    def down(self) -> None:
        """Take all of it away."""
        self.compose("down", "--volumes", "--remove-orphans", timeout=UP_S)

    def states(self) -> dict[str, str]:
        """The health of each container, by its service."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        found = (json.loads(line) for line in lines)
        return {one["Service"]: one["Health"] or one["State"] for one in found}

    def echo(self, level: str) -> str:
        """What a task says that repeats the name of its level."""
        code = "import fog_compute.cli as cli; print(cli.__path__[0])"
        package = self.compose("exec", "-T", "backend", "python", "-c", code).strip()
        words = (*RUN, "run", "--privacy", level, "--timeout", "90s", f"{package}/echo.wasm")
        return self.compose(*words, given=level)

    def get(self, url: str) -> Any:
        """Ask one of the ports that the machine has."""
        done = self.engine.inside(sys.executable, "-c", ASK, url)
        assert done.returncode == 0, f"{url}: {done.stderr}"
        return json.loads(done.stdout)

    def asked(self, query: str) -> float:
        """The one answer to a query of Prometheus."""
        found = self.get(f"http://127.0.0.1:9090/api/v1/query?query={quote(query)}")
        ((_, value),) = (one["value"] for one in found["data"]["result"])
        return float(value)


def until(seen: Callable[[], bool], what: str, seconds: float = ASK_S) -> None:
    """Wait for something that has to come."""
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s"
        time.sleep(1)


def told(line: str) -> None:
    """Tell what was found, for whoever runs this by hand."""
    print(line)  # noqa: T201 - the report of the run


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """An engine that has every image that can be had here; afterwards nothing is left of it."""
    if (reason := lacking()) is not None:
        pytest.skip(f"no container engine: {reason}")
    PLACE.mkdir(parents=True, exist_ok=True)
    services = merged(**VARIABLES)["services"]
    ours = built_by({"services": services})
    wanted = {one["image"] for one in services.values()} - ours.keys() | bases(ours.values())
    # What a run left that was killed would come back with the engine, and not in this namespace.
    with engine(PLACE, sealed=True) as sealed:
        Stack(sealed, []).down()
    # Building reaches the registries of Rust and Python, and runs nothing that was built.
    with engine(PLACE, sealed=False) as builder:
        standing = [one for one in wanted if one.partition(":")[0] in stand_ins.ENTRYPOINTS]
        stand_ins.make(sorted(standing), PLACE, builder.docker)
        for image, dockerfile in sorted(ours.items()):
            began = time.monotonic()
            builder.docker(
                *("build", "--network", "host", "--build-arg", f"PROFILE={PROFILE}"),
                *("--file", str(ROOT / dockerfile), "--tag", image, str(ROOT)),
            )
            told(f"built {image} in {time.monotonic() - began:.0f} s")
        had = set(builder.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split())
    with engine(PLACE, sealed=True) as sealed:
        stack = Stack(sealed, sorted(n for n, one in services.items() if one["image"] in had))
        stack.down()
        try:
            yield stack
        finally:
            (PLACE / "containers.log").write_text(stack.compose("logs", "--no-color"))
            stack.down()


def test_the_first_file_alone_comes_up_healthy_and_tasks_wait(stack: Stack) -> None:
    services = set(merged([MAIN], "", **VARIABLES)["services"]) & set(stack.services)
    stack.up(*services, files=[MAIN], **ALONE)

    states = stack.states()
    assert states == dict.fromkeys(services, "healthy")
    told(f"the first file alone, healthy: {', '.join(sorted(states))}")
    code = "import fog_compute.cli as cli; print(cli.__path__[0])"
    package = stack.compose("exec", "-T", "backend", "python", "-c", code).strip()
    words = ("run", "--detach", "--wait-for-worker", f"{package}/echo.wasm")
    stack.compose(*RUN, *words, given="early")
    (task,) = json.loads(stack.compose(*RUN, "task", "ls", "--json"))
    assert task["state"] == "queued"


def test_both_files_come_up_healthy_and_what_waited_is_done(stack: Stack) -> None:
    began = time.monotonic()
    stack.up(*stack.services)

    states = stack.states()
    assert states == dict.fromkeys(stack.services, "healthy")
    assert states.keys() >= {"worker", *(f"betanet-mixnode-{number}" for number in range(1, 10))}
    told(f"healthy after {time.monotonic() - began:.0f} s: {', '.join(sorted(states))}")

    def done() -> bool:
        (task,) = json.loads(stack.compose(*RUN, "task", "ls", "--json"))
        return bool(task["state"] == "accepted")

    until(done, "the end of the task that waited")


@pytest.mark.parametrize("level", ["public", "private", "confidential", "secret"])
def test_a_task_of_every_level_goes_through_the_containers(stack: Stack, level: str) -> None:
    assert stack.echo(level) == level


def test_prometheus_reaches_all_that_run(stack: Stack) -> None:
    missing = NOT_OF_DEBIAN - set(stack.services)

    def targets() -> dict[str, str]:
        found = stack.get("http://127.0.0.1:9090/api/v1/targets?state=active")["data"]
        return {
            one["labels"]["instance"]: one["health"]
            for one in found["activeTargets"]
            if one["labels"]["service"] not in missing
        }

    until(lambda: set(targets().values()) == {"up"}, "the last target")
    told(f"targets up: {', '.join(sorted(targets()))}; without images: {sorted(missing)}")
    assert stack.asked("sum(pg_up)") == 1
    assert stack.asked("sum(redis_up)") == 1
    until(lambda: stack.asked('sum(fog_tasks{state="accepted"})') >= 1, "the count of tasks")


def test_nothing_is_reached_from_outside(stack: Stack) -> None:
    listening = stack.engine.inside("ss", "-Hltn").stdout.splitlines()

    addresses = {line.split()[3] for line in listening}
    assert "127.0.0.1:8000" in addresses
    assert not {one for one in addresses if not one.startswith(("127.", "[::1]"))}


def test_what_is_started_again_goes_on(stack: Stack) -> None:
    stack.compose(
        *("restart", "betanet-authority", "betanet-mixnode-2", "postgres", "redis", "backend"),
        timeout=UP_S,
    )
    until(lambda: set(stack.states().values()) == {"healthy"}, "health", UP_S)

    assert len(json.loads(stack.compose(*RUN, "task", "ls", "--json"))) == 5
    assert stack.echo("private") == "private"


def test_nothing_is_left(stack: Stack) -> None:
    stack.down()

    docker = stack.engine.docker
    assert docker("ps", "--all", "--quiet") + docker("volume", "ls", "--quiet") == ""
    assert set(docker("network", "ls", "--format", "{{.Name}}").split()) == {"host", "none"}
