"""API keys, the audit trail and idempotency keys, on every store."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text

from actors.access import mint
from actors.access_book import Act, Claim, Scope
from actors.ports import PersistentError, Store
from daemon.store import access, open_store

USER = UUID(int=7)
ONE, TWO = UUID(int=1), UUID(int=2)


def act(name: str = "key.added", target: str = "x", at_ms: int = 5) -> Act:
    return Act(at_ms=at_ms, actor="cli", address="local", act=name, target=target, detail="d")


async def test_a_key_comes_back_as_it_was_added(store: Store):
    plain, _ = mint(name="shop", scopes=["write", "read"], now_ms=10)
    bound, _ = mint(name="b", scopes=["admin"], user_id=USER, expires_at_ms=99, now_ms=20)
    assert await store.api_keys_revision() == (0, 0)
    await store.add_api_key(bound, act(target=bound.prefix))
    await store.add_api_key(plain, act(target=plain.prefix))
    assert await store.api_keys() == (plain, bound)
    assert await store.api_keys_revision() == (2, 0)
    assert [one.act.target for one in await store.acts(before=None, limit=9)] == [
        plain.prefix,
        bound.prefix,
    ]


async def test_a_key_is_revoked_once_and_the_act_recorded_with_it(store: Store):
    key, _ = mint(name="shop", scopes=["read"], now_ms=10)
    await store.add_api_key(key, act())
    assert not await store.revoke_api_key("nothing!", act("key.revoked"))
    assert await store.revoke_api_key(key.prefix, act("key.revoked", at_ms=30))
    assert not await store.revoke_api_key(key.prefix, act("key.revoked", at_ms=40))
    assert await store.api_keys() == (replace(key, revoked_at_ms=30),)
    assert await store.api_keys_revision() == (1, 1)
    assert [one.act.act for one in await store.acts(before=None, limit=9)] == [
        "key.revoked",
        "key.added",
    ]


async def test_the_last_use_is_remembered(store: Store):
    key, _ = mint(name="shop", scopes=["read"], now_ms=10)
    await store.add_api_key(key, act())
    await store.touch_api_keys({key.prefix: 77, "unknown!": 1})
    assert (await store.api_keys())[0].last_used_at_ms == 77
    assert await store.api_keys_revision() == (1, 0)


async def test_acts_are_read_page_by_page_newest_first(store: Store):
    for number in range(5):
        await store.record_act(act(target=str(number)))
    first = await store.acts(before=None, limit=2)
    assert [one.act.target for one in first] == ["4", "3"]
    rest = await store.acts(before=first[-1].id, limit=9)
    assert [one.act.target for one in rest] == ["2", "1", "0"]
    assert rest[-1].act == act(target="0")
    assert await store.acts(before=rest[-1].id, limit=9) == ()
    assert await store.acts(before=-1, limit=9) == ()


async def claimed(store: Store, key: str, resource: UUID, *, at_ms: int, owner="a") -> Claim:
    return await store.claim(
        owner=owner,
        key=key,
        digest=b"%d" % resource.int,
        resource_id=resource,
        at_ms=at_ms,
        forgotten_before_ms=at_ms - 100,
    )


async def test_a_claim_stands_for_what_it_was_first_made_for(store: Store):
    assert await claimed(store, "k", ONE, at_ms=1000) == Claim(ONE, b"1", fresh=True)
    assert await claimed(store, "k", TWO, at_ms=1100) == Claim(ONE, b"1", fresh=False)
    assert (await claimed(store, "k", TWO, at_ms=1100, owner="b")).fresh
    assert (await claimed(store, "l", TWO, at_ms=1100)).fresh


async def test_a_claim_is_forgotten_in_time_whether_cleaned_up_or_not(store: Store):
    await claimed(store, "k", ONE, at_ms=1000)
    assert await claimed(store, "k", TWO, at_ms=1101) == Claim(TWO, b"2", fresh=True)
    for number in range(4):
        await claimed(store, f"n{number}", ONE, at_ms=2000 + number)
    assert await store.forget_claims(before_ms=2002, limit=2) == 2
    assert await store.forget_claims(before_ms=2002, limit=2) == 1
    assert await store.forget_claims(before_ms=2002, limit=2) == 0
    assert not (await claimed(store, "n2", TWO, at_ms=2010)).fresh


async def test_claims_and_keys_outlive_the_daemon(sql_url: str):
    key, _ = mint(name="shop", scopes=["read"], user_id=USER, now_ms=10)
    async with open_store(sql_url, on_commit=lambda _: None) as first:
        await first.add_api_key(key, act())
        await claimed(first, "k", ONE, at_ms=1000)
    async with open_store(sql_url, on_commit=lambda _: None) as second:
        assert await second.api_keys() == (key,)
        assert not (await claimed(second, "k", TWO, at_ms=1001)).fresh


async def test_a_scope_of_a_newer_version_gives_nothing(sqlite_url: str):
    key, _ = mint(name="shop", scopes=["read"], now_ms=10)
    async with open_store(sqlite_url, on_commit=lambda _: None) as store:
        await store.add_api_key(key, act())
    engine = create_engine(sqlite_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE api_keys SET scopes = 'read everything'"))
    engine.dispose()
    async with open_store(sqlite_url, on_commit=lambda _: None) as store:
        assert (await store.api_keys())[0].scopes == {Scope.READ}


async def test_there_is_a_bound_on_keys(monkeypatch, sqlite_url: str):
    monkeypatch.setattr(access, "MAX_KEYS", 1)
    async with open_store(sqlite_url, on_commit=lambda _: None) as store:
        await store.add_api_key(mint(name="a", scopes=["read"], now_ms=10)[0], act())
        with pytest.raises(PersistentError, match="1 API keys"):
            await store.add_api_key(mint(name="b", scopes=["read"], now_ms=10)[0], act())
        (first,) = await store.api_keys()
        assert await store.revoke_api_key(first.prefix, act())
        await store.add_api_key(mint(name="b", scopes=["read"], now_ms=10)[0], act())


async def test_no_secret_is_in_the_database(tmp_path, sqlite_url: str):
    key, token = mint(name="a", scopes=["read"], now_ms=10)
    async with open_store(sqlite_url, on_commit=lambda _: None) as store:
        await store.add_api_key(key, act())
    secret = token.rpartition("_")[2].encode()
    files = [one.read_bytes() for one in tmp_path.iterdir()]
    assert any(key.prefix.encode() in content for content in files)
    assert not any(secret in content for content in files)
