"""`fog top`: the tables of a moment, the screen and its keys, and a backend that goes and comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import DataTable, Static

from fog_compute.cli import main
from fog_compute.cli.monitoring.asking import Alert
from fog_compute.cli.top import command, snapshot
from fog_compute.cli.top.screen import Top
from fog_compute.cli.top.snapshot import PAGES, Page, Snapshot, page_of
from fog_compute.cli.top.watch import Away, Seen, Watch
from fog_compute.client.answers import TaskRow
from fog_compute.client.places import Home
from fog_compute.layout import HomeLayout
from tests.unit.fog_compute.cli.backends import LEVEL, ROW, STATUS, Answer, backend

ESCAPE = "a\n\x1b[2J[red]b"


def answers(*tasks: dict[str, object]) -> list[Answer]:
    bodies = (STATUS, {"tasks": list(tasks)}, {"levels": [LEVEL]})
    return [(200, json.dumps(body).encode()) for body in bodies]


def seen(*tasks: dict[str, Any], **status: Any) -> Snapshot:
    rows: Any = tasks
    whole: Any = {**STATUS, **status}
    alerts = [Alert("Grave", "firing", "critical", "", "", "2026", ESCAPE, "", "")]
    return Snapshot(whole, rows, [LEVEL], [], alerts)  # type: ignore[list-item]  # as it is in JSON


def row(number: int, state: str = "queued") -> dict[str, Any]:
    return {**ROW, "id": f"task-{number}", "state": state, "tries": number}


def test_every_table_is_of_one_line_cells_whatever_the_words_are() -> None:
    net = {**STATUS["net"], "warnings": [ESCAPE], "name": ESCAPE}  # type: ignore[dict-item]
    worker = {**STATUS["workers"][0], "name": ESCAPE, "level": None, "groups": ["lab"]}  # type: ignore[index]
    shown = seen({**row(1), "reason": ESCAPE * 90}, net=net, workers=[worker])
    for name in PAGES:
        page = page_of(name, shown)
        assert page.rows
        for cells in page.rows:
            assert len(cells) == len(page.head)
            assert all(cell.isprintable() and len(cell) <= 80 for cell in cells)
    assert ("3 hops", "1 of 9 lost, no round trip yet") in page_of("net", shown).rows
    assert page_of("workers", shown).rows[0][:3] == ("a [2J[red]b", "any", "ready")


def test_net_that_is_not_joined_is_told_with_what_is_wrong() -> None:
    lost = Snapshot({**STATUS, "net": None}, (), (), ["no consensus"])  # type: ignore[typeddict-item]
    assert page_of("net", lost).rows == (("trouble", "no consensus"), ("net", "not joined"))
    assert lost.summary == "no net; workers: 1 of 1 ready; tasks: 1 done"


def test_rows_are_sorted_by_a_column_with_numbers_before_words() -> None:
    page = Page(("A", "B"), (("x", "10"), ("y", "9"), ("z", "-")))
    assert [cells[0] for cells in page.sorted_by(1, backwards=False).rows] == ["y", "x", "z"]
    assert [cells[0] for cells in page.sorted_by(1, backwards=True).rows] == ["z", "x", "y"]
    assert [cells[0] for cells in page.sorted_by(None, backwards=True).rows] == ["z", "y", "x"]
    assert page.sorted_by(None, backwards=False) is page


# The screen


def text_of(app: Top, name: str) -> str:
    return str(app.query_one(f"#{name}", Static).render())


def rows_of(app: Top) -> list[list[str]]:
    table = app.query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(at)] for at in range(table.row_count)]


@pytest.mark.asyncio
async def test_keys_choose_the_table_its_order_and_whether_it_moves() -> None:
    paused: list[bool] = []
    ready: list[bool] = []
    first = seen(row(2), row(1, "failed"))
    app = Top("/srv/x", first, on_ready=lambda: ready.append(True), on_pause=paused.append)
    async with app.run_test(size=(80, 24)) as pilot:
        assert ready == [True]
        assert "[tasks]" in text_of(app, "pages")
        assert [cells[0] for cells in rows_of(app)] == ["task-2", "task-1"]
        assert not app.query_one("#trouble").display
        await pilot.press("s")
        assert [cells[0] for cells in rows_of(app)] == ["task-1", "task-2"]
        assert "by TASK" in text_of(app, "pages")
        await pilot.press("r")
        assert [cells[0] for cells in rows_of(app)] == ["task-2", "task-1"]
        assert "reversed" in text_of(app, "pages")
        await pilot.press(*"sssss", "s")
        assert "by " not in text_of(app, "pages")
        await pilot.press("p")
        assert "paused" in text_of(app, "head")
        await pilot.press("p", "tab")
        assert paused == [True, False]
        assert "[workers]" in text_of(app, "pages")
        assert rows_of(app)[0][0] == "w"
        await pilot.press("shift+tab", "shift+tab")
        assert "[alerts]" in text_of(app, "pages")
        await pilot.press("q")
    assert not app.is_running


@pytest.mark.asyncio
async def test_only_cells_that_changed_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[tuple[int, int]] = []
    update = DataTable.update_cell_at

    def note(table: DataTable[Any], at: Any, value: Any, *, update_width: bool) -> None:
        changed.append(tuple(at))
        update(table, at, value, update_width=update_width)

    monkeypatch.setattr(DataTable, "update_cell_at", note)
    app = Top("/x", seen(row(1), row(2)), on_ready=lambda: None, on_pause=lambda _: None)
    async with app.run_test(size=(80, 24)):
        app.see(seen(row(1), row(2)))
        assert changed == []
        app.see(seen(row(1), row(2, "running"), row(3)))
        assert changed == [(1, 1)]
        assert [cells[1] for cells in rows_of(app)] == ["queued", "running", "queued"]
        app.see(seen(row(1)))
        assert changed == [(1, 1)]
        assert len(rows_of(app)) == 1


@pytest.mark.asyncio
async def test_what_was_last_seen_stays_while_the_backend_is_away() -> None:
    app = Top("/x", seen(row(1)), on_ready=lambda: None, on_pause=lambda _: None)
    async with app.run_test(size=(80, 24)):
        app.see(Away("the backend\nis away"))
        assert text_of(app, "trouble") == "! the backend is away"
        assert app.query_one("#trouble").display
        assert len(rows_of(app)) == 1
        app.see(seen(row(1)))
        assert not app.query_one("#trouble").display


# The watch


def test_backend_that_goes_is_told_and_looked_for_again(tmp_path: Path) -> None:
    heard: list[Seen] = []
    watch = Watch(Home(HomeLayout(tmp_path)), heard.append, 0.0)
    watch.look()
    with backend(tmp_path, *answers(row(1))):
        watch.look()
    watch.look()
    with backend(tmp_path, *answers(row(2))):
        watch.look()
    kinds = [type(one) for one in heard]
    assert kinds == [Away, Snapshot, Away, Snapshot]
    assert isinstance(heard[0], Away)
    assert heard[0].why.startswith("no fog is running")
    watch._lost("the backend is away")
    assert heard[-1] == Away("the backend is away")


def test_watch_hands_nothing_on_after_its_end(tmp_path: Path) -> None:
    heard: list[Seen] = []
    watch = Watch(Home(HomeLayout(tmp_path)), heard.append, 0.0)
    watch.pause(on=True)
    watch.start()
    watch.stop()
    watch.look()
    assert heard == []
    again = Watch(Home(HomeLayout(tmp_path)), lambda _: again.stop(), 0.0)
    again.run()


# The command


def test_snapshot_says_that_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    with backend(tmp_path, *answers(row(1))) as asked:
        assert main.run(["top"]) == 0
    done = capsys.readouterr()
    assert done.err == "fog: this is one snapshot: on a terminal, `fog top` goes on\n"
    assert done.out.startswith("3 nodes; workers: 1 of 1 ready; tasks: 1 done\n")
    for head in ("TASK ", "WORKER ", "WHAT ", "LEVEL ", "SERVICE "):
        assert f"\n{head}" in done.out
    assert asked[1] == f"GET /api/v1/tasks?limit={snapshot.TASKS}"


def test_terminal_gets_the_live_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Sequence[TaskRow]] = []

    def run(app: Top) -> None:
        app._on_pause(True)  # the watch asks nothing
        app._on_ready()
        ran.append(app._snapshot.tasks)

    monkeypatch.setenv("FOG_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(command, "is_terminal", lambda: True)
    monkeypatch.setattr("os.isatty", lambda _: True)
    monkeypatch.setattr(Top, "run", run)
    with backend(tmp_path, *answers(row(1))):
        assert main.run(["top"]) == 0
    assert [task["id"] for task in ran[0]] == ["task-1"]


def test_watch_speaks_in_the_thread_of_the_screen(tmp_path: Path) -> None:
    shown: list[Seen] = []

    class Screen(Top):
        def see(self, seen: Seen) -> None:
            shown.append(seen)
            self.exit()

    async def watched() -> None:
        app = Screen(
            "/x",
            seen(),
            on_ready=lambda: watch.start(),
            on_pause=lambda paused: watch.pause(on=paused),
        )
        watch = Watch(Home(HomeLayout(tmp_path)), lambda one: command.hand_on(app, one), 9.0)
        async with app.run_test():
            async with asyncio.timeout(30):
                while not shown:
                    await asyncio.sleep(0.01)
        watch.stop()

    asyncio.run(watched())
    assert isinstance(shown[0], Away)
