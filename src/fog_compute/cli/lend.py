"""``fog worker start`` and ``stop``: lend this machine to a network, and end that."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from fog_compute.cli.common import (
    CommandError,
    JsonFlag,
    note,
    print_json,
    whole,
)
from fog_compute.cli.down import stop_holder
from fog_compute.cli.membership import join
from fog_compute.cli.needs import check_needs
from fog_compute.cli.net import TokenFlag, read_token
from fog_compute.cli.output import write
from fog_compute.cli.starting import (
    already,
    foreground,
    may_stay,
    reporting,
    start_in_background,
)
from fog_compute.cli.supervisor import Report, Supervisor, settings_environment
from fog_compute.client.lock import Free, HomeLock
from fog_compute.clock import SystemClock
from fog_compute.config import Settings, load_settings
from fog_compute.errors import NotRunning
from fog_compute.layout import HomeLayout, home_from_environment
from fog_compute.lifetime import keep_files_private, undo_inherited_signals
from fog_compute.units import MIB, parse_bytes

__all__ = ["start", "stop"]


def start(
    *,
    token: TokenFlag = None,
    slots: Annotated[int | None, Parameter(help="Tasks that run at once.", converter=whole)] = None,
    memory: Annotated[
        str | None, Parameter(help="Memory that one task may have, such as 1GiB.")
    ] = None,
    metrics_port: Annotated[
        int | None,
        Parameter(
            help="Port on loopback for /health and /metrics; by default any free one, which"
            " `fog worker status` shows.",
            converter=whole,
        ),
    ] = None,
    detach: Annotated[
        bool, Parameter(negative=(), help="Leave it in the background once it is ready.")
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Lend this machine to a network, and keep the worker running until Ctrl-C.

    The token is needed once: afterwards, and after a reboot, the same command without it goes on.
    Members of the token's groups, and nobody else, can run modules here, within a sandbox.

    For example: `fog worker start --token token.txt --slots 2 --memory 1GiB`
    """
    keep_files_private()
    undo_inherited_signals()
    with reporting(as_json=json) as report:
        layout = _layout()
        _join(layout, token)
        if token is not None and not isinstance(HomeLock(layout).holder(), Free):
            note("the worker that runs here takes the keys of the token's groups")
            return 0
        settings = load_settings(
            home=layout.root,
            net=layout.joined,
            port=0,
            workers=1,
            monitoring=False,
            slots=slots,
            memory_mib=None if memory is None else parse_bytes(memory) // MIB,
            worker_http_port=metrics_port,
        )
        _start(settings, report, detach=detach)
    return 0


def stop(*, json: JsonFlag = False) -> int:
    """Lend this machine no longer; attempts that run have a few seconds, the rest go elsewhere.

    For example: `fog worker stop`
    """
    layout = _layout()
    if isinstance(HomeLock(layout).holder(), Free):
        raise NotRunning(f"this machine is not lent from {layout.root}")
    seconds = stop_holder(layout, "worker", "fog worker stop")
    if json:
        print_json({"stopped": True, "seconds": seconds})
    else:
        write(f"stopped in {seconds} s\n")
    return 0


def _layout() -> HomeLayout:
    return HomeLayout(home_from_environment()).lent


def _join(layout: HomeLayout, token: str | None) -> None:
    """Become a member by a token, unless none is given and this was done before."""
    if token is not None or not layout.joined.exists():
        join(layout, read_token(token), SystemClock().now())


def _start(settings: Settings, report: Report, *, detach: bool) -> None:
    layout = settings.layout
    may_stay(detach=detach)
    lock = HomeLock(layout)
    if isinstance(lock.holder(), Free):
        check_needs(settings)
    if not lock.take():
        raise CommandError(
            f"this machine is lent from {layout.root} already{already(lock)}:"
            " see `fog worker status`"
        )
    if detach:
        lock.give_back()
        _detach(settings, report)
    else:
        foreground(lock, Supervisor(settings, report, asks=False))


def _detach(settings: Settings, report: Report) -> None:
    words = ["worker", "start", "--slots", str(settings.slots)]
    words += ["--memory", f"{settings.memory_mib}MiB"]
    words += ["--metrics-port", str(settings.worker_http_port)]
    environment = settings_environment(settings) | {"FOG_HOME": str(home_from_environment())}
    start_in_background(words, settings.layout, environment, report)
