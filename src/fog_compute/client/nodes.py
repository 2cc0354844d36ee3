"""The list of the network's nodes, put together from its pages, whoever asks for them."""

from __future__ import annotations

from typing import Final

from fog_compute.client.answers import ANOTHER_PROGRAM, NodeList
from fog_compute.errors import BackendError

__all__ = ["NODES", "NodePages"]

NODES: Final = "/api/v1/nodes"
PAGE: Final = 1000


class NodePages:
    """What to ask for next, until all pages are there; no page is asked for twice."""

    def __init__(self, role: str | None = None, use: str | None = None) -> None:
        """Only nodes of a role, and with a use to the fog: ``edge`` or ``excluded``."""
        wanted = {"role": role, "use": use}
        self._wanted: Final = {key: value for key, value in wanted.items() if value is not None}
        self._after: str | None = None
        self._list: NodeList | None = None

    @property
    def query(self) -> dict[str, str | int | float]:
        """What the next page is asked for with."""
        after = {} if self._after is None else {"after": self._after}
        return {**self._wanted, "limit": PAGE, **after}

    def take(self, page: NodeList) -> NodeList | None:
        """Take a page; return the whole list once it is the last.

        What is said of the network is what came with the first one.

        Raises:
            BackendError: the pages do not go on from each other.
        """
        if self._list is None:
            self._list = page
        else:
            self._list["nodes"] += page["nodes"]
        if page["next"] is None:
            self._list["next"] = None
            return self._list
        if page["next"] <= (self._after or ""):
            raise BackendError(f"the list of nodes goes round in circles: {ANOTHER_PROGRAM}")
        self._after = page["next"]
        return None
