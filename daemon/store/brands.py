"""`actors.brand_book.BrandBook` on SQLite and PostgreSQL, and in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID

import trio
from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert as postgres_upsert
from sqlalchemy.dialects.sqlite import insert as sqlite_upsert

from actors.brand_book import Brand, Merchant
from actors.core.outcomes import NoSuchUser
from daemon.store.directory import has_user
from daemon.store.schema import brands, users

T = TypeVar("T")


class _Run(Protocol):
    def __call__(self, run: Callable[[Connection], T], /) -> Awaitable[T]: ...


class SqlBrands:
    """The part of a store that keeps brands."""

    def __init__(self, *, write: _Run, read: _Run) -> None:
        self._write = write
        self._read = read

    async def merchants(self, *, after: UUID | None, limit: int) -> tuple[Merchant, ...]:
        return await self._read(partial(_merchants, after=after, limit=limit))

    async def brand(self, user_id: UUID) -> Brand | None:
        return await self._read(partial(_brand, user_id=user_id))

    async def set_brand(self, brand: Brand, *, at_ms: int) -> NoSuchUser | None:
        return await self._write(partial(_set, brand=brand, at_ms=at_ms))


class MemoryBrands:
    """The same in memory; `users` are those that exist."""

    def __init__(self, users: Collection[UUID]) -> None:
        self._users = users
        self._brands: dict[UUID, Brand] = {}

    async def merchants(self, *, after: UUID | None, limit: int) -> tuple[Merchant, ...]:
        await trio.lowlevel.checkpoint()
        found = sorted(one for one in self._users if after is None or one > after)[:limit]
        brands = ((one, self._brands.get(one)) for one in found)
        return tuple(Merchant(one, brand.name if brand else "") for one, brand in brands)

    async def brand(self, user_id: UUID) -> Brand | None:
        await trio.lowlevel.checkpoint()
        return self._brands.get(user_id)

    async def set_brand(self, brand: Brand, *, at_ms: int) -> NoSuchUser | None:
        del at_ms  # nobody reads it back
        await trio.lowlevel.checkpoint()
        if brand.user_id not in self._users:
            return NoSuchUser(brand.user_id)
        self._brands[brand.user_id] = brand
        return None


def _merchants(connection: Connection, after: UUID | None, limit: int) -> tuple[Merchant, ...]:
    query = (
        select(users.c.id, brands.c.name)
        .outerjoin(brands, brands.c.user_id == users.c.id)
        .order_by(users.c.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(users.c.id > after)
    return tuple(Merchant(row.id, row.name or "") for row in connection.execute(query))


def _brand(connection: Connection, user_id: UUID) -> Brand | None:
    found = connection.execute(select(brands).where(brands.c.user_id == user_id)).one_or_none()
    if found is None:
        return None
    return Brand(
        user_id=found.user_id,
        name=found.name,
        colour=found.colour,
        logo=found.logo,
        logo_type=found.logo_type,
    )


def _set(connection: Connection, brand: Brand, at_ms: int) -> NoSuchUser | None:
    if not has_user(connection, brand.user_id):
        return NoSuchUser(brand.user_id)
    values = {
        "name": brand.name,
        "colour": brand.colour,
        "logo": brand.logo,
        "logo_type": brand.logo_type,
        "updated_at_ms": at_ms,
    }
    upsert = postgres_upsert if connection.dialect.name == "postgresql" else sqlite_upsert
    connection.execute(
        upsert(brands)
        .values(user_id=brand.user_id, **values)
        .on_conflict_do_update(index_elements=[brands.c.user_id], set_=values)
    )
    return None
