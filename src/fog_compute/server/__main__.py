"""``python -m fog_compute.server``: the backend as a process of its own."""

from __future__ import annotations

import sys

from fog_compute.lifetime import die_with_parent

if __name__ == "__main__":
    if "--die-with-parent" in sys.argv:
        die_with_parent()
    from fog_compute.server.process import main  # takes seconds, in which the parent may end

    sys.exit(main())
