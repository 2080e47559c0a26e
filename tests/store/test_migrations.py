"""Migrations: up, down and up again; and databases that are not what they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text

from actors.ports import Account, PersistentError
from daemon.store import SqlStore, migrate, open_store, read_store
from daemon.store.errors import parse_url
from daemon.store.schema import metadata
from tests.helpers.ledger import grow, payment, record
from tests.store.conftest import ignore


def on(url: str, action: Any) -> Any:
    engine = create_engine(parse_url(url))
    try:
        with engine.begin() as connection:
            return action(connection)
    finally:
        engine.dispose()


def run(url: str, statement: str) -> None:
    on(url, lambda connection: connection.execute(text(statement)))


def tables(url: str) -> set[str]:
    return set(on(url, lambda connection: inspect(connection).get_table_names()))


def difference(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, metadata))


def test_the_newest_revision_is_the_one_that_alembic_finds() -> None:
    script = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    assert migrate.head() == script.get_current_head()
    assert migrate.revisions() == {one.revision for one in script.walk_revisions()}


def test_up_down_and_up_again(sql_url: str) -> None:
    assert migrate.upgrade(sql_url) == migrate.head() == migrate.current(sql_url)
    assert on(sql_url, difference) == [], "the migrations lead to the schema in the code"
    assert tables(sql_url) == {*metadata.tables, "alembic_version"}
    assert migrate.upgrade(sql_url) == migrate.head(), "twice is as good as once"
    assert migrate.downgrade(sql_url, "base") is None
    assert tables(sql_url) == {"alembic_version"}
    assert migrate.current(sql_url) is None
    assert migrate.upgrade(sql_url) == migrate.head()
    assert on(sql_url, difference) == []


async def test_keys_of_the_first_schema_live_on_and_go_back(sql_url: str) -> None:
    migrate.upgrade(sql_url, "0001")
    run(
        sql_url,
        "INSERT INTO users (id, created_at_ms) VALUES "
        + ("(x'0000000000000000000000000000000A', 1)" if "sqlite" in sql_url else
           "('00000000-0000-0000-0000-00000000000a', 1)"),
    )  # fmt: skip
    run(
        sql_url,
        "INSERT INTO accounts"
        " (id, user_id, chain, key, current, created_at_ms, next_major, next_minor)"
        " SELECT 7, id, 'btc', 'canonical', true, 1, 0, 5 FROM users",
    )
    async with open_store(sql_url, on_commit=ignore) as store:
        (account,) = await store.accounts("btc", used=True)
        assert account == Account(7, UUID(int=10), "btc", "canonical", None)
        assert await store.allocate_index(7) == (0, 5)
    run(sql_url, "UPDATE accounts SET secret = NULL")
    migrate.downgrade(sql_url, "0001")
    columns = on(sql_url, lambda connection: inspect(connection).get_columns("accounts"))
    assert "secret" not in {column["name"] for column in columns}
    migrate.upgrade(sql_url)
    async with open_store(sql_url, on_commit=ignore) as store:
        assert await store.accounts("btc", used=True) == (account,)


async def test_endpoints_of_the_fifth_schema_have_the_standard_form(sql_url: str) -> None:
    migrate.upgrade(sql_url, "0005")
    some_id, secret = "x'0000000000000000000000000000000A'", "x'00'"
    if "sqlite" not in sql_url:
        some_id, secret = "'00000000-0000-0000-0000-00000000000a'::uuid", "'\\x00'::bytea"
    run(
        sql_url,
        "INSERT INTO webhook_endpoints"
        " (id, url, types, secret, created_at_ms, cursor, failures)"
        f" SELECT {some_id}, 'https://shop.example', '', {secret}, 1, 0, 0",
    )
    migrate.upgrade(sql_url)
    assert _forms(sql_url) == ["standard"]
    migrate.downgrade(sql_url, "0005")
    columns = on(sql_url, lambda connection: inspect(connection).get_columns("webhook_endpoints"))
    assert "form" not in {column["name"] for column in columns}
    assert "orders" not in tables(sql_url)
    migrate.upgrade(sql_url)
    assert _forms(sql_url) == ["standard"]


def _forms(url: str) -> list[str]:
    query = text("SELECT form FROM webhook_endpoints")
    return on(url, lambda connection: list(connection.scalars(query)))


async def test_opening_creates_the_tables_and_keeps_the_data(sql_url: str) -> None:
    async with open_store(sql_url, on_commit=ignore) as store:
        created = await grow(store, 1)
    assert migrate.current(sql_url) == migrate.head()
    migrate.upgrade(sql_url)
    async with open_store(sql_url, on_commit=ignore, migrations=False) as store:
        await record(store, created, payment(created))


async def refused(url: str, complaint: str, **options: Any) -> None:
    with pytest.raises(PersistentError, match=complaint) as caught:
        async with open_store(url, on_commit=ignore, **options):
            pass
    assert "database.url" in str(caught.value)


async def test_an_old_schema_is_refused_where_migrations_are_off(sql_url: str) -> None:
    await refused(sql_url, "has schema none, but .* run `tallyd migrate`", migrations=False)
    assert not tables(sql_url)


async def test_a_newer_database_is_refused_and_left_alone(sql_url: str) -> None:
    migrate.upgrade(sql_url)
    run(sql_url, "UPDATE alembic_version SET version_num = '9999'")
    await refused(sql_url, "written by a newer tallyd .schema 9999, this one knows 0")
    with pytest.raises(PersistentError, match="newer tallyd"):
        migrate.upgrade(sql_url)
    with pytest.raises(PersistentError, match="newer tallyd"):
        migrate.downgrade(sql_url, "base")
    with pytest.raises(PersistentError, match="newer tallyd"):
        async with read_store(sql_url):
            pass
    assert "events" in tables(sql_url)


@pytest.mark.parametrize(
    "damage",
    [
        ("DELETE FROM alembic_version",),
        ("INSERT INTO alembic_version VALUES ('0000')",),
        tuple(
            f"DROP TABLE {name}"
            for name in ("accounts", *sorted(set(metadata.tables) - {"accounts"}))
        ),
    ],
    ids=["no version", "two versions", "no tables"],
)
async def test_a_half_migrated_database_is_refused(sql_url: str, damage: tuple[str, ...]) -> None:
    migrate.upgrade(sql_url)
    for statement in damage:
        run(sql_url, statement)
    await refused(sql_url, "half migrated")


async def test_somebody_elses_database_is_refused(sql_url: str) -> None:
    run(sql_url, "CREATE TABLE recipes (name TEXT)")
    await refused(sql_url, "is not a tallyd one")
    assert tables(sql_url) == {"recipes"}


async def test_a_migration_that_fails_leaves_nothing_behind(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_connection: Connection, revision: str) -> None:
        raise RuntimeError(revision)

    def upgrade_then_fail(config: Any, revision: str) -> None:
        upgrade(config, revision)
        fail(config.attributes["connection"], revision)

    upgrade = command.upgrade
    monkeypatch.setattr("alembic.command.upgrade", upgrade_then_fail)
    with pytest.raises(RuntimeError):
        migrate.upgrade(sql_url)
    assert not tables(sql_url)


async def test_a_second_daemon_is_refused(sql_url: str) -> None:
    async with open_store(sql_url, on_commit=ignore) as store:
        assert isinstance(store, SqlStore)
        await refused(sql_url, "in use by another tallyd", busy_timeout_s=0.05)
        assert migrate.current(sql_url) == migrate.head(), "looking is allowed"
        await grow(store, 1)
