"""Services by name: order, restart, and what is said of one that does not run."""

from __future__ import annotations

import asyncio
import json

import pytest

from fog_compute.config import Settings
from fog_compute.errors import NotFound, ServiceUnavailable, StoreError
from fog_compute.levels import PrivacyLevel
from fog_compute.server.parts import NEEDS, ORDER, Name, ServiceState, dependants
from fog_compute.server.services import ServiceManager, get_service
from fog_compute.tasks import TaskResult, TaskSpec
from fog_compute.testing import ManualClock
from fog_compute.vpn.network import NetworkStatus
from tests.unit.fog_compute.server.conftest import Api, Backbone


def test_every_service_starts_after_what_it_needs() -> None:
    for at, name in enumerate(ORDER):
        assert set(NEEDS[name]) <= set(ORDER[:at])


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("store", set(ORDER) - {"store", "betanet", "workers"}),
        ("betanet", set(ORDER) - {"store", "betanet"}),
        ("sessions", set()),
        ("fog_onion_coordinator", set()),
    ],
)
def test_restart_takes_along_who_needs_the_service(name: Name, others: set[Name]) -> None:
    assert set(dependants(name)) == {name, *others}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ORDER)
async def test_service_is_restarted_and_goes_on_with_what_was_begun(api: Api, name: Name) -> None:
    services = api.services
    before: dict[Name, object] = {each: services.get_service(each) for each in ORDER}
    worker = api.add_worker("steady")
    made = await api.create()

    again = await services.restart(name)

    await services.until_healthy()
    assert again == dependants(name)
    for each in ORDER:
        # The network of the test is handed over, and stays the same.
        same = services.get_service(each) is before[each]
        assert same is (each not in again or each == "betanet")

    async def accepted() -> bool:
        state = (await api.http.get(f"/api/v1/tasks/{made['id']}")).json()["state"]
        return bool(state == "accepted")

    async def asked() -> bool:
        return bool(worker.attempts)

    await api.until(asked)
    worker.finish(TaskResult(0, b"hello\n", b"", 10, 5, 65536))
    await api.until(accepted)


@pytest.mark.asyncio
async def test_network_that_is_not_joined_says_since_when_by_whom_and_how_often(
    settings: Settings,
) -> None:
    """INV-API-46."""
    asked = asyncio.Queue[bool]()
    go_on = asyncio.Semaphore(0)

    class Away(Backbone):
        async def status(self) -> NetworkStatus:
            asked.put_nowait(True)
            await go_on.acquire()
            raise ServiceUnavailable("no edge answers")

    edges = [{"id": "0f", "address": f"192.0.2.{number}:9"} for number in range(5)]
    settings.bootstrap.parent.mkdir(exist_ok=True)
    settings.bootstrap.write_text(json.dumps({"edges": edges}))
    clock = ManualClock()
    async with ServiceManager(settings, network=Away(), clock=clock) as services:

        def detail() -> str:
            return next(one.detail for one in services.health() if one.name == "betanet")

        await asked.get()
        assert detail() == (
            "joining the network by its edges 192.0.2.0:9, 192.0.2.1:9, 192.0.2.2:9 and 2 more,"
            " since 00:00:00 UTC"
        )
        for tries in ("1 time", "2 times"):
            go_on.release()
            while tries not in detail():
                await asyncio.sleep(0)
            assert detail() == f"no edge answers (tried {tries} since 00:00:00 UTC)"
            while asked.empty():
                await clock.advance(60)
            await asked.get()


@pytest.mark.asyncio
async def test_restart_of_an_unknown_service_names_those_there_are(api: Api) -> None:
    with pytest.raises(NotFound, match="no service 'reactor': choose one of store, betanet"):
        await api.services.restart("reactor")


@pytest.mark.asyncio
async def test_service_that_does_not_come_back_says_why_until_it_does(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> object:
        raise StoreError("the disk is away")

    sessions = api.services.get_service("sessions")
    token = await sessions.open(PrivacyLevel.PRIVATE)
    await sessions.send(token, b"abc")
    with monkeypatch.context() as away:
        away.setattr("fog_compute.server.services.Store.open", refuse)
        with pytest.raises(StoreError, match="the disk is away"):
            await api.services.restart("store")

    with pytest.raises(
        ServiceUnavailable, match="store is failed: it could not start: the disk is away"
    ):
        api.services.get_service("store")
    with pytest.raises(
        ServiceUnavailable, match="fog_coordinator is stopped: store is being restarted"
    ):
        api.services.get_service("fog_coordinator")
    with pytest.raises(ServiceUnavailable, match="sessions is stopped: store is being restarted"):
        api.services.get_service("sessions")
    assert (await api.http.get("/api/v1/tasks")).status_code == 503

    await api.services.restart("store")
    assert api.services.healthy
    assert api.services.get_service("sessions").show(token).bytes_sent == 3
    assert (await api.http.get("/api/v1/tasks")).status_code == 200


@pytest.mark.asyncio
async def test_services_of_the_process_are_found_without_their_manager(
    settings: Settings,
) -> None:
    with pytest.raises(ServiceUnavailable, match="no services run in this process"):
        get_service("store")
    async with ServiceManager(settings, network=Backbone()) as services:
        assert get_service("store") is services.get_service("store")
        sha256 = await get_service("store").blobs.put(b"\0asm")
        task = await get_service("fog_coordinator").submit(TaskSpec(module=sha256))
        assert (await get_service("store").tasks.get(task.id)).id == task.id
    with pytest.raises(ServiceUnavailable):
        get_service("store")
    assert {health.state for health in services.health()} == {ServiceState.STOPPED}
