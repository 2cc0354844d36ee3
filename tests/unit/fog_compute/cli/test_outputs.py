"""Files of a task are written whole, into their folder only, and over nothing."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fog_compute.client.folders import AlreadyThere, NotWritten, OutputFolder
from fog_compute.errors import FolderUnusable

from .backends import ID, RESULT, TASK, backend
from .test_commands import fog


def fill(data: bytes) -> Callable[[Callable[[bytes], object]], None]:
    def put_all(put: Callable[[bytes], object]) -> None:
        put(data)

    return put_all


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, links not followed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_files_are_written_with_the_folders_that_they_need(tmp_path: Path) -> None:
    with OutputFolder(str(tmp_path / "new" / "out"), force=False) as folder:
        folder.write("a", fill(b"1"))
        folder.write("b/c/d", fill(b"2"))
        folder.write("b/e", fill(b""))
    assert tree(tmp_path) == {"new/out/a": b"1", "new/out/b/c/d": b"2", "new/out/b/e": b""}


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "", "a\nb", "a//b", "."])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "inside"
    with (
        OutputFolder(str(inside), force=True) as folder,
        pytest.raises(NotWritten, match="not allowed"),
    ):
        folder.write(name, fill(b"x"))
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("force", [False, True])
def test_no_link_on_the_way_is_followed(tmp_path: Path, *, force: bool) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "file").symlink_to(outside / "target")
    with OutputFolder(str(inside), force=force) as folder:
        with pytest.raises(NotWritten, match="on the way is no folder"):
            folder.write("link/a", fill(b"x"))
        if force:  # the link itself is replaced
            folder.write("file", fill(b"x"))
        else:
            with pytest.raises(AlreadyThere):
                folder.write("file", fill(b"x"))
    assert tree(outside) == {}


def test_a_file_that_is_there_is_replaced_only_with_force(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    with OutputFolder(str(tmp_path), force=False) as folder:
        with pytest.raises(AlreadyThere):
            folder.write("a", fill(b"new"))
        with pytest.raises(NotWritten, match="no folder"):
            folder.write("a/b", fill(b"new"))
        assert tree(tmp_path) == {"a": b"old"}
    with OutputFolder(str(tmp_path), force=True) as folder:
        folder.write("a", fill(b"new"))
        with pytest.raises(NotWritten, match="directory"):
            folder.write("folder", fill(b"new"))
    assert tree(tmp_path) == {"a": b"new"}


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOTSUP])
def test_a_file_that_comes_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    """Also where a file system has no hard links."""

    def put_another(put: Callable[[bytes], object]) -> None:
        put(b"mine")
        (tmp_path / "a").write_bytes(b"another's")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    with OutputFolder(str(tmp_path), force=False) as folder:
        with pytest.raises(AlreadyThere):
            folder.write("a", put_another)
        monkeypatch.setattr(os, "link", refuse)
        with pytest.raises(AlreadyThere):
            folder.write("a", fill(b"mine"))
        folder.write("b", fill(b"mine"))
    assert tree(tmp_path) == {"a": b"another's", "b": b"mine"}


def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def breaks(put: Callable[[bytes], object]) -> None:
        put(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (
        OutputFolder(str(tmp_path), force=True) as folder,
        pytest.raises(NotWritten, match="No space left"),
    ):
        folder.write("a", breaks)
    assert tree(tmp_path) == {"a": b"old"}
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208


def test_a_folder_that_cannot_be_used_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FolderUnusable, match="cannot be used"):
        OutputFolder(str(tmp_path / "file"), force=False)


def test_get_writes_what_it_can_and_names_the_rest(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    (out / "b").write_bytes(b"old")
    listed = {"files": [{"path": path, "size": 1} for path in ("a", "b", "ü/c d")]}
    answers = [(200, json.dumps(listed).encode()), (200, b"A"), (200, b"C")]
    with backend(home, *answers) as asked:
        done = fog(home, "task", "get", ID, "--output-dir", str(out))

    assert done.returncode == 1
    assert done.stdout == "2 of 3 files written\n"
    assert "not written: b: there is one already: --force replaces it" in done.stderr
    assert tree(out) == {"a": b"A", "b": b"old", "ü/c d": b"C"}
    assert asked[-1] == f"GET /api/v1/tasks/{ID}/files/%C3%BC/c%20d"


def test_run_says_where_the_files_are_that_nobody_asked_for(tmp_path: Path) -> None:
    task = {**TASK, "result": {**RESULT, "files": [{"path": "a", "size": 3_000_000}]}}
    answers = [(200, json.dumps(task).encode()), (200, b"x"), (200, b"")]
    with backend(tmp_path, *answers):
        done = fog(tmp_path, "task", "show", ID, "--wait")

    assert done.returncode == 0, done.stderr
    assert f"the task left 1 file (2.9 MiB): `fog task get {ID}" in done.stderr
