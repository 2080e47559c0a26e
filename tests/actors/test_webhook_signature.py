"""Signatures against other people's implementation of Standard Webhooks."""

from __future__ import annotations

import secrets
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from actors.webhook_signature import (
    SecretRefusedError,
    headers,
    parse_secret,
    secret_text,
    signature,
)


def now_s() -> int:
    return int(datetime.now(tz=UTC).timestamp())


@given(st.binary(min_size=24, max_size=64), st.binary(max_size=200).map(lambda b: b.hex().encode()))
def test_the_reference_library_accepts_what_we_sign(secret, content):
    body = b'{"a":"%s"}' % content
    signed = headers([secret], event_id="0123abcd-7", at_s=now_s(), body=body)
    assert Webhook(secret_text(secret)).verify(body, signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(secret)).verify(body + b" ", signed)


@given(st.binary(min_size=24, max_size=64))
def test_we_sign_as_the_reference_library_does(secret):
    at = datetime(2026, 11, 20, 14, tzinfo=UTC)
    ours = signature([secret], event_id="x-1", at_s=int(at.timestamp()), body=b"{}")
    assert Webhook(secret_text(secret)).sign("x-1", at, "{}") == ours


def test_during_a_rotation_either_secret_verifies():
    new, old, other = (secrets.token_bytes(32) for _ in range(3))
    signed = headers([new, old], event_id="x-1", at_s=now_s(), body=b"{}")
    assert signed["webhook-signature"].count(" ") == 1
    for secret in (new, old):
        assert Webhook(secret_text(secret)).verify(b"{}", signed) == {}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(other)).verify(b"{}", signed)


@given(st.binary(min_size=24, max_size=64))
def test_secrets_there_and_back(secret):
    assert parse_secret(secret_text(secret)) == secret


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "whsec_!!!",
        b64encode(bytes(24)).decode(),
        "whsec_" + b64encode(bytes(23)).decode(),
        "whsec_" + b64encode(bytes(65)).decode(),
        "whsec_" + b64encode(bytes(24)).decode() + "é",
    ],
)
def test_what_is_no_secret_is_refused_and_not_repeated(text):
    with pytest.raises(SecretRefusedError, match="24 to 64") as refused:
        parse_secret(text)
    assert not text.removeprefix("whsec_") or text not in str(refused.value)
