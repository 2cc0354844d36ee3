"""What nodes and authorities export is what Prometheus reads, and what it would advise."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BETANET = Path(sys.executable).with_name("betanet")


@pytest.mark.parametrize("of", ["node", "authority"])
def test_prometheus_has_nothing_to_say_against_a_page(of: str) -> None:
    beside = Path(sys.executable).with_name("promtool")
    program = str(beside) if beside.exists() else shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (make monitoring-tools)")
    page = subprocess.run([BETANET, "metrics", of], capture_output=True, check=True).stdout
    checked = subprocess.run(
        [program, "check", "metrics"], input=page, capture_output=True, check=False, timeout=60
    )
    assert page.startswith(b"# HELP betanet_")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
