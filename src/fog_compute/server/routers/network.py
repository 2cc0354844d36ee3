"""Workers and nodes, to look at."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from fog_compute.coordinator.placement import WorkerState
from fog_compute.errors import NotFound, ServiceUnavailable
from fog_compute.levels import PrivacyLevel
from fog_compute.server.dependencies import Services
from fog_compute.server.network_schemas import (
    MAX_NODES_PAGE,
    NodeListOut,
    NodeOut,
    NodeRole,
    NodesSeen,
    NodeUse,
    WorkerListOut,
    WorkerOut,
)
from fog_compute.server.openapi import answers
from fog_compute.server.services import ServiceManager
from fog_compute.store import Conflict
from fog_compute.tasks import TaskKind
from fog_compute.tasks.ids import several

__all__ = ["router"]

router = APIRouter(tags=["network"])

NodeId = Annotated[
    str,
    Path(
        pattern="^[0-9a-f]{1,64}$",
        description="The id of a node, or how it alone begins or ends.",
    ),
]


@router.get("/workers")
async def list_workers(
    services: Services,
    state: WorkerState | None = None,
    level: PrivacyLevel | None = None,
    kind: TaskKind | None = None,
) -> WorkerListOut:
    """List the workers of this machine's groups: all, or those that take a level or a kind."""
    found = services.get_service("workers").workers()
    return WorkerListOut(
        workers=[
            WorkerOut.of(worker)
            for worker in found
            if (state is None or worker.state is state)
            and (level is None or worker.level in (None, level))
            and (kind is None or kind.value in worker.kinds)
        ]
    )


@router.get("/workers/{name}", responses=answers(404))
async def get_worker(
    name: Annotated[str, Path(max_length=200, description="As the list has it.")],
    services: Services,
) -> WorkerOut:
    """Show one worker, by the name that the list has of it."""
    found = [WorkerOut.of(worker) for worker in services.get_service("workers").workers()]
    named = [worker for worker in found if worker.name == name]
    if len(named) != 1:
        raise NotFound(f"{len(named) or 'no'} listed workers have this name: see /api/v1/workers")
    return named[0]


@router.get("/nodes")
async def list_nodes(
    services: Services,
    role: NodeRole | None = None,
    use: Annotated[
        NodeUse | None, Query(description="Only those that are this to this machine.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_NODES_PAGE)] = 100,
    after: Annotated[
        str | None,
        Query(pattern="^[0-9a-f]{1,64}$", description="What the page before calls next."),
    ] = None,
) -> NodeListOut:
    """List the nodes of the network's consensus, and say what each is to this machine.

    That is: whether it is one of its edges, and whether it leaves the node out because that lost
    its packets. Nothing here says which message went over which node.
    """
    return _nodes(services).page(role, use, after or "", limit)


@router.get("/nodes/{node_id}", responses=answers(404, 409))
async def get_node(node_id: NodeId, services: Services) -> NodeOut:
    """Show one node, by its id or by how that alone begins or ends."""
    seen = _nodes(services)
    found = seen.named(node_id)
    if not found:
        raise NotFound(f"no node's id begins or ends with {node_id}: `fog node ls` shows them")
    if len(found) > 1:
        raise Conflict(several("nodes", node_id, found))
    return seen.show(found[0])


def _nodes(services: ServiceManager) -> NodesSeen:
    view, consensus = services.net_status, services.consensus()
    if view is None or consensus is None:
        raise ServiceUnavailable("the network was not joined yet: see /api/v1/status")
    onion = services.get_service("onion_circuit")
    health = (onion.status(level).health for level in PrivacyLevel)
    return NodesSeen(consensus, view, [each for each in health if each is not None])
