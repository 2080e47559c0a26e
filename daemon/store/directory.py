"""Users, keys, indices, cursors and quarantine: the writes besides appends, and their reads.

Writes need no locks and no retries against each other: there is one writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, Select, and_, case, func, insert, not_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_upsert
from sqlalchemy.dialects.sqlite import insert as sqlite_upsert

from actors.core.outcomes import KeyInUse, NoSuchUser, UserExists
from actors.ports import Account, ChainCursor, PublicKey
from daemon.store import rows
from daemon.store.errors import UnknownAccountError
from daemon.store.log_names import read_meta, write_meta
from daemon.store.schema import MAX_INDEX, accounts, chain_cursors, quarantine, users

FIRST_INDEX = (0, 1)
_FIRST_MINOR = "first_minor"
"""Key in `meta` of the minor index that new accounts begin with since a restore."""


def next_index(index: tuple[int, int]) -> tuple[int, int]:
    """The (major, minor) after `index`; after the last minor comes (major + 1, 0)."""
    major, minor = index
    return (major, minor + 1) if minor < MAX_INDEX else (major + 1, 0)


def first_index(connection: Connection) -> tuple[int, int]:
    """The first index of a new account: beyond what one may have given out that is not known."""
    found = read_meta(connection, _FIRST_MINOR)
    return FIRST_INDEX if found is None else (FIRST_INDEX[0], int(found))


def skip_indices(connection: Connection, count: int) -> None:
    """Leave out the next `count` indices of every account, and the first ones of new accounts."""
    assert 0 <= count <= MAX_INDEX, "one leap does not pass over a whole major index"
    leap = accounts.c.next_minor + count
    fits = case((leap <= MAX_INDEX, leap), else_=leap - MAX_INDEX - 1)
    major = case((leap <= MAX_INDEX, accounts.c.next_major), else_=accounts.c.next_major + 1)
    connection.execute(update(accounts).values(next_major=major, next_minor=fits))
    first = min(MAX_INDEX, first_index(connection)[1] + count)
    write_meta(connection, _FIRST_MINOR, str(first))


def add_user(connection: Connection, user_id: UUID, at_ms: int) -> UserExists | None:
    if has_user(connection, user_id):
        return UserExists(user_id)
    connection.execute(insert(users).values(id=user_id, created_at_ms=at_ms))
    return None


def has_user(connection: Connection, user_id: UUID) -> bool:
    return connection.scalar(select(users.c.id).where(users.c.id == user_id)) is not None


def set_keys(
    connection: Connection, user_id: UUID, keys: Sequence[PublicKey], at_ms: int
) -> NoSuchUser | KeyInUse | None:
    if not has_user(connection, user_id):
        return NoSuchUser(user_id)
    known = _owned(connection, user_id, keys)
    if isinstance(known, KeyInUse):
        return known
    for key, account_id in zip(keys, known, strict=True):
        connection.execute(
            update(accounts)
            .where(accounts.c.user_id == user_id, accounts.c.chain == key.chain, accounts.c.current)
            .values(current=False)
        )
        _keep_key(connection, user_id, key, account_id, current=True, at_ms=at_ms)
    return None


def keep_keys(
    connection: Connection, user_id: UUID, keys: Sequence[PublicKey], *, at_ms: int
) -> dict[str, int] | KeyInUse:
    """Chain id → account id of these keys, without a change of which are the user's current ones.

    All or nothing; the user is there, and there is at most one key per chain.
    """
    known = _owned(connection, user_id, keys)
    if isinstance(known, KeyInUse):
        return known
    return {
        key.chain: _keep_key(connection, user_id, key, account_id, current=None, at_ms=at_ms)
        for key, account_id in zip(keys, known, strict=True)
    }


def _owned(
    connection: Connection, user_id: UUID, keys: Sequence[PublicKey]
) -> list[int | None] | KeyInUse:
    """The account of each key, None for a new one; KeyInUse if one is somebody else's."""
    known: list[int | None] = []
    for key in keys:
        found = connection.execute(
            select(accounts.c.id, accounts.c.user_id).where(
                accounts.c.chain == key.chain, accounts.c.key == key.canonical
            )
        ).one_or_none()
        if found is not None and found.user_id != user_id:
            return KeyInUse(key.chain)
        known.append(None if found is None else found.id)
    return known


