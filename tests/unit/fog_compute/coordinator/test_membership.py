"""Which workers a machine's groups let it use, and which group a task is for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from fog_compute.coordinator.membership import MemberDirectory, for_group
from fog_compute.coordinator.placement import Requirements
from fog_compute.coordinator.registry import WorkerRegistry
from fog_compute.coordinator.sessions import session_key
from fog_compute.errors import InvalidTask
from fog_compute.levels import PrivacyLevel
from fog_compute.tasks import Attempt, AttemptState, TaskSpec, TaskState
from fog_compute.tasks.groups import Group, Keyring
from fog_compute.testing import ManualClock
from fog_compute.vpn.directory import WorkerOffer
from tests.members import GROUP, MEMBERS
from tests.unit.fog_compute.coordinator.scripted import Directory, open_fog

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = TaskSpec(module="a" * 64)
OTHER = Group.new("other")


def offer(name: str, *groups: str) -> WorkerOffer:
    return WorkerOffer(name, f"fog1{name}", ("wasm",), 4, 2**30, groups)


@pytest.mark.asyncio
async def test_worker_that_only_claims_a_group_gets_none_of_its_tasks() -> None:
    """INV-TASK-106."""
    stranger = Keyring((Group.new(GROUP),))
    directory = Directory(
        [
            offer("named", GROUP),
            offer("copied", *MEMBERS.tags("fog1member")),
            offer("stranger", *stranger.tags("fog1stranger")),
            offer("none"),
        ]
    )
    workers = WorkerRegistry(
        MemberDirectory(directory, lambda: MEMBERS), clock=ManualClock(), rng=Random(1)
    )
    await workers.refresh()
    needed = Requirements("wasm", groups=frozenset({GROUP}))
    assert workers.select_node(needed).worker is None
    assert "4 in other groups" in workers.select_node(needed).explain()

    directory.offers.append(offer("member", *MEMBERS.tags("fog1member")))
    await workers.refresh()
    chosen = workers.select_node(needed).worker
    assert chosen is not None
    assert (chosen.name, chosen.groups) == ("member", frozenset({GROUP}))


def test_task_is_for_the_first_group_unless_it_names_another() -> None:
    keyring = Keyring((OTHER, *MEMBERS.groups))
    assert for_group(SPEC, keyring).group == "other"
    named = TaskSpec(module="a" * 64, group=GROUP)
    assert for_group(named, keyring) == named
    with pytest.raises(InvalidTask, match="no member of the group 'lab': its groups are other"):
        for_group(named, Keyring((OTHER,)))
    with pytest.raises(InvalidTask, match="fog net join"):
        for_group(SPEC, Keyring())


def test_tasks_of_two_groups_share_no_session() -> None:
    attempt = Attempt("h", "t", 1, "w", "fog1w", AttemptState.OFFERED, NOW, NOW, NOW)
    keys = {session_key(PrivacyLevel.PRIVATE, group, attempt) for group in ("lab", "other")}
    assert len(keys) == 2


@pytest.mark.asyncio
async def test_lost_key_is_the_requesters_own_trouble(tmp_path: Path) -> None:
    """INV-TASK-36: no worker is called silent for it."""
    held = [MEMBERS]
    fog = await open_fog(tmp_path, keys=lambda: held[0])
    try:
        fog.start()
        worker = fog.add_worker("a")
        sha256 = await fog.store.blobs.put(b"\0asm")
        task = await fog.coordinator.submit(TaskSpec(module=sha256))

        async def runs() -> bool:
            return (await fog.store.tasks.get(task.id)).state is TaskState.RUNNING

        await fog.until(runs)
        held[0] = Keyring((OTHER,))
        await fog.until(lambda: "no member of the group" in fog.coordinator.trouble)
        held[0] = MEMBERS
        await fog.until(lambda: not fog.coordinator.trouble)
        assert len(worker.attempts) == 1
        assert (await fog.store.tasks.get(task.id)).state is TaskState.RUNNING
    finally:
        await fog.stop()
        await fog.store.close()
