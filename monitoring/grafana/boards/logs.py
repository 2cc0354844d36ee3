"""Logs: what went wrong, and the lines themselves."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.models import dashboard as model

from monitoring.grafana.boards.frame import board, choice_of_lines
from monitoring.grafana.boards.shapes import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    AnyPanel,
    Query,
    figure,
    graph,
    lines,
    ranking,
)

_CHOSEN = 'service=~"$service", node=~"$node"'
_WRONG = 'level=~"warn|error"'
_COLOURS = {"debug": BLUE, "info": GREEN, "warn": ORANGE, "error": RED}


def dashboard() -> model.Dashboard:
    """The dashboard."""
    return board(
        "fog-logs",
        "fog: logs",
        "What went wrong, and the lines themselves.",
        [*_counts(), *_lines()],
        variables=[
            choice_of_lines("service", "Service"),
            choice_of_lines("node", "Node"),
            choice_of_lines("level", "Level"),
            boards.TextBoxVariable("search")
            .label("Search")
            .default_value("")
            .current(model.VariableOption(selected=True, text="", value="")),
        ],
        loki_too=True,
    )


def _counts() -> list[AnyPanel]:
    return [
        figure(
            "Errors in this time (0 is good)",
            "Lines of the level `error`. The list at the right names the events.",
            Query(
                f'sum(count_over_time({{{_CHOSEN}, level="error"}}[$__range])) or vector(0)',
                lines=True,
                instant=True,
            ),
            unit="short",
            steps=((None, GREEN), (1, RED)),
        ),
        figure(
            "Warnings in this time (few is good)",
            "Lines of the level `warn`: something went wrong and was dealt with.",
            Query(
                f'sum(count_over_time({{{_CHOSEN}, level="warn"}}[$__range])) or vector(0)',
                lines=True,
                instant=True,
            ),
            unit="short",
            steps=((None, GREEN), (100, ORANGE)),
        ),
        figure(
            "Lines in this time",
            "All lines that were kept; those of the level `debug` are not, unless asked for.",
            Query(f"sum(count_over_time({{{_CHOSEN}}}[$__range]))", lines=True, instant=True),
            unit="short",
        ),
        figure(
            "Services that wrote (all is good)",
            "How many services wrote a line in this time. Fewer than run: Alloy does not see "
            "their output.",
            Query(
                f"count(sum by (service) (count_over_time({{{_CHOSEN}}}[$__range])))",
                lines=True,
                instant=True,
            ),
            unit="short",
        ),
        graph(
            "Lines by level",
            "A burst of warnings or errors shows when something began; mark it to see the lines.",
            Query(
                f"sum by (level) (count_over_time({{{_CHOSEN}}}[$__interval]))",
                "{{level}}",
                lines=True,
            ),
            unit="short",
            stacked=True,
            colours=_COLOURS,
            width=8,
        ),
        graph(
            "Lines by service",
            "Who writes. Far more of one than is usual: it fails and tries again.",
            Query(
                f"sum by (service) (count_over_time({{{_CHOSEN}}}[$__interval]))",
                "{{service}}",
                lines=True,
            ),
            unit="short",
            stacked=True,
            width=8,
        ),
        ranking(
            "Most frequent events that went wrong",
            "Warnings and errors by their event, the ten most frequent in this time. The lines "
            "below have their fields.",
            Query(
                "topk(10, sum by (service, level, event) "
                f"(count_over_time({{{_CHOSEN}, {_WRONG}}}[$__range])))",
                "{{service}}: {{event}}",
                lines=True,
                instant=True,
            ),
            unit="short",
            width=8,
        ),
    ]


def _lines() -> list[AnyPanel]:
    return [
        lines(
            "Warnings and errors",
            "Newest first. Open a line for its fields.",
            Query(f"{{{_CHOSEN}, {_WRONG}}} |= `$search`", lines=True),
            height=8,
        ),
        lines(
            "Lines, as chosen above",
            "By service, node and level, with the words that are searched for. A line is JSON: "
            "add `| json` in Explore to ask for its fields.",
            Query(f'{{{_CHOSEN}, level=~"$level"}} |= `$search`', lines=True),
        ),
    ]
