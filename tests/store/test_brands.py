"""Brands of merchants, on every store."""

from __future__ import annotations

from uuid import UUID

from actors.brand_book import Brand, Merchant
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


async def test_merchants_come_in_pages_by_id_with_their_names(store: Store):
    for number in (3, 1, 0xF0 << 120, 2):
        await store.add_user(UUID(int=number), at_ms=1)
    await store.brands.set_brand(Brand(user_id=OTHER, name="Two"), at_ms=2)
    first = await store.brands.merchants(after=None, limit=2)
    assert first == (Merchant(USER, ""), Merchant(OTHER, "Two"))
    rest = await store.brands.merchants(after=OTHER, limit=9)
    assert [one.user_id.int for one in rest] == [3, 0xF0 << 120]
