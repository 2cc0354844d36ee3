from __future__ import annotations

from pathlib import Path

import pytest

import module_circles


def crate(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("use crate::b::Thing;", "use crate::a::Other;"),
        ("use super::b;", "use super::a;"),
        ("use crate::{c, b::{X, Y}};", "fn f() -> crate::a::T { todo() }"),
        ("use crate::b::Thing;", "use crate::c;"),
    ],
)
def test_two_siblings_that_use_each_other_are_named(tmp_path: Path, a: str, b: str) -> None:
    files = {"lib.rs": "mod a; mod b; mod c;", "a.rs": a, "b.rs": b, "c.rs": "use crate::a::Other;"}
    (line,) = module_circles.circles(crate(tmp_path, files))
    assert line.startswith(("a, b depend on each other: ", "a, b, c depend on each other: "))
    assert "a uses b" in line


def test_a_circle_through_modules_further_down_is_one_of_their_parents(tmp_path: Path) -> None:
    files = {
        "lib.rs": "mod top;",
        "top.rs": "mod a; mod b;",
        "top/a.rs": "mod deep;",
        "top/a/deep.rs": "use super::super::b::Thing;",
        "top/b.rs": "use crate::top::a::deep::Other;",
    }
    (line,) = module_circles.circles(crate(tmp_path, files))
    assert line == (
        "top::a, top::b depend on each other: top::a::deep uses top::b; top::b uses top::a::deep"
    )


@pytest.mark.parametrize(
    "b",
    [
        "use crate::c::Thing;",
        "// use crate::a::Thing;",
        'const TEXT: &str = "crate::a::Thing";',
        "#[cfg(test)]\nmod tests {\n    use crate::a::Thing;\n}",
        "use crate::Thing;",
        "#[cfg(test)]\nmod tests;",
    ],
)
def test_one_way_comments_texts_tests_and_what_the_parent_shows_are_no_circle(
    tmp_path: Path, b: str
) -> None:
    files = {
        "lib.rs": "mod a; mod b; mod c;",
        "a.rs": "use crate::b::Thing;",
        "b.rs": b,
        "b/tests.rs": "use crate::a::Thing;",
        "c.rs": "mod below;",
        "c/below.rs": "use super::Thing;",
    }
    if not b.endswith("tests;"):
        del files["b/tests.rs"]
    assert module_circles.circles(crate(tmp_path, files)) == []
