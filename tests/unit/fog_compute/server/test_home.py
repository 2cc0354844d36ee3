"""A home folder's backend has one name, as long as the folder has its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fog_compute.errors import ConfigError
from fog_compute.server.home import name_of_home


def test_the_name_is_drawn_once(tmp_path: Path) -> None:
    """INV-STORE-26."""
    name = name_of_home(tmp_path / "backend")
    assert name_of_home(tmp_path / "backend") == name
    assert name_of_home(tmp_path / "another") != name


def test_a_damaged_name_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "backend").write_text("who?")
    with pytest.raises(ConfigError, match="is damaged: delete that file"):
        name_of_home(tmp_path / "backend")
    with pytest.raises(ConfigError, match="cannot be used: Not a directory"):
        name_of_home(tmp_path / "backend" / "below")
