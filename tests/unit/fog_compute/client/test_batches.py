"""What one request carries of many tasks."""

from __future__ import annotations

import json

from fog_compute.client.batches import chunks


def test_requests_stay_small() -> None:
    tasks = [{"argv": ["x" * 1500 * (number % 7)]} for number in range(2000)]
    found = list(chunks(tasks, 3, 900))
    assert [index for chunk in found for index in chunk] == list(range(3, 2000))
    for chunk in found:
        assert len(chunk) <= 900
        assert sum(len(json.dumps(tasks[index])) for index in chunk) < 5_000_000
