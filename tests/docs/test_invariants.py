"""A promise of the specification stands in the test that proves it."""

from __future__ import annotations

import re

ID = re.compile(r"\bINV-[A-Z0-9]+-\d{2,}\b")
PROMISE = re.compile(r"^[-*|#\s]*(?:\*\*|`)?(INV-[A-Z0-9]+-\d{2,})\b", re.MULTILINE)


def stated(pages: dict[str, str]) -> list[str]:
    """The ids that open a line, a list item or a row of the specification."""
    return [
        identifier
        for name, text in pages.items()
        if name.startswith("docs/spec/")
        for identifier in PROMISE.findall(text)
    ]


def promised(pages: dict[str, str]) -> list[str]:
    """The ids that the specification names: stated, or woven into its text."""
    spec = "\n".join(text for name, text in pages.items() if name.startswith("docs/spec/"))
    return sorted(set(ID.findall(spec)))


def is_test(name: str, text: str) -> bool:
    """Whether a source file holds tests."""
    if name.startswith("tests/docs/"):
        return False
    if name.endswith(".py"):
        return name.startswith("tests/") and "def test_" in text
    return bool(re.search(r"#\[(?:\w+::)?test\b|\bproptest! ?\{", text))


def proved(sources: dict[str, str]) -> dict[str, set[str]]:
    """The ids that tests carry, each with the files."""
    found: dict[str, set[str]] = {}
    for name, text in sources.items():
        if is_test(name, text):
            for identifier in ID.findall(text):
                found.setdefault(identifier, set()).add(name)
    return found


def test_every_part_of_the_specification_promises_something(pages: dict[str, str]) -> None:
    silent = [
        name
        for name, text in pages.items()
        if name.startswith("docs/spec/") and not PROMISE.findall(text)
    ]

    assert stated(pages) != []
    assert silent == []


def test_a_promise_is_made_once(pages: dict[str, str]) -> None:
    ids = stated(pages)

    assert sorted(ids) == sorted(set(ids))


def test_every_promise_is_proved(pages: dict[str, str], sources: dict[str, str]) -> None:
    tests = proved(sources)

    assert [identifier for identifier in promised(pages) if identifier not in tests] == []


def test_tests_prove_only_what_is_promised(pages: dict[str, str], sources: dict[str, str]) -> None:
    known = set(promised(pages))

    assert {i: sorted(names) for i, names in proved(sources).items() if i not in known} == {}


def test_prose_names_only_what_is_promised(pages: dict[str, str]) -> None:
    known = set(promised(pages))

    assert {n: ids - known for n, t in pages.items() if (ids := set(ID.findall(t))) - known} == {}
