"""The body by which a shop learns that an order's status changed: Payscrypt's WebhookOrder."""

from __future__ import annotations

import orjson

from actors.core.invoice import State
from actors.order_status import STATUSES
from actors.webhook_forms import Reference
from actors.webhooks import TEST
from api.proto_json import to_json
from proto.payscrypt.pg import OrderStatus, WebhookOrder


def order_hook_json(reference: Reference, state: State) -> bytes:
    """In proto3 JSON, the order with the status that belongs to the state."""
    message = WebhookOrder(
        id=reference.order_id,
        pg_wallet_id=reference.wallet_id,
        merchant_order_id=reference.merchant_order_id,
        status=OrderStatus(STATUSES[state]),
    )
    return orjson.dumps(to_json(message))


def order_test_json() -> bytes:
    """Made up: there is neither an order nor a wallet with the id 0."""
    return order_hook_json(Reference(0, 0, TEST), State.PENDING)
