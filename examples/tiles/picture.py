"""A picture in tiles, each computed by a task, put together here and written as PNG.

python picture.py picture.png
"""

import asyncio
import struct
import sys
import zlib
from pathlib import Path

import fog_compute

TILES = 4
SIZE = 64


async def tiles(script: Path) -> list[bytes]:
    """Let each tile be computed somewhere; return their pixels, row by row of tiles."""

    def progress(so_far: fog_compute.Progress) -> None:
        print(f"\r{so_far.done} of {so_far.total} tiles", end="", file=sys.stderr)

    async with fog_compute.connect() as fog:
        results = fog.map(
            script,
            range(TILES * TILES),
            as_="argument",
            args=["{}", TILES, SIZE],
            concurrency=8,
            progress=progress,
        )
        found = [result.stdout async for result in results]
    print(file=sys.stderr)
    return found


def png(parts: list[bytes]) -> bytes:
    """Put tiles together as a PNG file (RFC 2083)."""
    side, line = TILES * SIZE, 3 * SIZE
    rows = []
    for y in range(side):
        at = y // SIZE * TILES
        first = y % SIZE * line
        across = parts[at : at + TILES]
        rows.append(b"\0" + b"".join(part[first : first + line] for part in across))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def main() -> int:
    """Compute the picture and write it."""
    if len(sys.argv) != 2:
        sys.exit("usage: picture.py FILE.png")
    data = png(asyncio.run(tiles(Path(__file__).with_name("tile.py"))))
    Path(sys.argv[1]).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
