"""Cursors and quarantine, and what is loaded at a start: the contract, on every store."""

from __future__ import annotations

from uuid import UUID

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from actors.core.chain_view import BlockRef, ChainView
from actors.core.inputs import TimeReached
from actors.ports import ChainCursor, Store
from daemon.store import rows
from tests.helpers.invoices import CREATED_MS, EXPIRES_MS, block, seen
from tests.helpers.ledger import grow, payment, record, settlement, steps
from tests.store.conftest import Opener


def cursor(height: int, chain: str = "btc") -> ChainCursor:
    blocks = tuple(block(at) for at in range(max(0, height - 100), height + 1))
    return ChainCursor(chain, "regtest", b"\x06" * 32, ChainView(blocks), CREATED_MS + height)


async def test_the_newest_cursor_of_each_chain_is_kept(open_again: Opener) -> None:
    async with open_again() as store:
        assert await store.cursor("btc") is None
        await store.save_cursor(cursor(5))
        await store.save_cursor(cursor(6))
        await store.save_cursor(cursor(900, "ltc"))
        await store.save_cursor(cursor(4))
    async with open_again() as store:
        assert await store.cursor("btc") == cursor(4)
        assert await store.cursor("ltc") == cursor(900, "ltc")


async def test_of_cursors_saved_at_once_the_last_wins(store: Store) -> None:
    async with trio.open_nursery() as nursery:
        for height in range(200):
            nursery.start_soon(store.save_cursor, cursor(height))
            await trio.testing.wait_all_tasks_blocked()
    assert await store.cursor("btc") == cursor(199)


@given(
    st.lists(
        st.builds(
            BlockRef,
            height=st.integers(0, 2**40),
            hash=st.binary(max_size=40),
            parent=st.binary(max_size=40),
            time_s=st.integers(-(2**40), 2**40),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_chain_view_is_read_back_as_it_was(blocks: list[BlockRef]) -> None:
    view = ChainView(tuple(blocks))
    assert rows.decode_view(rows.encode_view(view)) == view


def test_a_chain_view_is_stored_compactly() -> None:
    assert len(rows.encode_view(cursor(1000).view)) < 101 * 52


async def test_quarantine_remembers_the_lowest_height(open_again: Opener) -> None:
    one, two, three = UUID(int=1), UUID(int=2), UUID(int=3)
    async with open_again() as store:
        await store.quarantine(one, "btc", from_height=10)
        await store.quarantine(one, "btc", from_height=12)
        await store.quarantine(two, "btc", from_height=10)
        await store.quarantine(two, "btc", from_height=7)
        await store.quarantine(three, "ltc", from_height=1)
    async with open_again() as store:
        assert await store.quarantined("btc") == {one: 10, two: 7}
        await store.release(one)
        await store.release(UUID(int=99))
        assert await store.quarantined("btc") == {two: 7}
        assert await store.quarantined("ltc") == {three: 1}


async def test_live_invoices_are_those_that_can_still_change(store: Store) -> None:
    waiting = await grow(store, 1)
    seen_ = await grow(store, 2)
    seen_ = await record(store, seen_, payment(seen_))
    settled = await grow(store, 3)
    settled = await record(store, settled, payment(settled))
    settled = await record(store, settled, settlement(settled, height=10))
    expired = await grow(store, 4)
    expired = await record(store, expired, steps(expired, TimeReached(EXPIRES_MS + 4)))
    late = await grow(store, 5)
    late = await record(store, late, steps(late, TimeReached(EXPIRES_MS + 5)))
    late = await record(store, late, steps(late, seen("late", 1, at_ms=EXPIRES_MS + 10)))
    other = await grow(store, 6, chain="ltc")
    assert settled.watched_until() == 109

    async def live(chain: str, tip_height: int) -> set[int]:
        found = await store.live(chain, tip_height=tip_height)
        return {invoice.terms.path[1] for invoice in found}

    assert await live("btc", 0) == {1, 2, 3, 5}
    assert await live("btc", 109) == {1, 2, 3, 5}
    assert await live("btc", 110) == {1, 2, 5}
    assert await live("ltc", 0) == {6}
    assert set(await store.live("btc", tip_height=0)) == {waiting, seen_, settled, late}
    every = (waiting, seen_, settled, expired, late)
    assert set(await store.destinations("btc")) == {
        (invoice.terms.destination, invoice.terms.invoice_id) for invoice in every
    }
    assert await store.destinations("ltc") == ((other.terms.destination, other.terms.invoice_id),)
