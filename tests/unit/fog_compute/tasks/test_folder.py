"""The working directory of a task: names and room."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fog_compute.errors import InvalidTask
from fog_compute.tasks.folder import (
    PAGE_BYTES,
    check_guest_path,
    check_output_paths,
    check_room,
    check_tree,
    disk_bytes,
    is_plain_path,
)

names = st.text(st.sampled_from("ab/.\n\x7f\u00e4\ud800"), max_size=12)


@given(names)
def test_a_plain_path_stays_where_it_is_and_can_be_printed(path: str) -> None:
    if is_plain_path(path):
        assert path.isprintable()
        assert not {"", ".", ".."} & set(path.split("/"))
        assert path.encode()


@given(st.sets(names))
def test_output_paths_that_are_taken_can_all_be_written_in_their_order(paths: set[str]) -> None:
    plain = sorted(filter(is_plain_path, paths), key=str.encode)
    folders = {path[:i] for path in plain for i, c in enumerate(path) if c == "/"}
    files = [path for path in plain if path not in folders]
    check_output_paths(files)
    for spoiled in ([*files, "a/../b"], [*files, *files[:1]], list(reversed(files))):
        if spoiled != files:
            with pytest.raises(InvalidTask, match="output path"):
                check_output_paths(spoiled)
    if folders:
        with pytest.raises(InvalidTask, match="a file and a folder"):
            check_output_paths(sorted({*files, min(folders)}, key=str.encode))


@given(st.dictionaries(st.integers(0, 50).map(lambda i: f"d{i % 3}/{i}"), st.integers(0, 20_000)))
def test_each_name_and_each_folder_takes_pages_of_its_own(sizes: dict[str, int]) -> None:
    taken = disk_bytes(sizes)
    folders = {path.split("/")[0] for path in sizes}
    assert taken % PAGE_BYTES == 0
    assert taken >= sum(sizes.values()) + PAGE_BYTES * len(folders)
    assert taken <= sum(sizes.values()) + PAGE_BYTES * (len(sizes) + len(folders))
    assert taken >= PAGE_BYTES * (len(sizes) + len(folders))
    check_room(sizes, taken)
    if sizes:
        with pytest.raises(InvalidTask, match="scratch_bytes"):
            check_room(sizes, taken - 1)


@pytest.mark.parametrize("path", ["out", "tmp", "out/a", "tmp/a", "/a", "a/", "a//b", "d/" * 70])
def test_inputs_stand_beside_the_folders_that_a_task_has_for_itself(path: str) -> None:
    with pytest.raises(InvalidTask, match="is not allowed"):
        check_guest_path(path)


@pytest.mark.parametrize(
    ("path", "flaw"),
    [
        ("d/" * 65 + "x", "it lies 65 folders deep, and 64 are allowed"),
        ("a/" + "x" * 256, "a name in it has 256 bytes, and a name may have 255"),
        ("\u00e4" * 128, "a name in it has 256 bytes"),
        ("/".join(["x" * 200] * 6), "it has 1205 bytes, and a path may have 1024"),
        ("a\nb", "it holds a control character"),
        ("\udcff", "it is no UTF-8 text"),
        ("/etc/passwd", "it begins with '/': give a relative path such as 'data/a.txt'"),
        ("a/../b", "it holds '..': give a relative path"),
        ("./a", "it holds '.': give"),
        ("a//b", "it holds an empty name"),
        ("", "it is empty: give"),
    ],
)
def test_a_path_that_is_refused_is_told_its_one_flaw(path: str, flaw: str) -> None:
    """INV-WORDS-04."""
    with pytest.raises(InvalidTask, match=re.escape(f"is not allowed: {flaw}")):
        check_guest_path(path)


@pytest.mark.parametrize("path", ["a", "a/out", "a/tmp/b", "output", "tmp.txt", "d/" * 64 + "x"])
def test_inputs_stand_anywhere_else(path: str) -> None:
    check_guest_path(path)


def test_an_input_is_no_folder_of_another() -> None:
    check_tree({"a/b/c": 1, "a/b.c": 1, "a/bc": 1})
    with pytest.raises(InvalidTask, match="'a/b' is a file and a folder"):
        check_tree({"a/b/c": 1, "a/b": 1})
