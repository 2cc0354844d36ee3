"""One name means one thing: what the glossary bans stands nowhere."""

from __future__ import annotations

import re
from pathlib import Path

GLOSSARY = "docs/glossary.md"
# The pages and tests that must name a banned word in order to ban it.
EXEMPT = {GLOSSARY}


def banned_words(glossary: str) -> set[str]:
    """The words set as code in the third column of the glossary's tables."""
    words: set[str] = set()
    for line in glossary.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3:
            words.update(re.findall(r"`([^`]+)`", cells[2]))
    return words


def as_pattern(word: str) -> re.Pattern[str]:
    """Match a phrase as prose, as snake_case, as kebab-case and as CamelCase."""
    parts = [re.escape(part) for part in word.split()]
    spaced = r"[\s_-]+".join(parts)
    camel = "".join(part.capitalize() for part in word.split())
    return re.compile(
        rf"(?<![A-Za-z])(?i:{spaced})(?:s|es)?(?![A-Za-z])|(?<![A-Z]){camel}(?![a-z])"
    )


def test_glossary_bans_words(pages: dict[str, str]) -> None:
    assert len(banned_words(pages[GLOSSARY])) >= 20


def test_pattern_finds_every_spelling() -> None:
    pattern = as_pattern("peer list")

    for text in ("a peer list", "Peer lists", "peer_list()", "peer-list", "struct PeerList {"):
        assert pattern.search(text), text
    for text in ("speer list", "peer listing", "PeerListing"):
        assert not pattern.search(text), text


def test_banned_words_stand_nowhere(pages: dict[str, str], sources: dict[str, str]) -> None:
    patterns = {word: as_pattern(word) for word in banned_words(pages[GLOSSARY])}

    found = [
        f"{name}:{number}: {word}"
        for name, text in {**pages, **sources}.items()
        if name not in EXEMPT and not Path(name).is_relative_to("tests/docs")
        for lower in [text.lower()]
        for word, pattern in patterns.items()
        if word.split()[0].lower() in lower  # a pattern takes long where nothing is to be found
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]

    assert found == [], "\n".join(found)


def test_glossary_names_a_thing_once(pages: dict[str, str]) -> None:
    names = [
        line.split("|")[1].strip()
        for line in pages[GLOSSARY].splitlines()
        if line.startswith("|") and not line.startswith(("| use", "|---"))
    ]

    assert len(names) == len(set(names))


def test_pages_promise_equal_bytes_of_attempts_and_of_equal_seeds_alone(
    pages: dict[str, str],
) -> None:
    more = re.compile(r"(two|every|each) runs? of (the same|a) task|same task gives", re.IGNORECASE)

    assert [name for name, text in pages.items() if more.search(text)] == []
