"""Prometheus metrics: read from the actors' own statistics when somebody asks, never pushed.

Names begin with `tallyd_`; times are seconds. Two histograms are fed as things happen: how long the
log takes to make a transaction durable, and how long a pushed payment takes to be published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from actors.chain_door import ChainDoor
from actors.chain_supervisor import ChainFigures, ChainState
from actors.duties import DutyStatistics, Standing
from actors.event_hub import HubStatistics
from actors.ports import StoreStatistics, WallClock
from actors.webhook_engine import WebhookStatistics
from daemon.role_metrics import RoleScrape
from daemon.webhook_metrics import WebhookScrape

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The registry behind `/metrics`. Call `watch` once, when the parts exist."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.push_to_stream = Histogram(
            "tallyd_push_to_stream_seconds",
            "From a node's push of a payment to its durable event in the streams' buffers",
            registry=self._registry,
            buckets=BUCKETS_S,
        )
        self.log_append = Histogram(
            "tallyd_log_append_seconds",
            "Time to make one transaction of the event log durable",
            registry=self._registry,
            buckets=BUCKETS_S,
        )

    def watch(
        self,
        *,
        chains: Mapping[str, ChainDoor],
        store: Callable[[], StoreStatistics],
        hub: Callable[[], HubStatistics],
        grpc: Callable[[], Mapping[str, Any]],
        clock: WallClock,
    ) -> None:
        """Have these asked for their figures at each scrape."""
        self._registry.register(_Scrape(chains, store, hub, grpc, clock))

    def watch_webhooks(
        self, statistics: Callable[[], WebhookStatistics], *, clock: WallClock
    ) -> None:
        """Likewise, for webhooks."""
        self._registry.register(WebhookScrape(statistics, clock))

    def watch_roles(
        self,
        holders: Callable[[], Mapping[str, Standing | None]],
        statistics: Callable[[], DutyStatistics],
    ) -> None:
        """Likewise, for what several processes share out."""
        self._registry.register(RoleScrape(holders, statistics))

    def render(self) -> bytes:
        """The text exposition format, version 0.0.4."""
        return generate_latest(self._registry)


class _Scrape:
    """A Prometheus collector over the daemon's parts."""

    def __init__(
        self,
        chains: Mapping[str, ChainDoor],
        store: Callable[[], StoreStatistics],
        hub: Callable[[], HubStatistics],
        grpc: Callable[[], Mapping[str, Any]],
        clock: WallClock,
    ) -> None:
        self._chains = chains
        self._store = store
        self._hub = hub
        self._grpc = grpc
        self._clock = clock

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: what there is depends on the chains."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._of_chains()
        yield from self._of_store()
        yield from self._of_hub()
        yield from self._of_grpc()

    def _of_chains(self) -> Iterator[Metric]:
        gauges = {
            name: GaugeMetricFamily(f"tallyd_chain_{name}", text, labels=["chain"])
            for name, text in _CHAIN_GAUGES.items()
        }
        states = GaugeMetricFamily(
            "tallyd_chain_state", "1 for the state that the chain is in", labels=["chain", "state"]
        )
        restarts = CounterMetricFamily(
            "tallyd_chain_restarts", "Restarts of the chain's watcher", labels=["chain", "family"]
        )
        counters = {
            name: CounterMetricFamily(f"tallyd_chain_{name}", text, labels=["chain"])
            for name, text in _CHAIN_COUNTERS.items()
        }
        for chain_id, chain in self._chains.items():
            figures = chain.figures()
            for name, value in self._chain_values(chain, figures).items():
                (gauges.get(name) or counters[name]).add_metric([chain_id], value)
            state = chain.health().state
            for one in ChainState:
                states.add_metric([chain_id, one.value], float(one is state))
            for family, count in figures.restarts.items() if figures else ():
                restarts.add_metric([chain_id, family], count)
        yield from gauges.values()
        yield from counters.values()
        yield states
        yield restarts

    def _chain_values(self, chain: ChainDoor, figures: ChainFigures | None) -> dict[str, float]:
        health = chain.health()
        values: dict[str, float] = {}
        if figures is not None:
            values = {
                "open_invoices": figures.open,
                "loaded_invoices": figures.loaded,
                "awake_actors": figures.awake,
                "set_aside_invoices": figures.set_aside,
                "watched_addresses": figures.destinations,
                "mailbox_depth": figures.mailbox,
                "actor_crashes": figures.crashes,
                "blocks_read": figures.blocks_read,
                "reorgs": figures.reorgs,
                "mempool_reads": figures.mempool_reads,
            }
        if health.tip is not None:
            values["tip_height"] = health.tip.height
            if health.node_height is not None:
                values["node_height"] = health.node_height
                values["lag_blocks"] = health.node_height - health.tip.height
        if health.as_of_ms is not None:
            values["read_age_seconds"] = (self._clock.now_ms() - health.as_of_ms) / 1000
        return values

    def _of_store(self) -> Iterator[Metric]:
        statistics = self._store()
        yield GaugeMetricFamily(
            "tallyd_log_queued", "Writes waiting for the next transaction", statistics.queued
        )
        yield CounterMetricFamily(
            "tallyd_log_commits", "Transactions committed by the writer", statistics.commits
        )
        yield CounterMetricFamily(
            "tallyd_log_events", "Events recorded since the start", statistics.events
        )

    def _of_hub(self) -> Iterator[Metric]:
        statistics = self._hub()
        yield GaugeMetricFamily(
            "tallyd_hub_last_seq", "Sequence number of the newest event", statistics.last_seq
        )
        yield GaugeMetricFamily(
            "tallyd_hub_waiters", "Long-polls waiting for a change", statistics.waiters
        )
        yield CounterMetricFamily(
            "tallyd_hub_listener_failures", "Listeners that failed", statistics.listener_failures
        )

    def _of_grpc(self) -> Iterator[Metric]:
        figures = dict(self._grpc())
        calls = CounterMetricFamily(
            "tallyd_grpc_calls", "gRPC calls ended, by status", labels=["status"]
        )
        for status, count in figures.pop("statuses", {}).items():
            calls.add_metric([str(getattr(status, "name", status))], count)
        yield calls
        for name, value in figures.items():
            if name.endswith(("_open", "_waiting")):
                yield GaugeMetricFamily(f"tallyd_grpc_{name}", "gRPC server: now", value)
            else:
                yield CounterMetricFamily(f"tallyd_grpc_{name}", "gRPC server: so far", value)


_CHAIN_GAUGES = {
    "tip_height": "Height of the newest block that every invoice has been told of",
    "node_height": "Height of the node's tip",
    "lag_blocks": "Blocks that the node has and tallyd has not read yet",
    "read_age_seconds": "Age of the instant up to which the chain was read",
    "open_invoices": "Invoices that wait for money or confirmations",
    "loaded_invoices": "Invoices in memory",
    "awake_actors": "Invoice actors at work now",
    "set_aside_invoices": "Invoices whose actor crashed; told again at the next start",
    "watched_addresses": "Addresses ever given out",
    "mailbox_depth": "News from the node waiting to be handled",
}
_CHAIN_COUNTERS = {
    "actor_crashes": "Crashes of invoice actors",
    "blocks_read": "Blocks connected since the start",
    "reorgs": "Reorgs since the start",
    "mempool_reads": "Times the whole mempool was read",
}
