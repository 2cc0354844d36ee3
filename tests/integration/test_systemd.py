"""The units of `packaging/systemd`, as systemd itself reads them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

SCRIPTS: Final = Path(sys.executable).parent
FOLDER: Final = Path(__file__).parents[2] / "packaging" / "systemd"
PROGRAMS: Final = {
    "betanet-authority.service": "/usr/local/bin/betanet",
    "betanet-node.service": "/usr/local/bin/betanet",
    "fog.service": "/opt/fog/bin/fog",
}
MOST_EXPOSED: Final = {"fog.service": 4.1}  # its runners build walls of their own
EXPOSED: Final = 3.0

pytestmark = pytest.mark.parametrize("unit", PROGRAMS)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("this machine has no systemd-analyze")
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_a_unit_is_one(unit: str, tmp_path: Path) -> None:
    program = PROGRAMS[unit]
    here = str(SCRIPTS / Path(program).name)
    placed = (FOLDER / unit).read_text().replace(program, here)
    (tmp_path / unit).write_text(placed)
    verified = analyze("verify", tmp_path / unit)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def test_a_unit_exposes_little(unit: str) -> None:
    judged = analyze("security", "--offline=true", FOLDER / unit)
    level = re.search(r"exposure level for \S+: ([0-9.]+)", judged.stdout)
    assert level is not None, judged
    assert float(level[1]) < MOST_EXPOSED.get(unit, EXPOSED)


def test_a_unit_starts_a_command_that_there_is(unit: str) -> None:
    text, program = (FOLDER / unit).read_text(), PROGRAMS[unit]
    (command,) = re.findall(rf"^ExecStart={program} (.*)$", text, re.MULTILINE)
    options = re.findall(r"^# \S+\s+OPTIONS=(.*)$", text, re.MULTILINE)
    words = shlex.split(command.replace("$OPTIONS", *options) if options else command)
    asked = subprocess.run(
        [SCRIPTS / Path(program).name, *words, "--help"],
        capture_output=True,
        check=False,
        text=True,
    )
    assert (asked.returncode, asked.stderr) == (0, "")
