"""Write the dashboards to ``monitoring/grafana/dashboards``: `make dashboards`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from monitoring.grafana.boards import betanet, compute, logs, messaging, overview
from monitoring.grafana.boards.frame import as_json

FOLDER: Final = Path(__file__).resolve().parents[1] / "dashboards"


def texts() -> dict[str, str]:
    """The text of each dashboard by the name of its file."""
    boards = (overview, betanet, compute, messaging, logs)
    return {
        f"{board.__name__.rpartition('.')[2]}.json": as_json(board.dashboard()) for board in boards
    }


def main() -> None:
    """Write each file, and remove those of dashboards that are no more."""
    written = texts()
    for old in FOLDER.glob("*.json"):
        if old.name not in written:
            old.unlink()
    for name, text in written.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
