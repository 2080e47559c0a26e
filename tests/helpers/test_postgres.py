"""The PostgreSQL helper itself."""

import os
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy

from tests.helpers import postgres
from tests.helpers.postgres import PostgresServer
from tests.nodes.install import find, how_to_install


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    if find("postgres") is None:
        pytest.skip(how_to_install("postgres"))
    with PostgresServer(fsync=True) as server:
        yield server


def test_its_address_is_sqlalchemy_s(postgres_url: str) -> None:
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
        assert connection.execute(sqlalchemy.text("SHOW timezone")).scalar() == "GMT"
        assert connection.execute(sqlalchemy.text("SHOW server_encoding")).scalar() == "UTF8"
    engine.dispose()


def test_databases_are_apart(postgres_server: PostgresServer, postgres_url: str) -> None:
    other = postgres_server.create_database()
    with psycopg.connect(plain(postgres_url)) as connection:
        connection.execute("CREATE TABLE mine (x int)")
    with psycopg.connect(plain(other)) as connection:
        found = connection.execute("SELECT to_regclass('mine')").fetchone()
        assert found == (None,)
    postgres_server.drop_database(other)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(plain(other))


def test_what_was_committed_outlives_a_crash(server: PostgresServer) -> None:
    url = server.create_database()
    with psycopg.connect(plain(url)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS x")
    server.kill()
    assert not server.is_running
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(plain(url))
    server.start()
    with psycopg.connect(plain(url)) as connection:
        assert connection.execute("SELECT x FROM kept").fetchone() == (7,)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_a_wrong_password_is_refused(postgres_server: PostgresServer, postgres_url: str) -> None:
    wrong = plain(postgres_url).replace(postgres_server.password, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_under_root_it_runs_as_nobody(postgres_server: PostgresServer) -> None:
    expected = os.geteuid() or postgres._NOBODY
    assert postgres_server.data_folder.stat().st_uid == expected


def plain(url: str) -> str:
    return url.replace("+psycopg", "")
