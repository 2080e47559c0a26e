"""What the store keeps of access: API keys, the trail of administrative acts, idempotency keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class Scope(StrEnum):
    """What a caller may do; `admin` includes the other two."""

    READ = "read"
    """Read invoices, events, chains and metrics."""
    WRITE = "write"
    """Create and cancel invoices."""
    ADMIN = "admin"
    """Users and their keys, webhooks, policies, the audit trail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is stored: its secret part cannot be had from it."""

    prefix: str
    """Eight characters that name the key wherever it is spoken of."""
    digest: bytes = field(repr=False)
    """SHA-256 of the secret part. The secret is 190 bits of chance: there is nothing to guess that
    a slow hash would protect."""
    name: str
    scopes: frozenset[Scope]
    user_id: UUID | None
    """The only user that the key sees; None: all of them."""
    created_at_ms: int
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    last_used_at_ms: int | None = None
    """Within a minute or so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One administrative act."""

    at_ms: int
    actor: str
    """Who: `key:ab12cd34`, `mtls:CN=shop`, `cli`, `anonymous`."""
    address: str
    """From where: host and port of the peer; `local` for the command line."""
    act: str
    """What, as noun.participle: `key.added`, `user.registered`, `webhook.removed`."""
    target: str
    """On what: an id or a prefix."""
    detail: str = ""
    """More for people; never a secret."""


@dataclass(frozen=True, slots=True)
class RecordedAct:
    """An act with its position: from 1, growing."""

    id: int
    act: Act


@dataclass(frozen=True, slots=True)
class Claim:
    """What an idempotency key stands for."""

    resource_id: UUID
    """The id that is chosen for what the request makes, whoever completes it."""
    digest: bytes
    """Of the input that it was first used with."""
    fresh: bool
    """This call made it."""


class AccessBook(Protocol):
    """Keys are added and revoked, never deleted; acts are only appended."""

    async def api_keys(self) -> tuple[ApiKey, ...]:
        """Every key, by creation."""
        ...

    async def api_keys_revision(self) -> tuple[int, int]:
        """(added, revoked) so far: differs whenever `api_keys` does in more than the last use."""
        ...

    async def add_api_key(self, key: ApiKey, act: Act) -> None:
        """Add a key and record the act in one transaction."""
        ...

    async def revoke_api_key(self, prefix: str, act: Act) -> bool:
        """Revoke at the act's time; False, and nothing recorded, if no such key is in force."""
        ...

    async def touch_api_keys(self, used_at_ms: Mapping[str, int]) -> None:
        """Remember last uses, by prefix."""
        ...

    async def record_act(self, act: Act) -> None:
        """Append to the trail."""
        ...

    async def acts(self, *, before: int | None, limit: int) -> tuple[RecordedAct, ...]:
        """The newest acts first, those with an id below `before`."""
        ...

    async def claim(
        self,
        *,
        owner: str,
        key: str,
        digest: bytes,
        resource_id: UUID,
        at_ms: int,
        forgotten_before_ms: int,
    ) -> Claim:
        """What `key` of `owner` stands for; if nothing since `forgotten_before_ms`: these."""
        ...

    async def forget_claims(self, *, before_ms: int, limit: int) -> int:
        """Forget claims older than that, `limit` at most; returns how many."""
        ...
