"""``python -m fog_compute.server``: the backend as a process of its own."""

from __future__ import annotations

import gc
import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder, from which nothing is to be imported

from fog_compute.descriptors import run_program
from fog_compute.lifetime import die_with_parent


def _main() -> int:
    if "--die-with-parent" in sys.argv:
        die_with_parent()
    # There is no garbage among modules, now or later: looking for it is a tenth of a start, and a
    # backend that was killed is wanted back.
    gc.disable()
    from fog_compute.server.process import main  # takes seconds, in which the parent may end

    gc.freeze()
    gc.enable()
    return main()


if __name__ == "__main__":
    sys.exit(run_program("backend", _main))
