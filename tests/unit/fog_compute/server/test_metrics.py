"""What the backend tells of itself: gathered part by part, for who has the key for that."""

from __future__ import annotations

import asyncio
import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fog_compute.config import Settings
from fog_compute.errors import ConfigError, StoreError
from fog_compute.scopes import Scope
from fog_compute.server.callers import Callers
from fog_compute.server.loop_lag import PAUSE_S, LoopLag
from fog_compute.server.metrics_key import keep_metrics_key
from fog_compute.store import Store
from fog_compute.testing import ManualClock
from tests.unit.fog_compute.server.conftest import Api, running_api

pytestmark = pytest.mark.asyncio

HOME = "0123456789abcdef" * 2


def figures(text: str) -> dict[str, float]:
    """The series of an answer, by their names with labels."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def scraped(api: Api) -> dict[str, float]:
    answer = await api.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return figures(answer.text)


async def test_gauges_are_what_is_so_now(api: Api) -> None:
    view = api.backbone.view
    api.backbone.view = replace(view, nodes={"entry": 3, "middle": 7, "exit": 4}, edges_attached=1)

    async def seen() -> bool:
        return (await scraped(api))['fog_net_nodes{kind="middle"}'] == 7

    await api.until(seen)
    told = await scraped(api)

    assert told["fog_net_edges"] == 1
    assert told["fog_net_consensus_valid_until_timestamp_seconds"] == 3.5
    assert told["fog_tls_certificate_not_after_timestamp_seconds"] == 0
    assert told["fog_event_listeners"] == 0
    assert told["fog_store_waiting"] == 0
    assert told["fog_task_oldest_queued_seconds"] == 0
    assert {'fog_disk_free_bytes{place="home"}', 'fog_disk_free_bytes{place="blobs"}'} <= set(told)
    assert all(told[f'fog_service_up{{part="{one.name}"}}'] == 1 for one in api.services.health())
    await api.create()
    assert (await scraped(api))["fog_task_oldest_queued_seconds"] > 0


async def test_a_part_that_fails_costs_its_own_figures_alone(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-MON-05."""
    before = await scraped(api)
    tasks = api.services.get_service("store").tasks

    async def away() -> None:
        raise StoreError("the database is away")

    monkeypatch.setattr(type(tasks), "count_by_state", lambda _: away())
    api.add_worker("one")

    async def listed() -> bool:
        return (await scraped(api))['fog_workers{state="ready"}'] == 1

    await api.until(listed)
    told = await scraped(api)

    failures = 'fog_metrics_refresh_failures_total{part="%s"}'
    assert told['fog_tasks{state="queued"}'] == before['fog_tasks{state="queued"}']
    assert told[failures % "tasks"] > 0
    assert not any(told[failures % part] for part in ("workers", "network", "store", "disk"))


async def test_a_key_for_the_metrics_opens_nothing_else(settings: Settings, tmp_path: Path) -> None:
    """INV-MON-06: it is made at the start, in a file that nobody but its group may read."""
    file = tmp_path / "prometheus" / "key"
    file.parent.mkdir()
    settings = settings.model_copy(update={"metrics_key_file": file})
    texts = []
    for _ in range(2):
        async with running_api(settings) as api:
            texts.append(file.read_text("ascii"))
            asks = {"authorization": f"Bearer {texts[-1]}"}
            assert (await api.stranger.get("/metrics", headers=asks)).status_code == 200
            assert (await api.stranger.get("/ready", headers=asks)).status_code == 403
            assert (await api.stranger.get("/api/v1/status", headers=asks)).status_code == 403

    assert texts[0] == texts[1]
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


async def live(callers: Callers) -> set[str]:
    return {key.name for key in await callers.keys() if key.revoked_at is None}


async def test_a_key_that_does_not_fit_the_database_is_made_anew(tmp_path: Path) -> None:
    clock, file = ManualClock(), tmp_path / "key"
    store = await Store.open(tmp_path / "fog.db", clock=clock)
    async with Callers("x" * 43, lambda: store.keys, clock) as callers:
        for spoil in (
            lambda: None,  # there is none
            lambda: file.write_text("fogk_0123456789ab_" + "A" * 43),
            lambda: file.write_text("no key, and then a lot" * 9),
            file.unlink,
        ):
            spoil()
            if file.exists():
                file.chmod(0o666)
            await keep_metrics_key(file, callers, clock, HOME)
            caller = await callers.by_key(file.read_text("ascii"))
            assert caller is not None
            assert caller.scopes == {Scope.METRICS}
            assert stat.S_IMODE(file.stat().st_mode) == 0o640
        assert await live(callers) == {"metrics of 01234567"}
        assert len([one for one in await callers.keys() if one.revoked_at is None]) == 1
    await store.close()


async def test_a_key_that_allows_more_is_not_taken_for_it(tmp_path: Path) -> None:
    clock, file = ManualClock(), tmp_path / "key"
    store = await Store.open(tmp_path / "fog.db", clock=clock)
    async with Callers("x" * 43, lambda: store.keys, clock) as callers:
        broad, _ = await callers.make("anna", frozenset({Scope.METRICS, Scope.SUBMIT}), None)
        other, _ = await callers.make("ours", frozenset({Scope.METRICS}), timedelta(hours=1))
        file.write_text(broad.text)
        await keep_metrics_key(file, callers, clock, HOME)
        assert file.read_text("ascii") not in (broad.text, other.text)

        file.write_text(other.text + "\n")  # made by hand, and good as it is
        await keep_metrics_key(file, callers, clock, HOME)
        assert file.read_text("ascii") == other.text
        assert await live(callers) == {"anna", "ours"}
    await store.close()


async def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    clock = ManualClock()
    store = await Store.open(tmp_path / "fog.db", clock=clock)
    async with Callers("x" * 43, lambda: store.keys, clock) as callers:
        with pytest.raises(ConfigError, match=r"FOG_METRICS_KEY_FILE.*No such file"):
            await keep_metrics_key(tmp_path / "no" / "key", callers, clock, HOME)
    await store.close()


async def test_lag_is_the_longest_since_it_was_taken() -> None:
    clock = ManualClock()
    late = iter((0.0, 1.5, 0.25))
    delayed = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal delayed
        await clock.sleep(seconds)
        delayed += next(late)

    lag = LoopLag(sleep, lambda: clock.monotonic() + delayed)
    async with lag.watched():
        for _ in range(3):
            await asyncio.sleep(0)
            await clock.advance(PAUSE_S)
        assert lag.take() == pytest.approx(1.5)
        assert lag.take() == 0
