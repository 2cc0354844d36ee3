"""A command that runs another one in which a system call is refused, as container profiles do."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

CALLS = {
    "x86_64": {
        "capset": 126,
        "landlock_create_ruleset": 444,
        "memfd_create": 319,
        "mount_setattr": 442,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "pivot_root": 155,
        "prctl": 157,
        "prlimit64": 302,
        "seccomp": 317,
        "unshare": 272,
    },
    "aarch64": {
        "capset": 91,
        "landlock_create_ruleset": 444,
        "memfd_create": 279,
        "mount_setattr": 442,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "pivot_root": 41,
        "prctl": 167,
        "prlimit64": 261,
        "seccomp": 277,
        "unshare": 97,
    },
}.get(platform.machine(), {})
FILTER = r"""
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)atoi(argv[1]), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)atoi(argv[2])),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return 77;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 77;
    execvp(argv[3], argv + 3);
    return 1;
}
"""


def build_filter(folder: Path) -> Path:
    """Return the program, or skip the test with the reason."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the filter of system calls with")
    if not CALLS:
        pytest.skip(f"the numbers of system calls on {platform.machine()} are not known here")
    (folder / "filter.c").write_text(FILTER)
    program = folder / "filter"
    subprocess.run([compiler, "-O1", "-o", program, folder / "filter.c"], check=True)
    if subprocess.run([program, "9999", "1", "true"], check=False).returncode == 77:
        pytest.skip("seccomp filters are refused here")
    return program
