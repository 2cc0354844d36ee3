"""Messages between people: sent, listed, listened to, marked as read; and who can be reached."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final, TypeAlias

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from fog_compute.errors import NotFound
from fog_compute.p2p.core.messages import MAX_ID_BYTES
from fog_compute.server.bodies import BYTES
from fog_compute.server.chat_feed import CURSOR, ChatFeed, Cursor
from fog_compute.server.chat_schemas import (
    CancelIn,
    CancelledOut,
    ChatEventsOut,
    GroupIn,
    GroupListOut,
    GroupMadeOut,
    LogOut,
    MeOut,
    MessageIn,
    NearOut,
    ReadIn,
    SentOut,
    TraceOut,
    WipedOut,
    WipeIn,
)
from fog_compute.server.dependencies import Services
from fog_compute.server.forms import VISIBLE
from fog_compute.server.openapi import GIVES_BYTES, answers
from fog_compute.server.routers.events import STREAM
from fog_compute.server.routers.peers import Fingerprint

__all__ = ["router"]

AT_ONCE: Final = 1000

Check: TypeAlias = Annotated[
    bool,
    Query(
        description="See by a packet to oneself whether the mixnet answers, which may take seconds;"
        " otherwise silence is noticed after a minute."
    ),
]

router = APIRouter(tags=["chat"])


@router.get("/chat")
async def show_me(services: Services, check: Check = False) -> MeOut:
    """Say who one is here: name, words, card, transports. Keys are made when it is first asked."""
    people = await services.get_service("messaging").people()
    return people.me(await people.check() if check else {})


@router.post("/chat/messages", status_code=HTTPStatus.CREATED, responses=answers(404, 409))
async def send_message(message: MessageIn, services: Services) -> SentOut:
    """Send a message: it is kept here when this is answered, and goes out when it can."""
    people = await services.get_service("messaging").people()
    made = message.made(people.expiry(message.lasts_s))
    return await people.send(made, unknown=message.unknown)


@router.post("/chat/cancel")
async def cancel_messages(cancel: CancelIn, services: Services) -> CancelledOut:
    """Give messages of one's own up with all to whom they were not delivered."""
    people = await services.get_service("messaging").people()
    return CancelledOut(ids=await people.cancel(cancel.ids, cancel.to, cancel.room))


@router.get("/chat/messages")
async def list_messages(
    services: Services,
    after: Annotated[
        int, Query(ge=0, le=2**53, description="Only what stands behind this position.")
    ] = 0,
    limit: Annotated[
        int, Query(ge=1, le=AT_ONCE, description="Of more there are, the newest are given.")
    ] = 100,
    peer: Annotated[
        str | None, Query(pattern="^[0-9a-f]{64}$", description="Only those with this person.")
    ] = None,
    room: Annotated[
        str | None, Query(max_length=64, pattern=VISIBLE, description="Only those of this room.")
    ] = None,
) -> LogOut:
    """List messages, oldest first: the newest of those behind a position."""
    people = await services.get_service("messaging").people()
    return await people.log(after, limit, peer=peer, room=room)


@router.get("/chat/messages/{sender}/{message_id}", responses={**GIVES_BYTES, **answers(404)})
async def get_content(
    sender: Fingerprint,
    message_id: Annotated[
        str, Path(max_length=MAX_ID_BYTES, pattern=VISIBLE, description="The id of a message.")
    ],
    services: Services,
) -> Response:
    """Give what is in a message, such as a file, as it is."""
    people = await services.get_service("messaging").people()
    body = await people.content(sender, message_id)
    if body is None:
        raise NotFound("there is no such message, or no longer")
    # Whatever a stranger says that it is: no browser is to open it here.
    return Response(body, media_type=BYTES, headers={"content-disposition": "attachment"})


@router.post("/chat/read")
async def mark_read(read: ReadIn, services: Services) -> MeOut:
    """Tell a sender that their messages were read."""
    people = await services.get_service("messaging").people()
    await people.read(read.sender, read.ids)
    return people.me()


@router.get(
    "/chat/events",
    response_model=ChatEventsOut,
    responses={200: {"content": {STREAM: {"schema": {"type": "string"}}}}, **answers(503)},
)
async def list_chat_events(
    request: Request,
    services: Services,
    since: Annotated[
        str | None,
        Query(pattern=CURSOR, description="`next` of the answer before; by default from now on."),
    ] = None,
    wait: Annotated[float, Query(ge=0, description="Seconds to wait for something.")] = 0,
    last_event_id: Annotated[
        str | None, Header(pattern=CURSOR, description="Instead of since, as browsers send it.")
    ] = None,
) -> ChatEventsOut | Response:
    """Say which messages came, and what became of those that were sent.

    With `accept: text/event-stream` the answer goes on with what happens next: events of the kinds
    `message`, `delivery` and `moved`, with a member of `events` as data. A listener that comes back
    with `last-event-id` misses no message.
    """
    people = await services.get_service("messaging").people()
    feed: ChatFeed = people.feed
    given = Cursor.parse(last_event_id or since or "")
    cursor = given or feed.now
    if STREAM in request.headers.get("accept", ""):
        feed.check_room()
        return StreamingResponse(
            feed.follow(cursor), media_type=STREAM, headers={"x-accel-buffering": "no"}
        )
    if given is None:
        return ChatEventsOut(events=[], next=str(cursor))
    events, behind = await feed.after(cursor)
    if not events and wait:
        seconds = min(wait, services.settings.max_wait_s)
        events, behind = await people.wait(behind, seconds, services.unless_stopping)
    return ChatEventsOut(events=events, next=str(behind))


@router.get("/chat/groups")
async def list_groups(services: Services) -> GroupListOut:
    """List the groups that one is in."""
    people = await services.get_service("messaging").people()
    return people.groups()


@router.post("/chat/groups", status_code=HTTPStatus.CREATED, responses=answers(404, 409))
async def make_group(group: GroupIn, services: Services) -> GroupMadeOut:
    """Make a group, and tell its members; they get what is sent to its room."""
    people = await services.get_service("messaging").people()
    made = await people.make_group(group.name, group.members)
    return GroupMadeOut(id=made)


@router.post("/chat/groups/{group_id}", responses=answers(404, 409))
async def change_group(
    group_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The id of a group.")],
    group: GroupIn,
    services: Services,
) -> GroupListOut:
    """Give a group that one made another name, or other members."""
    people = await services.get_service("messaging").people()
    await people.change_group(group_id, group.name, group.members)
    return people.groups()


@router.delete("/chat/groups/{group_id}", responses=answers(404))
async def leave_group(
    group_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The id of a group.")],
    services: Services,
) -> GroupListOut:
    """Leave a group for good and destroy its key; its other members are not told."""
    people = await services.get_service("messaging").people()
    await people.leave_group(group_id)
    return people.groups()


@router.get("/chat/near")
async def list_near(services: Services, check: Check = False) -> NearOut:
    """List who can be reached now, and how."""
    people = await services.get_service("messaging").people()
    return people.near(await people.check() if check else {})


@router.get("/chat/trace/{fingerprint}", responses=answers(404))
async def trace_peer(fingerprint: Fingerprint, services: Services) -> TraceOut:
    """Say how a message to somebody would go; over Bluetooth they are asked."""
    people = await services.get_service("messaging").people()
    return await people.trace(fingerprint)


@router.post("/chat/wipe")
async def wipe_chat(wipe: WipeIn, services: Services) -> WipedOut:
    """Destroy keys, messages, people and the mixnet client: nothing of it can be brought back."""
    del wipe
    return WipedOut(wiped=await services.get_service("messaging").wipe())
