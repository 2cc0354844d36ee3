"""The geometric time grid that completions keep to (edges ×√2 apart).

A worker shows a completion only at an edge, so an observer who sees a poll bring a result learns
the duration to within a factor of √2 and no better.
"""

from __future__ import annotations

import math
from typing import Final

FIRST_EDGE_S: Final = 0.05
RATIO: Final = math.sqrt(2.0)


def next_edge(elapsed_s: float) -> float:
    """Return the first grid edge at or after ``elapsed_s`` seconds (0.05, 0.0707, 0.1, …)."""
    edge = FIRST_EDGE_S
    step = 0
    while edge < elapsed_s:
        step += 1
        edge = FIRST_EDGE_S * RATIO**step
    return edge
