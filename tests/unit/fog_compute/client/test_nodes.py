"""The list of nodes put together from its pages."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fog_compute.client.nodes import NodePages
from fog_compute.errors import BackendError
from tests.unit.fog_compute.cli.backends import NODES


def page(*ids: str, more: str | None = None) -> Any:
    node = NODES["nodes"][0]
    return copy.deepcopy({**NODES, "nodes": [{**node, "id": one} for one in ids], "next": more})


def test_pages_go_on_from_each_other() -> None:
    pages = NodePages(role="middle")
    assert pages.query == {"role": "middle", "limit": 1000}
    assert pages.take(page("1", "2", more="2")) is None
    assert pages.query == {"role": "middle", "limit": 1000, "after": "2"}
    assert pages.take(page("3", more="3")) is None
    found = pages.take(page("4"))
    assert found is not None
    assert [node["id"] for node in found["nodes"]] == ["1", "2", "3", "4"]
    assert found["next"] is None
    assert found["roles"] == NODES["roles"]


def test_what_pages_in_circles_is_no_backend() -> None:
    pages = NodePages()
    assert pages.take(page("1", "2", more="2")) is None
    with pytest.raises(BackendError, match="goes round in circles"):
        pages.take(page("1", "2", more="2"))
