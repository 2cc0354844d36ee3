"""Make `docs/benchmarks.md` and its plots from `benches/results`.

There is one file for each class of machine. The class is the X25519 path that everything ran on:
the best that the machine has, or that which `BETANET_X25519` names.
"""

from __future__ import annotations

import json
from pathlib import Path

from benches.plots import PATHS, QUEUES, Report, number, plots

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "benchmarks"
RESULTS = ROOT / "benches" / "results"
LONG = RESULTS / "long.json"
CHAOS = RESULTS / "chaos.json"
PAIR = RESULTS / "pair.json"

MODES = {
    "rss_growth_bytes_1e6": "Python, 2 workers, a million packets",
    "replay_bits_per_tag": "memory ÷ tags, at the worst moment of growing from 1 to 4 million",
    "node_pps": "packets that came through one node on one core, nothing lost, over TLS links",
    "node_p99_ms": "beside the owed delay, at 25,000/s (avx2: 15,000/s), from link to link",
    "node_rss_mib": "after those packets",
    "node_cpu_pct_at_20k": "processor time of the node at 20,000/s (avx2: 12,000/s)",
    "first_message_s": "local net of ten nodes, from command to the first message received",
    "idle_nodes_cpu_pct": "authority, ten nodes and their owner, at rest",
    "idle_client_cpu_pct": "one client at rest",
    "idle_net_mib": "resident, of authority, ten nodes and their owner",
    "e2e3_msgs_per_s": "Rust, 3 hops, 1 KiB, stored acks, nets and clients on all cores, no cover",
    "e2e3_lost": "of those",
    "py_client_msgs_per_s": "Python, 3 hops, 1 KiB, stored acks, all cores, no cover",
    "py_client_lost": "of those",
    "e2e3_mb_per_s": "one message of 16 MiB, 3 hops, until it is received",
    "e2e7_mb_per_s": "one message of 16 MiB, 7 hops, until it is received",
    "hop_overhead_p50_ms": "release after it is due, ten nodes, 1,000 messages/s, 3 hops",
    "hop_overhead_p99_ms": "release after it is due, ten nodes, 1,000 messages/s, 3 hops",
    "task_private_p50_ms": "a task that echoes, alone, 3 hops of 15 ms, from request to output",
    "task_private_per_s": "the same, 300 of them queued, two workers, all on this machine",
    "task_public_per_s": "the same, 1 hop",
    "task_python_per_s": "a script that echoes, 3 hops, as above",
    "task_peer_p50_ms": "the module in Python's own pool of two processes: no network, no limits",
    "task_peer_per_s": "the same, 300 of them under way, nothing kept on disk",
    "backend_ms_per_task": "processor time of the backend while `task_private_per_s` is counted",
    "worker_ms_per_task": "processor time of both workers then, without their runners",
    **{
        f"plan_us_per_task_{key}": f"processor time of planning, {queued} tasks queued"
        for key, queued in QUEUES.items()
    },
    **{f"plan_rss_mib_{key}": "resident, of the process that plans" for key in QUEUES},
    "recovery_s": "a backend with 100,000 open tasks, 2,000 of them held: from start to a new task",
    "big_task_private_s": "20 MB of CSV through a Go program of 3 MB, from `fog run` on a new fog",
    "big_task_private_mb_per_s": "of that, program and table on their way to the worker",
    "big_task_private_compiling_s": "of that, compiling when its inputs had come",
    "big_task_secret_s": "the same, 7 hops",
    "big_task_secret_mb_per_s": "of that, program and table on their way to the worker",
    "big_task_secret_compiling_s": "of that, compiling when its inputs had come",
    "submit_single_per_s": "tasks by POST one by one, 32 connections, each on disk when answered",
    "submit_batch_per_s": "tasks by POST in batches of 500, 2 connections",
    "submit_postgres_single_per_s": "as `submit_single_per_s`, on a Postgres beside the backend",
    "submit_postgres_batch_per_s": "as `submit_batch_per_s`, on a Postgres beside the backend",
    "submit_peer_echo_per_s": "the same POST to a bare FastAPI that gives it back, nothing kept",
    "sse_listeners_mib": "what 1,000 listeners to events add to the backend, at its most",
    "sse_lost": "of 300 events to each of them",
    "sse_us_per_event": "processor time of the backend for one event to one listener",
    "sse_events_per_s": "300 events to 1,000 listeners, until the last has them",
    "chat_owed_p50_ms": "median of what three nodes owe a packet, 15 ms each on average",
    "chat_p50_ms": "a text from `send_message` to the other's log, both kept on disk, 3 hops",
    "chat_p90_ms": "the same",
    "chat_p99_ms": "the same",
    "chat_beside_owed_ms_a_hop": "of its median, what is not owed ÷ 3",
    "chat_client_beside_owed_ms_a_hop": "the same of two clients alone, with nothing kept",
    "chat_delivered_per_s": "1,000 texts to one person at once, until the last receipt",
    "chat_file_mb_per_s": "a file of 10 MB, 3 hops, until it is in the other's log",
    "prometheus_rss_mb": "resident, every target of a fog of ten nodes and two workers, 15 s",
    "prometheus_cpu_pct": "of a core, the same, over 21 s",
    "watched_cpu_pct": "of a core, all processes of that idle fog and those that watch it",
    "unwatched_cpu_pct": "the same while those that watch are frozen",
    "watchers_cpu_pct": "of a core, Prometheus, Alertmanager and the exporter of the machine",
    "monitoring_cpu_pct": "watched less unwatched; a percent or two is unrest of the fog",
    "scrape_ms_node": "median of a node's whole `/metrics`, over a connection that stays",
    "dashboard_query_ms_p99": "all questions of all dashboards over an hour of samples, warm",
    "fog_version_cpu_ms": "processor time of it",
    "fog_version_ms": "real time of `fog --version`, median of 21",
    "chaos_lost": "tasks of the last `make bench-chaos` that did not come to their end",
    "chaos_back_s": "the longest that a killed backend took until it worked on, in that run",
    "chaos_twice": "of those, accepted more than once",
    "pair_tasks": "tasks of two backends on one Postgres, all of which are killed on the way",
    "pair_lost": "of those, that did not come to their end, or to another",
    "pair_leased_twice": "of those, leased while they were leased",
    "pair_accepted_twice": "of those, accepted more than once",
    "pair_back_s": "the longest after a kill, or Postgres's return, until a task is accepted",
}
"""How figures with names of their own were measured."""


