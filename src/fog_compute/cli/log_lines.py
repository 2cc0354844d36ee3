"""Lines of the logs of a fog: found, read within bounds, put in the order of their times."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from fog_compute.cli.log_files import LOG_BYTES
from fog_compute.layout import HomeLayout
from fog_compute.reading import open_state, read_tail
from fog_compute.text import one_line

__all__ = [
    "LEVELS",
    "Follower",
    "Line",
    "Place",
    "Wanted",
    "chosen_logs",
    "last_lines",
    "logs_of",
    "parse",
    "shown",
]

LEVELS: Final = ("debug", "info", "warning", "error")

FIRST_BYTES: Final = 256 * 1024
"""What is read of the end of a log at first; all of it where that is not enough."""

LINE_LENGTH: Final = 40_000
"""Characters of one line: a traceback has 20,000, each of which JSON may escape."""

_RANKS: Final = {"TRACE": 0, "DEBUG": 0, "INFO": 1, "WARN": 2, "ERROR": 3}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log.

    Attributes:
        at: when, RFC 3339 in UTC; of a line without a time, that of the one before it.
        part: whose log it is in.
        level: upper case; empty where the line says none, as the last words of a crash.
        message: what happened.
        fields: the whole of a line that is an object.
    """

    at: str
    part: str
    level: str
    message: str
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines somebody wants.

    Attributes:
        level: the least severe one, of `LEVELS`; lines without a level are always wanted.
        since: the earliest time, as `Line.at`; empty for any.
    """

    level: str = "info"
    since: str = ""

    def has(self, line: Line) -> bool:
        """Whether a line is one of them."""
        rank = _RANKS.get(line.level, len(LEVELS))
        return rank >= LEVELS.index(self.level) and line.at >= self.since


def logs_of(layout: HomeLayout) -> dict[str, Path]:
    """The logs of a home by the names of the parts that write them, in their order."""
    folders = {"": layout.logs, "lent/": layout.lent.logs}
    found = {
        f"{place}{path.stem}": path
        for place, folder in folders.items()
        for path in sorted(folder.glob("*.log"))
    }
    # Below the local net each of its processes has one.
    found |= {path.stem: path for path in sorted((layout.net / "logs").glob("*.log"))}
    return found


def chosen_logs(logs: Mapping[str, Path], names: Sequence[str]) -> dict[str, Path]:
    """The logs that somebody names: by a whole name, or all that begin so, as `middle` does.

    Raises:
        KeyError: a name is of none; its argument is that name.
    """
    chosen: dict[str, Path] = {}
    for name in names:
        meant = {one: path for one, path in logs.items() if one == name or _begins(one, name)}
        if not meant:
            raise KeyError(name)
        chosen |= meant
    return chosen or dict(logs)


def _begins(one: str, name: str) -> bool:
    return one.startswith((f"{name}-", f"{name}/"))


def parse(part: str, data: bytes, before: str) -> Line:
    """Read one line of a part's log; ``before`` is the time of the one in front of it."""
    text = data[:LINE_LENGTH].decode(errors="replace")
    try:
        fields = msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError):
        return Line(before, part, "", text, {})
    at, message = str(fields.get("timestamp", before)), str(fields.get("message", text))
    return Line(at, part, str(fields.get("level", "")).upper(), message, fields)


def last_lines(logs: Mapping[str, Path], wanted: Wanted, most: int) -> list[Line]:
    """The last lines of all logs together that are wanted, ``most`` at most, oldest first.

    A log that cannot be read, or is gone, has none.
    """
    lines: list[Line] = []
    for part, path in logs.items():
        lines += _last_of(part, path, wanted, most)
    lines.sort(key=lambda line: line.at)
    return lines[-most:] if most else []


def _last_of(part: str, path: Path, wanted: Wanted, most: int) -> deque[Line]:
    found: deque[Line] = deque(maxlen=most)
    for limit in (FIRST_BYTES, LOG_BYTES * 2):
        found.clear()
        data, whole = _tail(path, limit)
        found.extend(filter(wanted.has, _lines_in(part, data)))
        if whole or len(found) == most:
            return found
    older, _ = _tail(path.with_suffix(".log.1"), LOG_BYTES * 2)
    return deque((*filter(wanted.has, _lines_in(part, older)), *found), maxlen=most)


