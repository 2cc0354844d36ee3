"""``fog down``: stop the fog of a home folder."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Final

from fog_compute.cli.common import CommandError, JsonFlag, NotRunningError, print_json
from fog_compute.cli.lock import HomeLock
from fog_compute.cli.output import write
from fog_compute.layout import HomeLayout, home_from_environment

__all__ = ["down"]

PATIENCE_S: Final = 8.0
KILL_PATIENCE_S: Final = 4.0
PAUSE_S: Final = 0.05


def down(*, json: JsonFlag = False) -> int:
    """Stop the fog that runs here; unfinished tasks go on with the next `fog up`."""
    layout = HomeLayout(home_from_environment())
    lock = HomeLock(layout)
    pid = lock.holder()
    if pid is None:
        raise NotRunningError(f"no fog is running in {layout.root}")
    began = time.monotonic()
    # The first signal drains, the second kills.
    for patience in (PATIENCE_S, KILL_PATIENCE_S):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if lock.holder() != pid:
                seconds = round(time.monotonic() - began, 1)
                if json:
                    print_json({"stopped": True, "seconds": seconds})
                else:
                    write(f"stopped in {seconds} s\n")
                return 0
            time.sleep(PAUSE_S)
    raise CommandError(f"the fog (process {pid}) does not stop: end it with `kill -9 {pid}`")
