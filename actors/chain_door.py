"""A chain as those see it who stand above it, whoever watches it: this process or another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from uuid import UUID

from actors.chain_supervisor import ChainFigures, ChainHealth
from actors.chain_watcher import WatchPolicy
from actors.core.assets import Chain
from actors.core.events import Terms
from actors.core.invoice import Invoice


class ChainDoor(Protocol):
    """`ChainSupervisor`, or `RemoteChain` where another process has that."""

    @property
    def chain(self) -> Chain: ...

    @property
    def policy(self) -> WatchPolicy: ...

    async def create(self, terms: Terms) -> Invoice:
        """Record the invoice; it is durable, published and watched when this returns.

        Raises TransientError when that could not be done, or is not known to have been done.
        """
        ...

    async def cancel(self, invoice_id: UUID) -> None:
        """Have the invoice cancelled if nothing was paid to it; see `ChainSupervisor.cancel`."""
        ...

    def health(self) -> ChainHealth: ...

    def disabled_assets(self) -> Mapping[str, str]:
        """Asset id → why it cannot be asked for, as the driver found."""
        ...

    def figures(self) -> ChainFigures | None:
        """None while they are not known."""
        ...

    def use_confirmations(self, confirmations: int) -> None:
        """Change the number required of invoices that name none (SIGHUP)."""
        ...
