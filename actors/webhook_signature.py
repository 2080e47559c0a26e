"""Standard Webhooks (standardwebhooks.com, specification 1.0): secrets, headers, signatures."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable

PREFIX = "whsec_"
FEWEST_BYTES, MOST_BYTES = 24, 64
"""Of a secret, as the specification has it."""


class SecretRefusedError(ValueError):
    """The text is no secret; says what to write. Never repeats it."""


def secret_text(secret: bytes) -> str:
    """The form in which a secret is shown, once."""
    return PREFIX + b64encode(secret).decode()


def parse_secret(text: str) -> bytes:
    """The secret's bytes. Raises SecretRefusedError."""
    try:
        secret = b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not text.startswith(PREFIX) or not FEWEST_BYTES <= len(secret) <= MOST_BYTES:
        raise SecretRefusedError(
            f"must be {PREFIX} and then {FEWEST_BYTES} to {MOST_BYTES} random bytes in base64;"
            " leave it out to have one made"
        )
    return secret


def signature(secrets: Iterable[bytes], *, event_id: str, at_s: int, body: bytes) -> str:
    """`webhook-signature`: one `v1,` and HMAC-SHA256 in base64 per secret, with spaces between."""
    signed = b"%s.%d.%s" % (event_id.encode(), at_s, body)
    found = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return " ".join(f"v1,{b64encode(one).decode()}" for one in found)


def headers(secrets: Iterable[bytes], *, event_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The specification's three headers; `at_s` is the attempt's instant in Unix seconds."""
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": signature(secrets, event_id=event_id, at_s=at_s, body=body),
    }
