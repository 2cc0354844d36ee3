"""Write the reference of the command line from its help: `python packaging/cli_reference.py`.

A test says when it must be written anew.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from cyclopts import App

from fog_compute.cli.commands import COMMANDS, GROUPS, build_app

PAGE: Final = Path(__file__).resolve().parents[1] / "docs/reference/cli.md"

_INTRODUCTION: Final = """\
# Commands

Made from the help of all commands by `packaging/cli_reference.py`.

"""

_DEFAULT: Final = re.compile(r" \*\[default: ([^\]]*)\]\*")
_NONE: Final = ("False", "()", '""')


def page() -> str:
    """The whole page."""
    app = build_app(in_full=True)
    parts = [_INTRODUCTION + _tidied(app.help if isinstance(app.help, str) else "")]
    for name, summary in {"": "", **GROUPS}.items():
        if name:
            parts.append(f"## fog {name}\n\n{summary}\n")
        for command in COMMANDS:
            group, _, word = command.words.rpartition(" ")
            if command.words in GROUPS:
                if command.words == name:  # what the group does without another word
                    parts[-1] = _alone(app, name)
                continue
            if group != name:
                continue
            own = app
            for part in command.words.split():
                own = own[part]
            level = 3 if group else 2
            text = own.generate_docs(heading_level=level, usage_name=f"fog {command.words}")
            parts.append(_tidied(text.replace(f"# {word}\n", f"# fog {command.words}\n", 1)))
    return "\n".join(part.strip() + "\n" for part in parts)


def _alone(app: App, name: str) -> str:
    """What a group does when no command of it is named."""
    own = App(name=name, help_format="markdown", version_flags=[])
    own.default_parameter = app.default_parameter
    own.default(app[name].default_command)
    text = own.generate_docs(heading_level=2, usage_name=f"fog {name}")
    return _tidied(text.replace(f"# {name}\n", f"# fog {name}\n", 1))


def _tidied(text: str) -> str:
    """Say what a flag is by default in words, and only where that is something."""
    return _DEFAULT.sub(lambda found: "" if found[1] in _NONE else f" By default {found[1]}.", text)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    sys.stdout.write(f"{PAGE}\n")
