"""Which worker runs which task, and following each task to its end."""

from __future__ import annotations
