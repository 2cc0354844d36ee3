"""What a guest learns about files beside their content: the same on every host.

Numbers of files, their times, the sizes of folders and the order in which a folder is listed are
the host's choice.  Here files are numbered in the order in which the guest first meets them, have
one date unless the guest gives them another, and are listed by name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from wasmtime import Caller

from fog_compute.worker.wasi.abi import (
    DIRECTORY,
    DIRENT,
    EBADF,
    EEXIST,
    EFAULT,
    EINVAL,
    EMFILE,
    ENAMETOOLONG,
    ENOTEMPTY,
    FILESTAT,
    REGULAR_FILE,
    START_NS,
    SUCCESS,
    U32,
    U64,
    OutOfBounds,
    read,
    store,
)
from fog_compute.worker.wasi.clocks import Clocks
from fog_compute.worker.wasi.native import PATH_MAX, Native

__all__ = ["Files"]

LISTINGS: Final = 8
"""Folders whose listing is kept, so that who removes what he lists misses nothing."""

OPEN_MAX: Final = 128
"""Descriptors that a guest may have, the standard streams and its folders among them."""

_REMOVED: Final = 1 << 32  # numbers of files that are open and have no name any more
_DEV: Final = 1
_MAX_ADVICE: Final = 5

_ACCESSED: Final = 0b0011  # a date given, or now
_MODIFIED: Final = 0b1100
_DATES: Final = _ACCESSED | _MODIFIED

_Entry = tuple[bytes, int, int]  # name, number, type
_Dates = tuple[int, int]  # accessed, modified
_UNDATED: Final[_Dates] = (START_NS, START_NS)


class Files:
    """The replaced functions on files and folders."""

    def __init__(self, native: Native, clocks: Clocks) -> None:
        """Ask ``native`` for what the host says, and ``clocks`` for the guest's time."""
        self._native = native
        self._clocks = clocks
        self._numbers: dict[int, int] = {}
        self._dates: dict[int, _Dates] = {}  # by number, of those that the guest dated
        self._given = 0
        self._highest = 0
        self._listings: OrderedDict[int, list[_Entry]] = OrderedDict()

    def begin(self) -> None:
        """Start a task, which has met no file yet."""
        self._numbers.clear()
        self._dates.clear()
        self._given = 0
        self._highest = 0
        self._listings.clear()

    def fd_filestat_get(self, caller: Caller, fd: int, pointer: int) -> int:
        """Tell about a descriptor."""
        errno, record = self._native.filestat(fd & U32)
        return errno or store(caller, pointer, self._neutral(record, fd & U32))

    def path_filestat_get(
        self, caller: Caller, fd: int, flags: int, path: int, length: int, pointer: int
    ) -> int:
        """Tell about a path."""
        if flags not in (0, 1):
            return EINVAL
        errno, name = _path(caller, path, length)
        if errno != SUCCESS:
            return errno
        errno, record = self._native.path_filestat(fd & U32, flags, name)
        return errno or store(caller, pointer, self._neutral(record, 0))

    def fd_filestat_set_times(
        self, caller: Caller, fd: int, accessed: int, modified: int, flags: int
    ) -> int:
        """Date a descriptor's file."""
        del caller
        errno = self._native.may_date(fd & U32)
        if errno != SUCCESS:
            return errno
        errno, record = self._native.filestat(fd & U32)
        return errno or self._date(record, accessed, modified, flags)

    def path_filestat_set_times(
        self,
        caller: Caller,
        fd: int,
        lookup: int,
        path: int,
        length: int,
        accessed: int,
        modified: int,
        flags: int,
    ) -> int:
        """Date what has a path."""
        if lookup not in (0, 1):
            return EINVAL
        errno, name = _path(caller, path, length)
        if errno != SUCCESS:
            return errno
        errno, record = self._native.path_filestat(fd & U32, lookup, name)
        errno = errno or self._native.path_may_date(fd & U32, lookup, name)
        return errno or self._date(record, accessed, modified, flags)

    def fd_readdir(
        self, caller: Caller, fd: int, pointer: int, length: int, cookie: int, used: int
    ) -> int:
        """List a folder, by name, from the cookie on, until the buffer is full."""
        fd, length, cookie = fd & U32, length & U32, cookie & U64
        listing = None if cookie == 0 else self._listings.get(fd)
        if listing is None:
            errno, listing = self._list(fd)
        else:
            errno = self._checked(fd, DIRECTORY)
        if errno != SUCCESS:
            return errno
        data = bytearray()
        for at in range(min(cookie, len(listing)), len(listing)):
            name, number, filetype = listing[at]
            data += DIRENT.pack(at + 1, number, len(name), filetype) + name
            if len(data) >= length:
                break
        filled = bytes(data[:length])
        return store(caller, pointer, filled) or store(
            caller, used, len(filled).to_bytes(4, "little")
        )

    def path_open(
        self,
        caller: Caller,
        fd: int,
        lookup: int,
        path: int,
        length: int,
        flags: int,
        rights: int,
        inherited: int,
        status: int,
        opened: int,
    ) -> int:
        """Open a path, unless too many are open."""
        errno, name = _path(caller, path, length)
        errno = errno or store(caller, opened, bytes(4))
        if errno != SUCCESS:
            return errno
        if self._full():
            return EMFILE
        errno, new = self._native.open(
            *(fd & U32, lookup & U32, name, flags & U32, (rights & U64, inherited & U64)),
            status & U32,
        )
        if errno != SUCCESS:
            return errno
        self._highest = max(self._highest, new)
        return store(caller, opened, new.to_bytes(4, "little"))

    def path_unlink_file(self, caller: Caller, fd: int, path: int, length: int) -> int:
        """Remove a file."""
        return self._remove(caller, fd & U32, path, length, self._native.unlink)

    def path_remove_directory(self, caller: Caller, fd: int, path: int, length: int) -> int:
        """Remove a folder."""
        return self._remove(caller, fd & U32, path, length, self._native.remove_directory)

    def path_rename(
        self, caller: Caller, fd: int, old: int, old_length: int, new_fd: int, new: int, new_l: int
    ) -> int:
        """Rename, in place of what is there."""
        fd, new_fd = fd & U32, new_fd & U32
        errno, source = _path(caller, old, old_length)
        if errno != SUCCESS:
            return errno
        errno, target = _path(caller, new, new_l)
        if errno != SUCCESS:
            return errno
        goes = self._last_name(new_fd, target)
        stays = self._inode(fd, source)
        errno = self._native.rename(fd, source, new_fd, target)
        if errno == SUCCESS and goes is not None and goes != stays:
            self._forget(goes)
        return ENOTEMPTY if errno == EEXIST else errno  # hosts differ

    def fd_sync(self, caller: Caller, fd: int) -> int:
        """Do nothing: what a guest writes does not outlive its task."""
        del caller
        return self._checked(fd & U32, REGULAR_FILE)

    def fd_advise(self, caller: Caller, fd: int, offset: int, length: int, advice: int) -> int:
        """Do nothing: how a file is read ahead is the host's own concern."""
        del caller, offset, length
        return self._checked(fd & U32, REGULAR_FILE) if 0 <= advice <= _MAX_ADVICE else EINVAL

    def _full(self) -> bool:
        """Say whether all descriptors are open; the lowest that is free is given first."""
        if self._highest < OPEN_MAX - 1:
            return False
        return all(self._native.fdstat(fd)[0] == SUCCESS for fd in range(OPEN_MAX))

    def _remove(
        self,
        caller: Caller,
        fd: int,
        path: int,
        length: int,
        remove: Callable[[int, bytes], int],
    ) -> int:
        errno, name = _path(caller, path, length)
        if errno != SUCCESS:
            return errno
        goes = self._last_name(fd, name)
        errno = remove(fd, name)
        if errno == SUCCESS and goes is not None:
            self._forget(goes)
        return errno

    def _last_name(self, fd: int, path: bytes) -> int | None:
        """Return the host's number of a file of which this is the last name, or of a folder.

        Hosts give the number of what was removed to the next new file, or do not.
        """
        errno, record = self._native.path_filestat(fd, 0, path)
        if errno != SUCCESS:
            return None
        _, inode, filetype, links, *_ = FILESTAT.unpack(record)
        return int(inode) if filetype == DIRECTORY or links == 1 else None

    def _inode(self, fd: int, path: bytes) -> int | None:
        errno, record = self._native.path_filestat(fd, 0, path)
        return int(FILESTAT.unpack(record)[1]) if errno == SUCCESS else None

    def _list(self, fd: int) -> tuple[int, list[_Entry]]:
        errno, found = self._native.listing(fd)
        if errno != SUCCESS:
            return errno, []
        listing = [(name, self._number(inode), kind) for name, inode, kind in sorted(found)]
        self._listings[fd] = listing
        self._listings.move_to_end(fd)
        if len(self._listings) > LISTINGS:
            self._listings.popitem(last=False)
        return SUCCESS, listing

    def _checked(self, fd: int, filetype: int) -> int:
        errno, found, _ = self._native.fdstat(fd)
        return errno or (SUCCESS if found == filetype else EBADF)

    def _number(self, inode: int) -> int:
        number = self._numbers.get(inode)
        if number is None:
            self._given += 1
            number = self._numbers[inode] = self._given
        return number

    def _forget(self, inode: int) -> None:
        number = self._numbers.pop(inode, None)
        self._dates.pop(number or 0, None)

    def _date(self, record: bytes, accessed: int, modified: int, flags: int) -> int:
        """Keep the dates of a file, if it has a name under which it could be met again."""
        if flags & ~_DATES or flags & _ACCESSED == _ACCESSED or flags & _MODIFIED == _MODIFIED:
            return EINVAL
        dev, inode, _, links, *_ = FILESTAT.unpack(record)
        if dev == 0 or not links:
            return SUCCESS
        number = self._number(inode)
        before = self._dates.get(number, _UNDATED)
        now = START_NS + self._clocks.elapsed_ns
        self._dates[number] = (
            _dated(before[0], accessed & U64, now, flags & _ACCESSED),
            _dated(before[1], modified & U64, now, (flags & _MODIFIED) >> 2),
        )
        return SUCCESS

    def _neutral(self, record: bytes, fd: int) -> bytes:
        """Return a record without what is the host's."""
        dev, inode, filetype, links, size, *_ = FILESTAT.unpack(record)
        if dev == 0:
            return FILESTAT.pack(0, 0, filetype, 0, 0, 0, 0, 0)  # a standard stream
        number = self._number(inode) if links else _REMOVED + fd
        if filetype == DIRECTORY:
            links, size = min(links, 1), 0
        dates = self._dates.get(number, _UNDATED)
        return FILESTAT.pack(_DEV, number, filetype, links, size, *dates, START_NS)


def _dated(before: int, given: int, now: int, how: int) -> int:
    """Return a date as the flags want it: left as it is, the one given, or now."""
    return (before, given, now)[how]


def _path(caller: Caller, pointer: int, length: int) -> tuple[int, bytes]:
    length &= U32
    if length > PATH_MAX:
        return ENAMETOOLONG, b""
    try:
        return SUCCESS, read(caller, pointer, length)
    except OutOfBounds:
        return EFAULT, b""
