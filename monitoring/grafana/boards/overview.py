"""The first page: is all well, and where not, where to look."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from monitoring.grafana.boards.frame import board
from monitoring.grafana.boards.shapes import (
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    AnyPanel,
    Query,
    figure,
    graph,
    listing,
    or_none,
    states,
)

_BACKEND = 'service="fog-backend"'


def dashboard() -> model.Dashboard:
    """The dashboard."""
    return board(
        "fog-overview",
        "fog: overview",
        "Is all well? The first row says so; the rest says where to look.",
        [*_figures(), *_status(), *_traffic(), *_machines()],
    )


def _figures() -> list[AnyPanel]:
    return [
        figure(
            "Down: targets, jobs and parts (0 is good)",
            "Targets that Prometheus does not reach, jobs of which it knows no target, and parts "
            "of the backend that do not run. If it is not 0, the panel below names the service; "
            "`fog status` names the part.",
            Query(
                "(count(up == 0) or vector(0))"
                " + (count(fog_expected_job unless on (service) up) or vector(0))"
                " + (count(fog_service_up == 0) or vector(0))"
            ),
            unit="short",
            steps=((None, GREEN), (1, RED)),
            runbooks=("ServiceDown", "JobAbsent", "BackendPartDown"),
        ),
        figure(
            "Alerts that fire (0 is good)",
            "Without those that only inform. The list below names them.",
            Query(
                'count(ALERTS{alertstate="firing", severity!="info"}) or vector(0)',
            ),
            unit="short",
            steps=((None, GREEN), (1, ORANGE), (3, RED)),
        ),
        figure(
            "Messages delivered, 1 d (99 % or more is good)",
            "Share of the messages handed to the mixnet that were acknowledged before they "
            "expired. Empty where none was sent. The dashboard on messaging says what was lost.",
            Query("1 - max(service:fog_messages_undelivered:ratio_rate1d)"),
            unit="percentunit",
            steps=((None, RED), (0.98, ORANGE), (0.99, GREEN)),
            empty="none was sent",
            runbooks=("DeliveryBudgetBurnFast",),
        ),
        figure(
            "Work (few waiting, some ready is good)",
            "Tasks that wait for a worker, and workers that are ready for one. Tasks wait and "
            "none is ready: lend more machines, or look at the dashboard on computation.",
            Query('sum(fog_tasks{state="queued"})', "tasks waiting"),
            Query('max(sum by (privacy) (fog_workers{state="ready"}))', "workers ready"),
            unit="short",
            runbooks=("TaskBacklogGrowing",),
        ),
    ]


def _status() -> list[AnyPanel]:
    return [
        states(
            "Services (green is up)",
            "Whether each service answers Prometheus; one target that is down colours its "
            "service, and so does the lack of all that must be there. Red: `fog status`, or "
            "`docker compose ps`, then the service's log.",
            Query(
                "min by (service) (up) or min by (service) (fog_expected_job * 0)",
                "{{service}}",
            ),
            {"0": ("down", RED), "1": ("up", GREEN)},
            runbooks=("ServiceDown", "JobAbsent"),
        ),
        listing(
            "Alerts that fire, or will (“nothing fires” is good)",
            "What fires, and what will if it lasts. Each has a runbook of its name.",
            Query(
                or_none(
                    "sort_desc(max by (alertname, severity, alertstate, service, instance)"
                    ' (ALERTS{alertstate=~"firing|pending"}))',
                    "alertname",
                    "nothing fires",
                )
            ),
            {
                "alertname": "alert",
                "severity": "severity",
                "alertstate": "state",
                "service": "service",
                "instance": "where",
            },
        ),
    ]


def _traffic() -> list[AnyPanel]:
    return [
        graph(
            "BetaNet: packets a second by role",
            "Packets that nodes unwrapped and accepted. Nodes step their counters by 1,000 once "
            "a minute, unless they are told to count exactly: so over 5 minutes, and a net "
            "with little traffic shows 0.",
            Query(
                'sum by (role) (rate(betanet_packets_processed_total{network="betanet"}[5m]))',
                "{{role}}",
            ),
            unit="pps",
            width=8,
        ),
        graph(
            "Backend: requests a second by status",
            "All answers, those to Prometheus, too. Statuses of 500 and above are ours to mend; "
            "429 are callers over their rate.",
            Query(
                f"sum by (status) (rate(http_requests_total{{{_BACKEND}}}[$__rate_interval]))",
                "{{status}}",
            ),
            unit="reqps",
            stacked=True,
            width=8,
            runbooks=("HighRequestErrors",),
        ),
        graph(
            "Backend: time to answer (below 250 ms is good)",
            "The median and the slowest of 100 requests; long-polls are left out. Slow with a "
            "store that waits: see the store on the dashboard on computation.",
            *(
                Query(
                    f"histogram_quantile({share}, sum by (le) "
                    f"(rate(http_request_duration_seconds_bucket{{{_BACKEND}}}[$__rate_interval])))",
                    name,
                )
                for share, name in ((0.5, "median"), (0.99, "1 of 100"))
            ),
            unit="s",
            steps=((None, GREEN), (0.25, YELLOW), (1, RED)),
            width=8,
        ),
    ]


def _machines() -> list[AnyPanel]:
    return [
        graph(
            "Machine: share in use (below 80 % is good)",
            "Processors and memory of the machine that the node exporter watches. Above 90 % "
            "for long: tasks slow down, then nodes release packets late.",
            Query(
                "1 - avg(rate(node_cpu_seconds_total"
                '{service="host", mode="idle"}[$__rate_interval]))',
                "processors",
            ),
            Query(
                '1 - node_memory_MemAvailable_bytes{service="host"}'
                ' / node_memory_MemTotal_bytes{service="host"}',
                "memory",
            ),
            unit="percentunit",
            steps=((None, GREEN), (0.8, YELLOW), (0.9, RED)),
            top=1,
            width=8,
        ),
        graph(
            "Processor by service, in cores",
            "What the processes of each service use. Mix nodes tell whole seconds: so over 5 "
            "minutes.",
            Query("sum by (service) (rate(process_cpu_seconds_total[5m]))", "{{service}}"),
            unit="none",
            stacked=True,
            width=8,
        ),
        graph(
            "Memory by service",
            "Resident memory of the processes of each service; of postgres and redis, that of "
            "their exporters. One that only grows: see its restarts and its log.",
            Query("sum by (service) (process_resident_memory_bytes)", "{{service}}"),
            unit="bytes",
            stacked=True,
            width=8,
            runbooks=("TargetRestarting",),
        ),
    ]
