"""`actors.access_book.AccessBook` on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from actors.access_book import Act, ApiKey, Claim, RecordedAct
from daemon.store import access

T = TypeVar("T")


class _Doors(Protocol):
    async def _do(self, run: Callable[[Connection], T]) -> T: ...

    async def _read(self, query: Callable[[Connection], T]) -> T: ...


class SqlAccess:
    """The part of `SqlStore` that keeps keys, acts and claims."""

    async def api_keys(self: _Doors) -> tuple[ApiKey, ...]:
        return await self._read(access.api_keys)

    async def api_keys_revision(self: _Doors) -> tuple[int, int]:
        return await self._read(access.revision)

    async def add_api_key(self: _Doors, key: ApiKey, act: Act) -> None:
        await self._do(partial(access.add_api_key, key=key, act=act))

    async def revoke_api_key(self: _Doors, prefix: str, act: Act) -> bool:
        return await self._do(partial(access.revoke_api_key, prefix=prefix, act=act))

    async def touch_api_keys(self: _Doors, used_at_ms: Mapping[str, int]) -> None:
        await self._do(partial(access.touch_api_keys, used_at_ms=dict(used_at_ms)))

    async def record_act(self: _Doors, act: Act) -> None:
        await self._do(partial(access.record_act, act=act))

    async def acts(self: _Doors, *, before: int | None, limit: int) -> tuple[RecordedAct, ...]:
        return await self._read(partial(access.acts, before=before, limit=limit))

    async def claim(
        self: _Doors,
        *,
        owner: str,
        key: str,
        digest: bytes,
        resource_id: UUID,
        at_ms: int,
        forgotten_before_ms: int,
    ) -> Claim:
        return await self._do(
            partial(
                access.claim,
                owner=owner,
                key=key,
                digest=digest,
                resource_id=resource_id,
                at_ms=at_ms,
                forgotten_before_ms=forgotten_before_ms,
            )
        )

    async def forget_claims(self: _Doors, *, before_ms: int, limit: int) -> int:
        return await self._do(partial(access.forget_claims, before_ms=before_ms, limit=limit))
