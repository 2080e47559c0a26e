"""The rules of access: who a caller is, what a key looks like, whether it is good.

A key is `tk_`, eight characters by which it is recognised, and 32 secret ones: `tk_ab12CD34_…`.
Only a hash of the secret part is stored; the whole key is seen once, by whoever made it.
"""

from __future__ import annotations

import hmac
import re
import secrets
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

from actors.access_book import ApiKey, Scope

PREFIX_CHARACTERS = 8
SECRET_CHARACTERS = 32
"""Of 62 each: 190 bits."""
MAX_NAME = 100

_ALPHABET = string.digits + string.ascii_letters
_TOKEN = re.compile(r"tk_([0-9A-Za-z]{8})_([0-9A-Za-z]{32})")
_NO_DIGEST = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, and what is allowed to them."""

    actor: str
    """As the audit trail names them: `key:ab12cd34`, `mtls:CN=shop`, `cli`, `anonymous`."""
    address: str
    """Host and port of the peer; `local` for the command line."""
    scopes: frozenset[Scope]
    user_id: UUID | None = None
    """The only user that exists for them; None: all."""

    key: str | None = None
    """The prefix of the API key they showed."""

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def sees(self, user_id: UUID) -> bool:
        return self.user_id is None or self.user_id == user_id


ANONYMOUS = "anonymous"
CLI = Caller(actor="cli", address="local", scopes=frozenset({Scope.ADMIN}))


@dataclass(frozen=True, slots=True)
class KeyRejected:
    """Why a key does not open anything; `reason` is for people and holds no secret."""

    reason: str
    prefix: str | None = None
    """Of a key that exists and whose secret was right, or that was at least well formed."""


class AccessRuleError(ValueError):
    """What was asked of a new key is not possible; the text says what to give instead."""


def mint(
    *,
    name: str,
    scopes: Iterable[str],
    user_id: UUID | None = None,
    expires_at_ms: int | None = None,
    now_ms: int,
) -> tuple[ApiKey, str]:
    """A new key and its text, which nobody will see again. Raises AccessRuleError."""
    given = list(scopes)
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise AccessRuleError(f"name: give 1 to {MAX_NAME} printable characters")
    if not given:
        raise AccessRuleError(f"scope: give at least one of {', '.join(Scope)}")
    for word in given:
        if word not in tuple(Scope):
            raise AccessRuleError(f"scope: {word!r} is unknown; give one of {', '.join(Scope)}")
    if expires_at_ms is not None and expires_at_ms <= now_ms:
        raise AccessRuleError(
            f"expires: {_instant(expires_at_ms)} has passed; it is {_instant(now_ms)} now, by this"
            " machine's clock"
        )
    prefix, secret = _random(PREFIX_CHARACTERS), _random(SECRET_CHARACTERS)
    key = ApiKey(
        prefix=prefix,
        digest=_digest(secret),
        name=name,
        scopes=frozenset(Scope(word) for word in given),
        user_id=user_id,
        created_at_ms=now_ms,
        expires_at_ms=expires_at_ms,
    )
    return key, f"tk_{prefix}_{secret}"


def check(token: str, keys: Mapping[str, ApiKey], *, now_ms: int) -> ApiKey | KeyRejected:
    """The key that `token` is, if it is in force.

    A prefix that does not exist takes as long as one that does, and the digests are compared in
    constant time; whether a key expired or was revoked is told only to who has its secret.
    """
    found = _TOKEN.fullmatch(token)
    if found is None:
        return KeyRejected("this is no API key; a key is tk_, 8 characters, _ and 32 characters")
    prefix, secret = found.groups()
    key = keys.get(prefix)
    right = hmac.compare_digest(_digest(secret), _NO_DIGEST if key is None else key.digest)
    if key is None or not right:
        return KeyRejected("there is no such API key", prefix)
    if key.revoked_at_ms is not None:
        return KeyRejected(
            f"the API key {prefix} was revoked at {_instant(key.revoked_at_ms)}", prefix
        )
    if key.expires_at_ms is not None and key.expires_at_ms <= now_ms:
        return KeyRejected(
            f"the API key {prefix} expired at {_instant(key.expires_at_ms)} (it is"
            f" {_instant(now_ms)} now); make a new one with `tallyd access add`",
            prefix,
        )
    return key


def in_force(key: ApiKey, *, now_ms: int) -> bool:
    return key.revoked_at_ms is None and (key.expires_at_ms is None or key.expires_at_ms > now_ms)


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("ascii")).digest()


def _random(count: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")
