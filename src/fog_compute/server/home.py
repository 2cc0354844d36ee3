"""The name by which a home folder's backend is known to others on the same database."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Final

from fog_compute.errors import ConfigError
from fog_compute.reading import read_state
from fog_compute.writing import write_private

__all__ = ["name_of_home"]

_NAME: Final = re.compile(r"[0-9a-f]{32}")


def name_of_home(path: Path) -> str:
    """Read the name, or draw it at the first start. It says nothing about the machine.

    Raises:
        ConfigError: its file is damaged, or cannot be read or made.
    """
    try:
        if not path.exists():
            write_private(path, secrets.token_hex(16).encode())
        name = read_state(path).decode("ascii", "replace")
    except OSError as error:
        raise ConfigError(
            f"the name of this backend in {path} cannot be used: {error.strerror}"
        ) from error
    if _NAME.fullmatch(name) is None:
        raise ConfigError(f"the name of this backend in {path} is damaged: delete that file")
    return name
