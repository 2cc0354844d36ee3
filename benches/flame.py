"""Draw where processor time goes, as a flame graph.

Reads what `perf script` prints, from standard input, and writes SVG to standard output::

    perf record -e cpu-clock -F 499 --call-graph dwarf,16384 -p PID -- sleep 5
    perf script | python -m benches.flame "a node under load" > docs/benchmarks/node.flame.svg

Each box is a function, as wide as the share of samples in which it was on the stack; what it called
stands above it. Threads are at the bottom.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

WIDTH, ROW, NARROWEST = 1200.0, 16, 1.2
"""Size of the picture, height of a function, and the width below which none is drawn."""

CHARACTER = 6.4
COLOURS = {"kernel": "#d9a05b", "ours": "#1f77b4", "others": "#9a9a9a"}
OURS = ("betanet_", "e2e::", "load::")

FRAME = re.compile(r"\s+[0-9a-f]+ (?P<name>.+) \((?P<object>[^)]*)\)$")
HASH = re.compile(r"::h[0-9a-f]{16}$|\+0x[0-9a-f]+$")


@dataclass(slots=True)
class Box:
    """A function in its place on the stack."""

    samples: int = 0
    kind: str = "others"
    above: dict[str, Box] = field(default_factory=dict)


def stacks(lines: Iterable[str]) -> Iterator[list[tuple[str, str]]]:
    """Each sample's frames with their kinds, the thread first."""
    thread, frames = "", list[tuple[str, str]]()
    for line in lines:
        if not line.strip():
            if thread:
                yield [(thread, "others"), *reversed(frames)]
            thread, frames = "", []
        elif not line[0].isspace():
            # The thread's name may hold spaces; its number follows.
            thread = re.split(r"\s+\d+", line, maxsplit=1)[0]
        elif match := FRAME.match(line.rstrip()):
            name = HASH.sub("", HASH.sub("", match["name"]))
            if match["object"].startswith("[kernel"):
                frames.append((name, "kernel"))
            elif name != "[unknown]":
                frames.append((name, "ours" if any(own in name for own in OURS) else "others"))


def pile(samples: Iterable[list[tuple[str, str]]]) -> Box:
    """All samples on top of each other."""
    root = Box()
    for frames in samples:
        root.samples += 1
        box = root
        for name, kind in frames:
            box = box.above.setdefault(name, Box(kind=kind))
            box.samples += 1
    return root


def draw(box: Box, left: float, level: int, unit: float) -> Iterator[tuple[int, str]]:
    """What is above a box, with the level of each piece."""
    for name, above in sorted(box.above.items()):
        width = above.samples * unit
        if width >= NARROWEST:
            room = int(width / CHARACTER)
            share = f"{100 * width / WIDTH:.1f} %"
            piece = (
                f"<g><title>{escape(name)}: {share}</title><rect x='{left:.1f}' y='-{ROW}'"
                f" width='{width - 0.5:.1f}' height='{ROW - 1}' fill='{COLOURS[above.kind]}'/>"
                f"<text x='{left + 2:.1f}' y='-4'>{escape(name[:room])}</text></g>"
            )
            yield level, piece
            yield from draw(above, left, level + 1, unit)
        left += width


def render(title: str, root: Box) -> str:
    """The picture."""
    pieces = list(draw(root, 0.0, 0, WIDTH / max(root.samples, 1)))
    levels = 1 + max((level for level, _ in pieces), default=0)
    height = ROW * (levels + 2)
    legend = f"{escape(title)}: {root.samples} samples; blue is ours, brown the kernel"
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH:.0f} {height}'>",
        "<rect width='100%' height='100%' fill='#ffffff'/>",
        "<g font-family='monospace' font-size='10' fill='#111111'>",
        f"<text x='10' y='14' font-size='12'>{legend}</text>",
        *(
            f"<g transform='translate(0 {height - ROW * level})'>{piece}</g>"
            for level, piece in pieces
        ),
        "</g>",
        "</svg>",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Draw what comes on standard input."""
    sys.stdout.write(render(sys.argv[1], pile(stacks(sys.stdin))))


if __name__ == "__main__":
    main()