def _tail(path: Path, limit: int) -> tuple[bytes, bool]:
    """The whole lines at the end of a file, and whether nothing was before them."""
    try:
        data = read_tail(path, limit)
        older = path.suffix == ".log" and path.with_suffix(".log.1").exists()
    except OSError:
        return b"", True
    if len(data) < limit:
        return data, not older
    return data.partition(b"\n")[2], False


def _lines_in(part: str, data: bytes, before: str = "") -> Iterator[Line]:
    """All lines of a piece of a log; ``before`` is the time of the one in front of it."""
    for each in data.splitlines():
        if each.strip():
            line = parse(part, each, before)
            before = line.at
            yield line


class Place(NamedTuple):
    """How far a log was read.

    Attributes:
        read: bytes.
        cut: when it had been cut last; another number means that it was since.
    """

    read: int
    cut: int


class Follower:
    """Reads what comes to logs, those too that come into being, or are cut and begun anew."""

    def __init__(
        self,
        layout: HomeLayout,
        names: Sequence[str],
        wanted: Wanted,
        *,
        places: Mapping[str, Place] | None = None,
        most_bytes: int = LOG_BYTES,
    ) -> None:
        """Begin at the end of what is there now, or where another one stood.

        Args:
            layout: the home whose logs they are.
            names: whose, as in `chosen_logs`.
            wanted: which lines.
            places: what `places` of that other one gave; logs that it did not know are read whole.
            most_bytes: what one look reads of one log.
        """
        self._layout: Final = layout
        self._names: Final = names
        self._wanted: Final = wanted
        self._most_bytes: Final = most_bytes
        logs = self._logs()
        self._read: Final[dict[str, Place]] = (
            {part: Place(_size(path), _cut(path)) for part, path in logs.items()}
            if places is None
            else dict(places)
        )
        self._before: Final[dict[str, str]] = {}

    @property
    def places(self) -> Mapping[str, Place]:
        """How far each log was read."""
        return dict(self._read)

    def _logs(self) -> dict[str, Path]:
        logs = logs_of(self._layout)
        try:
            return chosen_logs(logs, self._names)
        except KeyError:  # it is gone, and may come again
            return {}

    def new(self) -> list[Line]:
        """The wanted lines that came since the last look, in the order of their times."""
        lines: list[Line] = []
        for part, path in self._logs().items():
            lines += self._new_of(part, path)
        lines.sort(key=lambda line: line.at)
        return lines

    def _new_of(self, part: str, path: Path) -> Iterator[Line]:
        cut = _cut(path)
        place = self._read.get(part, Place(0, cut))
        if place.cut != cut or _size(path) < place.read:
            # What was not read of it before it was cut is in the older file.
            rest = self._piece(path.with_suffix(".log.1"), place.read)
            if rest:
                self._read[part] = place._replace(read=place.read + len(rest))
                yield from self._lines(part, rest)
                return
            place = Place(0, cut)
        data = self._piece(path, place.read)
        self._read[part] = place._replace(read=place.read + len(data))
        yield from self._lines(part, data)

    def _piece(self, path: Path, begun: int) -> bytes:
        """Whole lines from a place on; what has no end yet only where it is too long for one."""
        try:
            with open_state(path) as descriptor:
                data = os.pread(descriptor, self._most_bytes, begun)
        except OSError:
            return b""
        end = data.rfind(b"\n") + 1
        return data if end == 0 and len(data) >= LINE_LENGTH else data[:end]

    def _lines(self, part: str, data: bytes) -> Iterator[Line]:
        for line in _lines_in(part, data, self._before.get(part, "")):
            self._before[part] = line.at
            if self._wanted.has(line):
                yield line


def _cut(path: Path) -> int:
    """When a log was cut last, as a number that differs each time."""
    try:
        return path.with_suffix(".log.1").stat().st_mtime_ns
    except OSError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def shown(line: Line, width: int) -> str:
    """A line for people, without its time: part, level, event and what belongs to that."""
    known = {"timestamp", "message", "level", "target", "service", "node", "exception"}
    beside = "".join(f" {name}={value}" for name, value in line.fields.items() if name not in known)
    traced = line.fields.get("exception")
    last = str(traced).rstrip().rpartition("\n")[2] if traced else ""
    text = one_line(f"{line.message}{beside}{f'  {last}' if last else ''}", LINE_LENGTH)
    return f"{line.part:{width}}  {line.level[:5]:5}  {text}"
