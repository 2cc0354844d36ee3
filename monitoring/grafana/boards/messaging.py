"""Messages: do they arrive, within the objective, and over what."""

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
    some,
)

_NOBODY = "nobody has keys here"
_NONE_SENT = "none was sent"

_BUDGET = 0.01
"""Share of messages that may stay unacknowledged: the objective is 99 %."""


def _undelivered(span: str) -> str:
    """The recorded share of messages of ``span`` that were not acknowledged."""
    return f"max(service:fog_messages_undelivered:ratio_rate{span})"


def dashboard() -> model.Dashboard:
    """The dashboard."""
    return board(
        "fog-messaging",
        "fog: messaging and circuits",
        "Do messages arrive, within the objective, and over what?",
        [*_figures(), *_objective(), *_people(), *_circuits()],
        since="now-6h",
    )


def _figures() -> list[AnyPanel]:
    return [
        figure(
            "Delivered in this time (99 % or more is good)",
            "Share of the messages handed to the mixnet, for tasks and for people, that were "
            "acknowledged before they expired. Empty where none was sent.",
            Query(
                '1 - sum(increase(fog_messages_total{outcome!="acknowledged"}[$__range]))'
                " / sum(increase(fog_messages_total[$__range]))",
                instant=True,
            ),
            unit="percentunit",
            steps=((None, RED), (0.98, ORANGE), (0.99, GREEN)),
            runbooks=("DeliveryBudgetBurnFast", "DeliveryBudgetBurnSlow"),
            empty=_NONE_SENT,
        ),
        figure(
            "Error budget left, 30 d (more than 0 is good)",
            "Of the 1 % of messages of 30 days that may fail, what has not yet. Below 0 the "
            "objective is missed: put off what is risky until it is mended.",
            Query(f"1 - {_undelivered('30d')} / {_BUDGET}"),
            unit="percentunit",
            steps=((None, RED), (0, ORANGE), (0.25, GREEN)),
            runbooks=("DeliveryBudgetBurnSlow",),
            empty=_NONE_SENT,
        ),
        figure(
            "Transports of people's messages (up is good)",
            "Whether each transport can be used at the moment. With none up, messages wait.",
            Query("max by (transport) (fog_chat_transport_up)", "{{transport}}"),
            unit="none",
            steps=((None, ORANGE), (1, GREEN)),
            shown={"0": ("down", ORANGE), "1": ("up", GREEN)},
            empty=_NOBODY,
        ),
        figure(
            "Links (an edge and more is good)",
            "Edges that this fog's client is attached to, and links of the mesh. Without an "
            "edge nothing goes over the mixnet: `fog status`.",
            Query("sum(fog_net_edges)", "edges"),
            Query("sum by (kind) (fog_chat_links)", "mesh, {{kind}}"),
            unit="short",
        ),
    ]


def _objective() -> list[AnyPanel]:
    return [
        graph(
            "Messages a second by how they ended",
            "All messages that this fog handed to the mixnet. `expired`: no acknowledgement "
            "came in time, mostly because nodes on the path are away.",
            Query("sum by (outcome) (rate(fog_messages_total[$__rate_interval]))", "{{outcome}}"),
            unit="cps",
            stacked=True,
            colours={"acknowledged": GREEN, "expired": ORANGE, "failed": RED},
        ),
        graph(
            "How fast the error budget burns (below 1 is good)",
            "At 1 the budget of 30 days lasts just so long. At 14.4 for an hour somebody is "
            "woken; at 6 for six hours it is for today.",
            Query(f"{_undelivered('1h')} / {_BUDGET}", "over 1 h"),
            Query(f"{_undelivered('6h')} / {_BUDGET}", "over 6 h"),
            unit="none",
            steps=((None, GREEN), (1, YELLOW), (6, ORANGE), (14.4, RED)),
            runbooks=("DeliveryBudgetBurnFast", "DeliveryBudgetBurnSlow"),
            empty=_NONE_SENT,
        ),
    ]


def _people() -> list[AnyPanel]:
    return [
        graph(
            "People's messages on their way, by state",
            "Deliveries that are not over. Those that wait wait for a transport or for their "
            "recipient; they are kept.",
            Query("sum by (state) (fog_chat_deliveries)", "{{state}}"),
            unit="short",
            stacked=True,
            width=8,
            empty=_NOBODY,
        ),
        graph(
            "People's messages a second, by transport and state",
            "Deliveries that came to a state, and over what. All over one transport: the other "
            "is down or knows nobody.",
            Query(
                some(
                    "sum by (transport, state) (rate(fog_chat_moves_total[$__rate_interval]))",
                    "state",
                ),
                "{{transport}} {{state}}",
            ),
            unit="cps",
            width=8,
        ),
        graph(
            "Refused of what others sent, 1 h (little is good)",
            "Why something was not taken. Much of one reason: somebody floods, or speaks another "
            "version.",
            Query(
                some(
                    "sum by (part, reason) (increase(fog_chat_refused_total[1h]))",
                    "part",
                    "nothing",
                ),
                "{{part}} {{reason}}",
            ),
            unit="short",
            width=8,
        ),
    ]


def _circuits() -> list[AnyPanel]:
    return [
        graph(
            "Circuits by level and state",
            "What each level has ready. None at a level that is used: the net has too few "
            "nodes for its length, see what the authority lists.",
            Query(
                some("sum by (privacy, state) (fog_circuits)", "privacy"), "{{privacy}} {{state}}"
            ),
            unit="short",
            width=8,
            runbooks=("CircuitFailures",),
        ),
        graph(
            "Sends on circuits a second, by level and how they ended",
            "A circuit whose sends are lost is rebuilt. Losses at one level alone: a node that "
            "only its paths use.",
            Query(
                some(
                    "sum by (privacy, outcome) (rate(fog_circuit_sends_total[$__rate_interval]))",
                    "privacy",
                ),
                "{{privacy}} {{outcome}}",
            ),
            unit="cps",
            width=8,
            runbooks=("CircuitFailures",),
        ),
        graph(
            "Round trip by level",
            "From a message's sending to its acknowledgement, at most among the circuits of a "
            "level. Far above hops × mean delay × 2: nodes are late.",
            Query("max by (privacy) (fog_circuit_round_trip_seconds)", "{{privacy}}"),
            unit="s",
            width=8,
        ),
    ]
