"""Coverage of children that cannot write it down, because they stand behind walls.

Their lines go to the test as text, over the pipe on which the test has its answer anyway. Where
coverage is not measured, nothing happens.
"""

from __future__ import annotations

import base64
import os
from types import TracebackType
from typing import Self

__all__ = ["Lines", "add", "environment"]


class Lines:
    """Counts the lines that run in a block, in memory.

    Attributes:
        text: what was counted, for `add`; empty where coverage is not measured.
    """

    def __init__(self) -> None:
        self.text = ""
        self._counting = None
        if os.environ.get("COVERAGE_RUN"):
            import coverage

            self._counting = coverage.Coverage(
                data_file=None, branch=True, source_pkgs=["fog_compute"], config_file=False
            )
            self._counting.get_data()  # makes what could not be made behind walls

    def __enter__(self) -> Self:
        if self._counting is not None:
            self._counting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._counting is not None:
            self._counting.stop()
            self.text = base64.b64encode(self._counting.get_data().dumps()).decode()


def add(text: str) -> None:
    """Add what a child counted to what is counted here."""
    if text:
        import coverage

        counting = coverage.Coverage.current()
        if counting is not None:
            found = coverage.CoverageData(no_disk=True)
            found.loads(base64.b64decode(text))
            counting.get_data().update(found)


def environment() -> dict[str, str]:
    """This process's environment, for a child that uses `Lines` and is to write nothing down."""
    return {name: text for name, text in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"}
