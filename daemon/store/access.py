"""API keys, the audit trail and idempotency keys: their reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import Connection, delete, func, insert, select, update

from actors.access_book import Act, ApiKey, Claim, RecordedAct, Scope
from actors.ports import PersistentError
from daemon.store.directory import has_user
from daemon.store.schema import api_keys as keys
from daemon.store.schema import audit, idempotency

_SCOPES = frozenset(Scope)
MAX_KEYS = 10_000
"""That are not revoked; all of them are in memory while the daemon runs."""


def api_keys(connection: Connection) -> tuple[ApiKey, ...]:
    found = connection.execute(select(keys).order_by(keys.c.created_at_ms, keys.c.prefix))
    return tuple(
        ApiKey(
            prefix=row.prefix,
            digest=row.digest,
            name=row.name,
            # A scope of a newer version gives nothing to an older one.
            scopes=frozenset(Scope(word) for word in row.scopes.split() if word in _SCOPES),
            user_id=row.user_id,
            created_at_ms=row.created_at_ms,
            expires_at_ms=row.expires_at_ms,
            revoked_at_ms=row.revoked_at_ms,
            last_used_at_ms=row.last_used_at_ms,
        )
        for row in found
    )


def revision(connection: Connection) -> tuple[int, int]:
    added, revoked = connection.execute(
        select(func.count(keys.c.prefix), func.count(keys.c.revoked_at_ms))
    ).one()
    return added, revoked


def add_api_key(connection: Connection, key: ApiKey, act: Act) -> None:
    added, revoked = revision(connection)
    if added - revoked >= MAX_KEYS:
        raise PersistentError(
            f"there are {MAX_KEYS} API keys that are not revoked, and there may be no more; revoke"
            " those that have expired or are not used (`tallyd access list`)"
        )
    connection.execute(
        insert(keys).values(
            prefix=key.prefix,
            digest=key.digest,
            name=key.name,
            scopes=" ".join(sorted(key.scopes)),
            user_id=key.user_id,
            created_at_ms=key.created_at_ms,
            expires_at_ms=key.expires_at_ms,
            revoked_at_ms=key.revoked_at_ms,
            last_used_at_ms=key.last_used_at_ms,
        )
    )
    record_act(connection, act)


def add_api_key_of_user(connection: Connection, key: ApiKey, act: Act) -> bool:
    """Add it, unless it is bound to a user who does not exist."""
    if key.user_id is not None and not has_user(connection, key.user_id):
        return False
    add_api_key(connection, key, act)
    return True


def revoke_api_key(connection: Connection, prefix: str, act: Act) -> bool:
    done = connection.execute(
        update(keys)
        .where(keys.c.prefix == prefix, keys.c.revoked_at_ms.is_(None))
        .values(revoked_at_ms=act.at_ms)
    )
    if done.rowcount == 0:
        return False
    record_act(connection, act)
    return True


def touch_api_keys(connection: Connection, used_at_ms: Mapping[str, int]) -> None:
    for prefix, at_ms in used_at_ms.items():
        connection.execute(
            update(keys).where(keys.c.prefix == prefix).values(last_used_at_ms=at_ms)
        )


def record_act(connection: Connection, act: Act) -> None:
    connection.execute(
        insert(audit).values(
            at_ms=act.at_ms,
            actor=act.actor,
            address=act.address,
            act=act.act,
            target=act.target,
            detail=act.detail,
        )
    )


def acts(connection: Connection, before: int | None, limit: int) -> tuple[RecordedAct, ...]:
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.id < before)
    return tuple(
        RecordedAct(
            row.id,
            Act(
                at_ms=row.at_ms,
                actor=row.actor,
                address=row.address,
                act=row.act,
                target=row.target,
                detail=row.detail,
            ),
        )
        for row in connection.execute(query)
    )


def claim(
    connection: Connection,
    *,
    owner: str,
    key: str,
    digest: bytes,
    resource_id: UUID,
    at_ms: int,
    forgotten_before_ms: int,
) -> Claim:
    mine = (idempotency.c.owner == owner, idempotency.c.key == key)
    found = connection.execute(select(idempotency).where(*mine)).one_or_none()
    if found is not None and found.created_at_ms >= forgotten_before_ms:
        return Claim(found.resource_id, found.digest, fresh=False)
    if found is not None:
        connection.execute(delete(idempotency).where(*mine))
    connection.execute(
        insert(idempotency).values(
            owner=owner, key=key, digest=digest, resource_id=resource_id, created_at_ms=at_ms
        )
    )
    return Claim(resource_id, digest, fresh=True)


def forget_claims(connection: Connection, before_ms: int, limit: int) -> int:
    old = (
        select(idempotency.c.owner, idempotency.c.key)
        .where(idempotency.c.created_at_ms < before_ms)
        .order_by(idempotency.c.created_at_ms)
        .limit(limit)
    )
    found = connection.execute(old).all()
    for owner, key in found:
        connection.execute(
            delete(idempotency).where(idempotency.c.owner == owner, idempotency.c.key == key)
        )
    return len(found)