def mode(name: str) -> str:
    """How a figure was measured."""
    if name in MODES:
        return MODES[name]
    if name.endswith("_by_processor_time"):
        return "processor time a packet, median: 2 less what workers cost each other"
    if name.endswith("_median"):
        return "real time, median, under the load above"
    if name.startswith(("python_", "pipeline_")):
        return "real time, best turn"
    if name.startswith(("unwrap_", "create_")):
        return "one core, processor time, median, batches of 64"
    return "one core, processor time, median"


def read() -> dict[str, Report]:
    """The results by class, the fastest first; those of the newest run where there is none."""
    files = {path: RESULTS / f"{path}.json" for path in PATHS}
    found = {path: file for path, file in files.items() if file.exists()}
    reports = {path: json.loads(file.read_text("utf-8")) for path, file in found.items()}
    if not reports:
        latest = json.loads((RESULTS / "latest.json").read_text("utf-8"))
        reports[latest["x25519_path"]] = latest
    return reports


def write() -> None:
    """Write the page and its plots."""
    reports = read()
    PLOTS.mkdir(exist_ok=True)
    for name, svg in plots(reports).items():
        (PLOTS / name).write_text(svg, "utf-8")
    PAGE.write_text(render(reports), "utf-8")


def add_to_summary(found: dict[str, float]) -> None:
    """Put figures into the newest run, and so into that of its class."""
    latest = RESULTS / "latest.json"
    report = json.loads(latest.read_text("utf-8"))
    report["summary"] |= found
    text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    for name in ("latest", report["x25519_path"]):
        (RESULTS / f"{name}.json").write_text(text, "utf-8")


def figures(report: Report) -> dict[str, float]:
    """The figures that are shown of one class."""
    details = report["details"]
    # The medians of rates in real time show what the load left of them.
    beside = {**details.get("bulk", {}), **details.get("process_batch", {})}
    shown: dict[str, float] = report["summary"] | {
        name: value
        for name, value in beside.items()
        if name.endswith(("_median", "_by_processor_time"))
    }
    return shown


