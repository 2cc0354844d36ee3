"""Pages name only targets, commands, flags, settings and metrics that exist."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cli_reference
from fog_compute.cli.commands import COMMANDS, GROUPS
from fog_compute.cli.net import TOKEN_FILE
from fog_compute.client.places import VARIABLES
from fog_compute.config import Settings

SPAN = re.compile(r"`([^`\n]+)`")
BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROGRAM = re.compile(r"^(?:[\w./-]*/)?(make|fog|betanet)\b(.*)$")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
HEADING = re.compile(r"^##+ (fog [a-z ]+)$", re.MULTILINE)
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
SETTING = re.compile(r"\bFOG_[A-Z][A-Z_]*\b")
EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"
METRIC = re.compile(r"\b(?:betanet|fog)_[a-z_]+_(?:total|seconds|bytes|status)\b")


ALONE = {command.words for command in COMMANDS} & set(GROUPS)
"""Groups that do something without a command of theirs."""

# Their spans quote words of the wire and banned words, which may look like commands; and what is
# made from the help itself need not be looked up in it again.
NO_COMMANDS = ("docs/glossary.md", "docs/spec/", "docs/reference/cli.md")


def commands(page: str) -> list[tuple[str, str]]:
    """The commands of a page's console blocks and code spans: program and the rest of the line."""
    lines = [
        line.removeprefix("$ ").split("  #")[0].strip()
        for block in BLOCK.findall(page)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("$ ")
    ]
    found = [PROGRAM.match(text) for text in [*lines, *SPAN.findall(page)]]
    return [(match[1], match[2].strip()) for match in found if match]


def sections_of(page: str) -> dict[str, str]:
    """The sections of the page of commands by what is typed."""
    introduction, *sections = HEADING.split(page)
    return {"fog": introduction, **dict(zip(sections[::2], sections[1::2], strict=True))}


@functools.cache
def help_of(program: str, *words: str) -> str | None:
    """What `program words --help` says, or None if there is no such command.

    That of ``fog`` stands on a page that a test of its own holds against the commands.
    """
    if program == "fog":
        return sections_of(cli_reference.PAGE.read_text("utf-8")).get(" ".join((program, *words)))
    path = Path(sys.executable).with_name(program)
    done = subprocess.run(
        [path, *words, "--help"],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", "NO_COLOR": "1", "HOME": "/nonexistent"},
    )
    return done.stdout if done.returncode == 0 else None


def subcommands(rest: str) -> list[str]:
    """The words before the first argument that is no subcommand."""
    words: list[str] = []
    for word in rest.split():
        if not re.fullmatch(r"[a-z]+", word):
            break
        words.append(word)
    return words[:2]


def test_make_targets_exist(root: Path, pages: dict[str, str]) -> None:
    targets = set(TARGET.findall((root / "Makefile").read_text("utf-8")))

    unknown = [
        f"{name}: make {word}"
        for name, text in pages.items()
        for program, rest in commands(text)
        if program == "make"
        for word in rest.split()
        if re.fullmatch(r"[a-z-]+", word) and word not in targets
    ]

    assert unknown == [], "\n".join(unknown)


def test_readme_starts_with_the_two_commands(pages: dict[str, str]) -> None:
    first = [f"{program} {rest}" for program, rest in commands(pages["README.md"])][:2]

    assert first == ["make demo", "make test"]


@pytest.mark.parametrize("program", ["fog", "betanet"])
def test_commands_and_flags_exist(program: str, pages: dict[str, str]) -> None:
    wrong: list[str] = []
    checked = 0
    for name, text in pages.items():
        if name.startswith(NO_COMMANDS):
            continue
        for found, rest in commands(text):
            if found != program:
                continue
            words = subcommands(rest)
            known = help_of(program, *words)
            if known is None and not (program == "fog" and words[0] in set(GROUPS) - ALONE):
                known = help_of(program, *words[:1])  # the second word is an argument
            if known is None or (words and help_of(program, words[0]) is None):
                wrong.append(f"{name}: {program} {rest}")
                continue
            checked += 1
            wrong.extend(
                f"{name}: {program} {' '.join(words)} has no {flag}"
                for flag in FLAG.findall(rest)
                if flag not in FLAG.findall(known) and flag not in {"--help", "--version"}
            )

    assert checked > 0
    assert wrong == [], "\n".join(wrong)


def test_settings_exist(pages: dict[str, str], sources: dict[str, str]) -> None:
    fields = {f"FOG_{name.upper()}" for name in Settings.model_fields}
    built = {
        n for name, text in sources.items() if "packaging" in name for n in SETTING.findall(text)
    }
    of_compose = set(SETTING.findall(EXAMPLE.read_text("utf-8")))

    unknown = {
        f"{name}: {setting}"
        for name, text in pages.items()
        for setting in SETTING.findall(text)
        if setting not in fields | built | of_compose | {TOKEN_FILE, *VARIABLES}
    }

    assert unknown == set(), "\n".join(sorted(unknown))


def test_metrics_exist(pages: dict[str, str], sources: dict[str, str]) -> None:
    code = "\n".join(text for name, text in sources.items() if not name.startswith("tests/"))
    tail = re.compile(r"^betanet_|_(?:total)$")

    unknown = {
        f"{name}: {metric}"
        for name, text in pages.items()
        if name != "docs/reference/metrics.md"  # which is made from what is exported
        for metric in METRIC.findall(text)
        if tail.sub("", metric) not in code
    }

    assert unknown == set(), "\n".join(sorted(unknown))
