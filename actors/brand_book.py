"""How a merchant's payment pages look, as the store keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from actors.core.outcomes import NoSuchUser


@dataclass(frozen=True, slots=True, kw_only=True)
class Brand:
    """A merchant's name and looks; all of it is public."""

    user_id: UUID
    name: str = ""
    """Empty: none."""
    colour: str | None = None
    """`#rrggbb`, in lower case."""
    logo: bytes | None = field(default=None, repr=False)
    logo_type: str | None = None
    """The logo's media type, `image/png`; there if and only if the logo is."""


@dataclass(frozen=True, slots=True)
class Merchant:
    """A user, as a list of merchants shows it."""

    user_id: UUID
    name: str
    """Of its brand; empty: none."""


class BrandBook(Protocol):
    """One brand per user; each method may raise TransientError or PersistentError."""

    async def merchants(self, *, after: UUID | None, limit: int) -> tuple[Merchant, ...]:
        """Every user whose id is greater than `after`, by id."""
        ...

    async def brand(self, user_id: UUID) -> Brand | None: ...

    async def set_brand(self, brand: Brand, *, at_ms: int) -> NoSuchUser | None:
        """Take the place of the one before."""
        ...
