"""What the backend tells of itself: gathered part by part, for who has the key for that."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.types import Message, Receive, Scope, Send

import betanet
from fog_compute.config import Settings
from fog_compute.coordinator import conversations, open_work
from fog_compute.coordinator.placement import WorkerState
from fog_compute.errors import ConfigError, StoreError
from fog_compute.levels import PrivacyLevel
from fog_compute.observability.metrics import BackendMetrics
from fog_compute.p2p.core.messages import DeliveryState
from fog_compute.p2p.core.transport import TransportType
from fog_compute.scopes import Scope as Allows
from fog_compute.server.callers import Callers
from fog_compute.server.feed import Feed
from fog_compute.server.gathering import Gathering
from fog_compute.server.loop_lag import PAUSE_S, LoopLag
from fog_compute.server.metrics_key import keep_metrics_key
from fog_compute.server.middleware import Counting
from fog_compute.server.parts import ORDER
from fog_compute.server.services import ServiceManager
from fog_compute.store import Store
from fog_compute.tasks import TaskState
from fog_compute.testing import ManualClock
from fog_compute.vpn.circuits import CircuitState
from fog_compute.vpn.network import ClientHealth
from fog_compute.vpn.sendings import MessageEnd
from tests.unit.fog_compute.server.conftest import Api, Backbone, running_api

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


async def test_gauges_are_what_is_so_now(settings: Settings) -> None:
    backbone = Backbone()
    kinds = {"entry": 3, "middle": 7, "exit": 4}
    backbone.view = replace(backbone.view, nodes=kinds, edges_attached=1, epoch=23)
    async with running_api(settings, backbone) as api:
        told = await scraped(api)

        for kind, count in kinds.items():
            assert told[f'fog_net_nodes{{kind="{kind}"}}'] == count
        assert told["fog_net_edges"] == 1
        assert told["fog_net_epoch"] == 23
        assert {told[f'fog_net_paths{{privacy="{level}"}}'] for level in PrivacyLevel} == {1}
        assert told["fog_net_consensus_valid_until_timestamp_seconds"] == 3.5
        assert told["fog_tls_certificate_not_after_timestamp_seconds"] == 0
        assert told["fog_event_listeners"] == 0
        assert told["fog_store_waiting"] >= 0  # somebody may have begun to write
        assert told["fog_task_oldest_queued_seconds"] == 0
        assert {'fog_disk_free_bytes{place="home"}', 'fog_disk_free_bytes{place="blobs"}'} <= set(
            told
        )
        assert told['fog_tasks{state="queued"}'] == 0
        await api.create()
        feed = api.app.state.feed.follow(None, None)
        await anext(feed)
        told = await scraped(api)
        assert told["fog_task_oldest_queued_seconds"] > 0
        assert told['fog_tasks{state="queued"}'] == 1
        assert told["fog_event_listeners"] == 1
        await feed.aclose()


async def test_level_without_a_path_is_told_apart(settings: Settings) -> None:
    backbone = Backbone()
    backbone.view = replace(backbone.view, shortages={7: betanet.PathShortage(7, 7, 4, "nodes")})
    async with running_api(settings, backbone) as api:
        told = await scraped(api)

        assert told['fog_net_paths{privacy="secret"}'] == 0
        assert told['fog_net_paths{privacy="confidential"}'] == 1


async def test_circuits_and_packets_of_each_level_are_told(api: Api) -> None:
    level = PrivacyLevel.PRIVATE
    onion = api.services.get_service("onion_circuit")
    assert 'fog_circuit_round_trip_seconds{privacy="private"}' not in await scraped(api)
    circuit = await onion.create_circuit(level)
    await onion.create_circuit(level)
    await onion.get_circuit(circuit).send(None, b"x")

    async def packets(tries: int, lost: int) -> tuple[float, float]:
        api.backbone.fares = ClientHealth(tries=tries, lost=lost, round_trip_ms=125)
        told = await scraped(api)
        name = 'fog_net_packets_total{outcome="%s",privacy="private"}'
        return told[name % "acknowledged"], told[name % "lost"]

    assert await packets(10, 3) == (7, 3)
    assert await packets(14, 4) == (10, 4)
    assert await packets(2, 1) == (11, 5)  # the client was opened anew
    told = await scraped(api)
    assert told['fog_circuit_round_trip_seconds{privacy="private"}'] == 0.125
    assert told['fog_circuits{privacy="private",state="active"}'] == 1
    assert told['fog_circuits{privacy="private",state="fresh"}'] == 1
    assert told['fog_circuits{privacy="secret",state="active"}'] == 0


async def test_end_of_the_certificate_and_lag_of_the_loop_are_told(settings: Settings) -> None:
    ends = datetime(2027, 3, 4, tzinfo=UTC)
    services = ServiceManager(settings, network=Backbone())
    async with services:
        clock = ManualClock()
        lag = LoopLag(clock.sleep, lambda: 2 * clock.monotonic())
        feed = Feed(lambda: services.get_service("store").events, services.clock, 1)
        gathering = Gathering(services, feed, lag, lambda: ends)
        async with lag.watched():
            await asyncio.sleep(0)
            await clock.advance(PAUSE_S)
            await gathering.gather()
        told = services.metrics.registry
        assert told.value("fog_event_loop_lag_seconds") == pytest.approx(PAUSE_S)
        certificate = told.value("fog_tls_certificate_not_after_timestamp_seconds")
        assert certificate == ends.timestamp()


async def test_requests_are_counted_by_method_route_and_status() -> None:
    metrics = BackendMetrics()
    ends: list[int | Exception] = [200, 503, 200, RuntimeError("a fault of ours")]

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        scope["route"] = SimpleNamespace(path="/api/v1/tasks/{task_id}")
        if isinstance(end := ends.pop(0), Exception):
            raise end
        await send({"type": "http.response.start", "status": end, "headers": []})

    async def ask(query: bytes = b"") -> None:
        scope = {"type": "http", "method": "GET", "path": "/x", "query_string": query}
        await Counting(app, metrics=metrics.http)(scope, never, dropped)

    for query in (b"", b"", b"wait=9"):
        await ask(query)
    with pytest.raises(RuntimeError):
        await ask()

    route = {"method": "GET", "route": "/api/v1/tasks/{task_id}"}
    counted = {
        status: metrics.registry.value("http_requests_total", status=status, **route)
        for status in ("200", "503", "500")
    }
    assert counted == {"200": 2, "503": 1, "500": 1}
    timed = metrics.registry.value("http_request_duration_seconds_count", **route)
    assert timed == 3  # a long-poll takes as long as it was asked to


async def never() -> Message:
    raise AssertionError("nothing is read")


async def dropped(_: Message) -> None:
    pass


async def test_listed_values_of_labels_are_those_of_the_code() -> None:
    """INV-MON-04: or a series would begin with its first event after all."""
    listed = {one.name: one.labels for one in BackendMetrics().registry.families()}

    assert set(listed["fog_tasks"]["state"]) == set(TaskState)
    assert set(listed["fog_task_duration_seconds"]["state"]) == {
        state for state in TaskState if state.final
    }
    assert set(listed["fog_attempts_total"]["outcome"]) == set(open_work._OUTCOMES.values())
    assert set(listed["fog_runner_kills_total"]["reason"]) == set(conversations._KILLS.values())
    assert set(listed["fog_workers"]["state"]) == set(WorkerState)
    assert set(listed["fog_circuits"]["state"]) == set(CircuitState) - {CircuitState.CLOSED}
    assert set(listed["fog_messages_total"]["outcome"]) == set(MessageEnd)
    assert set(listed["fog_service_up"]["part"]) == set(ORDER)
    assert set(listed["fog_chat_moves_total"]["state"]) == set(DeliveryState)
    assert set(listed["fog_chat_moves_total"]["transport"]) == {*TransportType, "none"}
    assert set(listed["fog_chat_transport_up"]["transport"]) == set(TransportType)
    assert set(listed["fog_chat_deliveries"]["state"]) == {
        state for state in DeliveryState if not state.final
    }


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
        return (await scraped(api))['fog_workers{privacy="secret",state="ready"}'] == 1

    await api.until(listed)
    told = await scraped(api)

    failures = 'fog_metrics_refresh_failures_total{part="%s"}'
    assert all(told[f'fog_service_up{{part="{part}"}}'] == 1 for part in ORDER)
    assert told['fog_tasks{state="queued"}'] == before['fog_tasks{state="queued"}']
    assert told[failures % "tasks"] > 0
    assert not any(told[failures % part] for part in ("workers", "network", "store", "disk"))
    await api.services.stop()
    await api.app.state.gathering.gather()
    value = api.services.metrics.registry.value
    assert [value("fog_service_up", part=part) for part in ORDER] == [0] * len(ORDER)
    assert value("fog_metrics_refresh_failures_total", part="store") == 1


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
            assert caller.scopes == {Allows.METRICS}
            assert stat.S_IMODE(file.stat().st_mode) == 0o640
        assert await live(callers) == {"metrics of 01234567"}
        assert len([one for one in await callers.keys() if one.revoked_at is None]) == 1
    await store.close()


async def test_a_key_that_allows_more_is_not_taken_for_it(tmp_path: Path) -> None:
    clock, file = ManualClock(), tmp_path / "key"
    store = await Store.open(tmp_path / "fog.db", clock=clock)
    async with Callers("x" * 43, lambda: store.keys, clock) as callers:
        broad, _ = await callers.make("anna", frozenset({Allows.METRICS, Allows.SUBMIT}), None)
        other, _ = await callers.make("ours", frozenset({Allows.METRICS}), timedelta(hours=1))
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
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ConfigError, match="no regular file"):
            await keep_metrics_key(tmp_path / "pipe", callers, clock, HOME)
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
