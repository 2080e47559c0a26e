"""Webhook actors on a store and a log that tests write themselves, with a receiver that is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
import trio

from actors.core.invoice import Invoice
from actors.event_hub import EventHub
from actors.outbox import Outbox, Published
from actors.ports import Store, WallClock
from actors.webhook_actor import WebhookFigures, WebhookRules, WebhookTools
from actors.webhook_book import Endpoint, Form, Outcome
from actors.webhook_engine import Alarm, WebhookEngine
from actors.webhook_forms import OrderForm, StandardForm
from actors.webhook_sending import Answer
from actors.webhooks import NewWebhook, Shown, Webhooks
from api.order_json import order_hook_json, order_test_json
from tests.helpers.ledger import creation, payment, record
from tests.helpers.recording_log import RecordingLog
from tests.helpers.virtual_clock import VirtualClock

SHOP = UUID(int=501)
OTHER_SHOP = UUID(int=502)


def encode(event: Published) -> bytes:
    return orjson.dumps({"seq": event.seq, "invoice": str(event.invoice_id), "type": event.type})


@dataclass
class Sent:
    """One request, as the receiver had it."""

    url: str
    at_s: float
    headers: Mapping[str, str]
    body: Any

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def seq(self) -> int:
        return int(self.body["seq"])


Mood = Callable[[Sent], Any]
"""A status, an Answer, an event to wait for, or None for no answer ever."""


@dataclass
class ToldSender:
    """`Sender` that answers as `mood` says; 200 unless told otherwise."""

    mood: Mood = lambda _sent: 200
    sent: list[Sent] = field(default_factory=list)
    taken: list[Sent] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0
    forgotten: list[UUID] = field(default_factory=list)

    async def post(
        self, endpoint_id: UUID, url: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        sent = Sent(url, trio.current_time(), headers, orjson.loads(body))
        self.sent.append(sent)
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            answer = self.mood(sent)
            if isinstance(answer, trio.Event):
                await answer.wait()
                answer = 200
            elif answer is None:
                await trio.sleep(10)
                answer = Answer(status=None, error="no answer within 10 s", latency_ms=10_000)
            else:
                await trio.lowlevel.checkpoint()
        finally:
            self.open_now -= 1
        if isinstance(answer, int):
            good = 200 <= answer < 300
            error = None if good else f"HTTP {answer}"
            answer = Answer(status=answer, error=error, latency_ms=5)
        if answer.error is None:
            self.taken.append(sent)
        return answer

    async def forget(self, endpoint_id: UUID) -> None:
        self.forgotten.append(endpoint_id)


@dataclass
class WebhookWorld:
    store: Store
    hub: EventHub
    clock: VirtualClock
    log: RecordingLog
    sender: ToldSender
    engine: WebhookEngine
    webhooks: Webhooks
    alarms: list[tuple[Endpoint, str]]
    invoices: dict[int, Invoice] = field(default_factory=dict)

    async def create(self, number: int, *, user_id: UUID = SHOP) -> None:
        """Invoice `number`: one event."""
        step = creation(number, user_id=user_id)
        self.invoices[number] = await record(self.store, None, [step])

    async def pay(self, number: int) -> None:
        """Two more events of the invoice."""
        before = self.invoices[number]
        self.invoices[number] = await record(self.store, before, payment(before))

    async def add(self, url: str = "https://shop.example/", **more: Any) -> Endpoint:
        await self.store.add_user(SHOP, at_ms=0)
        await self.store.add_user(OTHER_SHOP, at_ms=0)
        shown = await self.webhooks.add(NewWebhook(url, **({"user_id": SHOP} | more)))
        assert isinstance(shown, Shown), shown
        return shown.endpoint

    async def outcomes(self, endpoint_id: UUID) -> list[Outcome]:
        """Of the logged attempts, oldest first."""
        logged = await self.store.webhooks.attempts(endpoint_id, before=None, limit=10_000)
        return [one.attempt.outcome for one in reversed(logged)]

    async def settled(self, endpoint_id: UUID) -> None:
        """Wait until the endpoint's cursor is at the end of the log and nothing is owed."""
        with trio.fail_after(3600):
            while True:
                last_seq = await self.store.last_seq()
                endpoint = await self.store.webhooks.endpoint(endpoint_id)
                owing = await self.store.webhooks.owing(endpoint_id)
                if endpoint is not None and endpoint.cursor >= last_seq and not owing.waiting:
                    return
                await trio.sleep(0.05)


@asynccontextmanager
async def open_world(
    store: Store,
    hub: EventHub,
    *,
    sender: ToldSender | None = None,
    rules: WebhookRules | None = None,
    chance: float = 0.0,
    clock: VirtualClock | None = None,
) -> AsyncIterator[WebhookWorld]:
    """The engine on `store`, which publishes to `hub`, until the block ends."""
    log = RecordingLog()
    clock = clock or VirtualClock()
    sender = sender or ToldSender()
    alarms: list[tuple[Endpoint, str]] = []

    async def alarm(endpoint: Endpoint, why: str) -> None:
        alarms.append((endpoint, why))

    webhooks = make_webhooks(
        store, hub, Outbox(store, hub), clock, log, sender, alarm, rules=rules, chance=chance
    )
    engine = webhooks.engine
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        yield WebhookWorld(store, hub, clock, log, sender, engine, webhooks, alarms)
        nursery.cancel_scope.cancel()


def make_webhooks(
    store: Store,
    hub: EventHub,
    outbox: Outbox,
    clock: WallClock,
    log: RecordingLog,
    sender: ToldSender,
    alarm: Alarm | None = None,
    *,
    rules: WebhookRules | None = None,
    chance: float = 0.0,
) -> Webhooks:
    """The service; its engine has yet to be run."""

    async def no_alarm(_endpoint: Endpoint, _why: str) -> None:
        """Nobody is told."""

    def made_up(event_id: str, endpoint: Endpoint, _at: int) -> bytes:
        if endpoint.form is Form.PAYSCRYPT:
            return order_test_json()
        return orjson.dumps({"id": event_id, "seq": 0})

    def notice(event_id: str, endpoint: Endpoint, why: str) -> bytes:
        return orjson.dumps({"id": event_id, "endpoint": str(endpoint.id), "why": why, "seq": 0})

    tools = WebhookTools(
        book=store.webhooks,
        outbox=outbox,
        sender=sender,
        open_secret=lambda _id, sealed: sealed,
        composers={
            Form.STANDARD: StandardForm(encode),
            Form.PAYSCRYPT: OrderForm(store.orders, order_hook_json),
        },
        clock=clock,
        log=log,
        chance=lambda: chance,
        rules=rules or WebhookRules(),
        figures=WebhookFigures(),
        healthy=trio.CapacityLimiter(64),
        failing=trio.CapacityLimiter(16),
    )
    engine = WebhookEngine(tools, hub, alarm=alarm or no_alarm, notice=notice)
    return Webhooks(
        store=store,
        engine=engine,
        seal=lambda _id, secret: secret,
        new_secret=lambda: b"\x07" * 24,
        check_url=lambda url: None if url.startswith("https://") else "write https://",
        test_body=made_up,
        clock=clock,
    )
