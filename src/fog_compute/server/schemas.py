"""What all bodies of the HTTP interface have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["In", "Out"]


class In(BaseModel):
    """What a request brings: nothing but what is described."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Out(BaseModel):
    """What an answer brings."""

    model_config = ConfigDict(frozen=True)
