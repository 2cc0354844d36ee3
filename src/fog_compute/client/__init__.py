"""What both the command line and the Python face need of a backend: finding, asking, answers."""

from __future__ import annotations
