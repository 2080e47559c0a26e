"""The form of webhooks that shops with orders have: what is sent, in which order, and what not."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Collection
from uuid import UUID

import orjson
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.core.chain_events import Removal
from actors.core.inputs import CancelAsked, ChainShortened, TimeReached, TxRemoved
from actors.core.invoice import State
from actors.event_hub import EventHub
from actors.order_book import Order
from actors.ports import TransientError
from actors.published import Published
from actors.webhook_actor import TRIP_LANES
from actors.webhook_book import Form, Outcome, Owed
from actors.webhook_forms import ORDER_KINDS, OrderForm
from actors.webhooks import CannotRedeliver, KindsRefused, NewWebhook, Shown
from api.order_json import order_hook_json
from tests.helpers.faulty_store import FaultyStore
from tests.helpers.invoices import EXPIRES_MS, seen, txid
from tests.helpers.ledger import record, settlement, steps
from tests.helpers.recording_log import RecordingLog
from tests.helpers.webhook_world import OTHER_SHOP, SHOP, WebhookWorld, open_world

SECRET = b"\x07" * 24
"""What the world makes for every endpoint."""
LATE_MS = EXPIRES_MS + 1_000_000


@pytest.fixture
def hub() -> EventHub:
    return EventHub(log=RecordingLog())


@pytest.fixture
def store(hub: EventHub) -> FaultyStore:
    return FaultyStore(hub.publish)


def row(order_id: int, invoice_id: UUID, number: int = 0, *, user_id: UUID = SHOP) -> Order:
    return Order(
        id=order_id,
        invoice_id=invoice_id,
        user_id=user_id,
        wallet_id=7,
        merchant_order_id=f"№ {number}",
        attempt=1,
        description="",
        callback_url="",
        merchant_name="",
        created_at_ms=0,
    )


async def order(world: WebhookWorld, number: int, *, user_id: UUID = SHOP) -> None:
    """Order `number`: its row, and then its invoice."""
    claimed = row(1_000_000 + number, UUID(int=number << 64 | number), number, user_id=user_id)
    assert await world.store.orders.claim_order(claimed) == claimed
    await world.create(number, user_id=user_id)


async def tell(world: WebhookWorld, number: int, *inputs) -> None:
    before = world.invoices[number]
    world.invoices[number] = await record(world.store, before, steps(before, *inputs))


async def settle(world: WebhookWorld, number: int) -> None:
    before = world.invoices[number]
    world.invoices[number] = await record(world.store, before, settlement(before))


async def add(world: WebhookWorld, url: str = "https://shop.example/", **more):
    return await world.add(url, form=Form.PAYSCRYPT, **more)


async def done(world: WebhookWorld) -> None:
    """Until nothing happens any more without time passing."""
    await trio.sleep(0.01)
    await wait_all_tasks_blocked()


def statuses(sent) -> list[tuple[str, str]]:
    return [(one.body["id"], one.body["status"]) for one in sent]


def lost(number: int, *, at_ms: int) -> TxRemoved:
    """The invoice's payment is replaced by something else."""
    payment = txid(f"pay {UUID(int=number << 64 | number)}")
    return TxRemoved(payment, Removal.REPLACED, None, at_ms)


def test_the_kinds_are_those_that_change_the_state():
    assert dict(ORDER_KINDS) == {
        "invoice.covered": State.SEEN,
        "invoice.uncovered": State.PENDING,
        "invoice.settled": State.SETTLED,
        "invoice.expired": State.EXPIRED,
        "invoice.cancelled": State.CANCELLED,
    }


