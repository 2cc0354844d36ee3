"""Make `docs/benchmarks.md` and its plots from `benches/results/latest.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "benchmarks"
PATHS = ("ifma", "avx2", "scalar")
OURS, THEIRS, BAR = "#1f77b4", "#9a9a9a", 22

Bars = list[tuple[str, float, bool]]
"""Label, value, and whether the thing is ours."""


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


def plots(report: dict[str, Any]) -> dict[str, str]:
    """All plots by file name."""
    details, summary = report["details"], report["summary"]
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
    rates: Bars = [
        (f"{name}, {workers} worker{'s' * (workers > 1)}", summary[f"{key}_{workers}"], True)
        for name, key in (("Rust", "pipeline_per_s"), ("Python", "python_batch_per_s"))
        for workers in (1, 2)
        if f"{key}_{workers}" in summary
    ]
    if rates:
        found["pipeline.svg"] = plot("Pipeline", "packets a second; longer is better", rates)
    return found


def mode(name: str, report: dict[str, Any]) -> tuple[str, str]:
    """How a figure was measured, and on which X25519 path."""
    path = next((path for path in PATHS if name.endswith(path)), "–")
    if name == "rss_growth_bytes_1e6":
        return "Python, 2 workers, a million packets", report["x25519_path"]
    if name.endswith("_by_processor_time"):
        return "processor time a packet, median: 2 less what workers cost each other", report[
            "x25519_path"
        ]
    if name.endswith("_median"):
        return "real time, median, under the load above", report["x25519_path"]
    if name.startswith(("python_", "pipeline_")):
        return "real time, best turn", report["x25519_path"]
    if name.startswith("replay_"):
        return "one core, processor time, median", "–"
    if name.startswith(("unwrap_", "create_")):
        return "one core, processor time, median, batches of 64", path
    return "one core, processor time, median", path


def write(report: dict[str, Any]) -> None:
    """Write the page and its plots."""
    PLOTS.mkdir(exist_ok=True)
    for name, svg in plots(report).items():
        (PLOTS / name).write_text(svg, "utf-8")
    PAGE.write_text(render(report), "utf-8")


def render(report: dict[str, Any]) -> str:
    """The text of the page."""
    details = report["details"]
    # The medians of rates in real time show what the load left of them.
    beside = {**details.get("bulk", {}), **details.get("python", {})}
    figures = report["summary"] | {
        name: value
        for name, value in beside.items()
        if name.endswith(("_median", "_by_processor_time"))
    }
    rows = [
        f"| `{name}` | {number(value)} | {how} | {path} |"
        for name, value in sorted(figures.items())
        for how, path in [mode(name, report)]
    ]
    load = ", ".join(map(str, report["load_average"]))
    lines = [
        "# Benchmarks",
        "",
        "Generated by `make bench`; the raw figures are in `benches/results/latest.json`.",
        "",
        "| | |",
        "|---|---|",
        f"| machine | {report['machine']} |",
        f"| measured | {report['measured']} |",
        f"| commit | `{report['commit']}` |",
        (
            f"| command | `{report['command']}`; Rust profile `{report['rust_profile']}`,"
            " Python on a wheel of profile `quick` |"
        ),
        f"| time stolen by the hypervisor | {report['steal_percent']} % |",
        f"| load average before, between, after | {load} |",
        "",
        (
            "Figures in processor time count only the time in which their thread ran. Rates in real"
            " time need idle processors: with a load average near or above the number of processors"
            " they say less than the code can do."
        ),
        "",
        *(f"![{name.removesuffix('.svg')}](benchmarks/{name})" for name in sorted(plots(report))),
        "",
        "| figure | value | measured as | X25519 path |",
        "|---|---|---|---|",
        *rows,
        "",
        (
            "Ratios are ours ÷ `sphinx-packet` 0.6, built by the same compiler with the same flags,"
            " in one process and in turns. `pipeline_scaling_2` is the rate of two workers ÷ that"
            " of one; `rss_growth_bytes_1e6` the growth of resident memory over a million packets,"
            " each of which was accepted."
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    write(json.loads((ROOT / "benches" / "results" / "latest.json").read_text("utf-8")))
