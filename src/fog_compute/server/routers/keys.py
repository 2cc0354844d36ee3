"""API keys: making them, looking at them, taking them back."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, TypeAlias

from fastapi import APIRouter, Path

from fog_compute.server.dependencies import IdempotencyKey, TheCallers
from fog_compute.server.key_schemas import KeyIn, KeyListOut, KeyOut, NewKeyOut
from fog_compute.server.openapi import answers

__all__ = ["router"]

router = APIRouter(tags=["keys"])

KeyId: TypeAlias = Annotated[str, Path(pattern="^[0-9a-f]{12}$", description="The id of a key.")]


@router.post("/keys", status_code=HTTPStatus.CREATED, responses=answers(409))
async def create_key(
    wanted: KeyIn, callers: TheCallers, idempotency_key: IdempotencyKey = None
) -> NewKeyOut:
    """Make a key; it is in this answer, and nowhere else.

    Sent again, the request gives the same key another text, as long as nobody used it: the text of
    the answer before opens nothing any more.
    """
    lasts = None if wanted.lasts_s is None else timedelta(seconds=wanted.lasts_s)
    fresh, key = await callers.make(wanted.name, wanted.scopes, lasts, idempotency_key)
    return NewKeyOut(**KeyOut.of(key).model_dump(), key=fresh.text)


@router.get("/keys")
async def list_keys(callers: TheCallers) -> KeyListOut:
    """List the keys, oldest first."""
    return KeyListOut(keys=[KeyOut.of(key) for key in await callers.keys()])


@router.delete("/keys/{key_id}", responses=answers(404))
async def revoke_key(key_id: KeyId, callers: TheCallers) -> KeyOut:
    """Let nobody use a key any more, nor the logins that came of it."""
    return KeyOut.of(await callers.revoke(key_id))
