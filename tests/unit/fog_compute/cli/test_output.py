"""Tables: columns that scripts cut, and a head that stands out where a person sees it."""

from __future__ import annotations

import pytest

from fog_compute.cli import common
from fog_compute.cli.common import print_table

HEAD = ("WHO", "WHAT")
ROWS = (("w-1", "[red]two words[/]\n\x1b[2J"), ("worker-22", "x"))
PLAIN = ["WHO        WHAT", "w-1        [red]two words[/] [2J", "worker-22  x"]


def test_columns_line_up_with_nothing_but_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(HEAD, ROWS)
    assert capsys.readouterr().out.splitlines() == PLAIN
    print_table(HEAD, ())
    assert capsys.readouterr().out == "WHO  WHAT\n"


@pytest.mark.parametrize("colour", [True, False])
def test_head_stands_out_on_a_terminal_and_words_stay_words(
    colour: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(common, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    print_table(HEAD, ROWS)
    out = capsys.readouterr().out
    shown = out.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert [line.rstrip() for line in shown.splitlines()] == PLAIN
    assert out.startswith("\x1b[1m")
    assert "\x1b[3" not in out  # no colours at all


def test_table_that_is_wider_than_the_terminal_is_not_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(common, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    print_table(HEAD, ROWS)
    assert capsys.readouterr().out.splitlines() == PLAIN
