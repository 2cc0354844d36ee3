"""The backend's process: how it begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

OWNER_GONE = 70


def test_owner_that_ends_while_the_backend_loads_takes_it_along(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("import time; time.sleep(3600)")

    done = subprocess.run(
        [sys.executable, "-m", "fog_compute.server", "--die-with-parent"],
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,  # at its end, as the pipe of an owner that is gone
        timeout=60,
    )

    assert done.returncode == OWNER_GONE


def test_backend_that_cannot_say_where_it_listens_says_why(tmp_path: Path) -> None:
    (tmp_path / "daemon" / "server.new").mkdir(parents=True)

    done = subprocess.run(
        [sys.executable, "-m", "fog_compute.server", "--home", tmp_path, "--port", "0"],
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "event": "error",
        "message": f"the backend cannot start: {tmp_path}/daemon/server.new: Is a directory",
    }
