"""The ``fog`` command: one module per subcommand, imported when it runs."""

from __future__ import annotations
