"""What chains and webhooks stand on, and what they come to: in one process, or in several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from actors.chain_door import ChainDoor
from actors.event_hub import EventHub
from actors.ports import Store
from actors.webhooks import Webhooks
from daemon.chains import WatchedChain
from daemon.config import Config
from daemon.keys import Keyring
from daemon.metrics import Metrics
from daemon.webhooks import WebhookKit


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Open as long as anything stands on it."""

    config: Config
    store: Store
    hub: EventHub
    keyring: Keyring
    metrics: Metrics
    kit: WebhookKit


@dataclass(frozen=True, slots=True, kw_only=True)
class Works:
    """Chains to ask for invoices, and webhooks to administer."""

    chains: Mapping[str, ChainDoor]
    """All that are enabled, whoever watches them."""
    watched: Mapping[str, WatchedChain]
    """Those that this process watches now."""
    webhooks: Webhooks
