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
from actors.asking import Asks
from actors.audit import Audit
from actors.event_hub import EventHub
from actors.outbox import Outbox
from actors.ports import Store
from actors.remote_webhooks import RemoteEngine, RemoteSender
from actors.webhook_actor import WebhookFigures, WebhookRules, WebhookTools
from actors.webhook_book import Endpoint, Form
from actors.webhook_engine import PAUSED, WebhookEngine
from actors.webhook_forms import OrderForm, StandardForm
from actors.webhook_sending import Sender
from actors.webhooks import TEST, Engine, Webhooks
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


class WebhookKit:
    """What webhooks are made from, whichever process sends them."""

    def __init__(
        self, config: WebhooksConfig, *, store: Store, outbox: Outbox, vault: Vault, audit: Audit
    ) -> None:
        self._config = config
        self._store = store
        self._outbox = outbox
        self._vault = vault
        self._audit = audit
        self._guard = Guard(allow_networks=config.allow_networks, allow_http=config.allow_http)

    @asynccontextmanager
    async def delivering(self, hub: EventHub) -> AsyncIterator[WebhookEngine]:
        """Webhooks are sent by this process for the length of the block."""
        client = WebhookClient(self._guard, clock=SystemClock())
        engine = WebhookEngine(self._tools(client), hub, alarm=self._alarm, notice=_notice)
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            try:
                yield engine
            finally:
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await client.aclose()

    def elsewhere(self, duties: Asks) -> RemoteEngine:
        """The engine of whichever process has the duty of delivering."""
        return RemoteEngine(self._tools(RemoteSender(duties)), duties)

    def service(self, engine: Engine) -> Webhooks:
        """What may be asked of webhooks that this engine sends."""
        return Webhooks(
            store=self._store,
            engine=engine,
            seal=self._seal,
            new_secret=lambda: secrets.token_bytes(SECRET_BYTES),
            check_url=partial(_complaint, self._guard),
            test_body=_test_body,
            clock=SystemClock(),
        )

    def _tools(self, sender: Sender) -> WebhookTools:
        return WebhookTools(
            book=self._store.webhooks,
            outbox=self._outbox,
            sender=sender,
            open_secret=self._open_secret,
            composers={
                Form.STANDARD: StandardForm(event_json),
                Form.PAYSCRYPT: OrderForm(self._store.orders, order_hook_json),
            },
            clock=SystemClock(),
            log=get_logger("webhooks"),
            chance=random.random,
            rules=_rules(self._config),
            figures=WebhookFigures(),
            healthy=trio.CapacityLimiter(AT_A_TIME),
            failing=trio.CapacityLimiter(AT_A_TIME),
        )

    def _seal(self, webhook_id: UUID, secret: bytes) -> bytes:
        return self._vault.seal(secret, chain=WEBHOOK, key=str(webhook_id))

    def _open_secret(self, webhook_id: UUID, sealed: bytes) -> bytes:
        return self._vault.open_webhook(SealedWebhook(str(webhook_id), sealed))

    async def _alarm(self, endpoint: Endpoint, why: str) -> None:
        target, detail = str(endpoint.id), f"{endpoint.url}: {why}"
        await self._audit.record(ITSELF, PAUSED, target=target, detail=detail)


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
    """Webhooks are sent for the length of the block, by the process that answers for them."""
    kit = WebhookKit(config, store=store, outbox=outbox, vault=vault, audit=audit)
    async with kit.delivering(hub) as engine:
        yield kit.service(engine)


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
