"""``fog map``: one module over many inputs, one task for each, their results in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from fog_compute.cli.batches import Plan, Run, Sink, keep, kept, succeeded
from fog_compute.cli.client import Backend
from fog_compute.cli.codes import INTERRUPTED, USAGE
from fog_compute.cli.common import (
    LINE_LENGTH,
    CommandError,
    EnvFlag,
    ForceFlag,
    JsonFlag,
    PrivacyFlag,
    in_flags,
    note,
    whole,
)
from fog_compute.cli.limits import (
    FuelFlag,
    GroupFlag,
    MemoryFlag,
    OutputFlag,
    ScratchFlag,
    WaitFlag,
    WallFlag,
    read_limits,
)
from fog_compute.cli.losses import not_lost
from fog_compute.cli.output import write, write_bytes
from fog_compute.cli.outputs import in_words, tell_unwritten, write_files
from fog_compute.cli.progress import Counts
from fog_compute.cli.run import environment
from fog_compute.client.answers import Task
from fog_compute.client.asking import NO_ANSWER
from fog_compute.client.folders import NotWritten, OutputFolder
from fog_compute.client.inputs import read_blob, source_of
from fog_compute.client.maps import As, Giving, names_of
from fog_compute.client.scripts import check_script, kind_of, own_name
from fog_compute.client.sources import Source
from fog_compute.clock import SystemClock
from fog_compute.levels import PrivacyLevel
from fog_compute.strategies import Strategy
from fog_compute.tasks import TaskKind, new_task_id
from fog_compute.text import as_named, counted, escape_json, one_line

__all__ = ["map_inputs"]


def map_inputs(
    module: Annotated[
        str | None, Parameter(help="The WASI module or Python script, a file.")
    ] = None,
    /,
    *inputs: Annotated[str, Parameter(help="Input files: one task for each.")],
    arg: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(),
            allow_leading_hyphen=True,
            help="Argument for the module, in which {} is the input's name; what follows -- are"
            " such arguments.",
        ),
    ] = (),
    as_: Annotated[
        Literal["stdin", "file"] | None,
        Parameter(
            name="--as",
            help="Give each input as standard input, or as a file in the working directory; by"
            " default as a file if an argument holds {}.",
        ),
    ] = None,
    privacy: PrivacyFlag = PrivacyLevel.PRIVATE,
    group: GroupFlag = "",
    wall: WallFlag = None,
    memory: MemoryFlag = None,
    fuel: FuelFlag = None,
    output: OutputFlag = None,
    scratch: ScratchFlag = None,
    wait_for_worker: WaitFlag = False,
    env: EnvFlag = (),
    strategy: Annotated[
        Strategy | None,
        Parameter(help="How to choose the workers; by default as the privacy level needs it."),
    ] = None,
    attempts: Annotated[int, Parameter(help="Tries before one fails.", converter=whole)] = 3,
    output_dir: Annotated[
        str | None,
        Parameter(
            help="Folder for the results: NAME.out, NAME.err if there is any, and in NAME.files"
            " what it left below out/; by default all standard outputs are printed, in the order"
            " of the inputs."
        ),
    ] = None,
    force: ForceFlag = False,
    max_failures: Annotated[
        int | None,
        Parameter(help="Cancel the others when more than so many failed.", converter=whole),
    ] = None,
    cancel_on_interrupt: Annotated[
        bool, Parameter(negative=(), help="Cancel the tasks when interrupted.")
    ] = False,
    resume: Annotated[
        str | None,
        Parameter(
            help="Go on with the map of this id, or of @last; give no module.",
        ),
    ] = None,
    cancel: Annotated[
        bool, Parameter(negative=(), help="With --resume: cancel what is not over.")
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Run a module over many inputs, each as a task of its own; results come in their order.

    `fog map wordcount.wasm texts/* --output-dir counts` gives each text as standard input;
    `fog map job.py tables/*.csv -- {}` names it in the arguments.

    Interrupted, the tasks go on, and `fog map --resume` goes on with their results. The exit code
    is 0 if all ran to their end with exit code 0 and their results are written.

    For example: `fog map wordcount.wasm texts/* --output-dir counts`
    """
    if (module is None) == (resume is None):
        raise CommandError("give a module and inputs, or --resume with the id of a map", USAGE)
    if module is not None and not inputs:
        raise CommandError("there is no input: name files behind the module", USAGE)
    if cancel and resume is None:
        raise CommandError("--cancel needs --resume with the id of a map", USAGE)
    sink: Sink = _lines if json else _printed
    if output_dir is not None:
        into = _into(output_dir, force=force or module is None)
        sink = _both(into, _lines) if json else into
    with Backend() as backend:
        if module is None:
            plan = kept(backend.layout, resume or "")
        else:
            task = {
                "env": environment(env),
                "limits": read_limits(wall, memory, fuel, output, scratch),
                "group": group,
                "privacy": privacy.value,
                "max_attempts": attempts,
                "wait_for_worker": wait_for_worker,
                "strategy": None if strategy is None else strategy.value,
            }
            how = Giving.chosen(None if as_ is None else As(as_), arg)
            plan = _planned(backend, module, inputs, arg, task, how)
        with Counts(quiet=json) as bar:
            run = Run(backend, plan, sink, bar, max_failures)
            return _cancelled(run) if cancel else _carried_out(run, plan, cancel_on_interrupt)