def _keep_key(
    connection: Connection,
    user_id: UUID,
    key: PublicKey,
    account_id: int | None,
    *,
    current: bool | None,
    at_ms: int,
) -> int:
    """The key's account, made if it is None; `current` None leaves an old one as it is."""
    if account_id is not None:
        values: dict[str, object] = {} if current is None else {"current": current}
        if key.secret is not None:
            values["secret"] = key.secret
        if values:
            connection.execute(update(accounts).where(accounts.c.id == account_id).values(**values))
        return account_id
    major, minor = first_index(connection)
    inserted = connection.execute(
        insert(accounts).values(
            user_id=user_id,
            chain=key.chain,
            key=key.canonical,
            current=bool(current),
            created_at_ms=at_ms,
            next_major=major,
            next_minor=minor,
            secret=key.secret,
        )
    ).inserted_primary_key
    assert inserted is not None, "one row was inserted"
    return int(inserted[0])


def account(connection: Connection, user_id: UUID, chain: str) -> Account | None:
    found = connection.execute(
        _accounts().where(
            accounts.c.user_id == user_id, accounts.c.chain == chain, accounts.c.current
        )
    ).one_or_none()
    return None if found is None else Account(*found)


def account_by_id(connection: Connection, account_id: int) -> Account | None:
    found = connection.execute(_accounts().where(accounts.c.id == account_id)).one_or_none()
    return None if found is None else Account(*found)


def all_accounts(connection: Connection, chain: str, *, used: bool) -> tuple[Account, ...]:
    query = _accounts().where(accounts.c.chain == chain).order_by(accounts.c.id)
    if used:
        major, minor = first_index(connection)
        fresh = and_(accounts.c.next_major == major, accounts.c.next_minor == minor)
        query = query.where(not_(fresh))
    return tuple(Account(*found) for found in connection.execute(query))


def _accounts() -> Select[int, UUID, str, str, bytes | None]:
    return select(
        accounts.c.id, accounts.c.user_id, accounts.c.chain, accounts.c.key, accounts.c.secret
    )


def allocate(connection: Connection, account_id: int, count: int) -> list[tuple[int, int]]:
    """The next `count` indices of the account, in order."""
    found = connection.execute(
        select(accounts.c.next_major, accounts.c.next_minor).where(accounts.c.id == account_id)
    ).one_or_none()
    if found is None:
        raise UnknownAccountError(f"there is no account {account_id}")
    given = []
    index = (found.next_major, found.next_minor)
    for _ in range(count):
        given.append(index)
        index = next_index(index)
    connection.execute(
        update(accounts)
        .where(accounts.c.id == account_id)
        .values(next_major=index[0], next_minor=index[1])
    )
    return given


def save_cursor(connection: Connection, cursor: ChainCursor) -> None:
    values = {
        "network": cursor.network,
        "genesis": cursor.genesis,
        "tip_height": cursor.view.tip.height,
        "view": rows.encode_view(cursor.view),
        "saved_at_ms": cursor.saved_at_ms,
    }
    upsert = postgres_upsert if connection.dialect.name == "postgresql" else sqlite_upsert
    connection.execute(
        upsert(chain_cursors)
        .values(chain=cursor.chain, **values)
        .on_conflict_do_update(index_elements=[chain_cursors.c.chain], set_=values)
    )


def cursor(connection: Connection, chain: str) -> ChainCursor | None:
    found = connection.execute(
        select(chain_cursors).where(chain_cursors.c.chain == chain)
    ).one_or_none()
    if found is None:
        return None
    return ChainCursor(
        chain=chain,
        network=found.network,
        genesis=found.genesis,
        view=rows.decode_view(found.view),
        saved_at_ms=found.saved_at_ms,
    )


def quarantine_invoice(
    connection: Connection, invoice_id: UUID, chain: str, from_height: int
) -> None:
    lowest = connection.scalar(
        select(func.min(quarantine.c.from_height)).where(quarantine.c.invoice_id == invoice_id)
    )
    if lowest is None:
        connection.execute(
            insert(quarantine).values(invoice_id=invoice_id, chain=chain, from_height=from_height)
        )
    elif from_height < lowest:
        connection.execute(
            update(quarantine)
            .where(quarantine.c.invoice_id == invoice_id)
            .values(from_height=from_height)
        )


def quarantined(connection: Connection, chain: str) -> dict[UUID, int]:
    found = connection.execute(
        select(quarantine.c.invoice_id, quarantine.c.from_height).where(quarantine.c.chain == chain)
    )
    return {row.invoice_id: row.from_height for row in found}


def release(connection: Connection, invoice_id: UUID) -> None:
    connection.execute(quarantine.delete().where(quarantine.c.invoice_id == invoice_id))
