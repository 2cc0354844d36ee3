"""A group of which every coordinator and worker of the unit tests is a member."""

from __future__ import annotations

from typing import Final

from fog_compute.tasks.groups import Group, GroupKey, Keyring

__all__ = ["GROUP", "MEMBERS"]

GROUP: Final = "lab"
MEMBERS: Final = Keyring((Group(GROUP, GroupKey(bytes(range(32)))),))
