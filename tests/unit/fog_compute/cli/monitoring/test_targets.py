"""What Prometheus is told to ask."""

from __future__ import annotations

import json

import msgspec
import pytest

from fog_compute.cli.monitoring import targets
from fog_compute.cli.monitoring.targets import Target, as_files, targets_of_net


def test_each_job_has_a_file_with_the_labels_of_its_targets() -> None:
    files = as_files(
        [targets.NODES, targets.BACKEND, targets.WORKER],
        [
            Target(targets.NODES, "entry-0", "http://127.0.0.1:7001", "entry"),
            Target(targets.BACKEND, "backend", "https://[::1]:8007"),
        ],
    )

    assert {name: json.loads(text) for name, text in files.items()} == {
        "betanet-mixnodes.json": [
            {
                "targets": ["127.0.0.1:7001"],
                "labels": {
                    "__scheme__": "http",
                    "instance": "entry-0",
                    "service": "betanet-mixnodes",
                    "network": "betanet",
                    "role": "entry",
                },
            }
        ],
        "fog-backend.json": [
            {
                "targets": ["[::1]:8007"],
                "labels": {
                    "__scheme__": "https",
                    "instance": "backend",
                    "service": "fog-backend",
                    "network": "fog-network",
                },
            }
        ],
        "fog-worker.json": [],
    }


def test_nodes_and_authority_of_a_local_net_are_targets() -> None:
    report = {
        "nodes": [
            {"name": "entry-0", "role": "entry", "pid": 7, "http": "127.0.0.1:7001"},
            {"name": "exit-3", "role": "exit", "pid": None, "http": "[::1]:7002"},
            {"name": "middle-1", "role": "middle", "http": None, "health": None},
            {"name": "authority", "role": "authority", "http": "127.0.0.1:7000"},
        ],
    }

    assert targets_of_net(json.dumps(report).encode()) == [
        Target("betanet-mixnodes", "entry-0", "http://127.0.0.1:7001", "entry"),
        Target("betanet-mixnodes", "exit-3", "http://[::1]:7002", "exit"),
        Target("betanet-authority", "authority", "http://127.0.0.1:7000"),
    ]


@pytest.mark.parametrize("report", [b"", b"{}", b'{"nodes": 7}', b'{"nodes": [{"http": "x"}]}'])
def test_what_is_no_report_is_refused(report: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        targets_of_net(report)
