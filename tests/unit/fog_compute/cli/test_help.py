"""The help of all commands, the page that is made of it, and completion."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import typing
from collections.abc import Callable
from importlib import import_module

import pytest
from cyclopts import CycloptsError

import cli_reference
from fog_compute.cli import main
from fog_compute.cli.commands import COMMANDS, Command, build_app
from fog_compute.cli.common import JsonFlag, TaskId
from fog_compute.cli.completion import OF_TASKS, PEOPLE, ROOMS

EXAMPLE = re.compile(r"^For example: `fog ([^`]+)`$", re.MULTILINE)


def function_of(command: Command) -> Callable[..., int]:
    module, name = command.place.split(":")
    found: Callable[..., int] = getattr(import_module(f"fog_compute.cli.{module}"), name)
    return found


def hints(command: Command) -> dict[str, object]:
    return typing.get_type_hints(function_of(command), include_extras=True)


def test_page_of_the_commands_is_that_of_their_help() -> None:
    assert cli_reference.PAGE.read_text("utf-8") == cli_reference.page(), (
        "run python packaging/cli_reference.py"
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_help_has_an_example_that_can_be_typed(command: Command) -> None:
    (example,) = EXAMPLE.findall(inspect.cleandoc(function_of(command).__doc__ or ""))
    assert f"{example} ".startswith(f"{command.words} ")
    try:
        build_app(example.split()).parse_args(
            example.split(), exit_on_error=False, print_error=False
        )
    except CycloptsError as error:
        pytest.fail(str(error))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_command_speaks_json(command: Command) -> None:
    assert hints(command)["json"] == JsonFlag


def test_help_of_a_command_is_its_docstring_and_lists_are_summaries(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["task", "logs", "--help"]) == 0
    assert "Of a running task" in capsys.readouterr().out
    assert main.run(["task", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Show what a task writes." in shown
    assert "Of a running task" not in shown


def test_ids_are_completed_where_a_task_is_wanted() -> None:
    wanting = [
        command.words.removeprefix("task ")
        for command in COMMANDS
        if command.words.startswith("task ") and hints(command).get("task_id") == TaskId
    ]
    assert sorted(wanting) == sorted(OF_TASKS)


def test_people_are_completed_where_one_is_wanted() -> None:
    wanting = [
        command.words
        for command in COMMANDS
        if command.words.split()[0] in ("chat", "peer") and "who" in hints(command)
    ]
    assert sorted(wanting) == sorted(("chat", *PEOPLE))
    groups = [
        command.words
        for command in COMMANDS
        if command.words.startswith("chat group ") and "group" in hints(command)
    ]
    assert sorted(groups) == sorted(ROOMS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_commands_and_flags(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("doctor", "privacy", "confidential", "fog task ls --limit 100"):
        assert word in script
    assert main.run(["completion", shell, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"shell": shell, "script": script}


def test_bash_completes_commands_flags_values_and_ids(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", "bash"]) == 0
    script = capsys.readouterr().out

    def completed(*words: str) -> set[str]:
        ask = (
            "fog() { case $1 in\n"
            "task) printf 'TASK  STATE\\n01kaa  queued\\n01kbb  failed\\n' ;;\n"
            "peer) printf 'NAME  FINGERPRINT\\nada  adadadadadad\\n'\n"
            "  printf '%s  b0b0b0b0b0b0b0b0\\n' '$(exit 9)' 'the boss' ;;\n"
            "chat) printf 'GROUP  ID\\nlab  9999\\nat home  8888\\n' ;;\n"
            "esac; }\n"
            f"COMP_WORDS=(fog {' '.join(map(repr, words))}); COMP_CWORD={len(words)}\n"
            "_fog_or_names; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
        )
        done = subprocess.run(
            ["bash", "--norc"], input=script + ask, capture_output=True, check=True, text=True
        )
        assert done.stderr == ""
        return set(done.stdout.split())

    assert completed("do") == {"doctor", "down"}
    assert completed("task", "") == {"show", "ls", "files", "get", "logs", "cancel"}
    assert completed("task", "show", "01k") == {"01kaa", "01kbb"}
    assert completed("task", "show", "01kb") == {"01kbb"}
    assert completed("task", "show", "--wa") == {"--wait"}
    assert completed("run", "--privacy", "con") == {"confidential"}
    people = {"ada", "b0b0b0b0b0b0"}
    assert completed("chat", "") > people | {"send", "group"}
    for words in (*PEOPLE, "chat cancel --to", "chat group new lab", "chat group add lab ada"):
        assert completed(*words.split(), "") == people
    for words in (*ROOMS, "chat send --room", "chat log ada --room"):
        assert completed(*words.split(), "") == {"near", "lab", "8888"}
    assert completed("chat", "send", "a") == {"ada"}
    assert "--file" in completed("chat", "send", "--")
    assert completed("circuit", "show", "se") == {"secret"}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_files_where_the_generated_part_has_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["completion", "zsh"]) == 0
    own = capsys.readouterr().out.rpartition("_fog_names() {")[2]
    for found, then in ((0, "generated\nfiles\n"), (1, "generated\n")):
        stubs = (
            "compdef() { }; typeset -A compstate=(nmatches 7); words=(fog run x); CURRENT=3\n"
            f"_cyclopts_fog() {{ print generated; compstate[nmatches]=$((7 + {found})) }}\n"
            "_files() { print files }\n"
        )
        done = subprocess.run(
            ["zsh", "-f"],
            input=f"{stubs}_fog_names() {{{own}_fog_or_names\n",
            capture_output=True,
            check=True,
            text=True,
        )
        assert (done.stdout, done.stderr) == (then, "")
