"""``fog up``: start a fog and stay with it, or leave it in the background."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from fog_compute.cli.common import CommandError, JsonFlag, whole
from fog_compute.cli.needs import check_needs
from fog_compute.cli.starting import (
    already,
    foreground,
    may_stay,
    reporting,
    start_in_background,
)
from fog_compute.cli.supervisor import Report, Supervisor, net_times, settings_environment
from fog_compute.client.lock import Free, Holder, HomeLock
from fog_compute.config import Settings, load_settings
from fog_compute.errors import HomeUnusable
from fog_compute.lifetime import keep_files_private, undo_inherited_signals
from fog_compute.units import parse_duration

__all__ = ["up"]


def up(
    *,
    detach: Annotated[
        bool, Parameter(negative=(), help="Leave it in the background once it is ready.")
    ] = False,
    workers: Annotated[
        int | None, Parameter(help="Local workers to start.", converter=whole)
    ] = None,
    slots: Annotated[
        int | None, Parameter(help="Tasks that one worker runs at once.", converter=whole)
    ] = None,
    port: Annotated[
        int | None,
        Parameter(help="Port of the backend on 127.0.0.1; 0 for any free one.", converter=whole),
    ] = None,
    listen: Annotated[
        str | None,
        Parameter(
            help="Address of this machine at which others reach the local net's links; whoever gets"
            " there can use the network. The backend stays on loopback."
        ),
    ] = None,
    epoch: Annotated[
        str | None,
        Parameter(help="Key period of a new local net, such as 600s; it stays with the net."),
    ] = None,
    mean_delay: Annotated[
        str | None, Parameter(help="Mean delay of each hop of the local net, such as 15ms.")
    ] = None,
    exact_metrics: Annotated[
        bool, Parameter(negative=(), help="Let mix nodes export exact counters (for debugging).")
    ] = False,
    monitoring: Annotated[
        bool,
        Parameter(
            negative=(), help="Start Prometheus and Alertmanager, too, from the system's packages."
        ),
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Start a local net, a backend and workers, and keep them running until Ctrl-C.

    Tasks survive: what was not over when a fog ended goes on with the next one.

    The end of the terminal stops it too, unless SIGHUP is ignored when it starts, as under `nohup`.

    For example: `fog up --workers 2 --detach`
    """
    keep_files_private()
    undo_inherited_signals()
    settings = load_settings(
        workers=workers,
        slots=slots,
        port=port,
        listen=listen,
        epoch_s=None if epoch is None else parse_duration(epoch),
        mean_delay_ms=None if mean_delay is None else round(parse_duration(mean_delay) * 1000),
        exact_metrics=exact_metrics or None,
        monitoring=monitoring or None,
    )
    with reporting(as_json=json) as report:
        _up(settings, report, detach=detach)
    return 0


def _up(settings: Settings, report: Report, *, detach: bool) -> None:
    may_stay(detach=detach)
    lock = HomeLock(settings.layout)
    if isinstance(_holder(lock), Free):
        check_needs(settings)
    if not lock.take():
        raise CommandError(
            f"a fog is running in {settings.home} already{already(lock)}:"
            " see it with `fog status`, stop it with `fog down`"
        )
    if detach:
        lock.give_back()
        _detach(settings, report)
    else:
        foreground(lock, Supervisor(settings, report))


def _holder(lock: HomeLock) -> Holder:
    try:
        return lock.holder()
    except HomeUnusable:  # what cannot be seen is among the needs
        return Free()


def _detach(settings: Settings, report: Report) -> None:
    """Start the same command in a session of its own and wait until it is ready."""
    words = ["up"]
    values = settings.model_dump(include={"workers", "slots", "port"})
    for name, value in values.items():
        words += [f"--{name}", str(value)]
    if settings.listen is not None:
        words += ["--listen", settings.listen]
    words += net_times(settings)
    if settings.exact_metrics:
        words.append("--exact-metrics")
    if settings.monitoring:
        words.append("--monitoring")
    start_in_background(words, settings.layout, settings_environment(settings), report)
