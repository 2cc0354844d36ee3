"""The backend as commands see it: who waits for it is told."""

from __future__ import annotations

from fog_compute.cli.common import note
from fog_compute.client import backend
from fog_compute.client.places import Place
from fog_compute.layout import HomeLayout

__all__ = ["Backend"]


class Backend(backend.Backend):
    """A running backend; a line says when it is waited for."""

    def __init__(self, place: Place | HomeLayout | None = None) -> None:
        """Find the backend; the errors are those of the one below."""
        super().__init__(place)
        self.on_lost = note
