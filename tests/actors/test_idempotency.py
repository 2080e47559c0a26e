"""The same key and the same input: one thing, one answer."""

from __future__ import annotations

from types import MappingProxyType
from uuid import UUID

import pytest
import trio
import trio.testing

from actors.access import Caller
from actors.access_book import Claim, Scope
from actors.core.invoice import Invoice
from actors.core.outcomes import NoKey, UserExists
from actors.idempotency import (
    CLEAN_AT_ONCE,
    CLEAN_EVERY_S,
    KEPT_MS,
    WAIT_S,
    Idempotency,
    KeyMalformed,
    KeyReused,
    StillAtWork,
    digest_of,
    malformed,
)
from actors.invoicing import NewInvoice
from actors.ports import TransientError
from daemon.store import MemoryStore
from tests.helpers.faulty_store import FaultyStore
from tests.helpers.house import BTC_KEY, open_house
from tests.helpers.recording_log import RecordingLog
from tests.helpers.virtual_clock import VirtualClock

ALL = Caller(actor="a", address="b", scopes=frozenset({Scope.ADMIN}))


@pytest.fixture
async def house(autojump_clock):
    async with open_house(make_store=FaultyStore) as running:
        yield running


async def create(house, user_id, key="k", caller=ALL, **more):
    wanted = NewInvoice(user_id, "BTC", 1000, 60_000, **more)
    return await house.repeats.create_invoice(wanted, caller=caller, key=key)


async def count(house):
    return len(await house.store.read(after_seq=0, limit=1000))


# --- invoices and users ---------------------------------------------------------------------------


async def test_a_repetition_gives_the_invoice_as_it_was_created(house):
    user_id = await house.user()
    first = await create(house, user_id)
    assert isinstance(first, Invoice)
    await house.paid(first)
    assert await create(house, user_id) == first
    assert len(await house.store.history(first.terms.invoice_id)) > 1
    other = await create(house, user_id, key="other")
    assert other.terms.invoice_id != first.terms.invoice_id
    assert await create(house, user_id, key=None) != await create(house, user_id, key=None)


async def test_another_input_is_refused_until_the_day_is_over(house):
    user_id = await house.user()
    first = await create(house, user_id)
    assert await create(house, user_id, confirmations=3) == KeyReused("k")
    house.clock.jump((KEPT_MS - 1000) / 1000)
    assert await create(house, user_id, confirmations=3) == KeyReused("k")
    house.clock.jump(2)
    later = await create(house, user_id, confirmations=3)
    assert later.terms.invoice_id != first.terms.invoice_id


async def test_a_refusal_is_not_kept(house):
    user_id = await house.invoicing.register_user()
    assert isinstance(await create(house, user_id), NoKey)
    assert await house.invoicing.set_keys(user_id, [("btc", BTC_KEY)]) is None
    assert isinstance(await create(house, user_id), Invoice)


async def test_keys_belong_to_the_user_whom_the_caller_is_bound_to(house):
    user_id = await house.user()
    bound = Caller(actor="key:x", address="b", scopes=frozenset(), user_id=user_id)
    again = Caller(actor="key:y", address="b", scopes=frozenset(), user_id=user_id)
    first = await create(house, user_id)
    second = await create(house, user_id, caller=bound)
    assert first.terms.invoice_id != second.terms.invoice_id
    assert await create(house, user_id, caller=again) == second  # with a new API key


async def test_what_failed_half_way_is_completed_under_the_same_id(house):
    user_id = await house.user()
    house.store.fail("append", TransientError("locked"))
    with pytest.raises(TransientError):
        await create(house, user_id)
    assert await count(house) == 0
    made = await create(house, user_id)
    assert isinstance(made, Invoice)
    assert await create(house, user_id) == made
    assert await count(house) == 1


async def test_a_caller_that_leaves_does_not_stop_what_began(house):
    user_id = await house.user()
    house.store.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(create, house, user_id)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        house.store.gate.set()
    made = await create(house, user_id)
    assert isinstance(made, Invoice)
    assert await count(house) == 1


