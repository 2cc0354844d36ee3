"""A rule that no linter knows: one name, one thing, among the types that modules show."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent

CRATES: Final = (
    "betanet-sphinx",
    "betanet-mix",
    "betanet-noise",
    "betanet-node",
    "betanet-testkit",
)
"""Those that build on each other. What `betanet-py` shows to Python is called as there."""

ALIKE: Final = "betanet-sphinx/src/x25519/"
"""Ways to multiply: each has the same types, for numbers in lanes of its own."""

_SHOWN: Final = re.compile(
    r"^pub(?:\([^)]*\))? (?:struct|enum|trait|type|union) (\w+)", re.MULTILINE
)


def doubles(crates: Path) -> list[str]:
    """Names that several types have which more than their own module sees: one line each."""
    places: dict[str, list[str]] = defaultdict(list)
    for crate in CRATES:
        for path in sorted((crates / crate / "src").rglob("*.rs")):
            place = path.relative_to(crates).as_posix()
            if not place.startswith(ALIKE):
                for name in _SHOWN.findall(path.read_text("utf-8")):
                    places[name].append(place)
    return [
        f"one name, one thing: {name} is {', '.join(found)}"
        for name, found in sorted(places.items())
        if len(found) > 1
    ]


def main() -> int:
    """Print every name of several things; 1 if there is one."""
    lines = doubles(ROOT / "crates")
    for line in lines:
        print(line, file=sys.stderr)  # noqa: T201 - the report of a command-line check
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
