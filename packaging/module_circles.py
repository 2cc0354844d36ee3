"""A rule that no linter knows: modules of a crate that stand side by side depend one way only."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent

_COMMENT: Final = re.compile(r"//[^\n]*")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_PATH: Final = re.compile(r"\b(crate|self|super)((?:::(?:super|\w+))*)(::\{)?")
_TESTS: Final = re.compile(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*mod \w+ \{")
_TEST_MODULE: Final = re.compile(
    r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))? )?mod (\w+);"
)

Module = tuple[str, ...]
"""The names from the crate's root down."""


def circles(source: Path) -> list[str]:
    """Modules below `source` that depend on each other in a circle: one line each."""
    paths = [path for path in sorted(source.rglob("*.rs")) if path.name != "main.rs"]
    files = {_module(source, path): path for path in paths}
    edges: dict[Module, dict[Module, dict[Module, str]]] = {}
    hidden = {
        (*module, name)
        for module, path in files.items()
        for name in _TEST_MODULE.findall(path.read_text())
    }
    for module, path in files.items():
        if any(module[: len(test)] == test for test in hidden):
            continue
        for target in _uses(module, path.read_text(), files):
            parent, one, other = _apart(module, target)
            if one != other and parent + other in files:
                place = f"{'::'.join(module)} uses {'::'.join(target)}"
                edges.setdefault(parent, {}).setdefault(one, {}).setdefault(other, place)
    return [line for parent in sorted(edges) for line in _circles(parent, edges[parent])]


def _module(source: Path, path: Path) -> Module:
    parts = path.relative_to(source).with_suffix("").parts
    return () if parts == ("lib",) else parts


def _uses(module: Module, text: str, files: dict[Module, Path]) -> set[Module]:
    """The modules that `text`, the code of `module`, names by a path."""
    text = _TESTS.split(_COMMENT.sub("", text))[0]
    text = _STRING.sub('""', text)
    found = set()
    for head, rest, opens in _PATH.findall(text):
        names = [name for name in rest.split("::") if name]
        base = () if head == "crate" else module if head == "self" else module[:-1]
        while names and names[0] == "super":
            base, names = base[:-1], names[1:]
        if opens and not names:
            continue
        target = base
        for name in names:
            if (*target, name) not in files:
                break
            target += (name,)
        if target in files:
            found.add(target)
    for head, body in _groups(text):
        base = () if head == "crate" else module if head == "self" else module[:-1]
        for name in re.findall(r"(?:^|[{,])\s*(\w+)", body):
            if (*base, name) in files:
                found.add((*base, name))
    return found


def _groups(text: str) -> list[tuple[str, str]]:
    """Imports of several names from one place, such as `use crate::{a, b::C};`."""
    return re.findall(r"use (crate|self|super)::\{([^;]*)\};", text)


def _apart(one: Module, other: Module) -> tuple[Module, Module, Module]:
    """The module where the ways to two part, and the next step on each."""
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    return one[:shared], one[shared : shared + 1], other[shared : shared + 1]


def _circles(parent: Module, edges: dict[Module, dict[Module, str]]) -> list[str]:
    """One line for each set of siblings of which each reaches all others."""
    reach = {one: _reach(one, edges) for one in edges}
    lines, seen = [], set[Module]()
    for one in sorted(edges):
        if one in seen or one == () or one not in reach[one]:
            continue
        ring = sorted({one} | {other for other in reach[one] if one in reach.get(other, set())})
        seen.update(ring)
        places = [edges[a][b] for a in ring for b in ring if b in edges.get(a, {})]
        names = ", ".join("::".join(parent + name) for name in ring)
        lines.append(f"{names} depend on each other: {'; '.join(places)}")
    return lines


def _reach(start: Module, edges: dict[Module, dict[Module, str]]) -> set[Module]:
    reached, waiting = set[Module](), [start]
    while waiting:
        for other in edges.get(waiting.pop(), {}):
            if other != () and other not in reached:
                reached.add(other)
                waiting.append(other)
    return reached


def main() -> int:
    """Print every circle; 1 if there is one."""
    found = [
        f"crate {source.parent.name}: {line}"
        for source in sorted(ROOT.glob("crates/*/src"))
        for line in circles(source)
    ]
    for line in found:
        print(line, file=sys.stderr)  # noqa: T201 - the report of a command-line check
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
