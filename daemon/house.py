"""The running parts below the APIs, for those who stand on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from actors.audit import Audit
from actors.brand_book import BrandBook
from actors.chain_door import ChainDoor
from actors.chain_supervisor import ChainState
from actors.event_hub import EventHub
from actors.gate import Gate
from actors.invoicing import Invoicing
from actors.orders import Orders
from actors.outbox import Outbox
from actors.ports import Store
from actors.repeats import Repeats
from actors.wallets import Wallets
from actors.webhooks import Webhooks
from daemon.chains import WatchedChain
from daemon.keys import Keyring
from daemon.metrics import Metrics
from daemon.roles import Roles


@dataclass(frozen=True, slots=True)
class House:
    """Store, hub, outbox, chains, keys, and the service above them."""

    store: Store
    hub: EventHub
    outbox: Outbox
    chains: Mapping[str, ChainDoor]
    """All that are enabled, whoever watches them."""
    watched: Mapping[str, WatchedChain]
    """Those that this process watches now."""
    roles: Roles | None
    """None: this process does everything, alone."""
    keyring: Keyring
    invoicing: Invoicing
    metrics: Metrics
    gate: Gate
    audit: Audit
    repeats: Repeats
    webhooks: Webhooks
    wallets: Wallets
    orders: Orders
    brands: BrandBook

    def status(self) -> str:
        """One line for `systemctl status`: each chain's height, and how many invoices are open.

        In roles, before that, this process' part.
        """
        parts = []
        for chain, door in self.chains.items():
            health = door.health()
            where = health.tip.height if health.tip else "-"
            state = "" if health.state is ChainState.CURRENT else f" ({health.state.value})"
            parts.append(f"{chain} {where}{state}")
        figures = [one.figures() for one in self.chains.values()]
        open_invoices = sum(one.open for one in figures if one is not None)
        line = f"{', '.join(parts) or 'no chain enabled'}; {open_invoices} open invoices"
        return line if self.roles is None else f"{self.roles.status()}; {line}"