async def test_duplicates_at_the_same_time_make_one_invoice(house):
    user_id = await house.user()
    found = []

    async def one():
        found.append(await create(house, user_id))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert len(found) == 20
    assert all(one == found[0] for one in found)
    assert await count(house) == 1


async def test_users_are_registered_once(house):
    async def register(user_id=None, key="k"):
        return await house.repeats.register_user(user_id, caller=ALL, key=key)

    first = await register()
    assert isinstance(first, UUID)
    assert await register() == first
    assert await house.invoicing.has_user(first)
    assert await register(UUID(int=9)) == KeyReused("k")
    assert await register(UUID(int=9), key="l") == UUID(int=9)
    assert await register(UUID(int=9), key="l") == UUID(int=9)
    assert await register(UUID(int=9), key="m") == UserExists(UUID(int=9))
    assert await register(UUID(int=9), key=None) == UserExists(UUID(int=9))
    assert isinstance(await create(house, first), KeyReused)  # the key was for something else


# --- the keys themselves --------------------------------------------------------------------------


def idempotency(store=None):
    log = RecordingLog()
    return Idempotency(store or MemoryStore(), clock=VirtualClock(), log=log), log


async def test_who_waits_too_long_is_told_so(autojump_clock):
    keys, _ = idempotency()
    outcomes = []

    async def use(hold_s):
        async with keys.once(owner="", key="k", operation="o", given={}) as claim:
            outcomes.append((trio.current_time(), type(claim)))
            await trio.sleep(hold_s)

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, WAIT_S + 1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(use, 0)
    assert outcomes == [(start, Claim), (start + WAIT_S, StillAtWork)]
    async with keys.once(owner="", key="k", operation="o", given={}) as claim:
        assert isinstance(claim, Claim)
        assert not claim.fresh


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", "schlüssel"])
async def test_what_is_no_key_is_refused(key):
    keys, _ = idempotency()
    assert malformed(key)
    async with keys.once(owner="", key=key, operation="o", given={}) as claim:
        assert isinstance(claim, KeyMalformed)


async def test_old_keys_are_forgotten_bit_by_bit(autojump_clock):
    store = MemoryStore()
    keys, log = idempotency(store)
    total = CLEAN_AT_ONCE + 3
    for number in range(total):
        async with keys.once(owner="", key=str(number), operation="o", given={}):
            pass
    forgotten = []
    forget = store.forget_claims

    async def watched(**bounds):
        if len(forgotten) == 1:
            forgotten.append(0)
            raise TransientError("locked")
        forgotten.append(await forget(**bounds))
        return forgotten[-1]

    store.forget_claims = watched
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keys.run)
        await trio.sleep(KEPT_MS / 1000 + 2 * CLEAN_EVERY_S)
        nursery.cancel_scope.cancel()
    assert sum(forgotten) == total
    assert max(forgotten) <= CLEAN_AT_ONCE
    assert log.of("cannot be forgotten")


def test_the_same_input_has_the_same_digest():
    one = digest_of("o", {"a": 1, "b": None, "c": "x"})
    assert one == digest_of("o", {"c": "x", "a": 1})
    assert one != digest_of("p", {"a": 1, "c": "x"})
    assert one != digest_of("o", {"a": "1", "c": "x"})
    assert digest_of("o", {"a": "x\0b='y'"}) != digest_of("o", {"a": "x", "b": "y"})


async def test_the_order_of_metadata_makes_no_other_input(house):
    user_id = await house.user()
    first = await create(house, user_id, metadata=MappingProxyType({"a": "1", "b": "2"}))
    again = await create(house, user_id, metadata=MappingProxyType({"b": "2", "a": "1"}))
    assert first == again
    other = await create(house, user_id, metadata=MappingProxyType({"a": "1"}))
    assert other == KeyReused("k")
