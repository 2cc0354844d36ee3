"""``fog logs``: lines of several logs in the order of their times, within bounds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fog_compute.cli import log_lines, main
from fog_compute.cli.log_lines import Follower, Wanted, chosen_logs, last_lines, logs_of, parse
from fog_compute.layout import HomeLayout


def line(second: int, message: str, level: str = "INFO", **fields: object) -> str:
    at = f"2026-11-27T10:00:{second:02}.000000Z"
    return json.dumps({"timestamp": at, "level": level, "message": message, **fields}) + "\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HomeLayout:
    layout = HomeLayout(tmp_path / "home")
    monkeypatch.setenv("FOG_HOME", str(layout.root))
    for folder in (layout.logs, layout.net / "logs", layout.lent.logs):
        folder.mkdir(parents=True)
    (layout.logs / "backend.log").write_text(line(1, "a.began") + line(4, "a.ended", "ERROR"))
    (layout.net / "logs" / "middle-0.log").write_text(line(2, "b.began", role="middle"))
    (layout.net / "logs" / "middle-1.log").write_text("thread panicked\n" + line(3, "c.began"))
    (layout.lent.logs / "worker-0.log").write_text(line(5, "d.began", "DEBUG"))
    return layout


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    assert main.run(["logs", *words, "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_lines_of_all_parts_come_in_the_order_of_their_times(
    home: HomeLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    told = printed(capsys)

    assert [(one["part"], one["message"]) for one in told] == [
        ("middle-1", "thread panicked"),
        ("backend", "a.began"),
        ("middle-0", "b.began"),
        ("middle-1", "c.began"),
        ("backend", "a.ended"),
    ]
    assert set(logs_of(home)) == {"backend", "middle-0", "middle-1", "lent/worker-0"}


def test_text_shows_time_part_level_and_fields(
    home: HomeLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.logs / "backend.log").write_text(
        line(7, "x.failed\x1b[2J", "WARN", reason="r", exception="Traceback\n  x\nValueError: 7\n")
    )

    assert main.run(["logs", "backend", "middle-0"]) == 0

    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("middle-0  INFO   b.began role=middle")
    assert second.endswith("backend   WARN   x.failed [2J reason=r ValueError: 7")
    assert first[:5] == "2026-"


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (("--level", "error"), ["thread panicked", "a.ended"]),
        (("--level", "debug", "lent"), ["d.began"]),
        (("middle",), ["thread panicked", "b.began", "c.began"]),
        (("--lines", "2"), ["c.began", "a.ended"]),
        (("--lines", "0"), []),
        (("backend", "middle-0"), ["a.began", "b.began", "a.ended"]),
    ],
)
def test_what_is_wanted_is_chosen(
    home: HomeLayout,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    messages: list[str],
) -> None:
    assert home.logs.exists()
    assert [one["message"] for one in printed(capsys, *words)] == messages


def test_since_shows_all_that_is_no_older(
    home: HomeLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.logs / "backend.log").write_text(
        line(1, "a.old")
        + "".join(
            json.dumps({"timestamp": "2999-01-01T00:00:00Z", "level": "INFO", "message": f"a.{n}"})
            + "\n"
            for n in range(150)
        )
    )

    told = printed(capsys, "backend", "--since", "1h")

    assert [one["message"] for one in told] == [f"a.{n}" for n in range(150)]
    told = printed(capsys, "backend", "--since", "1h", "--lines", "3")
    assert [one["message"] for one in told] == ["a.147", "a.148", "a.149"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("nobody",), "'nobody' has no log here: there are backend, lent/worker-0, middle-0"),
        (("--lines", "-1"), "give 0 to 100000"),
        (("--since", "soon"), "duration"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    home: HomeLayout, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], reason: str
) -> None:
    assert home.logs.exists()
    assert main.run(["logs", *words]) in {1, 2}
    assert reason in capsys.readouterr().err


def test_log_of_a_program_of_others_is_named(
    home: HomeLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    own = home.monitoring_logs / "prometheus.log"
    own.parent.mkdir(parents=True)
    own.write_text("ts=2026-11-27T18:59:59Z level=info\n")

    assert main.run(["logs", "prometheus"]) == 2

    assert f"prometheus writes in words of its own: read {own}" in capsys.readouterr().err


def test_home_without_logs_says_what_begins_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))

    assert main.run(["logs"]) == 1

    assert "`fog up` begins them" in capsys.readouterr().err


def test_older_file_is_read_where_the_newer_has_too_little(home: HomeLayout) -> None:
    (home.logs / "backend.log.1").write_text(line(0, "a.older"))

    found = last_lines({"backend": home.logs / "backend.log"}, Wanted(), 3)

    assert [one.message for one in found] == ["a.older", "a.began", "a.ended"]


def test_long_log_is_read_from_its_end(home: HomeLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "FIRST_BYTES", 300)
    path = home.logs / "backend.log"
    path.write_text("".join(line(n, f"a.{n}") for n in range(50)))

    few = last_lines({"backend": path}, Wanted(), 2)
    many = last_lines({"backend": path}, Wanted(), 7)

    assert [one.message for one in few] == ["a.48", "a.49"]
    assert [one.message for one in many] == [f"a.{n}" for n in range(43, 50)]


def test_line_that_is_no_object_has_the_time_before_it() -> None:
    assert parse("x", b"\xff last words", "T").at == "T"
    assert parse("x", b"[1]", "T").level == ""
    assert parse("x", b'{"level": "warn", "message": "m"}', "T").at == "T"
    assert len(parse("x", b"n" * 1_000_000, "").message) == log_lines.LINE_LENGTH


def test_what_comes_is_followed_over_a_cut_and_into_new_logs(home: HomeLayout) -> None:
    follower = Follower(home, (), Wanted())
    path = home.logs / "backend.log"

    assert follower.new() == []
    with path.open("a") as log:
        log.write(line(6, "a.more") + line(7, "a.debug", "DEBUG") + '{"half": ')
    assert [one.message for one in follower.new()] == ["a.more"]
    with path.open("a") as log:
        log.write('"done"}\n')
    assert [one.fields for one in follower.new()] == [{"half": "done"}]
    path.write_text(line(8, "a.anew"))  # as a log that has become too long
    (home.logs / "worker-0.log").write_text(line(7, "w.began"))
    assert [one.message for one in follower.new()] == ["w.began", "a.anew"]
    path.unlink()
    assert follower.new() == []


def test_what_is_no_file_is_followed_by_nobody(home: HomeLayout) -> None:
    follower = Follower(home, (), Wanted())
    os.mkfifo(home.logs / "pipe.log")
    (home.logs / "zero.log").symlink_to("/dev/zero")
    (home.logs / "folder.log").mkdir()

    assert follower.new() == []
    found = chosen_logs(logs_of(home), ("pipe", "zero", "folder"))
    assert last_lines(found, Wanted(), 7) == []


def test_parts_are_named_whole_or_by_their_beginning() -> None:
    paths = {name: Path(name) for name in ("net", "network-0", "middle-0", "middle-10", "lent/a")}

    assert set(chosen_logs(paths, ["net"])) == {"net"}
    assert set(chosen_logs(paths, ["middle", "lent"])) == {"middle-0", "middle-10", "lent/a"}
    with pytest.raises(KeyError, match="mid"):
        chosen_logs(paths, ["mid"])


def test_following_prints_what_comes_and_ends_with_ctrl_c(
    home: HomeLayout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = iter([line(9, "z.came"), ""])

    def pause(_: float) -> None:
        try:
            more = next(rounds)
        except StopIteration:
            raise KeyboardInterrupt from None
        with (home.logs / "backend.log").open("a") as log:
            log.write(more)

    monkeypatch.setattr("fog_compute.cli.logs.time.sleep", pause)

    with pytest.raises(SystemExit, match="130"):
        main.run(["logs", "backend", "--follow", "--json"])

    told = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert [one["message"] for one in told] == ["a.began", "a.ended", "z.came"]
