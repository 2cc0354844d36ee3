# ruff: noqa: INP001 -- a script beside its output, no package
"""Make `delay_quantile.json`: delays of docs/spec/delays.md by arithmetic of 60 decimal digits.

It shares nothing with the Rust code but the definition,

    delay = floor(mean * min(-ln(1 - x / 2**64), 10)),

so that agreement between the two shows that the integer steps of the specification compute it. Run
`python delay_quantile.py > delay_quantile.json`. All numbers are strings: they pass 2**53.
"""

import hashlib
import json
import sys
from decimal import ROUND_FLOOR, Decimal, localcontext

RANGE = 2**64
MEANS_NS = (1, 999, 15_000_000, 15_000_001, 50_000_000, 1_000_000_000, 60_000_000_000)
"""15 ms is the default mean; a minute is the most that a consensus may name."""


def delay_ns(mean_ns: int, x: int) -> int:
    """The delay in nanoseconds that belongs to `x` out of 2**64."""
    with localcontext() as context:
        context.prec = 60
        factor = -((RANGE - x) / Decimal(RANGE)).ln() if x else Decimal(0)
        exact = mean_ns * min(factor, Decimal(10))
        # So near to a whole number the steps of the specification might decide differently.
        distance = abs(exact - exact.to_integral_value())
        if exact > 1 and distance < Decimal(2) ** -30 and factor < 10:
            raise ValueError(f"x = {x} is no fair sample")
        return int(exact.to_integral_value(ROUND_FLOOR))


def inputs() -> list[int]:
    """Ends, powers of two, every entry of a table of 32 logarithms, and hashed numbers."""
    ends = [0, 1, 2, 3, RANGE - 1, RANGE - 2, RANGE - 3, RANGE // 2, RANGE // 2 - 1]
    powers = [RANGE - 2**n for n in range(40, 64)] + [2**n for n in range(8, 64, 5)]
    table = [RANGE - ((i << 58) + j) for i in range(32, 64) for j in (1, 2**58 - 1)]
    hashed = [
        int.from_bytes(hashlib.sha256(b"delay %d" % n).digest()[:8], "big") for n in range(256)
    ]
    return list(dict.fromkeys([*ends, *powers, *table, *hashed]))


def main() -> None:
    """Print the rows, one a line."""
    rows = [
        {"x": str(x), "mean_ns": str(mean), "delay_ns": str(delay_ns(mean, x))}
        for place, x in enumerate(inputs())
        for mean in {MEANS_NS[2]: None, MEANS_NS[place % len(MEANS_NS)]: None}
    ]
    sys.stdout.write("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
