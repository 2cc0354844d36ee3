"""Many tasks at once: what one request may carry of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from fog_compute.units import MIB

__all__ = ["chunks"]

BODY_BYTES: Final = 4 * MIB
"""Of tasks in one request, unless one alone has more; a backend takes twice as much."""


def chunks(tasks: Sequence[Mapping[str, object]], begin: int, most: int) -> Iterator[range]:
    """Cut tasks, from one on, into pieces that one request may carry, of ``most`` tasks each."""
    size = 0
    for index in range(begin, len(tasks)):
        length = len(msgspec.json.encode(tasks[index]))
        if index > begin and (index - begin == most or size + length > BODY_BYTES):
            yield range(begin, index)
            begin, size = index, 0
        size += length
    if begin < len(tasks):
        yield range(begin, len(tasks))
