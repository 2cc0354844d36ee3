"""How large the body of a request may be and how slowly it may come, and what to say otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from fog_compute.server.problem_types import TOO_LARGE, TOO_SLOW
from fog_compute.server.problems import Refused
from fog_compute.text import one_line
from fog_compute.units import KIB, format_bytes

__all__ = ["BYTES", "JSON", "NO_BODY", "BodyLimit", "Pace", "too_large", "too_slow"]

BYTES: Final = "application/octet-stream"
JSON: Final = "application/json"
SILENCE_S: Final = 30.0
"""How long nothing of a body may come."""
GRACE_S: Final = 20.0
LEAST_RATE: Final = KIB
"""Bytes a second that a body must have on average, after the first ``GRACE_S`` seconds."""
TYPE_LENGTH: Final = 100
"""Characters of a content type that are repeated to who sent it."""

_CLOSE: Final = {"connection": "close"}  # or the rest of the body would be read, and thrown away


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """The bound of one route.

    Attributes:
        most: bytes of a body.
        takes: the content type of the route; empty where it reads no body.
        setting: what raises the bound, if anything does.
    """

    most: int
    takes: str = ""
    setting: str = ""


NO_BODY: Final = BodyLimit(KIB)
"""Of a route that reads none."""


@dataclass(slots=True)
class Pace:
    """How a body comes: only time counts in which it was waited for, and nobody's own slowness."""

    _seen: int = field(default=0, init=False)
    _waited: float = field(default=0.0, init=False)

    @property
    def patience_s(self) -> float:
        """How long its next piece may be waited for."""
        return max(0.0, min(SILENCE_S, GRACE_S + self._seen / LEAST_RATE - self._waited))

    def came(self, size: int, waited_s: float) -> None:
        """A piece came after such a wait."""
        self._seen += size
        self._waited += waited_s


def too_slow() -> Refused:
    """Refuse a body that does not come."""
    return Refused(
        TOO_SLOW,
        f"the body comes too slowly: {SILENCE_S:g} s without any of it, or less than"
        f" {format_bytes(LEAST_RATE)}/s, are too much; send it again",
        headers=_CLOSE,
    )


def too_large(limit: BodyLimit, route: str, content_type: str) -> Refused:
    """Refuse a body for its size.

    Args:
        limit: the bound that it is over.
        route: method and path that were asked for.
        content_type: as what it came; empty if nothing was said.
    """
    came = one_line(content_type, TYPE_LENGTH)
    what = "a request that needs no body" if not limit.takes else f"{limit.takes} for {route}"
    said = f"the body is larger than {format_bytes(limit.most)}, the limit of {what}"
    if limit.setting:
        said += f" ({limit.setting} raises it)"
    if limit.takes == JSON and came.partition(";")[0].strip().lower() not in ("", JSON):
        said += f"; it came as {came}: a file goes to POST /api/v1/blobs"
    return Refused(
        TOO_LARGE, said, headers=_CLOSE, limit_bytes=limit.most, content_type=came or None
    )
