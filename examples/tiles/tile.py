"""One tile of a picture of the Mandelbrot set, as bytes of red, green and blue.

python tile.py TILE TILES SIZE, such as: python tile.py 5 4 64 >tile.rgb
"""

import sys

STEPS = 60
LEFT, TOP, WIDTH = -2.0, -1.25, 2.5


def colour(steps: int) -> bytes:
    """Return what a point has that escapes after so many steps."""
    if steps == STEPS:
        return bytes(3)
    share = steps / STEPS
    return bytes((int(255 * share), int(255 * share**0.5), int(160 + 95 * share)))


def escape(x: float, y: float) -> int:
    """Return after how many steps a point leaves the circle of radius 2."""
    point = complex(x, y)
    z = 0j
    for steps in range(STEPS):
        if abs(z) > 2:
            return steps
        z = z * z + point
    return STEPS


def main() -> int:
    """Compute tile TILE of TILES × TILES, with SIZE × SIZE pixels, row by row."""
    tile, tiles, size = map(int, sys.argv[1:])
    step = WIDTH / (tiles * size)
    left, top = tile % tiles * size, tile // tiles * size
    for y in range(top, top + size):
        row = (colour(escape(LEFT + x * step, TOP + y * step)) for x in range(left, left + size))
        sys.stdout.buffer.write(b"".join(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
