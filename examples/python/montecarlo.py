"""Pi, by throwing points at a square: the same task gives the same points, another one others.

fog run montecarlo.py 200000
"""

import math
import random
import sys


def main() -> int:
    """Throw as many points as the first argument says."""
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    if points < 1:
        sys.exit("usage: montecarlo.py POINTS")
    inside = sum(math.hypot(random.random(), random.random()) < 1 for _ in range(points))
    share = inside / points
    error = 4 * math.sqrt(share * (1 - share) / points)
    print(f"{4 * share:.5f} ± {error:.5f} from {points} points")
    return 0


if __name__ == "__main__":
    sys.exit(main())
