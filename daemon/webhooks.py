"""Webhooks of a running daemon: the engine with the real client, the vault and the audit trail."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from uuid import UUID

import trio

from actors.access import Caller
from actors.audit import Audit
from actors.event_hub import EventHub
from actors.outbox import Outbox
from actors.ports import Store
from actors.webhook_actor import WebhookFigures, WebhookRules, WebhookTools
from actors.webhook_book import Endpoint, Form
from actors.webhook_engine import PAUSED, WebhookEngine
from actors.webhook_forms import OrderForm, StandardForm
from actors.webhooks import TEST, Webhooks
from api.event_json import event_json, notice_json
from api.order_json import order_hook_json, order_test_json
from daemon.clock import SystemClock
from daemon.config import WebhooksConfig
from daemon.keys import WEBHOOK, SealedWebhook, Vault
from daemon.logging import get_logger
from daemon.webhook_client import WebhookClient
from daemon.webhook_guard import Guard, TargetRefusedError

SECRET_BYTES = 32
AT_A_TIME = 256
"""Requests to endpoints that take what they get, and as many to those that do not."""
ITSELF = Caller(actor="tallyd", address="local", scopes=frozenset())
"""Who pauses endpoints that fail, in the audit trail."""


@asynccontextmanager
async def open_webhooks(
    config: WebhooksConfig,
    *,
    store: Store,
    hub: EventHub,
    outbox: Outbox,
    vault: Vault,
    audit: Audit,
) -> AsyncIterator[Webhooks]:
    """Webhooks are sent for the length of the block."""
    clock = SystemClock()
    guard = Guard(allow_networks=config.allow_networks, allow_http=config.allow_http)
    client = WebhookClient(guard, clock=clock)

    async def alarm(endpoint: Endpoint, why: str) -> None:
        await audit.record(ITSELF, PAUSED, target=str(endpoint.id), detail=f"{endpoint.url}: {why}")

    def seal(webhook_id: UUID, secret: bytes) -> bytes:
        return vault.seal(secret, chain=WEBHOOK, key=str(webhook_id))

    def open_secret(webhook_id: UUID, sealed: bytes) -> bytes:
        return vault.open_webhook(SealedWebhook(str(webhook_id), sealed))

    tools = WebhookTools(
        book=store.webhooks,
        outbox=outbox,
        sender=client,
        open_secret=open_secret,
        composers={
            Form.STANDARD: StandardForm(event_json),
            Form.PAYSCRYPT: OrderForm(store.orders, order_hook_json),
        },
        clock=clock,
        log=get_logger("webhooks"),
        chance=random.random,
        rules=_rules(config),
        figures=WebhookFigures(),
        healthy=trio.CapacityLimiter(AT_A_TIME),
        failing=trio.CapacityLimiter(AT_A_TIME),
    )
    engine = WebhookEngine(tools, hub, alarm=alarm, notice=_notice)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        try:
            yield Webhooks(
                store=store,
                engine=engine,
                seal=seal,
                new_secret=lambda: secrets.token_bytes(SECRET_BYTES),
                check_url=partial(_complaint, guard),
                test_body=_test_body,
                clock=clock,
            )
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await client.aclose()


def _rules(config: WebhooksConfig) -> WebhookRules:
    return WebhookRules(
        concurrency=config.concurrency,
        pause_after_ms=config.pause_after_s * 1000,
        keep_log_ms=config.log_days * 86_400_000,
        keep_attempts=config.log_attempts,
        user_agent=f"tallyd/{version('tallyd')}",
    )


def _complaint(guard: Guard, url: str) -> str | None:
    try:
        guard.parse(url)
    except TargetRefusedError as error:
        return str(error)
    return None


def _notice(event_id: str, endpoint: Endpoint, why: str) -> bytes:
    return notice_json(
        event_id,
        PAUSED,
        at_ms=SystemClock().now_ms(),
        user_id=_user(endpoint),
        data={"webhook_id": str(endpoint.id), "url": endpoint.url, "reason": why},
    )


def _test_body(event_id: str, endpoint: Endpoint, at_ms: int) -> bytes:
    if endpoint.form is Form.PAYSCRYPT:
        return order_test_json()
    return notice_json(
        event_id,
        TEST,
        at_ms=at_ms,
        user_id=_user(endpoint),
        data={"webhook_id": str(endpoint.id)},
    )


def _user(endpoint: Endpoint) -> str | None:
    return None if endpoint.user_id is None else str(endpoint.user_id)
