"""The stack in real containers, on an engine of its own: built, started, asked, and taken away.

Only `make compose-test` runs it. Base images that the engine does not have are stood in for by
Debian's packages (`stand_ins`); Grafana, Loki and Alloy, which Debian has not, are left out unless
their images are there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.compose import stand_ins
from tests.compose.engine import Engine, engine, lacking
from tests.compose.merged import BETANET, MAIN, ROOT, SECRETS, compose_program, merged

PLACE: Final = Path(os.environ.get("COMPOSE_TEST", ROOT / "target" / "compose-test"))
PROFILE: Final = os.environ.get("BUILD_PROFILE", "quick")
VARIABLES: Final = {**SECRETS, "COMPOSE_PROFILES": "worker", "BUILD_PROFILE": PROFILE}
ASK: Final = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
UP_S: Final = 420
ASK_S: Final = 120

pytestmark = [
    pytest.mark.skipif("COMPOSE_TEST" not in os.environ, reason="only `make compose-test` runs it"),
    pytest.mark.timeout(5400),
]


def built_by(project: dict[str, Any]) -> set[str]:
    """The images that are ours."""
    return {one["image"] for one in project["services"].values() if "build" in one}


def bases() -> set[str]:
    """The images that ours begin with."""
    lines = [
        line
        for name in ("fog", "betanet")
        for line in (ROOT / f"docker/{name}.Dockerfile").read_text().splitlines()
    ]
    return {line.split()[1] for line in lines if line.startswith("FROM ")}


class Stack:
    """The project on one engine."""

    def __init__(self, engine: Engine, services: list[str]) -> None:
        """Know which services are started."""
        self.engine: Final = engine
        self.services: Final = services

    def compose(
        self, *words: str, check: bool = True, given: str = "", timeout: float = 120
    ) -> str:
        """Run a command of Compose; return what it prints."""
        program = compose_program()
        assert program is not None
        done = subprocess.run(
            [program, "--file", MAIN, "--file", BETANET, "--progress", "plain", *words],
            capture_output=True,
            check=False,
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "HOME": "/nonexistent",
                "COMPOSE_DISABLE_ENV_FILE": "1",
                "DOCKER_HOST": self.engine.host,
                **VARIABLES,
            },
            input=given,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            raise RuntimeError(f"compose {words[0]}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout

    def states(self) -> dict[str, str]:
        """The health of each container, by its service."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        found = (json.loads(line) for line in lines)
        return {one["Service"]: one["Health"] or one["State"] for one in found}

    def get(self, url: str) -> Any:
        """Ask one of the ports that the machine has."""
        done = self.engine.inside(sys.executable, "-c", ASK, url)
        assert done.returncode == 0, f"{url}: {done.stderr}"
        return json.loads(done.stdout)


def until(seen: Callable[[], bool], what: str, seconds: float = ASK_S) -> None:
    """Wait for something that has to come."""
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s"
        time.sleep(1)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """All of it that can be had here, healthy; afterwards nothing is left of it."""
    if (reason := lacking()) is not None:
        pytest.skip(f"no container engine: {reason}")
    PLACE.mkdir(parents=True, exist_ok=True)
    project = merged(**VARIABLES)
    ours = built_by(project)
    # Building reaches the registries of Rust and Python, and runs nothing that was built.
    with engine(PLACE, sealed=False) as builder:
        others = {one["image"] for one in project["services"].values()} - ours
        wanted = sorted(
            image for image in others | bases() if image.partition(":")[0] in stand_ins.ENTRYPOINTS
        )
        stand_ins.make(wanted, PLACE, builder.docker)
        for image in sorted(ours):
            dockerfile = next(
                one["build"]["dockerfile"]
                for one in project["services"].values()
                if one["image"] == image
            )
            builder.docker(
                *("build", "--network", "host", "--build-arg", f"PROFILE={PROFILE}"),
                *("--file", str(ROOT / dockerfile), "--tag", image, str(ROOT)),
            )
        had = set(builder.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split())
    services = sorted(
        name
        for name, service in project["services"].items()
        if service["image"] in had and "full" not in service.get("profiles", ())
    )
    with engine(PLACE, sealed=True) as sealed:
        stack = Stack(sealed, services)
        stack.compose("down", "--volumes", "--remove-orphans", timeout=UP_S)
        try:
            stack.compose("up", "--detach", "--no-build", "--wait", *services, timeout=UP_S)
            yield stack
        finally:
            logs = stack.compose("logs", "--no-color", check=False)
            (PLACE / "containers.log").write_text(logs)
            stack.compose("down", "--volumes", "--remove-orphans", check=False, timeout=UP_S)


def test_every_service_comes_up_healthy(stack: Stack) -> None:
    states = stack.states()

    print(f"healthy: {', '.join(sorted(states))}")  # noqa: T201 - the report of the run
    assert set(states) == set(stack.services)
    assert set(states.values()) == {"healthy"}, states
    assert {"backend", "frontend", "worker", "betanet-authority", "betanet-mixnode-3"} <= set(
        states
    )


def test_prometheus_reaches_all_that_run(stack: Stack) -> None:
    missing = {"grafana", "loki", "alloy"} - set(stack.services)

    def down() -> dict[str, str]:
        targets = stack.get("http://127.0.0.1:9090/api/v1/targets?state=active")["data"]
        return {
            f"{target['labels']['service']}/{target['labels'].get('instance')}": target["lastError"]
            for target in targets["activeTargets"]
            if target["health"] != "up" and target["labels"]["service"] not in missing
        }

    try:
        until(lambda: not down(), "the last target")
    finally:
        print(f"not up: {down()}")  # noqa: T201 - the report of the run


def test_a_task_goes_through_the_containers(stack: Stack) -> None:
    package = stack.compose(
        *("exec", "-T", "backend", "python", "-c"),
        "import fog_compute.cli as cli; print(cli.__path__[0])",
    ).strip()
    for level in ("public", "private"):
        words = ("exec", "-T", "backend", "fog", "run", "--privacy", level, "--timeout", "90s")
        said = stack.compose(*words, f"{package}/echo.wasm", given=level, timeout=ASK_S)
        assert said == level


def test_edges_and_databases_are_reached_by_nobody_outside(stack: Stack) -> None:
    listening = stack.engine.inside("ss", "-Hltn").stdout.splitlines()

    addresses = {line.split()[3] for line in listening}
    outside = {one for one in addresses if not one.startswith(("127.", "[::1]"))}
    assert addresses
    assert not outside


def test_what_was_stopped_starts_again_with_its_state(stack: Stack) -> None:
    before = stack.get("http://127.0.0.1:9000/health")
    stack.compose("restart", "betanet-mixnode-2", "backend", "betanet-authority", timeout=UP_S)
    until(lambda: set(stack.states().values()) == {"healthy"}, "health", UP_S)

    after = stack.get("http://127.0.0.1:9000/health")
    assert before.keys() == after.keys()
    test_a_task_goes_through_the_containers(stack)
