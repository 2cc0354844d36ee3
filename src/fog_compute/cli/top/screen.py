"""The live view: one table at a time, of which only the cells that changed are drawn anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Static

from fog_compute.cli.top.snapshot import PAGES, Page, Snapshot, page_of
from fog_compute.cli.top.watch import Away, Seen
from fog_compute.text import one_line

__all__ = ["Top"]

LINE: Final = 200


class Top(App[None]):
    """Shows what it is handed; keys choose the table, its order, and whether it moves."""

    CSS: ClassVar[str] = """
    Static { height: 1; }
    #trouble { display: none; text-style: bold; }
    DataTable { height: 1fr; }
    """
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("tab", "turn(1)", "next table", priority=True),
        Binding("shift+tab", "turn(-1)", "table before", show=False, priority=True),
        Binding("s", "sort", "sort"),
        Binding("r", "reverse", "reverse"),
        Binding("p", "pause", "pause"),
    ]

    def __init__(
        self,
        home: str,
        first: Snapshot,
        *,
        on_ready: Callable[[], object],
        on_pause: Callable[[bool], object],
    ) -> None:
        """Show ``first`` until there is more.

        ``on_ready`` is called once the screen stands; ``on_pause`` hears whether it stands still.
        """
        super().__init__()
        self._on_ready: Final = on_ready
        self._home: Final = one_line(home, LINE)
        self._on_pause: Final = on_pause
        self._at = 0
        self._column: int | None = None
        self._backwards = False
        self._paused = False
        self._snapshot = first
        self._shown = Page((), ())
        self._why = ""

    def compose(self) -> ComposeResult:
        """Two lines, a line of trouble, the table, the keys."""
        yield Static(id="head", markup=False)
        yield Static(id="pages", markup=False)
        yield Static(id="trouble", markup=False)
        yield DataTable(cursor_type="row", zebra_stripes=False)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Show what is known."""
        self._draw()
        self._on_ready()

    def see(self, seen: Seen) -> None:
        """Show what is now; while the backend is away, what was last stays, and that is said."""
        if isinstance(seen, Away):
            self._why = seen.why
        else:
            self._snapshot, self._why = seen, ""
        self._draw()

    # Keys

    def action_turn(self, by: int) -> None:
        """Show another table, in its own order."""
        self._at = (self._at + by) % len(PAGES)
        self._column, self._backwards = None, False
        self._draw()

    def action_sort(self) -> None:
        """Sort by the next column; behind the last comes the order in which the fog tells them."""
        columns = len(self._shown.head)
        after = 0 if self._column is None else self._column + 1
        self._column = after if after < columns else None
        self._draw()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._backwards = not self._backwards
        self._draw()

    def action_pause(self) -> None:
        """Stand still, or move again."""
        self._paused = not self._paused
        self._on_pause(self._paused)
        self._draw()

    # Drawing

    def _draw(self) -> None:
        snapshot = self._snapshot
        paused = "paused, p goes on; " if self._paused else ""
        self._line("head", f"fog {self._home}: {paused}{snapshot.summary}")
        page = page_of(PAGES[self._at], snapshot)
        self._show(page.sorted_by(self._column, backwards=self._backwards))
        names = (f"[{name}]" if at == self._at else f" {name} " for at, name in enumerate(PAGES))
        order = "" if self._column is None else f"  by {self._shown.head[self._column]}"
        self._line("pages", "".join(names) + order + (", reversed" if self._backwards else ""))
        trouble = self._why or "; ".join(snapshot.troubles)
        line = self._line("trouble", f"! {trouble}")
        line.display = bool(trouble)

    def _line(self, name: str, text: str) -> Static:
        line = self.query_one(f"#{name}", Static)
        line.update(Text(one_line(text, LINE), no_wrap=True, overflow="ellipsis"))
        return line

    def _show(self, page: Page) -> None:
        """Bring the table to a page; what is as it was is not touched."""
        table: DataTable[Text] = self.query_one(DataTable)
        if page.head != self._shown.head:
            table.clear(columns=True)
            table.add_columns(*page.head)
            self._shown = Page(page.head, ())
        before = self._shown.rows
        for at, (new, old) in enumerate(zip(page.rows, before, strict=False)):
            for column, cell in enumerate(new):
                if cell != old[column]:
                    table.update_cell_at(Coordinate(at, column), Text(cell), update_width=True)
        for row in page.rows[len(before) :]:
            table.add_row(*map(Text, row))
        for at in range(len(before) - 1, len(page.rows) - 1, -1):
            table.remove_row(table.coordinate_to_cell_key(Coordinate(at, 0)).row_key)
        self._shown = page
