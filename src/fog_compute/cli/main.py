"""The entry point: what every command shares is here, what each does is imported when it runs."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder, from which nothing is to be imported

from typing import TYPE_CHECKING, Final

from fog_compute import __version__
from fog_compute.cli.codes import OK
from fog_compute.cli.output import write
from fog_compute.descriptors import run_program

if TYPE_CHECKING:
    from cyclopts import App

__all__ = ["main"]

_HELP: Final = """Run computations on idle machines of others; the network does not learn who asked.

With `--json` a command prints one JSON document; where it fails that document has an `error` with
`type`, `message` and `exit_code`, and the message stands on standard error too.

Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 no fog is running, 124 out of time,
130 interrupted. `fog run` gives the exit code of the module itself where the task ran to its
end; a line on standard error then says so.

All state is below one folder: FOG_HOME, or the user's data folder.
"""


_RUN: Final = """Run a WebAssembly module or a Python script as a task, and print what it prints.

`fog run job.py data.csv --privacy private` runs a script with the file that its argument names;
`fog run count.wasm --stdin book.txt` runs a module.

The exit code is the program's own where it ran to its end.
"""


_LEND: Final = """Lend this machine to a network until Ctrl-C; members of its groups can use it.

The token is needed once: afterwards, also after a reboot, the same command goes on without it.
"""


def main() -> int:
    """Run the command of the process's arguments and return its exit code."""
    return run_program("fog", lambda: run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; every expected error becomes one line and an exit code."""
    if arguments == ["--version"]:
        write(f"fog {__version__}\n")
        return OK
    from fog_compute.cli.failures import failure_of, report, wants_json  # slow

    try:
        return _run(arguments)
    except BaseException as error:
        failure = failure_of(error)
        if failure is None:
            raise
        return report(failure, as_json=wants_json(arguments))


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["map"] and "--" in arguments:
        # Behind the inputs, only this tells what is an argument of the module.
        at = arguments.index("--")
        arguments = [*arguments[:at], *(f"--arg={text}" for text in arguments[at + 1 :])]
    code = build_app()(
        arguments, exit_on_error=False, print_error=False, result_action="return_value"
    )
    return code if isinstance(code, int) else OK


def build_app() -> App:
    """Describe all commands; nothing of them is imported yet."""
    from cyclopts import App  # slow; not needed for --version

    package = "fog_compute.cli"
    app = App(name="fog", help=_HELP, help_format="markdown", version=f"fog {__version__}")
    app.command(f"{package}.up:up", name="up", help="Start a fog on this machine.")
    app.command(f"{package}.down:down", name="down", help="Stop the fog that runs here.")
    app.command(f"{package}.status:status", name="status", help="Show what runs, and how it is.")
    app.command(f"{package}.run:run", name="run", help=_RUN)
    app.command(
        f"{package}.map:map_inputs", name="map", help="Run a module over many inputs as tasks."
    )
    app.command(
        f"{package}.doctor.command:doctor", name="doctor", help="Say what this machine lacks."
    )
    task = App(name="task", help="Look at tasks, and cancel them.")
    task.command(f"{package}.task:show", name="show", help="Show a task and its attempts.")
    task.command(f"{package}.task:ls", name="ls", help="List tasks, newest first.")
    task.command(f"{package}.task:files", name="files", help="List the files that a task left.")
    task.command(f"{package}.task:get", name="get", help="Write the files that a task left.")
    task.command(f"{package}.task_logs:logs", name="logs", help="Show what a task writes.")
    task.command(f"{package}.task:cancel", name="cancel", help="Cancel a task.")
    app.command(task)
    worker = App(name="worker", help="Lend this machine, and look at workers.")
    worker.command(f"{package}.worker:ls", name="ls", help="List the workers of the network.")
    worker.command(f"{package}.lend:start", name="start", help=_LEND)
    worker.command(f"{package}.lent:status", name="status", help="Show what this machine lends.")
    worker.command(f"{package}.lend:stop", name="stop", help="Lend this machine no longer.")
    app.command(worker)
    circuit = App(name="circuit", help="Look at circuits.")
    circuit.command(f"{package}.circuit:ls", name="ls", help="Show the circuits of all levels.")
    circuit.command(f"{package}.circuit:show", name="show", help="Show those of one level.")
    app.command(circuit)
    db = App(name="db", help="Look after the database of this fog.")
    db.command(f"{package}.db:check", name="check", help="Say what is wrong with it.")
    db.command(f"{package}.db:backup", name="backup", help="Copy it, with the files of its tasks.")
    db.command(f"{package}.db:restore", name="restore", help="Put a backup in its place.")
    db.command(f"{package}.db:vacuum", name="vacuum", help="Give unused room back to the disk.")
    app.command(db)
    bench = App(name="bench", help="Measure the fog that runs.")
    bench.command(f"{package}.bench:tasks", name="tasks", help="Measure tasks: times, rates.")
    app.command(bench)
    net = App(name="net", help="Let machines into this network, or join another.")
    net.command(f"{package}.net:token", name="token", help="Print a token for another machine.")
    net.command(f"{package}.net:tokens", name="tokens", help="List the tokens that were given out.")
    net.command(f"{package}.net:revoke", name="revoke", help="Take a token back.")
    net.command(f"{package}.net:groups", name="groups", help="List the groups of this fog.")
    net.command(f"{package}.net:join_net", name="join", help="Join a network with a token.")
    app.command(net)
    return app


if __name__ == "__main__":
    sys.exit(main())