def render(reports: dict[str, Report]) -> str:
    """The text of the page."""
    shown = {path: figures(report) for path, report in reports.items()}
    names = sorted({name for found in shown.values() for name in found})
    facts: dict[str, list[object]] = {
        "machine": [report["machine"] for report in reports.values()],
        "measured": [report["measured"] for report in reports.values()],
        "commit": [f"`{report['commit']}`" for report in reports.values()],
        "command": [
            f"`{report['command']}`; Rust profile `{report['rust_profile']}`, Python on a wheel of"
            " profile `quick`"
            for report in reports.values()
        ],
        "time stolen by the hypervisor": [
            f"{report['steal_percent']} %" for report in reports.values()
        ],
        "seconds": [report.get("seconds", "–") for report in reports.values()],
    }
    lines = [
        "# Benchmarks",
        "",
        (
            "Generated by `make bench`; the raw figures of each class of machine are in"
            " `benches/results`, those of the newest run in `benches/results/latest.json`."
        ),
        (
            "A class is the X25519 path on which everything ran; `BETANET_X25519=avx2 make bench`"
            " measures that one on a machine that has a better one."
        ),
        "",
        row("", *reports),
        "|---" * (1 + len(reports)) + "|",
        *(row(name, *values) for name, values in facts.items()),
        "",
        (
            "Figures in processor time count only the time in which their thread ran. Rates in real"
            " time need idle processors: with a load average near or above the number of processors"
            " they say less than the code can do."
        ),
        "",
        *(f"![{name.removesuffix('.svg')}](benchmarks/{name})" for name in sorted(plots(reports))),
        "",
        *(
            f"Where the time goes, {label}: [flame graph](benchmarks/{name})."
            for name, label in FLAMES.items()
            if (PLOTS / name).exists()
        ),
        "",
        "How an honest client fares beside one that floods: [fairness](benchmarks/fairness.md).",
        "The Bluetooth mesh in simulation, beside BitChat's own flood: [mesh](benchmarks/mesh.md).",
        "",
        row("figure", *reports, "part", "measured as"),
        "|---" * (3 + len(reports)) + "|",
        *(
            row(
                f"`{name}`",
                *(number(found[name]) if name in found else "–" for found in shown.values()),
                part_of(name, reports),
                mode(name),
            )
            for name in names
        ),
        "",
        (
            "Ratios are ours ÷ `sphinx-packet` 0.6, built by the same compiler with the same flags,"
            " in one process and in turns. `pipeline_scaling_2` is the rate of two workers ÷ that"
            " of one; `rss_growth_bytes_1e6` the growth of resident memory over a million packets,"
            " each of which was accepted. A name that ends with a path has that path's figure,"
            " whatever the class."
        ),
        "",
        *parts(reports),
        *(long_runs(json.loads(LONG.read_text("utf-8"))) if LONG.exists() else ()),
        *(chaos_run(json.loads(CHAOS.read_text("utf-8"))) if CHAOS.exists() else ()),
        *(pair_run(json.loads(PAIR.read_text("utf-8"))) if PAIR.exists() else ()),
    ]
    return "\n".join(lines)


def part_of(name: str, reports: dict[str, Report]) -> str:
    """In which part of the run a figure was measured."""
    for report in reports.values():
        for part, found in report.get("parts", {}).items():
            if name in found["figures"]:
                return str(part)
    return PARTS_BESIDE.get(name.partition("_")[0], "–")


def parts(reports: dict[str, Report]) -> list[str]:
    """How long each part of a run took, and what others took of the machine meanwhile."""
    names = dict.fromkeys(name for report in reports.values() for name in report.get("parts", ()))
    return [
        "## Part by part",
        "",
        (
            "Parts run one after another, and each may be measured again alone; what has no part"
            " here is of the run named above."
        ),
        "",
        row("part", *(f"{what}, {path}" for path in reports for what in PART_COLUMNS)),
        "|---" * (1 + len(reports) * len(PART_COLUMNS)) + "|",
        *(
            row(
                name,
                *(
                    str(report.get("parts", {}).get(name, {}).get(key, "–"))[:TELLING]
                    for report in reports.values()
                    for key in PART_COLUMNS.values()
                ),
            )
            for name in names
        ),
        "",
    ]


def long_runs(report: Report) -> list[str]:
    """What `make bench-long` has found, as far as it was measured."""
    kinds = {"node": node_row, "messages": messages_row, "replays": replays_row}
    return [
        "## Long runs",
        "",
        (
            f"`make bench-long` on {report['machine']}, {report['measured']}, commit"
            f" `{report['commit']}`, Rust profile `{report['rust_profile']}`; the raw figures are"
            " in `benches/results/long.json`. Memory is resident, in MiB."
        ),
        "",
        row("run", "found"),
        "|---" * 2 + "|",
        *(kind(report[name]) for name, kind in kinds.items() if name in report),
        *(lossy_row(found) for found in report.get("lossy", ())),
        "",
    ]


