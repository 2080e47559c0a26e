"""`actors.policy_book.PolicyBook` on SQLite and PostgreSQL, and in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID

import orjson
import trio
from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.postgresql import insert as postgres_upsert
from sqlalchemy.dialects.sqlite import insert as sqlite_upsert

from actors.core.codec import CodecError
from actors.core.outcomes import NoSuchUser
from actors.core.policy import Policy
from actors.core.policy_json import policy_from_json, policy_to_json
from daemon.store.directory import has_user
from daemon.store.schema import policies

T = TypeVar("T")


class _Run(Protocol):
    def __call__(self, run: Callable[[Connection], T], /) -> Awaitable[T]: ...


class SqlPolicies:
    """The part of a store that keeps default policies."""

    def __init__(self, *, write: _Run, read: _Run) -> None:
        self._write = write
        self._read = read

    async def policy(self, user_id: UUID, asset: str) -> Policy | None:
        return await self._read(partial(_policy, user_id=user_id, asset=asset))

    async def set_policy(
        self, user_id: UUID, asset: str, policy: Policy | None, *, at_ms: int
    ) -> NoSuchUser | None:
        return await self._write(
            partial(_set, user_id=user_id, asset=asset, policy=policy, at_ms=at_ms)
        )


class MemoryPolicies:
    """The same in memory; `users` are those that exist."""

    def __init__(self, users: Container[UUID]) -> None:
        self._users = users
        self._policies: dict[tuple[UUID, str], Policy] = {}

    async def policy(self, user_id: UUID, asset: str) -> Policy | None:
        await trio.lowlevel.checkpoint()
        return self._policies.get((user_id, asset))

    async def set_policy(
        self, user_id: UUID, asset: str, policy: Policy | None, *, at_ms: int
    ) -> NoSuchUser | None:
        del at_ms  # nobody reads it back
        await trio.lowlevel.checkpoint()
        if user_id not in self._users:
            return NoSuchUser(user_id)
        if policy is None:
            self._policies.pop((user_id, asset), None)
        else:
            self._policies[user_id, asset] = policy
        return None


def _policy(connection: Connection, user_id: UUID, asset: str) -> Policy | None:
    found = connection.scalar(
        select(policies.c.policy).where(policies.c.user_id == user_id, policies.c.asset == asset)
    )
    if found is None:
        return None
    try:
        return policy_from_json({**orjson.loads(found)})
    except (TypeError, ValueError, KeyError) as error:
        raise CodecError(
            f"the policy of user {user_id} for {asset} cannot be read: {error}"
        ) from error


def _set(
    connection: Connection, user_id: UUID, asset: str, policy: Policy | None, at_ms: int
) -> NoSuchUser | None:
    if not has_user(connection, user_id):
        return NoSuchUser(user_id)
    if policy is None:
        connection.execute(
            delete(policies).where(policies.c.user_id == user_id, policies.c.asset == asset)
        )
        return None
    values = {"policy": orjson.dumps(policy_to_json(policy)).decode(), "updated_at_ms": at_ms}
    upsert = postgres_upsert if connection.dialect.name == "postgresql" else sqlite_upsert
    connection.execute(
        upsert(policies)
        .values(user_id=user_id, asset=asset, **values)
        .on_conflict_do_update(index_elements=[policies.c.user_id, policies.c.asset], set_=values)
    )
    return None
