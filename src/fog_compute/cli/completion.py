"""``fog completion``: what completes commands, their flags, ids of tasks and names in a shell."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from cyclopts import Parameter

from fog_compute.cli.commands import build_app
from fog_compute.cli.common import JsonFlag, print_json
from fog_compute.cli.output import write

__all__ = ["OF_TASKS", "completion"]

OF_TASKS: Final = ("show", "files", "get", "logs", "cancel")
"""The commands of ``fog task`` that take a task."""

PEOPLE: Final = (
    *(f"chat {name}" for name in ("send", "log", "save", "trace")),
    *(f"peer {name}" for name in ("verify", "name", "block", "rm")),
)
"""The commands that take a person."""

ROOMS: Final = tuple(f"chat group {name}" for name in ("add", "remove", "rename", "leave"))
"""The commands that take a group."""

# A shell may expand what is offered to it, and people choose their names themselves: of a name with
# any other character the digits are offered. A name ends where two spaces stand.
_SAFE: Final = "/^[A-Za-z0-9_.-]+$/"
_TASKS: Final = "fog task ls --limit 100 2>/dev/null | awk 'NR > 1 {print $1}'"
_PEOPLE: Final = (
    "fog peer ls 2>/dev/null | awk -F '  +'"
    f" 'NR > 1 {{print ($1 ~ {_SAFE}) ? $1 : substr($2, 1, 12)}}'"
)
_ROOMS: Final = (
    "echo near; fog chat group ls 2>/dev/null | awk -F '  +'"
    f" 'NR > 1 {{print ($1 ~ {_SAFE}) ? $1 : $2}}'"
)


def _either(words: tuple[str, ...]) -> str:
    return " | ".join(f'"{one}"' for one in words)


# Each asks the fog for names where one is wanted, and leaves all else to the generated part. Where
# that has nothing to say, as of a module, files are meant: zsh alone has to be told.
_NAMES: Final = f"""
_fog_names() {{
  case "$1" in
    *" --to") {_PEOPLE} ;;
    *" --room") {_ROOMS} ;;
    {_either(tuple(f"task {name}" for name in OF_TASKS))}) {_TASKS} ;;
    "chat" | {_either(PEOPLE)}) {_PEOPLE} ;;
    {_either(ROOMS)}) {_ROOMS} ;;
    "chat group new "* | "chat group add "* | "chat group remove "*) {_PEOPLE} ;;
  esac
}}
"""

_BASH: Final = f"""{_NAMES}
_fog_or_names() {{
  local names="" before="${{COMP_WORDS[*]:1:COMP_CWORD-1}}" cur="${{COMP_WORDS[COMP_CWORD]}}"
  [[ $cur != -* ]] && names="$(_fog_names "$before")"
  if [[ -z $names || $before == chat ]]; then
    _fog "$@"
  else
    COMPREPLY=()
  fi
  if [[ -n $names ]]; then
    mapfile -t -O ${{#COMPREPLY[@]}} COMPREPLY < <(compgen -W "$names" -- "$cur")
  fi
}}
complete -o default -F _fog_or_names fog
"""

_ZSH: Final = f"""{_NAMES}
_fog_or_names() {{
  local before="${{(j: :)words[2,CURRENT-1]}}" names=""
  [[ $PREFIX != -* ]] && names="$(_fog_names "$before")"
  [[ -n $names ]] && compadd -- ${{(f)names}}
  if [[ -z $names || $before == chat ]]; then
    local -i before_it=$compstate[nmatches]
    _cyclopts_fog "$@"
    (( compstate[nmatches] > before_it )) || [[ -n $names ]] || _files
  fi
}}
compdef _fog_or_names fog
"""


def _fish() -> str:
    lines = []
    for text, wants in (
        (_TASKS, [f"task {name}" for name in OF_TASKS]),
        (_PEOPLE, ["chat", *PEOPLE, *(f"chat group {name}" for name in ("new", "add", "remove"))]),
        (_ROOMS, [*ROOMS]),
    ):
        asked = text.replace("$", chr(92) + "$")
        for words in wants:
            seen = "; and ".join(f"__fish_seen_subcommand_from {one}" for one in words.split())
            lines.append(f"complete -c fog -f -n '{seen}' -a \"({asked})\"")
    for flag, text in (("to", _PEOPLE), ("room", _ROOMS)):
        asked = text.replace("$", chr(92) + "$")
        here = "__fish_seen_subcommand_from chat"
        lines.append(f"complete -c fog -x -n '{here}' -l {flag} -a \"({asked})\"")
    return "\n".join(["", *lines, ""])


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="The shell that you use.")],
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Print what completes commands, flags, values, ids of tasks, people and rooms in a shell.

    For bash, put `eval "$(fog completion bash)"` into ~/.bashrc; for zsh the same with its name,
    behind `compinit`, into ~/.zshrc; for fish, `fog completion fish | source` into its config.fish.

    For example: `fog completion bash`
    """
    script = build_app().generate_completion(prog_name="fog", shell=shell)
    script += _fish() if shell == "fish" else {"bash": _BASH, "zsh": _ZSH}[shell]
    if json:
        print_json({"shell": shell, "script": script})
    else:
        write(script)
    return 0
