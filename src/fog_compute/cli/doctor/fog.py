"""What a home holds: its database, and the fog that runs there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from fog_compute.cli.client import Backend
from fog_compute.cli.doctor.findings import Finding, Verdict, of_problem
from fog_compute.cli.local_net import net_trouble
from fog_compute.cli.state import read_fog_state
from fog_compute.cli.status import all_troubles
from fog_compute.client.answers import Status
from fog_compute.client.places import Home
from fog_compute.config import Settings
from fog_compute.errors import FogError, NotFound, NotRunning, StoreError, StoreUnusable
from fog_compute.store.care import reach
from fog_compute.text import counted

__all__ = ["database", "redis", "running"]

DO_LOGS: Final = "see `fog status`, and the files in logs/ of the home folder"


def database(settings: Settings) -> Iterator[Finding]:
    """The database can be reached and is of this version; nothing in it is changed."""
    means = "tasks cannot be kept, so that none is taken"
    try:
        name = reach(settings.database)
    except NotFound:
        yield Finding("database", Verdict.OK, f"{settings.layout.database} will be made")
    except StoreUnusable as error:
        yield of_problem("database", str(error), means)
    except StoreError as error:
        do = "see that its server runs and lets this user in, or run `fog db check`"
        yield Finding("database", Verdict.PROBLEM, str(error), means, do)
    else:
        yield Finding("database", Verdict.OK, name)


def redis(settings: Settings) -> Iterator[Finding]:
    """The Redis that is to tell of other backends' events answers."""
    if settings.redis_url is None:
        return
    from fog_compute.store import redis_bell  # rarely needed

    means = "events of other backends come through the database alone, which is slower"
    try:
        asyncio.run(redis_bell.reach(settings.redis_url.get_secret_value()))
    except StoreUnusable as error:
        yield of_problem("redis", str(error), means)
    except StoreError as error:
        do = "see that it runs and lets this user in, or unset FOG_REDIS_URL"
        yield Finding("redis", Verdict.WARNING, str(error), means, do)
    else:
        yield Finding("redis", Verdict.OK, "it answers")


def running(settings: Settings) -> Iterator[Finding]:
    """The fog that runs in the home, if one does, and what is wrong with it."""
    try:
        with Backend(Home(settings.layout)) as backend:
            report = backend.get("/api/v1/status", Status)
    except NotRunning:
        yield Finding("fog", Verdict.SKIPPED, "none runs here: `fog up` starts one")
        return
    except FogError as error:
        yield of_problem("fog", str(error), "commands cannot ask it")
        return
    troubles = all_troubles(read_fog_state(settings.layout), report, net_trouble(settings.layout))
    for trouble in troubles:
        yield Finding("fog", Verdict.PROBLEM, trouble, "tasks may wait", DO_LOGS)
    if not troubles:
        knows = counted(len(report["workers"]), "worker")
        yield Finding("fog", Verdict.OK, f"it runs, and knows {knows}")
