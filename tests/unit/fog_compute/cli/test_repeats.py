"""The backend as commands see it: what is sent again, and what is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx2
import pytest

from fog_compute.cli.client import Backend
from fog_compute.cli.follow import Follower
from fog_compute.cli.patience import Patience
from fog_compute.client import asking as rules
from fog_compute.client.answers import Made
from fog_compute.client.lock import Free, HeldByUnknown, HomeLock
from fog_compute.client.places import Home
from fog_compute.errors import STOPPING, BackendError, NotRunning, ServiceUnavailable
from fog_compute.layout import HomeLayout
from tests.unit.fog_compute.cli.backends import announced

MADE: Final = {"id": "t", "state": "queued"}


class Breaking:
    """A backend whose first answer is lost on the way."""

    def __init__(self) -> None:
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        if len(self.asked) == 1:
            raise httpx2.ReadError("the connection broke")
        return httpx2.Response(201, json=MADE)


@pytest.fixture
def breaking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Breaking]:
    made = Breaking()
    transport = httpx2.MockTransport(made)
    real = httpx2.Client
    monkeypatch.setattr(httpx2, "Client", lambda **options: real(transport=transport, **options))
    monkeypatch.setattr(HomeLock, "holder", lambda self: HeldByUnknown("it"))
    monkeypatch.setattr(rules, "RECONNECT_PAUSE_S", 0)
    with announced(tmp_path, "http://127.0.0.1"):
        yield made


def test_task_is_asked_for_again_under_the_same_key(tmp_path: Path, breaking: Breaking) -> None:
    with Backend(Home(HomeLayout(tmp_path))) as backend:
        assert backend.post("/api/v1/tasks", Made, {"module": "m"}) == MADE
        assert backend.post("/api/v1/tasks", Made, {"module": "m"}) == MADE

    keys = [request.headers["idempotency-key"] for request in breaking.asked]
    assert keys[0] == keys[1] != keys[2]


def test_request_that_may_have_arrived_is_not_repeated(tmp_path: Path, breaking: Breaking) -> None:
    with (
        Backend(Home(HomeLayout(tmp_path))) as backend,
        pytest.raises(BackendError, match="may be done or not: see `fog task ls`") as caught,
    ):
        backend.post("/api/v1/tasks/t/cancel", Made)

    assert not isinstance(caught.value, NotRunning)
    assert len(breaking.asked) == 1


def stopping(request: httpx2.Request) -> httpx2.Response:
    """The answer of a backend that is on its way out, after which nobody has the home's lock."""
    return httpx2.Response(503, json={"type": STOPPING, "detail": "the fog is stopping"})


def test_who_follows_a_task_learns_that_it_goes_on_with_the_next_start(
    tmp_path: Path, breaking: Breaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    holders = iter([HeldByUnknown("it"), Free(), Free()])
    monkeypatch.setattr(HomeLock, "holder", lambda self: next(holders))
    monkeypatch.setattr(Breaking, "__call__", lambda self, request: stopping(request))

    with (
        Backend(Home(HomeLayout(tmp_path))) as backend,
        pytest.raises(NotRunning, match=r"stopped; task 01k goes on with the next `fog up`"),
    ):
        Follower(backend, "01k", as_json=True).follow(Patience(None))


def test_request_that_a_stop_cut_short_is_not_repeated_where_it_may_be_done(
    tmp_path: Path, breaking: Breaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Breaking, "__call__", lambda self, request: stopping(request))

    with (
        Backend(Home(HomeLayout(tmp_path))) as backend,
        pytest.raises(ServiceUnavailable, match=r"stopping: see `fog task ls` after the next"),
    ):
        backend.post("/api/v1/tasks/t/cancel", Made)
