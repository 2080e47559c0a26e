"""Brands of merchants, on every store."""

from __future__ import annotations

from uuid import UUID

from actors.brand_book import Brand
from actors.core.outcomes import NoSuchUser
from actors.ports import Store
from tests.store.conftest import Opener

USER, OTHER = UUID(int=1), UUID(int=2)
FULL = Brand(
    user_id=USER, name="Grüße 🛒", colour="#00aaff", logo=bytes(range(256)), logo_type="image/png"
)


async def test_a_brand_is_kept_per_user(open_again: Opener):
    async with open_again() as store:
        for user_id in (USER, OTHER):
            await store.add_user(user_id, at_ms=1)
        assert await store.brands.brand(USER) is None
        assert await store.brands.set_brand(FULL, at_ms=2) is None
    async with open_again() as store:
        assert await store.brands.brand(USER) == FULL
        assert await store.brands.brand(OTHER) is None


async def test_the_newest_takes_the_place(store: Store):
    await store.add_user(USER, at_ms=1)
    await store.brands.set_brand(FULL, at_ms=2)
    plain = Brand(user_id=USER, name="plain")
    assert await store.brands.set_brand(plain, at_ms=3) is None
    assert await store.brands.brand(USER) == plain


async def test_nobody_has_no_brand(store: Store):
    assert await store.brands.set_brand(FULL, at_ms=2) == NoSuchUser(USER)
    assert await store.brands.brand(USER) is None
