"""``fog doctor``: look at everything, and tell it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Final

from fog_compute.cli.common import LINE_LENGTH, CommandError, JsonFlag, print_json
from fog_compute.cli.doctor import fog, machine, people, sandbox, watching
from fog_compute.cli.doctor.findings import Finding, Verdict
from fog_compute.cli.output import write
from fog_compute.client.lock import Free, HomeLock
from fog_compute.config import Settings, load_settings
from fog_compute.errors import ConfigError, HomeUnusable
from fog_compute.text import counted, one_line

__all__ = ["doctor"]

Examination = Callable[[Settings], Iterator[Finding]]


def doctor(*, json: JsonFlag = False) -> int:
    """Look at all that a fog needs of this machine, and say what to do about what is missing.

    A runner is started as for a task, and ended; nothing else is changed. The exit code is 1 if
    something keeps a fog from running, and 0 if it only does without something.

    For example: `fog doctor`
    """
    findings = list(examine())
    bad = [finding.check for finding in findings if finding.verdict is Verdict.PROBLEM]
    told = {"findings": [dataclasses.asdict(finding) for finding in findings]}
    if not json:
        for finding in findings:
            write("".join(f"{line}\n" for line in _lines(finding)))
    if bad:
        names = ", ".join(dict.fromkeys(bad))
        number = counted(len(bad), "problem")
        raise CommandError(f"{number}: {names}", kind="unmet-needs", beside=told)
    if json:
        print_json(told)
    return 0


def examine() -> Iterator[Finding]:
    """Make all examinations, one after the other."""
    yield from machine.versions()
    try:
        settings = load_settings()
        runs = not isinstance(HomeLock(settings.layout).holder(), Free)
    except (ConfigError, HomeUnusable) as error:
        do = "correct it, or leave it away"
        yield Finding("settings", Verdict.PROBLEM, str(error), "no fog can be started", do)
        return
    yield Finding("settings", Verdict.OK, f"home {settings.home}")
    yield from machine.needs(settings, runs=runs)
    yield from machine.processes()
    for look in _EXAMINATIONS:
        yield from look(settings)


_EXAMINATIONS: Final[tuple[Examination, ...]] = (
    machine.memory,
    machine.clock,
    sandbox.sandbox,
    sandbox.scripts,
    fog.database,
    fog.redis,
    fog.running,
    people.bluetooth,
    people.messages,
    watching.watchers,
    watching.exporters,
)

_WIDTH: Final = max(len(verdict) for verdict in Verdict)
_CHECK: Final = 18


def _lines(finding: Finding) -> Iterator[str]:
    head = f"{finding.verdict.ljust(_WIDTH)}  {finding.check.ljust(_CHECK)}"
    yield f"{head}  {one_line(finding.found, LINE_LENGTH)}"
    indent = " " * (len(head) + 2)
    if finding.means:
        yield f"{indent}so {one_line(finding.means, LINE_LENGTH)}"
    if finding.do:
        yield f"{indent}do {one_line(finding.do, LINE_LENGTH)}"
