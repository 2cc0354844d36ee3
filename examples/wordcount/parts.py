"""The most common words of a text, counted in parts by a module on several workers at once.

python parts.py TEXT [PARTS]
"""

import asyncio
import sys
from collections import Counter
from pathlib import Path

import fog_compute

SHOWN = 5


def cut(data: bytes, parts: int) -> list[bytes]:
    """Cut a text into parts that end where a line ends."""
    lines = data.splitlines(keepends=True)
    size = -(-len(lines) // parts)
    return [b"".join(lines[at : at + size]) for at in range(0, len(lines), size)]


async def count(module: Path, parts: list[bytes]) -> Counter[str]:
    """Count the words of all parts, a task for each."""
    total: Counter[str] = Counter()
    async with fog_compute.connect() as fog:
        # Each prints as many lines as there are words in any part: COUNT WORD.
        async for result in fog.map(module, parts, args=["-n", 1_000_000]):
            for line in result.text.splitlines()[:-1]:  # the last line is a sum
                number, word = line.split()
                total[word] += int(number)
    return total


def main() -> int:
    """Print the most common words."""
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: parts.py TEXT [PARTS]")
    data = Path(sys.argv[1]).read_bytes()
    parts = cut(data, int(sys.argv[2]) if len(sys.argv) == 3 else 8)
    counts = asyncio.run(count(Path(__file__).with_name("wordcount.wasm"), parts))
    for word, number in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:SHOWN]:
        print(f"{number:7} {word}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
