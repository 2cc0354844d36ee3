"""``fog completion``: what completes commands, their flags and ids of tasks in a shell."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from cyclopts import Parameter

from fog_compute.cli.commands import build_app
from fog_compute.cli.common import JsonFlag, print_json
from fog_compute.cli.output import write

__all__ = ["OF_TASKS", "completion"]

OF_TASKS: Final = ("show", "files", "get", "logs", "cancel")
"""The commands of ``fog task`` that take a task."""

_IDS: Final = "fog task ls --limit 100 2>/dev/null | awk 'NR > 1 {print $1}'"

# Each asks the fog for ids where one is wanted, and leaves all else to the generated part. Where
# that has nothing to say, as of a module, files are meant: zsh alone has to be told.
_BASH: Final = f"""
_fog_or_tasks() {{
  if [[ ${{COMP_WORDS[1]}} == task && $COMP_CWORD -eq 3 && ${{COMP_WORDS[3]}} != -* &&
        " {" ".join(OF_TASKS)} " == *" ${{COMP_WORDS[2]}} "* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$({_IDS})" -- "${{COMP_WORDS[3]}}")
  else
    _fog "$@"
  fi
}}
complete -o default -F _fog_or_tasks fog
"""

_ZSH: Final = f"""
_fog_or_tasks() {{
  if [[ $words[2] == task && $CURRENT -eq 4 && $PREFIX != -* &&
        " {" ".join(OF_TASKS)} " == *" $words[3] "* ]]; then
    compadd -- ${{(f)"$({_IDS})"}}
  else
    local -i before=$compstate[nmatches]
    _cyclopts_fog "$@"
    (( compstate[nmatches] > before )) || _files
  fi
}}
compdef _fog_or_tasks fog
"""

_FISH: Final = f"""
complete -c fog -f \\
  -n '__fish_seen_subcommand_from task; and __fish_seen_subcommand_from {" ".join(OF_TASKS)}' \\
  -a "({_IDS.replace("$", chr(92) + "$")})"
"""


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="The shell that you use.")],
    /,
    *,
    json: JsonFlag = False,
) -> int:
    """Print what completes commands, their flags and values, and ids of tasks, in a shell.

    For bash, put `eval "$(fog completion bash)"` into ~/.bashrc; for zsh the same with its name,
    behind `compinit`, into ~/.zshrc; for fish, `fog completion fish | source` into its config.fish.

    For example: `fog completion bash`
    """
    script = build_app().generate_completion(prog_name="fog", shell=shell)
    script += {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell]
    if json:
        print_json({"shell": shell, "script": script})
    else:
        write(script)
    return 0
