"""What the store keeps of webhooks, on every store."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from actors.core.webhook import Health, Pause
from actors.ports import Store
from actors.webhook_book import Attempt, Endpoint, Form, Outcome, Owed, Owing, Progress
from daemon.store import migrate, open_store
from tests.helpers.ledger import grow, payment, record
from tests.store.conftest import Opener, ignore

HERE, THERE, NOBODY = UUID(int=1), UUID(int=2), UUID(int=3)
USER, LANE = UUID(int=77), UUID(int=88)


def endpoint(endpoint_id: UUID = HERE, **more) -> Endpoint:
    values = {
        "id": endpoint_id,
        "user_id": USER,
        "url": "https://shop.example/hook",
        "types": ("invoice.settled", "payment.seen"),
        "secret": b"\x01sealed",
        "created_at_ms": 1000 + endpoint_id.int,
        "cursor": 5,
    }
    return Endpoint(**(values | more))


def attempt(number: int = 1, *, at_ms: int = 1000, **more) -> Attempt:
    values = {
        "event_id": "0123abcd-7",
        "type": "payment.seen",
        "seq": 7,
        "invoice_id": LANE,
        "number": number,
        "at_ms": at_ms,
        "latency_ms": 12,
        "status": 500,
        "error": "it said 500",
        "outcome": Outcome.FAILED,
    }
    return Attempt(**(values | more))


def owed(seq: int, **more) -> Owed:
    return Owed(seq=seq, lane=LANE, at_ms=seq * 10, **more)


async def test_endpoints_are_kept_changed_and_removed(open_again: Opener):
    rich = endpoint(
        THERE,
        user_id=None,
        types=(),
        form=Form.PAYSCRYPT,
        old_secret=b"\x01old",
        old_until_ms=9,
        health=Health(Pause.FAILING, 5, 2, 11),
    )
    async with open_again() as store:
        assert await store.webhooks.add_endpoint(rich, most=2)
        assert await store.webhooks.add_endpoint(endpoint(), most=2)
        assert not await store.webhooks.add_endpoint(endpoint(NOBODY), most=2)
    async with open_again() as store:
        assert await store.webhooks.endpoints() == (endpoint(), rich)
        assert await store.webhooks.endpoints(USER) == (endpoint(),)
        assert await store.webhooks.endpoint(THERE) == rich
        assert await store.webhooks.endpoint(NOBODY) is None
        changed = replace(
            rich, url="https://other.example/", health=Health(), cursor=9, types=("a",)
        )
        assert await store.webhooks.change_endpoint(changed)
        assert await store.webhooks.endpoint(THERE) == changed
        assert not await store.webhooks.change_endpoint(endpoint(NOBODY))
        assert await store.webhooks.remove_endpoint(THERE)
        assert not await store.webhooks.remove_endpoint(THERE)
        assert await store.webhooks.endpoints() == (endpoint(),)


async def test_an_endpoint_of_before_there_were_forms_is_standard(sql_url: str):
    async with open_store(sql_url, on_commit=ignore) as store:
        await store.webhooks.add_endpoint(endpoint(form=Form.PAYSCRYPT), most=10)
    migrate.downgrade(sql_url, "0005")
    async with open_store(sql_url, on_commit=ignore) as store:
        assert await store.webhooks.endpoints() == (endpoint(form=Form.STANDARD),)


async def test_progress_is_recorded_as_a_whole(store: Store):
    book = store.webhooks
    await book.add_endpoint(endpoint(), most=10)
    await book.add_endpoint(endpoint(THERE), most=10)
    await book.record(
        HERE,
        Progress([attempt(1), attempt(2)], {7: owed(7, attempts=2), 8: owed(8)}),
        cursor=8,
        health=Health(failing_since_ms=1000, failures=2),
    )
    found = await book.endpoint(HERE)
    assert (found.cursor, found.health) == (8, Health(failing_since_ms=1000, failures=2))
    assert await book.owed(HERE, dead=False, limit=10) == (owed(7, attempts=2), owed(8))
    dead = owed(7, attempts=9, first_at_ms=1, next_at_ms=2, dead=True, error="why", notice=b"{}")
    await book.record(HERE, Progress([], {7: dead}, {8}), cursor=9, health=Health())
    assert await book.owed(HERE, dead=True, limit=10) == (dead,)
    assert await book.owed(HERE, dead=False, limit=10) == ()
    assert await book.owing(HERE) == Owing(waiting=0, dead=1)
    assert await book.owing(THERE) == Owing(waiting=0, dead=0)
    logged = await book.attempts(HERE, before=None, limit=10)
    assert [one.attempt for one in logged] == [attempt(2), attempt(1)]
    assert await book.attempts(THERE, before=None, limit=10) == ()


async def test_the_progress_of_a_removed_endpoint_is_nothing(store: Store):
    await store.webhooks.record(
        NOBODY, Progress([attempt()], {7: owed(7)}), cursor=1, health=Health()
    )
    assert await store.webhooks.owing(NOBODY) == Owing(0, 0)
    assert await store.webhooks.attempts(NOBODY, before=None, limit=10) == ()


async def test_many_rows_are_settled_at_once(store: Store):
    await store.webhooks.add_endpoint(endpoint(), most=10)
    await store.webhooks.owe(HERE, [owed(seq) for seq in range(1, 1502)])
    await store.webhooks.record(
        HERE, Progress([], {}, set(range(1, 1501))), cursor=1, health=Health()
    )
    assert await store.webhooks.owed(HERE, dead=False, limit=10) == (owed(1501),)


async def test_rows_are_asked_for_again_and_given_up(store: Store):
    book = store.webhooks
    await book.add_endpoint(endpoint(), most=10)
    await book.owe(HERE, [owed(3, dead=True, error="old"), owed(1), owed(2)])
    assert [one.seq for one in await book.owed(HERE, dead=False, limit=1)] == [1]
    await book.owe(HERE, [owed(3)])
    assert await book.owing(HERE) == Owing(waiting=3, dead=0)
    assert await book.bury(HERE, error="not wanted") == 3
    assert {one.error for one in await book.owed(HERE, dead=True, limit=9)} == {"not wanted"}
    assert await book.bury(HERE, error="again") == 0


async def test_the_log_is_paged_and_forgotten(store: Store):
    book = store.webhooks
    await book.add_endpoint(endpoint(), most=10)
    tried = [attempt(n, at_ms=n * 100) for n in range(1, 8)]
    rows = {1: owed(1, dead=True), 50: owed(50, dead=True), 2: owed(2)}
    await book.record(HERE, Progress(tried, rows), cursor=1, health=Health())
    first = await book.attempts(HERE, before=None, limit=3)
    assert [one.attempt.number for one in first] == [7, 6, 5]
    second = await book.attempts(HERE, before=first[-1].id, limit=3)
    assert [one.attempt.number for one in second] == [4, 3, 2]
    assert await book.forget_attempts(HERE, before_ms=300, keep=4) == 3
    left = await book.attempts(HERE, before=None, limit=10)
    assert [one.attempt.number for one in left] == [7, 6, 5, 4]
    assert [one.seq for one in await book.owed(HERE, dead=True, limit=9)] == [50]
    assert [one.seq for one in await book.owed(HERE, dead=False, limit=9)] == [2]
    assert await book.forget_attempts(HERE, before_ms=0, keep=4) == 0
    await book.log_attempts(HERE, [attempt(8)])
    await book.log_attempts(HERE, [])
    await book.log_attempts(NOBODY, [attempt(9)])
    assert (await book.attempts(HERE, before=None, limit=1))[0].attempt == attempt(8)
    assert await book.attempts(NOBODY, before=None, limit=1) == ()
    assert await book.remove_endpoint(HERE)
    assert await book.attempts(HERE, before=None, limit=10) == ()
    assert await book.owing(HERE) == Owing(0, 0)


async def test_events_are_found_by_time_user_and_kind(store: Store):
    first, second = await two_invoices(store)
    log = await store.read(after_seq=0, limit=100)

    async def found(**asked):
        wanted = {
            "user_id": None,
            "types": (),
            "since_ms": 0,
            "until_ms": 2**62,
            "up_to_seq": 100,
            "limit": 100,
        }
        return await store.webhooks.matching(**(wanted | asked))

    assert [row[0] for row in await found()] == [one.seq for one in log]
    assert all(
        row[1:] == (log[row[0] - 1].invoice_id, log[row[0] - 1].event.at_ms)
        for row in await found()
    )
    mine = [row[0] for row in await found(user_id=first.terms.user_id)]
    assert mine == [one.seq for one in log if one.invoice_id == first.terms.invoice_id]
    assert {log[row[0] - 1].event.kind for row in await found(types=("payment.seen",))} == {
        "payment.seen"
    }
    assert await found(types=("nothing",)) == ()
    assert [row[0] for row in await found(up_to_seq=2)] == [1, 2]
    assert len(await found(limit=1)) == 1
    assert await found(until_ms=log[0].event.at_ms) == ()
    assert second.version > 1


async def two_invoices(store: Store):
    """Of two users, both paid."""
    found = []
    for number in (1, 2):
        invoice = await grow(store, number, user_id=UUID(int=number + 500))
        found.append(await record(store, invoice, payment(invoice)))
    return found
