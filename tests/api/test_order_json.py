"""The body of Payscrypt's webhooks, read by Google's parser."""

from __future__ import annotations

import pytest
from google.protobuf import json_format

from actors.core.invoice import State
from actors.webhook_forms import Reference
from api.order_json import order_hook_json, order_test_json
from tests.helpers.google_messages import google_class

WORDS = {
    State.PENDING: "PENDING",
    State.SEEN: "CONFIRMING",
    State.SETTLED: "SUCCESSFUL",
    State.EXPIRED: "EXPIRED",
    State.CANCELLED: "CANCELED",
}


def read(body: bytes):
    return json_format.Parse(body, google_class("payscrypt.pg.WebhookOrder")())


@pytest.mark.parametrize("state", State)
def test_every_state_has_its_status(state):
    reference = Reference(2**53 - 1, 12, 'a "№ 1"\n</script>')
    body = order_hook_json(reference, state)
    message = read(body)
    assert (message.id, message.pg_wallet_id) == (2**53 - 1, 12)
    assert message.merchant_order_id == reference.merchant_order_id
    statuses = message.DESCRIPTOR.fields_by_name["status"].enum_type
    assert statuses.values_by_number[message.status].name == WORDS[state]
    assert b'"id":"9007199254740991","pg_wallet_id":"12"' in body, "64 bits go as text"


def test_the_made_up_order_is_no_order():
    message = read(order_test_json())
    assert (message.id, message.pg_wallet_id) == (0, 0)
    assert message.merchant_order_id == "webhook.test"
    assert b'"status":"PENDING"' in order_test_json(), "defaults are written out"
