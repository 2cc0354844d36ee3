"""A filter of system calls: those that Python and wasmtime need once they run, and no others.

What is not in the table is refused with an error and does not end the process: a C library, or
Rust's, that tries something new falls back where it gets ENOSYS or EPERM, and a worker on a kernel
of next year still works.  A guest that broke out gets neither the call nor a second answer.  Only a
call in another machine's numbering ends the process, because nothing here was built for it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Final

from fog_compute.worker.wall.calls import Machine, machine, syscall

__all__ = ["ALLOWED", "assemble", "raise_filter"]

_FILES: Final = """
    access chmod close close_range dup dup2 dup3 faccessat faccessat2 fadvise64 fallocate fchmod
    fchmodat fcntl fdatasync fstat fstatfs fsync ftruncate getcwd getdents64 link linkat lseek lstat
    mkdir mkdirat newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2
    read readlink readlinkat readv rename renameat renameat2 rmdir stat statfs statx symlink
    symlinkat truncate umask unlink unlinkat utimensat write writev
"""
_WAITING: Final = """
    clock_getres clock_gettime clock_nanosleep epoll_create1 epoll_ctl epoll_pwait epoll_pwait2
    epoll_wait eventfd2 gettimeofday nanosleep poll ppoll pselect6 restart_syscall select time
"""
_MEMORY: Final = """
    arch_prctl brk madvise membarrier memfd_create mincore mmap mprotect mremap munmap pkey_alloc
    pkey_free pkey_mprotect
"""
_ITSELF: Final = """
    exit exit_group futex futex_waitv get_robust_list getcpu getegid geteuid getgid getpid getppid
    getrandom getrlimit getrusage gettid getuid rseq rt_sigaction rt_sigprocmask rt_sigreturn
    sched_getaffinity sched_getparam sched_getscheduler sched_yield set_robust_list set_tid_address
    setrlimit sigaltstack sysinfo times uname
"""
ALLOWED: Final = frozenset(f"{_FILES} {_WAITING} {_MEMORY} {_ITSELF}".split())

_UNKNOWN: Final = ("clone3",)
"""Answered as by an old kernel: what it is to make lies in memory, where no filter can look."""

_THREAD: Final = 0x00010000  # CLONE_THREAD
_NAMESPACES: Final = 0x7E020080  # CLONE_NEWNS, …CGROUP, …UTS, …IPC, …USER, …PID, …NET, …TIME
_TERMINAL: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: what opening a file asks about it."""
_NAMES: Final = (15, 16, 0x53564D41)
"""PR_SET_NAME, PR_GET_NAME, PR_SET_VMA: of threads and of memory."""

# Offsets in struct seccomp_data; both machines are little-endian.
_NUMBER: Final = 0
_MACHINE: Final = 4
_ARGUMENTS: Final = 16

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_INSTRUCTION: Final = struct.Struct("=HBBI")

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERROR: Final = 0x00050000
_SET_MODE_FILTER: Final = 1

_Code = list[tuple[int, int, int, int]]


def assemble(target: Machine, process: int) -> bytes:
    """Return the filter for a process with this number, as the kernel takes it."""
    refuse = (_RETURN, 0, 0, _ERROR | errno.EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    code: _Code = [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, target.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    numbers = target.numbers
    for name in sorted(ALLOWED & numbers.keys()):
        code += [(_EQUAL, 0, 1, numbers[name]), allow]
    for name in _UNKNOWN:
        code += [(_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    conditions: Mapping[str, _Code] = {
        "clone": _argument(0, (_THREAD,), mask=_THREAD | _NAMESPACES),
        "ioctl": _argument(1, _TERMINAL),
        "prctl": _argument(0, _NAMES),
        "prlimit64": _argument(0, (0, process)),
        "tgkill": _argument(0, (process,)),
    }
    for name, condition in conditions.items():
        block = [*condition, refuse]
        code += [(_EQUAL, 0, len(block), numbers[name]), *block]
    code.append(refuse)
    return b"".join(_INSTRUCTION.pack(*one) for one in code)


def raise_filter() -> None:
    """Filter the calls of this thread and of all that it starts, for good.

    Raises:
        OSError: the kernel has no filters, or does not take this one.
    """
    code = assemble(machine(), os.getpid())
    program = _Program(len(code) // _INSTRUCTION.size, code)
    syscall("seccomp", _SET_MODE_FILTER, 0, ctypes.cast(ctypes.byref(program), ctypes.c_void_p))


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _argument(place: int, values: Sequence[int], *, mask: int | None = None) -> _Code:
    """Allow if the low half of an argument, masked, is one of the values; else fall through.

    All arguments looked at are of 32 bits, of which the kernel ignores the high half.
    """
    code: _Code = [(_LOAD, 0, 0, _ARGUMENTS + 8 * place)]
    if mask is not None:
        code.append((_AND, 0, 0, mask))
    for value in values:
        code += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return code
