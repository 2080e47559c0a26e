"""The policies that users have as their default for an asset, as the store keeps them."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from actors.core.outcomes import NoSuchUser
from actors.core.policy import Policy


class PolicyBook(Protocol):
    """One policy per user and asset; what it was before is in the terms of the invoices."""

    async def policy(self, user_id: UUID, asset: str) -> Policy | None: ...

    async def set_policy(
        self, user_id: UUID, asset: str, policy: Policy | None, *, at_ms: int
    ) -> NoSuchUser | None:
        """Take the place of the one before; None removes it."""
        ...
