"""Computation: is work done, by whom, how long does it take, what stands in its way."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from monitoring.grafana.boards.frame import board
from monitoring.grafana.boards.shapes import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    AnyPanel,
    Query,
    figure,
    graph,
    some,
)


def dashboard() -> model.Dashboard:
    """The dashboard."""
    return board(
        "fog-compute",
        "fog: computation",
        "Is work done, by whom, how long does it take, and what stands in its way?",
        [*_figures(), *_tasks(), *_workers(), *_store()],
    )


def _figures() -> list[AnyPanel]:
    return [
        figure(
            "Oldest task waiting (below 1 min is good)",
            "How long the task that waits longest has been queued. It grows: no worker can "
            "take it. `fog task show` says what it needs, `fog worker ls` who there is.",
            Query("max(fog_task_oldest_queued_seconds)"),
            unit="s",
            steps=((None, GREEN), (60, ORANGE), (600, RED)),
            runbooks=("TaskBacklogGrowing",),
        ),
        figure(
            "Workers (none lost is good)",
            "Workers by state, at the level that most of them serve. One is lost when it did not "
            "answer.",
            Query("max by (state) (sum by (state, privacy) (fog_workers))", "{{state}}"),
            unit="short",
            runbooks=("WorkerLoss",),
        ),
        figure(
            "Attempts accepted, 1 h (95 % or more is good)",
            "Of the attempts that ended, those whose result was accepted; cancelled ones are "
            "left out. Low: the panel on attempts says how they ended.",
            Query(
                'sum(increase(fog_attempts_total{outcome="accepted"}[1h]))'
                ' / sum(increase(fog_attempts_total{outcome!="cancelled"}[1h]))',
                instant=True,
            ),
            unit="percentunit",
            steps=((None, RED), (0.8, ORANGE), (0.95, GREEN)),
            empty="none ended",
            runbooks=("LeaseExpiries",),
        ),
        figure(
            "Space left (more than 1 GB is good)",
            "Where the backend keeps its files, its database, and inputs and results. Below "
            "that, remove old results, or give it more room.",
            Query("min by (place) (fog_disk_free_bytes)", "{{place}}"),
            unit="bytes",
            steps=((None, RED), (1e9, ORANGE), (5e9, GREEN)),
            runbooks=("DiskNearlyFull",),
        ),
    ]


def _tasks() -> list[AnyPanel]:
    return [
        graph(
            "Tasks that are not over, by state",
            "Queued ones wait for a worker; leased ones are with one; retry ones wait for "
            "another. Queued grows and running does not: workers are short.",
            Query('sum by (state) (fog_tasks{state!~"accepted|failed|cancelled"})', "{{state}}"),
            unit="short",
            stacked=True,
            width=8,
            runbooks=("TaskBacklogGrowing",),
        ),
        graph(
            "Time of a task by level",
            "From its creation to its accepted result: the median and the slowest of 20. More "
            "hops take longer: each adds its delay twice.",
            *(
                Query(
                    f"histogram_quantile({share}, sum by (le, privacy) "
                    '(rate(fog_task_duration_seconds_bucket{state="accepted"}[5m])))',
                    f"{{{{privacy}}}}, {name}",
                )
                for share, name in ((0.5, "median"), (0.95, "1 of 20"))
            ),
            unit="s",
            log=True,
            width=8,
        ),
        graph(
            "Attempts a second by how they ended",
            "`expired`: nothing was heard of the worker for its lease. `lost`: the worker lost "
            "it. `declined`: it was full. `failed`: the task's own fault, or a limit.",
            Query("sum by (outcome) (rate(fog_attempts_total[$__rate_interval]))", "{{outcome}}"),
            unit="cps",
            stacked=True,
            colours={"accepted": GREEN, "failed": ORANGE, "expired": RED, "lost": RED},
            width=8,
            runbooks=("LeaseExpiries",),
        ),
    ]


def _workers() -> list[AnyPanel]:
    return [
        graph(
            "Slots of workers by state (none unable is good)",
            "Room for tasks on all workers. Unable ones start no runner: `fog doctor` on that "
            "machine says why.",
            Query("sum by (state) (fog_worker_slots)", "{{state}}"),
            unit="short",
            stacked=True,
            colours={"running": BLUE, "free": GREEN, "unable": RED},
            width=8,
            runbooks=("WorkerSlotsUnable",),
        ),
        graph(
            "Time that a run takes on a worker, 1 of 20",
            "The runner's part alone, by kind: no network, no queue. Long here and long in all: "
            "the programs are slow; short here: they wait.",
            Query(
                "histogram_quantile(0.95, sum by (le, kind) "
                "(rate(fog_worker_run_seconds_bucket[5m])))",
                "{{kind}}",
            ),
            unit="s",
            log=True,
            width=8,
        ),
        graph(
            "Runs stopped by a limit, 1 h",
            "Runners that were ended over time, memory or output, by reason, as their workers "
            "counted. Many of one reason: a requester's limits are too low for his program.",
            Query(
                some("sum by (reason) (increase(fog_worker_runner_kills_total[1h]))", "reason"),
                "{{reason}}",
            ),
            unit="short",
            width=8,
        ),
    ]


def _store() -> list[AnyPanel]:
    return [
        graph(
            "Lost with their workers, 1 h (0 is good)",
            "Attempts that expired or that a worker lost, and workers that went from ready to "
            "lost. Each such task is tried elsewhere. Many: a machine sleeps or its link fails.",
            Query(
                'sum by (outcome) (increase(fog_attempts_total{outcome=~"expired|lost"}[1h]))',
                "attempts {{outcome}}",
            ),
            Query("max(sum by (privacy) (increase(fog_worker_losses_total[1h])))", "workers lost"),
            unit="short",
            width=12,
            runbooks=("LeaseExpiries", "WorkerLoss"),
        ),
        graph(
            "Backend: commits and stalls (below 50 ms is good)",
            "The slowest of 100 commits of the store's one writer, and how long the backend did "
            "nothing else at most; at the right, how many changes wait for the writer. Slow "
            "commits: the disk or Postgres is busy.",
            Query(
                "histogram_quantile(0.99, sum by (le) "
                "(rate(fog_store_commit_seconds_bucket[$__rate_interval])))",
                "commit, 1 of 100",
            ),
            Query("max(fog_event_loop_lag_seconds)", "longest stall"),
            Query("sum(fog_store_waiting)", "changes waiting", unit="short", right=True),
            unit="s",
            steps=((None, GREEN), (0.05, YELLOW), (0.5, RED)),
            width=12,
        ),
    ]
