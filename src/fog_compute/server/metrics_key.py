"""A key for whoever scrapes, which the backend keeps in a file by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fog_compute.clock import Clock
from fog_compute.descriptors import why
from fog_compute.errors import ConfigError, StoreError
from fog_compute.observability import get_logger
from fog_compute.reading import read_state
from fog_compute.scopes import Scope
from fog_compute.server.auth import digest, same
from fog_compute.server.callers import Callers
from fog_compute.threads import in_thread
from fog_compute.units import KIB
from fog_compute.writing import write_private

__all__ = ["MODE", "keep_metrics_key"]

_log = get_logger("fog_compute.server")

MODE: Final = 0o640
"""Its owner writes it, and its group reads it: Prometheus is somebody else."""
ALLOWED: Final = frozenset({Scope.METRICS})
FILE_BYTES: Final = KIB


async def keep_metrics_key(path: Path, callers: Callers, clock: Clock, home: str) -> None:
    """See to it that a file holds a key that allows to see the metrics, and nothing else.

    One that the database knows stays. Others that were made here for that file before are revoked:
    nobody has them any more.

    Args:
        path: the file.
        callers: make and revoke keys.
        clock: the time.
        home: names this backend among those on its database.

    Raises:
        ConfigError: the file cannot be read or written.
    """
    name = f"metrics of {home[:8]}"
    try:
        text = await in_thread(_read, path)
        now = clock.now()
        fit = [one for one in await callers.keys() if one.scopes == ALLOWED and one.live(now)]
        kept = next((one for one in fit if same(digest(text), one.sha256)), None)
        if kept is None:
            made, kept = await callers.make(name, ALLOWED, None)
            text = made.text
            _log.info("metrics_key.made")
        await in_thread(_write, path, text)
        for one in fit:
            if one.name == name and one.id != kept.id:
                await callers.revoke(one.id)
    except OSError as error:
        raise ConfigError(
            f"the key for the metrics in {path} (FOG_METRICS_KEY_FILE) cannot be kept: {why(error)}"
        ) from error
    except StoreError as error:
        _log.warning("metrics_key.not_kept", reason=error.message)


def _read(path: Path) -> str:
    try:
        return read_state(path, FILE_BYTES).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return ""


def _write(path: Path, text: str) -> None:
    """Put the key there, unless it is there for those who may have it."""
    data = text.encode()
    try:
        found = path.lstat()
        if found.st_mode & 0o777 == MODE and read_state(path, FILE_BYTES) == data:
            return
    except FileNotFoundError:
        pass
    write_private(path, data, mode=MODE)
