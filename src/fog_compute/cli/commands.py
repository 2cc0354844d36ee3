"""All commands of ``fog``, by their words; none is imported before it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Final, NamedTuple

from cyclopts import App, Parameter

from fog_compute import __version__

__all__ = ["COMMANDS", "GROUPS", "Command", "build_app"]

_HELP: Final = """Run computations on idle machines of others; the network does not learn who asked.

`fog COMMAND --help` explains a command, with an example.

With `--json` a command prints one JSON document; where it fails that document has an `error` with
`type`, `message` and `exit_code`, and the message stands on standard error too.

Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 no fog is running, 124 out of time,
130 interrupted. `fog run` gives the exit code of the module itself where the task ran to its
end; a line on standard error then says so.

All state is below one folder: FOG_HOME, or the user's data folder.
"""


class Command(NamedTuple):
    """One command.

    Attributes:
        words: what is typed behind ``fog``.
        place: its module below this package, and its function there.
        summary: the line in lists of commands; its own page has the function's docstring.
    """

    words: str
    place: str
    summary: str


GROUPS: Final[Mapping[str, str]] = {
    "task": "Look at tasks, and cancel them.",
    "worker": "Lend this machine, and look at workers.",
    "node": "Look at nodes of the network.",
    "circuit": "Look at circuits.",
    "net": "Let machines into this network, or join another.",
    "chat": "Talk to people, online and offline.",
    "chat group": "Talk to several people at once.",
    "peer": "Say whom you know.",
    "key": "Say who else may ask this backend, and what.",
    "db": "Look after the database of this fog.",
    "bench": "Measure the fog that runs.",
}
"""What commands of several words begin with, each behind those that it begins with itself."""

COMMANDS: Final = tuple(
    Command(*row)
    for row in (
        ("up", "up:up", "Start a fog on this machine."),
        ("down", "down:down", "Stop the fog that runs here."),
        ("status", "status:status", "Show what runs, and how it is."),
        ("health", "health:health", "Say by the exit code whether the backend is well."),
        ("top", "top.command:top", "Watch what runs, live."),
        ("alerts", "alerts:alerts", "Show what the monitoring complains of."),
        ("run", "run:run", "Run a module or a script as a task, and print what it prints."),
        ("map", "map:map_inputs", "Run a module over many inputs as tasks."),
        ("logs", "logs:logs", "Show what the parts of this fog wrote to their logs."),
        ("doctor", "doctor.command:doctor", "Say what this machine lacks."),
        ("completion", "completion:completion", "Print what completes commands in a shell."),
        ("task show", "task:show", "Show a task and its attempts."),
        ("task ls", "task:ls", "List tasks, newest first."),
        ("task files", "task:files", "List the files that a task left."),
        ("task get", "task:get", "Write the files that a task left."),
        ("task logs", "task_logs:logs", "Show what a task writes."),
        ("task cancel", "task:cancel", "Cancel a task."),
        ("worker ls", "worker:ls", "List the workers of the network."),
        ("worker show", "worker:show", "Show one of them."),
        ("worker start", "lend:start", "Lend this machine to a network."),
        ("worker status", "lent:status", "Show what this machine lends."),
        ("worker stop", "lend:stop", "Lend this machine no longer."),
        ("node ls", "node:ls", "Count the nodes of the network, and list those of ours."),
        ("node show", "node:show", "Show one of them."),
        ("circuit ls", "circuit:ls", "Show the circuits of all levels."),
        ("circuit show", "circuit:show", "Show those of one level."),
        ("chat", "chat.command:chat", "Talk to somebody, or send lines of a pipe."),
        ("chat send", "chat.command:send", "Send one message, or a file."),
        ("chat log", "chat.command:log", "Print messages, and go on with what comes."),
        ("chat save", "chat.saving:save", "Write a file that came into a folder."),
        ("chat me", "chat.command:me", "Show who you are here."),
        ("chat who", "chat.command:who", "Show who can be reached."),
        ("chat trace", "chat.command:trace", "Show how a message would go."),
        ("chat cancel", "chat.command:cancel", "Give up what is not delivered yet."),
        ("chat group ls", "chat.groups:ls", "List the groups that you are in."),
        ("chat group new", "chat.groups:new", "Make a group."),
        ("chat group add", "chat.groups:add", "Take people into a group."),
        ("chat group remove", "chat.groups:remove", "Leave people out of a group."),
        ("chat group rename", "chat.groups:rename", "Give a group another name."),
        ("chat group leave", "chat.groups:leave", "Leave a group for good."),
        ("chat wipe", "chat.command:wipe", "Destroy your keys and messages, in an emergency."),
        ("peer ls", "peer:ls", "List whom you know, and whom you met."),
        ("peer add", "peer:add", "Make somebody a contact by their card."),
        ("peer card", "peer:card", "Print your own card."),
        ("peer verify", "peer:verify", "Compare words with somebody."),
        ("peer name", "peer:name", "Call somebody by a name of your own."),
        ("peer block", "peer:block", "Hear nothing more of somebody."),
        ("peer rm", "peer:rm", "Forget somebody."),
        ("key create", "key:create", "Make an API key, and print it."),
        ("key ls", "key:ls", "List the keys."),
        ("key revoke", "key:revoke", "Let nobody use a key any more."),
        ("db check", "db:check", "Say what is wrong with it."),
        ("db backup", "db:backup", "Copy it, with the files of its tasks."),
        ("db restore", "db:restore", "Put a backup in its place."),
        ("db vacuum", "db:vacuum", "Give unused room back to the disk."),
        ("bench tasks", "bench:tasks", "Measure tasks: times, rates."),
        ("net token", "net:token", "Print a token for another machine."),
        ("net tokens", "net:tokens", "List the tokens that were given out."),
        ("net revoke", "net:revoke", "Take a token back."),
        ("net groups", "net:groups", "List the groups of this fog."),
        ("net join", "net:join_net", "Join a network with a token."),
    )
)


def build_app(arguments: Sequence[str] = (), *, in_full: bool = False) -> App:
    """Describe all commands.

    The one that the arguments name, or each ``in_full``, is described by its docstring, for which
    it is imported; the others by their summaries.
    """
    app = App(
        name="fog",
        help=_HELP,
        help_format="markdown",
        version=f"fog {__version__}",
        default_parameter=Parameter(show_default=lambda value: value or None),
    )
    groups = {
        name: App(name=name.rpartition(" ")[2], help=text, version_flags=[])
        for name, text in GROUPS.items()
    }
    for command in COMMANDS:
        if command.words in groups:  # what a group does when no command of it is named
            if in_full or arguments[:1] == [command.words]:
                groups[command.words].default(_function(command))
            continue
        group, _, name = command.words.rpartition(" ")
        own = in_full or list(arguments[: len(command.words.split())]) == command.words.split()
        (groups[group] if group else app).command(
            f"fog_compute.cli.{command.place}",
            name=name,
            version_flags=[],
            **({} if own else {"help": command.summary}),
        )
    for name, group_app in groups.items():
        outer = name.rpartition(" ")[0]
        (groups[outer] if outer else app).command(group_app)
    return app


def _function(command: Command) -> Callable[..., int]:
    module, name = command.place.split(":")
    found: Callable[..., int] = getattr(import_module(f"fog_compute.cli.{module}"), name)
    return found
