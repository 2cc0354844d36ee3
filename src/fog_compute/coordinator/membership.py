"""What this machine's groups mean for its tasks: which workers serve them, and which it may ask."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from fog_compute.errors import InvalidTask
from fog_compute.tasks import TaskSpec
from fog_compute.tasks.groups import Keyring, NotAMember
from fog_compute.tasks.keyring import Keys
from fog_compute.vpn.directory import WorkerDirectory, WorkerOffer

__all__ = ["MemberDirectory", "for_group"]


class MemberDirectory:
    """The list of workers, in which each has those groups that it shares with this machine.

    What a worker lists is believed only where it shows that it has the group's key: whoever could
    claim to serve a group would be sent its tasks.
    """

    __slots__ = ("_directory", "_keys")

    def __init__(self, directory: WorkerDirectory, keys: Keys) -> None:
        """Read the list from ``directory``."""
        self._directory: Final = directory
        self._keys: Final = keys

    async def workers(self) -> Sequence[WorkerOffer]:
        """The whole list; see `fog_compute.vpn.directory.WorkerDirectory`."""
        keyring = self._keys()
        return [
            dataclasses.replace(offer, groups=keyring.read_tags(offer.groups, offer.address))
            for offer in await self._directory.workers()
        ]


def for_group(spec: TaskSpec, keyring: Keyring) -> TaskSpec:
    """Say which group a task is for: the first of this machine, unless it says so itself.

    Raises:
        InvalidTask: this machine is no member of it, or of none.
    """
    if not keyring.groups:
        raise InvalidTask("this fog is a member of no group: join one with `fog net join`")
    group = spec.group or keyring.names[0]
    try:
        keyring.key(group)
    except NotAMember as error:
        raise InvalidTask(str(error)) from None
    return dataclasses.replace(spec, group=group)
