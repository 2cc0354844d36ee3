"""What our images are built from, and the scripts in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compose.merged import OURS, ROOT


@pytest.mark.parametrize(
    ("net", "waits"),
    [
        (None, True),
        ('{"edges": [', True),
        ('{"edges": []}', True),
        ('{"edges": [{"id": "a"}]}', False),
        ('{\n  "edges": [\n    {"id": "a"}\n  ]\n}', False),
    ],
)
def test_a_worker_waits_for_a_network_with_edges(
    tmp_path: Path, net: str | None, waits: bool
) -> None:
    (tmp_path / "groups.json").write_text("{}")
    if net is not None:
        (tmp_path / "net.json").write_text(net)
    script = (ROOT / "docker" / "fog-worker").read_text()
    for place in ("/run/betanet", "/var/lib/fog"):
        script = script.replace(f"={place}/", f"={tmp_path}/")
    script = script.replace("sleep 1", "exit 7").replace("exec ", "exec echo ")

    done = subprocess.run(
        ["/bin/sh", "-c", script],
        check=False,
        capture_output=True,
        env={"PATH": f"{Path(sys.executable).parent}:{os.defpath}"},
        timeout=30,
    )

    assert (done.returncode, done.stderr) == (7 if waits else 0, b"")


def test_scripts_of_the_images_can_be_run_and_are_in_them() -> None:
    for name, dockerfile in (
        ("fog-worker", "fog"),
        ("betanet-node", "betanet"),
        ("betanet-authority", "betanet"),
    ):
        assert os.access(ROOT / "docker" / name, os.X_OK), name
        assert f"docker/{name}" in (ROOT / f"docker/{dockerfile}.Dockerfile").read_text()


@pytest.mark.parametrize("name", sorted(OURS.values()))
def test_dockerfiles_need_no_buildkit_and_end_as_nobody_special(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()

    assert not [line for line in lines if "--mount" in line or "<<" in line or "syntax=" in line]
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]
    bases = {line.split()[1] for line in lines if line.startswith("FROM ")}
    assert all(re.fullmatch(r"[a-z]+:([\d.]+-slim-bookworm|bookworm-slim)", base) for base in bases)


def test_both_dockerfiles_begin_alike_so_that_an_engine_compiles_once() -> None:
    def beginning(name: str) -> list[str]:
        lines = (ROOT / name).read_text().splitlines()
        first = next(number for number, line in enumerate(lines) if line.startswith("FROM "))
        last = next(number for number, line in enumerate(lines) if "install -D" in line)
        return lines[first : last + 1]

    assert beginning("docker/fog.Dockerfile") == beginning("docker/betanet.Dockerfile")


def test_whatever_the_dockerfiles_copy_reaches_the_engine() -> None:
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = {
        word.split("/")[0]
        for name in OURS.values()
        for line in (ROOT / name).read_text().splitlines()
        if line.startswith("COPY ") and "--from=" not in line
        for word in line.split()[1:-1]
    }

    assert copied == kept
