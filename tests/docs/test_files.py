"""Pages hang together, files stay readable, and nothing tells where it was written."""

from __future__ import annotations

import re
from pathlib import Path

LONGEST = 800
# Written by tools, or by somebody long dead.
NOT_WRITTEN_HERE = {
    "Cargo.lock",
    "LICENSE-APACHE",
    "docs/reference/cli.md",
    "docs/reference/openapi.json",
    "examples/text/opticks.txt",
    "requirements/dev.txt",
    "requirements/uv.txt",
}
SEEDS = Path("crates/fuzz/seeds")
TEXT = {
    ".cfg", ".css", ".html", ".ini", ".js", ".json", ".lock", ".md", ".py", ".pyi", ".rs", ".sh",
    ".toml", ".ts", ".tsx", ".txt", ".yaml", ".yml", "",
}  # fmt: skip
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|Users|work|mnt|opt/[a-z]+env)/[\w.]")
REGISTRY = re.compile(
    r"(?:index\.)?crates\.io/api|static\.crates\.io|pypi\.org|files\.pythonhosted\.org"
    r"|registry\.npmjs\.org|registry\.yarnpkg\.com"
)


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as common renderers make them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in HEADING.findall(page)
    }


def without_code(page: str) -> str:
    """A page without its code blocks and code spans."""
    return re.sub(
        r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    )


def test_links_between_pages_resolve(root: Path, pages: dict[str, str]) -> None:
    broken = []
    for name, text in pages.items():
        for target in LINK.findall(without_code(text)):
            if "://" in target or target.startswith("mailto:"):
                continue
            if name.startswith("crates/") and re.fullmatch(r"[\w:]+", target):
                continue  # names an item: rustdoc checks it
            path, _, anchor = target.partition("#")
            found = (root / name).parent / path if path else root / name
            page = found.resolve()
            if not page.exists() or not page.is_relative_to(root):
                broken.append(f"{name}: {target}")
            elif anchor and anchor not in anchors(page.read_text("utf-8")):
                broken.append(f"{name}: {target} (no such heading)")

    assert broken == [], "\n".join(broken)


def test_every_page_is_reachable_from_the_readme(root: Path, pages: dict[str, str]) -> None:
    seen: set[str] = set()
    open_pages = ["README.md"]
    while open_pages:
        name = open_pages.pop()
        if name in seen or name not in pages:
            continue
        seen.add(name)
        for target in LINK.findall(without_code(pages[name])):
            if "://" not in target:
                linked = ((root / name).parent / target.partition("#")[0]).resolve()
                if linked.is_dir():
                    open_pages.extend(page for page in pages if (root / page).parent == linked)
                elif linked.is_relative_to(root):
                    open_pages.append(str(linked.relative_to(root)))

    unreachable = [n for n in pages if n.startswith("docs/") and n not in seen]

    assert unreachable == [], "\n".join(unreachable)


def test_files_stay_short(root: Path, tracked: list[Path]) -> None:
    long = {
        name: lines
        for path in tracked
        if path.suffix in TEXT
        and not {"vectors", "dashboards"}.intersection(path.parts)
        and (name := str(path.relative_to(root))) not in NOT_WRITTEN_HERE
        and (lines := path.read_bytes().count(b"\n")) > LONGEST
    }

    assert long == {}


def test_nothing_tells_where_it_was_written(root: Path, tracked: list[Path]) -> None:
    own = Path(__file__).resolve()
    found = [
        f"{path.relative_to(root)}:{number}: {match.group()}"
        for path in tracked
        if path.suffix in TEXT and path != own and path.parent.parent != root / SEEDS
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for match in [MACHINE.search(line), REGISTRY.search(line)]
        if match
    ]

    assert found == [], "\n".join(found)


def test_decisions_are_numbered_and_short(pages: dict[str, str]) -> None:
    decisions = {n: t for n, t in pages.items() if n.startswith("docs/adr/")}
    numbers = sorted(int(Path(name).name.split("-")[0]) for name in decisions)

    assert numbers == list(range(1, len(numbers) + 1))
    for name, text in decisions.items():
        number = Path(name).name.split("-")[0]
        assert text.startswith(f"# {int(number)}. "), name
        assert "\nStatus: " in text, name
        for part in ("## Context", "## Decision", "## Consequences"):
            assert part in text, f"{name} lacks {part}"
        assert len(text.split()) <= 600, f"{name} is longer than a page"
