"""Pages of invoices: whatever the filters and the order, the pages are the whole, once each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.core.invoice import State
from actors.ports import InvoiceQuery, InvoiceRow, Order, Store
from daemon.store import MemoryStore, open_store
from tests.helpers.invoices import CREATED_MS
from tests.helpers.ledger import grow, payment, record, settlement
from tests.store.conftest import ignore

USERS = (UUID(int=7), UUID(int=2**127))
ASSETS = ("BTC", "OTHER")


async def populate(store: Store) -> None:
    """Invoices of two users and assets in several states; several share a moment of creation."""
    made = [
        await grow(
            store,
            number,
            user_id=USERS[number % 2],
            asset=ASSETS[number % 3 == 0],
            created_at_ms=CREATED_MS + number // 4,
        )
        for number in range(30, 0, -1)
    ]
    for number, invoice in enumerate(made):
        if number % 3 and invoice.terms.asset == "BTC":
            at_ms = CREATED_MS + 1000 - number  # a clock that runs backwards
            paid = await record(store, invoice, payment(invoice, at_ms=at_ms))
            if number % 3 == 2:
                await record(store, paid, settlement(paid))


async def all_pages(store: Store, query: InvoiceQuery) -> list[InvoiceRow]:
    found: list[InvoiceRow] = []
    while page := await store.find(query):
        assert len(page) <= query.limit
        found.extend(page)
        last = page[-1]
        terms = last.invoice.terms
        at = terms.created_at_ms if query.order is Order.CREATED else last.updated_seq
        query = replace(query, after=(at, terms.invoice_id))
    return found


async def test_order_and_filters(store: Store) -> None:
    await populate(store)
    everything = await all_pages(store, InvoiceQuery())
    assert len(everything) == 30
    keys = [(row.invoice.terms.created_at_ms, row.invoice.terms.invoice_id) for row in everything]
    assert keys == sorted(keys)
    backwards = await all_pages(store, InvoiceQuery(descending=True, limit=7))
    assert backwards == everything[::-1]
    updated = await all_pages(store, InvoiceQuery(order=Order.UPDATED, limit=4))
    assert [row.updated_seq for row in updated] == sorted(row.updated_seq for row in everything)
    settled = await all_pages(store, InvoiceQuery(states=("settled",), assets=("BTC",)))
    assert settled == [row for row in everything if row.invoice.state is State.SETTLED]
    assert settled
    mine = await store.find(InvoiceQuery(user_id=USERS[0], limit=100))
    assert {row.invoice.terms.user_id for row in mine} == {USERS[0]}
    assert len(mine) == 15
    assert await store.find(InvoiceQuery(user_id=UUID(int=1))) == ()


async def test_a_change_moves_an_invoice_to_the_end_of_the_updates(store: Store) -> None:
    """Who pages through the updates misses nothing that changes meanwhile."""
    made = [await grow(store, number) for number in range(1, 7)]
    first = await store.find(InvoiceQuery(order=Order.UPDATED, limit=3))
    await record(store, made[0], payment(made[0]))
    last = first[-1]
    rest = await store.find(
        InvoiceQuery(order=Order.UPDATED, after=(last.updated_seq, last.invoice.terms.invoice_id))
    )
    assert [row.invoice.terms.path[1] for row in rest] == [4, 5, 6, 1]


queries = st.builds(
    InvoiceQuery,
    user_id=st.none() | st.sampled_from(USERS),
    assets=st.sampled_from([(), ("BTC",), ("OTHER", "BTC"), ("NONE",)]),
    states=st.sampled_from([(), ("pending",), ("settled", "seen"), ("expired",)]),
    updated_since_ms=st.none() | st.integers(CREATED_MS - 1, CREATED_MS + 1001),
    order=st.sampled_from(Order),
    descending=st.booleans(),
    limit=st.integers(1, 12),
)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_both_engines_answer_as_memory_does(engine: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("sqlite_url" if engine == "sqlite" else "postgres_url")

    async def populated() -> None:
        async with open_store(url, on_commit=ignore) as sql:
            await populate(sql)

    async def compare(asked: Sequence[InvoiceQuery]) -> None:
        memory = MemoryStore()
        await populate(memory)
        async with open_store(url, on_commit=ignore) as sql:
            for query in asked:
                expected = await all_pages(memory, query)
                assert await all_pages(sql, query) == expected
                whole = await memory.find(replace(query, limit=1000))
                assert list(whole) == expected

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(queries, min_size=10, max_size=30))
    def examples(asked: list[InvoiceQuery]) -> None:
        trio.run(compare, asked)

    trio.run(populated)
    examples()
