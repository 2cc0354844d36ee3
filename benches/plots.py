"""The plots of the page of benchmarks, as SVG."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

PATHS = ("ifma", "avx2", "scalar")
OURS, THEIRS, BAR = "#1f77b4", "#9a9a9a", 22

Bars = list[tuple[str, float, bool]]
"""Label, value, and whether the thing is ours."""

Report = dict[str, Any]
"""What one run of `make bench` has found."""

QUEUES = {"1k": "1,000", "10k": "10,000", "100k": "100,000"}
"""Lengths of the queue with which planning is measured, as figures name them and people do."""


def plot(title: str, unit: str, bars: Bars) -> str:
    """Horizontal bars as SVG, readable on light and on dark."""
    longest = max(value for _, value, _ in bars)
    height = 40 + BAR * len(bars)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" role="img">',
        f"<title>{escape(title)}, {escape(unit)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        '<g font-family="sans-serif" font-size="12" fill="#222222">',
        f'<text x="10" y="20" font-weight="bold">{escape(title)} ({escape(unit)})</text>',
    ]
    for place, (label, value, is_ours) in enumerate(bars):
        top = 32 + BAR * place
        width = 340 * value / longest
        colour = OURS if is_ours else THEIRS
        parts += [
            f'<text x="190" y="{top + 13}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="198" y="{top}" width="{width:.1f}" height="{BAR - 6}" fill="{colour}"/>',
            f'<text x="{204 + width:.1f}" y="{top + 13}">{number(value)}</text>',
        ]
    return "\n".join([*parts, "</g>", "</svg>", ""])


def number(value: float) -> str:
    """A figure with as many digits as it is worth."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}"


def plots(reports: dict[str, Report]) -> dict[str, str]:
    """All plots by file name."""
    first = next(iter(reports.values()))
    details = first["details"]
    paths = [path for path in PATHS if path in details]
    primitives = details["primitives"]
    peers = {"aws-lc": "aws_lc", "OpenSSL": "openssl", "curve25519-dalek": "dalek"}
    found = {
        f"{what}.svg": plot(
            f"{title}, 3 hops, 2 KiB, one core",
            "µs a packet; shorter is better",
            [(f"native, {path}", details[path][f"{what}_us_2048_{path}"], True) for path in paths]
            + [("sphinx-packet 0.6", details[paths[0]][f"{what}_peer_us_2048_{paths[0]}"], False)],
        )
        for what, title in (("unwrap", "Unwrap"), ("create", "Create"))
    }
    found["x25519.svg"] = plot(
        "X25519 on one core",
        "µs; shorter is better",
        [(f"in lanes, {path}", primitives[f"x25519_us_{path}"], True) for path in paths]
        + [
            (name, primitives[f"x25519_us_{key}"], False)
            for name, key in peers.items()
            if f"x25519_us_{key}" in primitives
        ],
    )
    groups = {
        "pipeline": (
            "Packets unwrapped",
            "packets a second; longer is better",
            {
                f"{name}, {workers} worker{'s' * (workers > 1)}": f"{key}_{workers}"
                for name, key in (("Rust", "pipeline_per_s"), ("Python", "python_batch_per_s"))
                for workers in (1, 2)
            }
            | {"one node, over links": "node_pps"},
        ),
        "messages": (
            "Messages of 1 KiB, acknowledged, ten nodes",
            "messages a second; longer is better",
            {
                "Rust, 3 hops": "e2e3_msgs_per_s",
                "Python, 3 hops": "py_client_msgs_per_s",
            },
        ),
        "large": (
            "One message of 16 MiB",
            "MB/s; longer is better",
            {"3 hops": "e2e3_mb_per_s", "7 hops": "e2e7_mb_per_s"},
        ),
        "tasks": (
            "Tasks that echo, two workers, all on two cores",
            "tasks a second; longer is better",
            {
                "module, 3 hops": "task_private_per_s",
                "module, 1 hop": "task_public_per_s",
                "script, 3 hops": "task_python_per_s",
            },
        ),
        "planning": (
            "Planning, by the length of the queue",
            "µs of processor time a task; the same length is better",
            {f"{queued} queued": f"plan_us_per_task_{key}" for key, queued in QUEUES.items()},
        ),
        "planning-memory": (
            "Memory of the process that plans, by the length of the queue",
            "MiB; the same length is better",
            {f"{queued} queued": f"plan_rss_mib_{key}" for key, queued in QUEUES.items()},
        ),
        "monitoring": (
            "Watching a fog of two workers that is idle",
            "% of a core; shorter is better",
            {
                "fog, nobody watching": "unwatched_cpu_pct",
                "all of it, watched": "watched_cpu_pct",
                "of that, Prometheus": "prometheus_cpu_pct",
            },
        ),
    }
    for file, (title, unit, names) in groups.items():
        bars: Bars = [
            (f"{label}, {path}", report["summary"][name], True)
            for label, name in names.items()
            for path, report in reports.items()
            if name in report["summary"]
        ]
        if bars:
            found[f"{file}.svg"] = plot(title, unit, bars)
    return found
