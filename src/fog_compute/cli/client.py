"""The backend as commands see it: who waits for it is told."""

from __future__ import annotations

from fog_compute.cli.common import note
from fog_compute.client import backend
from fog_compute.client.places import Place, place_from_environment

__all__ = ["Backend"]


class Backend(backend.Backend):
    """A running backend; a line says when it is waited for."""

    def __init__(self, place: Place | None = None) -> None:
        """Find the backend, by default where the environment says.

        Raises:
            ConfigError: the environment names a place that cannot be used.
            FogError: as the one below does.
        """
        super().__init__(place_from_environment() if place is None else place)
        self.on_lost = note
