"""``fog run``: upload, queue, follow, print."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Annotated

from cyclopts import Parameter

from fog_compute.cli.client import Backend
from fog_compute.cli.codes import TIMED_OUT, USAGE
from fog_compute.cli.common import (
    CommandError,
    EnvFlag,
    ForceFlag,
    JsonFlag,
    PrivacyFlag,
    in_flags,
    note,
    whole,
)
from fog_compute.cli.follow import Follower
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
from fog_compute.cli.patience import OutOfTime, Patience
from fog_compute.cli.sources import add_all, in_time, piped_input, standard_input
from fog_compute.client.answers import New
from fog_compute.client.checking import check_task, check_text
from fog_compute.client.folders import OutputFolder
from fog_compute.client.inputs import Inputs, read_blob
from fog_compute.client.scripts import argument_files, check_script, kind_of, own_name
from fog_compute.client.sources import Source, TaskFiles
from fog_compute.errors import StoreAway
from fog_compute.levels import PrivacyLevel
from fog_compute.strategies import Strategy
from fog_compute.tasks import TaskKind, seed_from
from fog_compute.text import as_named, one_line
from fog_compute.units import format_bytes, format_duration, parse_duration

__all__ = ["environment", "run"]


def run(
    module: Annotated[str, Parameter(help="The WASI module or the Python script, a file.")],
    /,
    *args: Annotated[
        str, Parameter(help="Arguments for the module; after -- they may begin with a dash.")
    ],
    stdin: Annotated[
        str | None,
        Parameter(
            help="File to give as standard input; - for this command's own, which is taken without"
            " being asked for if it is a pipe or a file that brings something.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    input: Annotated[  # noqa: A002  # the name of the flag
        tuple[str, ...],
        Parameter(
            name="--input",
            negative=(),
            help="Input files, folders with all that is in them, or globs, each as PATH or"
            " PATH=NAME-IN-THE-SANDBOX, until the next option; may be given many times.",
        ),
    ] = (),
    auto_input: Annotated[
        bool,
        Parameter(
            help="Send with a script the files below this folder that its arguments name.",
        ),
    ] = True,
    kind: Annotated[
        TaskKind | None,
        Parameter(help="What the file is; by default python for *.py and #!…python, else wasm."),
    ] = None,
    privacy: PrivacyFlag = PrivacyLevel.PRIVATE,
    group: GroupFlag = "",
    timeout: Annotated[
        str | None, Parameter(help="How long to wait here, such as 90s; the task goes on.")
    ] = None,
    wall: WallFlag = None,
    memory: MemoryFlag = None,
    fuel: FuelFlag = None,
    output: OutputFlag = None,
    scratch: ScratchFlag = None,
    wait_for_worker: WaitFlag = False,
    output_dir: Annotated[
        str | None,
        Parameter(help="Folder for the files that it leaves below out/; made if need be."),
    ] = None,
    force: ForceFlag = False,
    env: EnvFlag = (),
    seed: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True,
            help="Repeat a run: a task's seed, or any text, from which all randomness follows."
            " Workers can tell by it that two tasks belong together.",
        ),
    ] = None,
    strategy: Annotated[
        Strategy | None,
        Parameter(help="How to choose the worker; by default as the privacy level needs it."),
    ] = None,
    attempts: Annotated[int, Parameter(help="Tries before it fails.", converter=whole)] = 3,
    detach: Annotated[
        bool, Parameter(negative=(), help="Print the task's id and do not wait.")
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Run a WebAssembly module or a Python script as a task and print what it prints.

    The exit code is the module's own where it ran to its end.

    For example: `fog run job.py data.csv --privacy private`
    """
    began = time.monotonic()
    wait_s = None if timeout is None else parse_duration(timeout)
    limits = read_limits(wall, memory, fuel, output, scratch)
    if detach and output_dir is not None:
        raise CommandError(
            "--output-dir needs the end of the task: after --detach, fetch its files with `fog"
            " task get`",
            USAGE,
        )
    wanted = {
        "argv": list(args),
        "env": environment(env),
        "seed": None if seed is None else seed_from(check_text(seed)),
        "limits": limits,
        "privacy": privacy.value,
        "group": check_text(group),
        "max_attempts": attempts,
        "wait_for_worker": wait_for_worker,
        "strategy": None if strategy is None else strategy.value,
    }
    try:
        with contextlib.ExitStack() as opened:
            patience = opened.enter_context(Patience(wait_s))
            folder = (
                None
                if output_dir is None
                else opened.enter_context(OutputFolder(output_dir, force=force))
            )
            hints: list[str] = []
            with in_time():
                data, files, inputs = _gather(module, stdin, input, hints)
            wanted["kind"] = kind_of(module, data, kind).value
            if wanted["kind"] == TaskKind.PYTHON:
                named = argument_files(args) if auto_input else {}
                _add_script(files.module, inputs, module, named, hints)
                hints += check_script(module, data, inputs.by_name)
            check_task({**wanted, "inputs": files.inputs}, data)
            with Backend() as backend:
                for hint in hints:
                    note(hint)
                sent = files.named([backend.upload(one) for one in files.each()])
                try:
                    task = backend.post("/api/v1/tasks", New, {**sent, **wanted})
                except StoreAway as error:
                    raise StoreAway(
                        f"{error}: `fog task ls` shows later whether the task is there all the same"
                    ) from None
                if task["warning"]:
                    note(one_line(in_flags(task["warning"])))
                follower = Follower(backend, task["id"], as_json=json, began=began)
                if detach:
                    patience.end()
                    follower.print_id()
                    return 0
                return follower.follow(patience, folder)
    except OutOfTime:
        raise CommandError(
            f"the task could not be handed over in {format_duration(wait_s or 0)}: `fog task ls`"
            " shows whether it is there all the same",
            TIMED_OUT,
        ) from None


def _gather(
    module: str, stdin: str | None, inputs: Sequence[str], hints: list[str]
) -> tuple[bytes, TaskFiles, Inputs]:
    """Look at everything that goes with a task; hints say what was taken unasked.

    Returns:
        The module, all files, and the inputs among them, to which more can be added.
    """
    data = read_blob(module, "module")
    taken: Source | None = None
    if stdin is not None:
        taken = standard_input(stdin)
    else:
        taken, said = piped_input()
        if said:
            hints.append(said)
    code = Source.of(f"module file {as_named(module)}", data)
    found = Inputs(code, taken)
    add_all(found, inputs)
    return data, TaskFiles(code, taken, found.by_name), found


def _add_script(
    code: Source, inputs: Inputs, module: str, named: Mapping[str, str], hints: list[str]
) -> None:
    """Add a script and the files that its arguments name, unless other inputs stand there."""
    if (own := own_name(module)) is not None:
        inputs.by_name.setdefault(own, code)
    for name, path in named.items():
        if name not in inputs.by_name:
            inputs.add(name, path, "argument")
            size = format_bytes(inputs.by_name[name].size)
            hints.append(
                f"{as_named(path)} ({size}) goes with the script; --no-auto-input keeps it here"
            )


def environment(texts: Sequence[str]) -> dict[str, str]:
    """Read NAME=VALUE; a name that is given twice has its last value."""
    env: dict[str, str] = {}
    for text in map(check_text, texts):
        name, separator, value = text.partition("=")
        if not separator:
            raise CommandError(f"--env {text!r} has no value: give NAME=VALUE", USAGE)
        env[name] = value
    return env
