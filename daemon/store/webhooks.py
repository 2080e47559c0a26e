"""`actors.webhook_book.WebhookBook` on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import UUID

import orjson
from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_upsert
from sqlalchemy.dialects.sqlite import insert as sqlite_upsert

from actors.core.webhook import Health, Pause
from actors.webhook_book import (
    Attempt,
    Endpoint,
    Form,
    LoggedAttempt,
    Outcome,
    Owed,
    Owing,
    Progress,
)
from daemon.store.schema import events, invoices, webhook_attempts, webhook_endpoints, webhook_owed

T = TypeVar("T")

_AT_ONCE = 500
"""Values in one statement: below every limit on parameters."""


class _Run(Protocol):
    def __call__(self, run: Callable[[Connection], T], /) -> Awaitable[T]: ...


class SqlWebhooks:
    """The part of a store that keeps webhooks."""

    def __init__(self, *, write: _Run, read: _Run) -> None:
        self._write = write
        self._read = read

    async def add_endpoint(self, endpoint: Endpoint, *, most: int) -> bool:
        return await self._write(partial(_add, endpoint=endpoint, most=most))

    async def endpoint(self, endpoint_id: UUID) -> Endpoint | None:
        return await self._read(partial(_endpoint, endpoint_id=endpoint_id))

    async def endpoints(self, user_id: UUID | None = None) -> tuple[Endpoint, ...]:
        return await self._read(partial(_endpoints, user_id=user_id))

    async def change_endpoint(self, endpoint: Endpoint) -> bool:
        return await self._write(partial(_change, endpoint=endpoint))

    async def remove_endpoint(self, endpoint_id: UUID) -> bool:
        return await self._write(partial(_remove, endpoint_id=endpoint_id))

    async def record(
        self, endpoint_id: UUID, progress: Progress, *, cursor: int, health: Health
    ) -> None:
        await self._write(
            partial(
                _record,
                endpoint_id=endpoint_id,
                progress=progress,
                changes={"cursor": cursor, **_health_columns(health)},
            )
        )

    async def owed(self, endpoint_id: UUID, *, dead: bool, limit: int) -> tuple[Owed, ...]:
        return await self._read(partial(_owed, endpoint_id=endpoint_id, dead=dead, limit=limit))

    async def owing(self, endpoint_id: UUID) -> Owing:
        return await self._read(partial(_owing, endpoint_id=endpoint_id))

    async def owe(self, endpoint_id: UUID, rows: Sequence[Owed]) -> None:
        await self._write(partial(_put_owed, endpoint_id=endpoint_id, rows=tuple(rows)))

    async def bury(self, endpoint_id: UUID, *, error: str) -> int:
        return await self._write(partial(_bury, endpoint_id=endpoint_id, error=error))

    async def matching(
        self,
        *,
        user_id: UUID | None,
        types: tuple[str, ...],
        since_ms: int,
        until_ms: int,
        up_to_seq: int,
        limit: int,
    ) -> tuple[tuple[int, UUID, int], ...]:
        query = (
            select(events.c.seq, events.c.invoice_id, events.c.at_ms)
            .where(events.c.at_ms >= since_ms, events.c.at_ms < until_ms, events.c.seq <= up_to_seq)
            .order_by(events.c.seq)
            .limit(limit)
        )
        if user_id is not None:
            query = query.join(invoices, invoices.c.id == events.c.invoice_id).where(
                invoices.c.user_id == user_id
            )
        if types:
            query = query.where(events.c.kind.in_(types))

        def run(connection: Connection) -> tuple[tuple[int, UUID, int], ...]:
            return tuple((row[0], row[1], row[2]) for row in connection.execute(query))

        return await self._read(run)

    async def log_attempts(self, endpoint_id: UUID, attempts: Sequence[Attempt]) -> None:
        await self._write(partial(_log, endpoint_id=endpoint_id, attempts=tuple(attempts)))

    async def attempts(
        self, endpoint_id: UUID, *, before: int | None, limit: int
    ) -> tuple[LoggedAttempt, ...]:
        return await self._read(
            partial(_attempts, endpoint_id=endpoint_id, before=before, limit=limit)
        )

    async def forget_attempts(self, endpoint_id: UUID, *, before_ms: int, keep: int) -> int:
        return await self._write(
            partial(_forget, endpoint_id=endpoint_id, before_ms=before_ms, keep=keep)
        )


# --- endpoints ------------------------------------------------------------------------------------


def _add(connection: Connection, endpoint: Endpoint, most: int) -> bool:
    count = connection.scalar(select(func.count()).select_from(webhook_endpoints))
    if (count or 0) >= most:
        return False
    connection.execute(
        insert(webhook_endpoints).values(
            id=endpoint.id,
            user_id=endpoint.user_id,
            form=endpoint.form.value,
            created_at_ms=endpoint.created_at_ms,
            **_columns(endpoint),
        )
    )
    return True


def _columns(endpoint: Endpoint) -> dict[str, object]:
    return {
        "url": endpoint.url,
        "types": orjson.dumps(endpoint.types).decode(),
        "secret": endpoint.secret,
        "old_secret": endpoint.old_secret,
        "old_until_ms": endpoint.old_until_ms,
        "cursor": endpoint.cursor,
        **_health_columns(endpoint.health),
    }


def _health_columns(health: Health) -> dict[str, object]:
    return {
        "paused": None if health.paused is None else health.paused.value,
        "paused_at_ms": health.paused_at_ms,
        "failing_since_ms": health.failing_since_ms,
        "failures": health.failures,
    }


def _endpoint(connection: Connection, endpoint_id: UUID) -> Endpoint | None:
    found = connection.execute(
        select(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id)
    ).one_or_none()
    return None if found is None else _endpoint_of(found)


def _endpoints(connection: Connection, user_id: UUID | None) -> tuple[Endpoint, ...]:
    query = select(webhook_endpoints).order_by(
        webhook_endpoints.c.created_at_ms, webhook_endpoints.c.id
    )
    if user_id is not None:
        query = query.where(webhook_endpoints.c.user_id == user_id)
    return tuple(_endpoint_of(row) for row in connection.execute(query))


def _endpoint_of(row: Row[Any]) -> Endpoint:
    return Endpoint(
        id=row.id,
        user_id=row.user_id,
        url=row.url,
        types=tuple(orjson.loads(row.types)),
        form=Form(row.form),
        secret=row.secret,
        old_secret=row.old_secret,
        old_until_ms=row.old_until_ms,
        created_at_ms=row.created_at_ms,
        cursor=row.cursor,
        health=Health(
            paused=None if row.paused is None else Pause(row.paused),
            paused_at_ms=row.paused_at_ms,
            failing_since_ms=row.failing_since_ms,
            failures=row.failures,
        ),
    )


def _change(connection: Connection, endpoint: Endpoint) -> bool:
    changed = connection.execute(
        update(webhook_endpoints)
        .where(webhook_endpoints.c.id == endpoint.id)
        .values(**_columns(endpoint))
    )
    return changed.rowcount == 1


def _remove(connection: Connection, endpoint_id: UUID) -> bool:
    connection.execute(delete(webhook_owed).where(webhook_owed.c.endpoint_id == endpoint_id))
    connection.execute(
        delete(webhook_attempts).where(webhook_attempts.c.endpoint_id == endpoint_id)
    )
    removed = connection.execute(
        delete(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id)
    )
    return removed.rowcount == 1


# --- what is owed, and what was tried -------------------------------------------------------------


def _record(
    connection: Connection, endpoint_id: UUID, progress: Progress, changes: dict[str, object]
) -> None:
    changed = connection.execute(
        update(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id).values(**changes)
    )
    if changed.rowcount == 0:
        return  # removed meanwhile, with all that is its
    for part in _parts(sorted(progress.settled)):
        connection.execute(
            delete(webhook_owed).where(
                webhook_owed.c.endpoint_id == endpoint_id, webhook_owed.c.seq.in_(part)
            )
        )
    _put_owed(connection, endpoint_id, tuple(progress.owed.values()))
    _insert_attempts(connection, endpoint_id, progress.attempts)


def _parts(values: list[int]) -> Iterable[list[int]]:
    return (values[at : at + _AT_ONCE] for at in range(0, len(values), _AT_ONCE))


def _put_owed(connection: Connection, endpoint_id: UUID, rows: tuple[Owed, ...]) -> None:
    if not rows:
        return
    upsert = postgres_upsert if connection.dialect.name == "postgresql" else sqlite_upsert
    statement = upsert(webhook_owed)
    replaced = {
        column.name: statement.excluded[column.name]
        for column in webhook_owed.columns
        if not column.primary_key
    }
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[webhook_owed.c.endpoint_id, webhook_owed.c.seq], set_=replaced
        ),
        [{"endpoint_id": endpoint_id, **_owed_columns(one)} for one in rows],
    )


def _owed_columns(row: Owed) -> dict[str, object]:
    return {
        "seq": row.seq,
        "lane": row.lane,
        "at_ms": row.at_ms,
        "attempts": row.attempts,
        "first_at_ms": row.first_at_ms,
        "next_at_ms": row.next_at_ms,
        "dead": row.dead,
        "error": row.error,
        "notice": row.notice,
    }


def _owed(connection: Connection, endpoint_id: UUID, *, dead: bool, limit: int) -> tuple[Owed, ...]:
    found = connection.execute(
        select(webhook_owed)
        .where(webhook_owed.c.endpoint_id == endpoint_id, webhook_owed.c.dead.is_(dead))
        .order_by(webhook_owed.c.seq)
        .limit(limit)
    )
    return tuple(
        Owed(
            seq=row.seq,
            lane=row.lane,
            at_ms=row.at_ms,
            attempts=row.attempts,
            first_at_ms=row.first_at_ms,
            next_at_ms=row.next_at_ms,
            dead=row.dead,
            error=row.error,
            notice=row.notice,
        )
        for row in found
    )


def _owing(connection: Connection, endpoint_id: UUID) -> Owing:
    found = connection.execute(
        select(webhook_owed.c.dead, func.count())
        .where(webhook_owed.c.endpoint_id == endpoint_id)
        .group_by(webhook_owed.c.dead)
    )
    counts: dict[bool, int] = {bool(dead): count for dead, count in found}
    return Owing(waiting=counts.get(False, 0), dead=counts.get(True, 0))


def _bury(connection: Connection, endpoint_id: UUID, error: str) -> int:
    return connection.execute(
        update(webhook_owed)
        .where(webhook_owed.c.endpoint_id == endpoint_id, webhook_owed.c.dead.is_(False))
        .values(dead=True, error=error)
    ).rowcount


def _log(connection: Connection, endpoint_id: UUID, attempts: Sequence[Attempt]) -> None:
    known = select(webhook_endpoints.c.id).where(webhook_endpoints.c.id == endpoint_id)
    if connection.scalar(known) is not None:
        _insert_attempts(connection, endpoint_id, attempts)


def _insert_attempts(
    connection: Connection, endpoint_id: UUID, attempts: Sequence[Attempt]
) -> None:
    if attempts:
        rows = [_attempt_columns(endpoint_id, one) for one in attempts]
        connection.execute(insert(webhook_attempts), rows)


def _attempt_columns(endpoint_id: UUID, attempt: Attempt) -> dict[str, object]:
    return {
        "endpoint_id": endpoint_id,
        "event_id": attempt.event_id,
        "type": attempt.type,
        "seq": attempt.seq,
        "invoice_id": attempt.invoice_id,
        "number": attempt.number,
        "at_ms": attempt.at_ms,
        "latency_ms": attempt.latency_ms,
        "status": attempt.status,
        "error": attempt.error,
        "outcome": attempt.outcome.value,
    }


def _attempts(
    connection: Connection, endpoint_id: UUID, before: int | None, limit: int
) -> tuple[LoggedAttempt, ...]:
    query = (
        select(webhook_attempts)
        .where(webhook_attempts.c.endpoint_id == endpoint_id)
        .order_by(webhook_attempts.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(webhook_attempts.c.id < before)
    return tuple(
        LoggedAttempt(
            row.id,
            Attempt(
                event_id=row.event_id,
                type=row.type,
                seq=row.seq,
                invoice_id=row.invoice_id,
                number=row.number,
                at_ms=row.at_ms,
                latency_ms=row.latency_ms,
                status=row.status,
                error=row.error,
                outcome=Outcome(row.outcome),
            ),
        )
        for row in connection.execute(query)
    )


def _forget(connection: Connection, endpoint_id: UUID, before_ms: int, keep: int) -> int:
    mine = webhook_attempts.c.endpoint_id == endpoint_id
    connection.execute(
        delete(webhook_owed).where(
            webhook_owed.c.endpoint_id == endpoint_id,
            webhook_owed.c.dead.is_(True),
            webhook_owed.c.at_ms < before_ms,
        )
    )
    old = connection.execute(
        delete(webhook_attempts).where(mine, webhook_attempts.c.at_ms < before_ms)
    ).rowcount
    newest_to_go = connection.scalar(
        select(webhook_attempts.c.id)
        .where(mine)
        .order_by(webhook_attempts.c.id.desc())
        .offset(keep)
        .limit(1)
    )
    if newest_to_go is None:
        return old
    beyond = delete(webhook_attempts).where(mine, webhook_attempts.c.id <= newest_to_go)
    return old + connection.execute(beyond).rowcount