def chaos_run(report: Report) -> list[str]:
    """What `make bench-chaos` has found."""
    kills = ", ".join(f"{name} {count}" for name, count in sorted(report["kills"].items()))
    freezes = ", ".join(f"{name} {count}" for name, count in sorted(report["freezes"].items()))
    answers = report["backend_answers_s"]
    return [
        "## Chaos",
        "",
        (
            f"`make bench-chaos` on {report['machine']}, {report['measured']}, commit"
            f" `{report['commit']}`, seed {report['seed']}; the raw figures are in"
            " `benches/results/chaos.json`."
        ),
        "",
        row("what", "found"),
        "|---" * 2 + "|",
        row("killed", kills),
        row("frozen", freezes or "–"),
        row("jumps of the wall clock", report["jumps"]),
        row("tasks", f"{report['tasks']:,}, in {report['attempts']:,} attempts"),
        row(
            "lost, accepted twice, wrong",
            ", ".join(str(report[f"chaos_{name}"]) for name in ("lost", "twice", "wrong")),
        ),
        row("seconds until a killed backend answers", ", ".join(map(str, answers)) or "–"),
        row("until it works on", ", ".join(map(str, report["recovery_s"].get("backend", ())))),
        "",
    ]


def pair_run(report: Report) -> list[str]:
    """What `make bench-chaos` has found of two backends on one Postgres."""
    kills = ", ".join(f"{name} {count}" for name, count in sorted(report["kills"].items()))
    found = report["figures"]
    counts = ("pair_lost", "pair_leased_twice", "pair_accepted_twice")
    return [
        "## Two backends on one Postgres",
        "",
        (
            f"`make bench-chaos` on {report['machine']}, {report['measured']}, commit"
            f" `{report['commit']}`, seed {report['seed']}; the raw figures are in"
            " `benches/results/pair.json`."
        ),
        "",
        row("what", "found"),
        "|---" * 2 + "|",
        row("killed", f"{kills}; Postgres stayed away for {report['away_s']:g} s"),
        row("tasks", f"{found['pair_tasks']:,} in {report['seconds']:,} s"),
        row(
            "lost or wrong, leased twice, accepted twice", ", ".join(str(found[n]) for n in counts)
        ),
        *(
            row(f"seconds until tasks go on after a kill of {name}", ", ".join(map(str, seconds)))
            for name, seconds in sorted(report["moves_again_s"].items())
        ),
        "",
    ]


def node_row(found: Report) -> str:
    """Packets through one node."""
    memory, beside = found["rss_mib"], found["rss_mib_beside_tags"]
    return row(
        f"{found['packets']:,} packets through one node",
        f"{found['lost']} lost; {memory['first']} with {found['tags_at_start']:,} replay tags of"
        f" before, {memory['last']} with {found['tags']:,}, those of two full epochs; beside the"
        f" tags {beside['first']} at first, {beside['median']} in the middle, {beside['last']}"
        " at the end",
    )


def messages_row(found: Report) -> str:
    """Messages through short epochs."""
    net = found["net_rss_mib"]
    return row(
        f"{found['messages']:,} messages, 3 hops, ten nodes, in {found['epochs']} epochs",
        f"{found['lost']} lost; all processes together {net['first']} at first, {net['median']} in"
        f" the middle, {net['last']} at the end",
    )


def replays_row(found: Report) -> str:
    """Packets sent again to a node that was killed."""
    return row(
        f"{found['sent_again']:,} copies of {found['packets']:,} packets sent to a node that was"
        f" killed {found['kills']} times, frozen {found['freezes']} times and started with half"
        f" of its replay log {found['set_back']} times",
        f"{found['let_in_again']} let in again; {found['came']:,} packets came, the others were in"
        " the node or under its former key when it was killed",
    )


def lossy_row(found: Report) -> str:
    """One large message over bad links."""
    return row(
        f"one message of {found['bytes'] >> 20} MiB from a file into one, {found['hops']} hops, in"
        f" {found['clients'].capitalize()},"
        f" {found['per_mille'] / 10:g} % of the frames of each link lost",
        f"intact after {found['seconds']} s; sender at most {found['sender_peak_mib']}, recipient"
        f" {found['recipient_peak_mib']}",
    )


PARTS_BESIDE = {"pipeline": "packets", "python": "process_batch"}
"""The parts of figures that are shown beside those of the summary, by how their names begin."""

TELLING = 16
"""Characters of a commit, or of a time, that are enough."""

PART_COLUMNS = {
    "measured": "measured",
    "commit": "commit",
    "seconds": "seconds",
    "load average at its end": "load_average",
    "% of the time stolen": "steal_percent",
}
"""What is told of each part."""

FLAMES = {"node.flame.svg": "in a node under load", "e2e.flame.svg": "in a network and its clients"}
"""Pictures that `benches/flame.py` draws."""


def row(*cells: object) -> str:
    """One row of a table."""
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    write()
