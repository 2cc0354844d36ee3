"""A certificate that is renewed while the backend runs: its files are looked at now and then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from fog_compute.clock import Clock
from fog_compute.descriptors import why
from fog_compute.errors import ConfigError
from fog_compute.observability import get_logger
from fog_compute.server.tls import Tls, load_tls
from fog_compute.threads import in_thread

__all__ = ["LOOK_S", "Renewal"]

LOOK_S: Final = 60.0
"""How often the files are looked at."""

_log = get_logger("fog_compute.server")

_Seen: TypeAlias = tuple[tuple[int, int, int, int] | None, ...]


class Renewal:
    """What the backend proves itself with: what its files last held that can be used.

    Attributes:
        tls: that.
    """

    def __init__(
        self, certificate: Path, key: Path, tls: Tls, clock: Clock, renewed: Callable[[Tls], None]
    ) -> None:
        """Begin with what was read from the files just now; ``renewed`` gets all that follows.

        What ``renewed`` refuses with an `OSError` is handed to it again at the next look.
        """
        self.tls = tls
        self._paths: Final = (certificate, key)
        self._clock: Final = clock
        self._renewed: Final = renewed
        self._seen = self._look()
        self._trouble = ""

    async def run(self) -> None:
        """Look at the files until cancelled."""
        while True:
            await self._clock.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Take what the files hold if they have changed; what cannot be used is told once."""
        seen = self._look()
        if seen == self._seen and not self._trouble:
            return
        # What is written while it is read is another sight the next time.
        self._seen = seen
        try:
            tls = await in_thread(load_tls, *self._paths, self._clock.now())
            self._renewed(tls)
        except ConfigError as error:
            self._tell(str(error))
            return
        except OSError as error:  # no thread, a full disk, or a file that went while it was read
            self._tell(why(error))
            return
        self._trouble = ""
        self.tls = tls
        _log.info("certificate.renewed", until=f"{tls.ends:%Y-%m-%d %H:%M} UTC")

    def _tell(self, trouble: str) -> None:
        if self._trouble != trouble:
            self._trouble = trouble
            _log.warning("certificate.not_renewed", reason=trouble)

    def _look(self) -> _Seen:
        return tuple(_sight(path) for path in self._paths)


def _sight(path: Path) -> tuple[int, int, int, int] | None:
    """By what a file that was written or replaced is told from the one before."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