async def test_each_change_of_the_status_is_sent_in_order_and_signed(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        endpoint = await add(world)
        assert endpoint.types == tuple(ORDER_KINDS)
        await order(world, 1)
        await world.pay(1)
        await settle(world, 1)
        await done(world)
        sent = world.sender.taken
        assert [one.body for one in sent] == [
            {
                "id": "1000001",
                "pg_wallet_id": "7",
                "merchant_order_id": "№ 1",
                "status": status,
            }
            for status in ("CONFIRMING", "SUCCESSFUL")
        ]
        for one in sent:
            exact = orjson.dumps(one.body)
            headers = one.headers
            assert headers["X-Payscrypt-Signature"] == hmac.digest(SECRET, exact, "sha256").hex()
            assert headers["X-Delivery-Id"] == headers["webhook-id"]
            signed = f"{one.id}.{headers['webhook-timestamp']}.".encode() + exact
            standard = base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
            assert headers["webhook-signature"] == f"v1,{standard}"
            assert headers["Content-Type"] == "application/json"
        assert await world.outcomes(endpoint.id) == [Outcome.DELIVERED] * 2


async def test_money_that_goes_and_comes_back(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        await add(world)
        await order(world, 1)
        await world.pay(1)
        at_ms = world.invoices[1].updated_at_ms
        await tell(world, 1, lost(1, at_ms=at_ms + 1))
        await tell(world, 1, seen("again", 50_000_000, at_ms=at_ms + 2))
        await done(world)
        assert [one for _, one in statuses(world.sender.taken)] == [
            "CONFIRMING",
            "PENDING",
            "CONFIRMING",
        ]


async def test_what_leaves_the_status_alone_sends_nothing(autojump_clock, store, hub):
    """Creation, a partial payment, late money after the end, and alarms about what was settled."""
    async with open_world(store, hub) as world:
        await add(world)
        for number in (1, 2, 3):
            await order(world, number)
        await tell(world, 1, seen("partial", 10, at_ms=EXPIRES_MS - 5))
        await tell(world, 1, TimeReached(LATE_MS))
        await tell(world, 1, seen("late", 50_000_000, at_ms=LATE_MS + 1))
        await tell(world, 2, CancelAsked(EXPIRES_MS - 5))
        await world.pay(3)
        await settle(world, 3)
        await tell(world, 3, seen("more", 10, at_ms=EXPIRES_MS - 4))
        reorg = ChainShortened(height=9, at_ms=EXPIRES_MS - 3)
        await tell(world, 3, reorg, lost(3, at_ms=EXPIRES_MS - 2))
        await done(world)
        assert sorted(statuses(world.sender.taken)) == [
            ("1000001", "EXPIRED"),
            ("1000002", "CANCELED"),
            ("1000003", "CONFIRMING"),
            ("1000003", "SUCCESSFUL"),
        ]
        kinds = {one.event.kind for one in await store.read(after_seq=0, limit=100)}
        assert "invoice.reversed" in kinds
        assert world.invoices[1].late


async def test_invoices_that_are_no_orders_are_passed_over(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        mine = await add(world)
        all_of_them = await add(world, "https://all.example/", user_id=None)
        for number in range(1, 200):
            await world.create(number)
            await world.pay(number)
        await order(world, 200, user_id=OTHER_SHOP)
        await order(world, 201)
        for number in (200, 201):
            await world.pay(number)
        await done(world)
        assert statuses(one for one in world.sender.sent if one.url == mine.url) == [
            ("1000201", "CONFIRMING")
        ]
        sent_to_all = sorted(statuses(one for one in world.sender.sent if one.url != mine.url))
        assert [one for one, _ in sent_to_all] == ["1000200", "1000201"]
        last_seq = await store.last_seq()
        for endpoint in (mine, all_of_them):
            assert (await store.webhooks.endpoint(endpoint.id)).cursor == last_seq
            assert (await store.webhooks.owing(endpoint.id)).waiting == 0
        assert await world.outcomes(mine.id) == [Outcome.DELIVERED]


async def test_an_endpoint_that_takes_nothing_has_no_rows_of_what_is_none_of_its_business(
    autojump_clock, store, hub
):
    async with open_world(store, hub) as world:
        world.sender.mood = lambda _sent: 503
        endpoint = await add(world)
        for number in range(1, 21):
            await order(world, number)
            await world.pay(number)
        for number in range(21, 400):
            await world.create(number)
            await world.pay(number)
        await trio.sleep(3600)
        rows = await store.webhooks.owed(endpoint.id, dead=False, limit=1000)
        assert len(rows) >= TRIP_LANES
        assert {row.lane.int & 0xFFFF for row in rows} <= set(range(21))
        world.sender.mood = lambda _sent: 200
        await trio.sleep(1000)
        taken = statuses(world.sender.taken)
        assert sorted(taken) == [(str(1_000_000 + n), "CONFIRMING") for n in range(1, 21)]


async def test_a_status_that_is_tried_again_is_the_one_of_its_event(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        world.sender.mood = lambda _sent: 500
        endpoint = await add(world)
        await order(world, 1)
        await world.pay(1)
        await done(world)
        await settle(world, 1)
        await trio.sleep(300)
        assert {one.body["status"] for one in world.sender.sent} == {"CONFIRMING"}
        world.sender.mood = lambda _sent: 200
        await world.settled(endpoint.id)
        assert [one for _, one in statuses(world.sender.taken)] == ["CONFIRMING", "SUCCESSFUL"]


async def test_a_filter_narrows_and_no_other_kind_can_be_asked_for(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        endpoint = await add(world, types=("invoice.settled",))
        await order(world, 1)
        await world.pay(1)
        await settle(world, 1)
        await done(world)
        assert statuses(world.sender.taken) == [("1000001", "SUCCESSFUL")]
        changed = await world.webhooks.change(endpoint.id, types=[])
        assert changed.types == tuple(ORDER_KINDS)
        assert changed.form is Form.PAYSCRYPT
        for types in (("payment.seen",), ("invoice.settled", "webhook.paused")):
            refused = await world.webhooks.change(endpoint.id, types=types)
            assert isinstance(refused, KindsRefused)
            assert types[-1] in refused.reason
            wanted = NewWebhook("https://x.example/", SHOP, types, Form.PAYSCRYPT)
            assert isinstance(await world.webhooks.add(wanted), KindsRefused)
        assert await world.webhooks.find() == (changed,)


async def test_during_a_rotation_the_new_secret_signs(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        endpoint = await add(world)
        new = b"\x08" * 24
        assert isinstance(await world.webhooks.rotate(endpoint.id, secret=new), Shown)
        await order(world, 1)
        await world.pay(1)
        await done(world)
        (sent,) = world.sender.taken
        body = orjson.dumps(sent.body)
        assert sent.headers["X-Payscrypt-Signature"] == hmac.digest(new, body, "sha256").hex()
        assert sent.headers["webhook-signature"].count("v1,") == 2


async def test_a_pause_is_told_to_nobody_who_would_not_know_what_it_is(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        gone = await add(world, "https://gone.example/")
        orders = await add(world, "https://orders.example/")
        events = await world.add("https://events.example/", types=("webhook.paused",))
        world.sender.mood = lambda sent: 410 if sent.url == gone.url else 200
        await order(world, 1)
        await world.pay(1)
        await trio.sleep(5)
        assert [one.id for one, _ in world.alarms] == [gone.id]
        sent = {one.url: one.body for one in world.sender.taken}
        assert sent[orders.url]["status"] == "CONFIRMING"
        assert sent[events.url]["endpoint"] == str(gone.id)
        assert len(world.sender.taken) == 2


async def test_a_test_is_an_order_that_no_order_is(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        endpoint = await add(world)
        assert (await world.webhooks.test(endpoint.id)).error is None
        (sent,) = world.sender.sent
        assert sent.body == {
            "id": "0",
            "pg_wallet_id": "0",
            "merchant_order_id": "webhook.test",
            "status": "PENDING",
        }
        body = orjson.dumps(sent.body)
        assert sent.headers["X-Payscrypt-Signature"] == hmac.digest(SECRET, body, "sha256").hex()
        assert sent.headers["X-Delivery-Id"].startswith("webhook.test-")


async def test_statuses_are_sent_again_and_nothing_else(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        endpoint = await add(world)
        await order(world, 1)
        await world.pay(1)
        await world.create(2)
        await world.pay(2)
        await done(world)
        (first,) = world.sender.taken
        assert await world.webhooks.redeliver_one(endpoint.id, first.id) == 1
        await world.settled(endpoint.id)
        assert [one.id for one in world.sender.taken] == [first.id] * 2
        log = await store.read(after_seq=0, limit=100)
        everything = {"since_ms": 0, "until_ms": 2**62}
        assert await world.webhooks.redeliver_range(endpoint.id, **everything) == 1
        await world.settled(endpoint.id)
        assert [one.id for one in world.sender.taken] == [first.id] * 3
        others = [one.seq for one in log if f"-{one.seq}" not in first.id]
        assert len(others) == 5
        for seq in others:
            refused = await world.webhooks.redeliver_one(endpoint.id, str(seq))
            assert isinstance(refused, CannotRedeliver)
            assert "payscrypt" in refused.reason


async def test_a_row_of_what_it_is_not_sent_goes_without_a_request(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        endpoint = await add(world)
        await world.create(1)
        await world.pay(1)
        await done(world)
        log = await store.read(after_seq=0, limit=100)
        async with world.engine.resting(endpoint.id):
            rows = [Owed(seq=one.seq, lane=one.invoice_id, at_ms=0) for one in log]
            await store.webhooks.owe(endpoint.id, rows)
        await world.settled(endpoint.id)
        assert world.sender.sent == []
        assert await world.outcomes(endpoint.id) == []


async def test_a_store_that_fails_delays_and_loses_nothing(autojump_clock, store, hub):
    async with open_world(store, hub) as world:
        found = store.orders.orders_of_invoices
        failures = 3

        async def of_invoices(invoice_ids):
            nonlocal failures
            if failures:
                failures -= 1
                raise TransientError("database.url is away")
            return await found(invoice_ids)

        store.orders.orders_of_invoices = of_invoices
        await add(world)
        await order(world, 1)
        await world.pay(1)
        await settle(world, 1)
        await trio.sleep(60)
        assert failures == 0
        assert [one for _, one in statuses(world.sender.taken)] == ["CONFIRMING", "SUCCESSFUL"]


class _Rows:
    """An order book that counts what it is asked; odd invoices are orders."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    async def orders_of_invoices(self, invoice_ids: Collection[UUID]) -> tuple[Order, ...]:
        await trio.lowlevel.checkpoint()
        numbers = [one.int for one in invoice_ids]
        self.asked.append(numbers)
        return tuple(row(number, UUID(int=number)) for number in numbers if number % 2)


def event(seq: int, number: int, kind: str) -> Published:
    return Published(f"0-{seq}", seq, kind, 0, UUID(int=number), SHOP, seq, "BTC", b"{}")


async def test_the_store_is_asked_once_and_memory_is_bounded():
    rows = _Rows()
    form = OrderForm(rows, order_hook_json, most=3)
    events = [
        event(seq, number, kind)
        for seq, (number, kind) in enumerate(
            [
                (1, "invoice.created"), (1, "payment.seen"), (1, "invoice.covered"),
                (2, "invoice.covered"), (1, "invoice.settled"), (2, "invoice.settled"),
                (3, "invoice.expired"), (1, "invoice.reversed"),
            ]
        )
    ]  # fmt: skip
    chosen = await form.chosen(events)
    assert [one.seq for one in chosen] == [2, 4, 6]
    assert rows.asked == [[1, 2, 3]]
    body = orjson.loads(await form.body(events[4]))
    assert (body["id"], body["status"]) == ("1", "SUCCESSFUL")
    assert await form.body(events[0]) is None
    assert await form.body(events[3]) is None
    assert len(rows.asked) == 1, "what is known is not asked for"
    assert await form.concerned([UUID(int=5)]) == {UUID(int=5)}
    assert form.remembered == 3
    await form.concerned([UUID(int=1), UUID(int=2)])
    assert rows.asked[1:] == [[5]], "what was of use lately is remembered"
    await form.concerned([UUID(int=3)])
    assert rows.asked[2:] == [[3]]
    many = [UUID(int=number) for number in range(10, 20)]
    assert len(await form.concerned(many)) == 5
    assert form.remembered == 3
