"""Looking for words in all that a process remembers and a folder holds."""

from __future__ import annotations

import base64
import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Canary", "address_canary", "in_folder", "in_memory", "text_canary"]

PIECE: Final = 4 * 1024 * 1024
OVERLAP: Final = 4096
_MAPPING: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ (\d+)\s*(.*)$")
_RSS: Final = re.compile(r"^Rss:\s+(\d+) kB$")


@dataclass(frozen=True, slots=True)
class Canary:
    """Something that only some may know, in every form in which it may be written."""

    name: str
    forms: tuple[bytes, ...]
    pattern: re.Pattern[bytes] | None = None

    def found(self, data: bytes) -> bool:
        if any(form in data for form in self.forms):
            return True
        return self.pattern is not None and self.pattern.search(data) is not None


def text_canary(name: str, value: bytes | str) -> Canary:
    """Raw, in hex of either case, and in base64 at each of the three positions in a group."""
    raw = value.encode() if isinstance(value, str) else value
    assert len(raw) >= 8, f"{name} is too short to be told from chance"
    shifted = (base64.b64encode(bytes(pad) + raw) for pad in range(3))
    inner = [text[4:-4] for text in shifted]
    url = [text.translate(bytes.maketrans(b"+/", b"-_")) for text in inner]
    hexes = raw.hex().encode()
    return Canary(name, tuple(dict.fromkeys((raw, hexes, hexes.upper(), *inner, *url))))


def address_canary(name: str, address: str) -> Canary:
    """An IPv4 address as text, in hex and base64, and as systems keep it with its family.

    Its four bytes alone would be found by chance.
    """
    raw = socket.inet_aton(address)
    family = socket.AF_INET.to_bytes(2, sys.byteorder)
    text = address.encode()
    return Canary(
        name,
        (text, text.hex().encode(), base64.b64encode(text)[:-4], b"\xff\xff" + raw),
        re.compile(re.escape(family) + b".." + re.escape(raw), re.DOTALL),
    )


def in_memory(pid: int, canaries: Iterable[Canary]) -> frozenset[str]:
    """The names of those that a process holds in memory which it can write to."""
    wanted = list(canaries)
    found: set[str] = set()
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        for begin, end in _mappings(pid):
            at = begin
            while at < end:
                try:
                    data = os.pread(memory, min(PIECE, end - at), at)
                except OSError:  # what the kernel keeps in it for itself
                    break
                if not data:
                    break
                if data.count(0) < len(data):
                    found |= {one.name for one in wanted if one.found(data)}
                # Words may lie across the border of two pieces.
                at += len(data) if at + len(data) >= end else max(1, len(data) - OVERLAP)
    finally:
        os.close(memory)
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    found |= {one.name for one in wanted if one.found(environment) or one.found(command)}
    return frozenset(found)


def in_folder(folder: Path, canaries: Iterable[Canary]) -> frozenset[str]:
    """The names of those that stand in files below a folder, or in their names."""
    wanted = list(canaries)
    found: set[str] = set()
    for path in folder.rglob("*"):
        found |= {one.name for one in wanted if one.found(os.fsencode(path.name))}
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found |= {one.name for one in wanted if one.found(data)}
    return frozenset(found)


def _mappings(pid: int) -> Iterator[tuple[int, int]]:
    """What a process can write to and has touched."""
    current: tuple[int, int] | None = None
    for line in Path(f"/proc/{pid}/smaps").read_text(errors="replace").splitlines():
        if mapping := _MAPPING.match(line):
            begin, end = int(mapping[1], 16), int(mapping[2], 16)
            current = (begin, end) if mapping[3].startswith("rw") else None
        elif current is not None and (rss := _RSS.match(line)):
            if int(rss[1]):
                yield current
            current = None
