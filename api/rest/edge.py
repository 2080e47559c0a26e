"""What the REST API is given to work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from actors.access_book import AccessBook
from actors.audit import Audit
from actors.brand_book import BrandBook
from actors.chain_supervisor import ChainHealth
from actors.duties import Standing
from actors.event_hub import EventHub
from actors.gate import Gate
from actors.invoicing import Invoicing
from actors.orders import Orders
from actors.outbox import Outbox
from actors.ports import Log, WallClock
from actors.repeats import Repeats
from actors.wallets import Wallets
from actors.webhooks import Webhooks
from api.rest.proxies import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds of the REST API."""

    connections: int = 6000
    """Open connections; a further one is closed at once."""
    body_bytes: int = 64 * 1024
    body_timeout_s: float = 10.0
    page: int = 500
    """Invoices on one page of a list at most."""
    wait_s: int = 60
    """The longest wait of a long-poll; what asks for more gets this."""
    waiting: int = 1000
    """Long-polls that may wait at the same time."""
    streams: int = 256
    """Streams of `/v1/events` that may be open at the same time."""
    pages: int = 4000
    """Open payment pages that are told of changes; those beyond ask every few seconds."""
    pages_per_address: int = 200
    """Those of one address: a company, or a provider, may have many customers behind one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The rest of the daemon as the REST API sees it; nothing is global."""

    invoicing: Invoicing
    hub: EventHub
    outbox: Outbox
    clock: WallClock
    log: Log
    metrics: Callable[[], bytes]
    """The page for Prometheus, in its text format 0.0.4."""
    store_ready: Callable[[], Awaitable[str | None]]
    """Why the store cannot be used, for people; None when it can."""
    version: str
    gate: Gate
    access_book: AccessBook
    audit: Audit
    repeats: Repeats
    """Creating things with idempotency keys."""
    webhooks: Webhooks
    wallets: Wallets
    orders: Orders
    brands: BrandBook
    roles: tuple[str, ...] = ()
    """What this process does, where several share a database."""
    duties: Callable[[], Mapping[str, Standing | None]] = dict
    """Then each duty, with what its holder last said; None: nobody holds it now."""
    public_url: str | None = None
    """Scheme, host and port by which customers reach us; None: as they asked for it."""
    trusted_proxies: tuple[Network, ...] = ()
    """Whose word on the client's address is taken."""
    limits: HttpLimits = field(default_factory=HttpLimits)

    def healths(self) -> list[ChainHealth]:
        """The standing of every enabled chain."""
        return [one.health() for one in self.invoicing.chains.values()]
