"""The default policies of users, on every store."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import create_engine, text

from actors.core.outcomes import NoSuchUser
from actors.core.policy import Band, Policy
from actors.ports import PersistentError, Store
from daemon.store import open_store
from tests.store.conftest import Opener

USER, OTHER = UUID(int=1), UUID(int=2)
FULL = Policy(
    bands=(Band(0, 1), Band(2**70, 6)),
    rbf_confirmations=0,
    tolerance_base=2**71,
    tolerance_bps=50,
    accept_late_s=3600,
)


async def test_a_policy_is_kept_per_user_and_asset(open_again: Opener):
    async with open_again() as store:
        for user_id in (USER, OTHER):
            await store.add_user(user_id, at_ms=1)
        assert await store.policies.policy(USER, "BTC") is None
        assert await store.policies.set_policy(USER, "BTC", FULL, at_ms=2) is None
    async with open_again() as store:
        assert await store.policies.policy(USER, "BTC") == FULL
        assert await store.policies.policy(USER, "LTC") is None
        assert await store.policies.policy(OTHER, "BTC") is None


async def test_the_newest_takes_the_place_and_none_removes_it(store: Store):
    await store.add_user(USER, at_ms=1)
    await store.policies.set_policy(USER, "BTC", FULL, at_ms=2)
    await store.policies.set_policy(USER, "BTC", Policy(accept_late_s=5), at_ms=3)
    assert await store.policies.policy(USER, "BTC") == Policy(accept_late_s=5)
    for _ in range(2):
        assert await store.policies.set_policy(USER, "BTC", None, at_ms=4) is None
        assert await store.policies.policy(USER, "BTC") is None


async def test_nobody_has_no_policy(store: Store):
    assert await store.policies.set_policy(USER, "BTC", FULL, at_ms=2) == NoSuchUser(USER)
    assert await store.policies.set_policy(USER, "BTC", None, at_ms=2) == NoSuchUser(USER)


@pytest.mark.parametrize("damage", ["not json", "[]", '{"kindness": 1}', '{"bands": [{}]}'])
async def test_a_damaged_policy_is_said_so(sqlite_url: str, damage: str):
    async with open_store(sqlite_url, on_commit=lambda _: None) as store:
        await store.add_user(USER, at_ms=1)
        await store.policies.set_policy(USER, "BTC", FULL, at_ms=2)
        engine = create_engine(sqlite_url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE policies SET policy = :damage"), {"damage": damage})
        engine.dispose()
        with pytest.raises(PersistentError, match=r"database\.url .*policy of user .* for BTC"):
            await store.policies.policy(USER, "BTC")