def _carried_out(run: Run, plan: Plan, cancel_on_interrupt: bool) -> int:
    kept = f"the results are kept, and `fog map --resume {plan.id}` gives them again"
    try:
        run.queue()
        with not_lost(kept, beside={"map": plan.id}):
            code = run.follow()
    except KeyboardInterrupt:
        if cancel_on_interrupt:
            run.cancel()
            said = f"interrupted, and what was not over is cancelled: {counted(run.left, 'task')}"
        else:
            said = (
                f"interrupted; what is not over goes on ({counted(run.left, 'task')}): `fog map"
                f" --resume {plan.id}` goes on with the results, and with --cancel ends them"
            )
        raise CommandError(said, INTERRUPTED, beside={"map": plan.id}) from None
    except NO_ANSWER as error:
        raise CommandError(
            f"{error}; what is queued goes on: `fog map --resume {plan.id}` goes on with the rest",
            kind=error.problem,
            beside={"map": plan.id},
        ) from None
    if run.failed:
        said = f"{run.failed} of {counted(len(plan.names), 'task')} did not end well"
        raise CommandError(said, code, kind="task-failed", beside={"map": plan.id})
    if run.unwritten:
        said = f"results of {counted(run.unwritten, 'task')} were not written whole: {kept}"
        raise CommandError(said, code, kind="not-written", beside={"map": plan.id})
    return code


def _cancelled(run: Run) -> int:
    run.queue()
    run.cancel()
    return 0


def _planned(
    backend: Backend,
    module: str,
    inputs: Sequence[str],
    args: Sequence[str],
    task: dict[str, Any],
    how: As,
) -> Plan:
    """Upload a module and inputs, the same bytes once, and write down what is to be queued."""
    data = read_blob(module, "module")
    code = Source.of(f"module file {as_named(module)}", data)
    kind = kind_of(module, data, None)
    own: dict[str, str] = {}  # a script stands beside each input under its own name
    if kind is TaskKind.PYTHON:
        for hint in check_script(module, data, ()):
            note(hint)
        if (name := own_name(module)) is not None:
            own[name] = code.sha256()
    task = {**task, "kind": kind.value}
    giving, files = Giving(how, tuple(args), own), [Path(path).name for path in inputs]
    names = names_of(files)
    giving.check(task, files, data)
    sources = [source_of(path, "input") for path in inputs]
    sent: dict[str, str] = {}
    task["module"] = _upload(backend, code, sent)
    tasks = [
        {**task, **giving.to(file, _upload(backend, source, sent))}
        for file, source in zip(files, sources, strict=True)
    ]
    plan = Plan(new_task_id(SystemClock().now()), names, tasks)
    keep(backend.layout, plan)
    return plan


def _upload(backend: Backend, source: Source, sent: dict[str, str]) -> str:
    sha256 = source.sha256()
    if sha256 not in sent:
        sent[sha256] = backend.upload(source)
    return sent[sha256]


# Where results go


def _tell(name: str, task: Task) -> None:
    if succeeded(task):
        return
    result = task["result"]
    code = "" if result is None else f" with exit code {result['exit_code']}"
    why = f": {in_flags(task['reason'])}" if task["reason"] else code
    note(one_line(f"{as_named(name)}: task {task['id']} {task['state']}{why}", LINE_LENGTH))


def _read(backend: Backend, task: Task, stream: str) -> bytes:
    return b"" if task["result"] is None else backend.whole(f"/api/v1/tasks/{task['id']}/{stream}")


def _printed(name: str, task: Task, backend: Backend) -> bool:
    write_bytes(_read(backend, task, "stdout"))
    _tell(name, task)
    return True


def _lines(name: str, task: Task, backend: Backend) -> bool:
    result = task["result"]
    line = {
        "input": name,
        "id": task["id"],
        "state": task["state"],
        "reason": task["reason"],
        "exit_code": None if result is None else result["exit_code"],
        "fault": None if result is None else result["fault"],
        "stdout": _read(backend, task, "stdout").decode(errors="replace"),
        "stderr": _read(backend, task, "stderr").decode(errors="replace"),
    }
    write(escape_json(msgspec.json.encode(line).decode()) + "\n")
    return True


def _both(first: Sink, second: Sink) -> Sink:
    def take(name: str, task: Task, backend: Backend) -> bool:
        return first(name, task, backend) & second(name, task, backend)

    return take


def _into(path: str, *, force: bool) -> Sink:
    def take(name: str, task: Task, backend: Backend) -> bool:
        unwritten: dict[str, str] = {}
        with OutputFolder(path, force=force) as folder:
            for stream in ("stdout", "stderr"):
                data = _read(backend, task, stream)
                if not data and (stream == "stderr" or task["result"] is None):
                    continue
                file = f"{name}.{stream.removeprefix('std')}"
                try:
                    folder.write(file, lambda put, data=data: put(data))  # type: ignore[misc]
                except NotWritten as why:
                    unwritten[file] = in_words(why)
        if task["result"] is not None and (left := task["result"]["files"]):
            with OutputFolder(f"{path}/{name}.files", force=force) as folder:
                unwritten |= write_files(backend, task["id"], left, folder)
        tell_unwritten(unwritten)
        _tell(name, task)
        return not unwritten

    return take
