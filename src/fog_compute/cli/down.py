"""``fog down``: stop the fog of a home folder."""

from __future__ import annotations

import signal
import time
from typing import Final

from fog_compute.cli.common import CommandError, JsonFlag, print_json
from fog_compute.cli.output import write
from fog_compute.client.lock import Free, HeldBy, HeldByUnknown, HomeLock
from fog_compute.errors import NotRunning
from fog_compute.layout import HomeLayout, home_from_environment

__all__ = ["down", "stop_holder"]

PATIENCE_S: Final = 8.0
KILL_PATIENCE_S: Final = 4.0
PAUSE_S: Final = 0.05


def down(*, json: JsonFlag = False) -> int:
    """Stop the fog that runs here; unfinished tasks go on with the next `fog up`.

    For example: `fog down`
    """
    layout = HomeLayout(home_from_environment())
    if isinstance(HomeLock(layout).holder(), Free):
        raise NotRunning(f"no fog is running in {layout.root}")
    seconds = stop_holder(layout, "fog", "fog down")
    if json:
        print_json({"stopped": True, "seconds": seconds})
    else:
        write(f"stopped in {seconds} s\n")
    return 0


def stop_holder(layout: HomeLayout, what: str, command: str) -> float:
    """End whoever holds the lock of a home; return how many seconds that took.

    Raises:
        CommandError: it cannot be stopped from here; the text says what to do.
    """
    lock = HomeLock(layout)
    holder = lock.holder()
    if isinstance(holder, Free):
        return 0.0
    if isinstance(holder, HeldByUnknown):
        raise CommandError(
            f"the {what} in {layout.root} is {holder.where}, and no signal is sent to what may be"
            f" another process: stop it where it was started, with `{command}` or Ctrl-C"
        )
    return round(_stop(lock, holder, what), 1)


def _stop(lock: HomeLock, holder: HeldBy, what: str) -> float:
    process = holder.process
    began = time.monotonic()
    # The first signal drains, the second kills.
    for patience in (PATIENCE_S, KILL_PATIENCE_S):
        try:
            process.send(signal.SIGTERM)
        except PermissionError:
            raise CommandError(
                f"the {what} (process {process.pid}) is another user's: stop it as that user"
            ) from None
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if lock.holder() != holder:
                return time.monotonic() - began
            time.sleep(PAUSE_S)
    raise CommandError(
        f"the {what} (process {process.pid}) does not stop: end it with `kill -9 {process.pid}`"
    )
