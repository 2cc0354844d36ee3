"""How large the body of a request may be, and what to say of one that is larger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fog_compute.server.problem_types import TOO_LARGE
from fog_compute.server.problems import Refused
from fog_compute.text import one_line
from fog_compute.units import KIB, format_bytes

__all__ = ["BYTES", "JSON", "NO_BODY", "BodyLimit", "too_large"]

BYTES: Final = "application/octet-stream"
JSON: Final = "application/json"
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
