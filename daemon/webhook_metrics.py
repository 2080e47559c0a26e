"""The figures of webhooks for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from actors.ports import WallClock
from actors.webhook_engine import WebhookStatistics


class WebhookScrape:
    """A Prometheus collector over the engine."""

    def __init__(self, statistics: Callable[[], WebhookStatistics], clock: WallClock) -> None:
        self._statistics = statistics
        self._clock = clock

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance."""
        return ()

    def collect(self) -> Iterator[Metric]:
        found = self._statistics()
        attempts = CounterMetricFamily(
            "tallyd_webhook_attempts", "Requests to endpoints, by outcome", labels=["outcome"]
        )
        attempts.add_metric(["delivered"], found.delivered)
        attempts.add_metric(["failed"], found.failed)
        yield attempts
        yield CounterMetricFamily(
            "tallyd_webhook_dead", "Events given up after the last attempt", found.dead
        )
        yield CounterMetricFamily(
            "tallyd_webhook_pauses",
            "ALARM: endpoints paused because they failed for days or said 410 Gone",
            found.pauses,
        )
        endpoints = GaugeMetricFamily(
            "tallyd_webhook_endpoints", "Endpoints, by state", labels=["state"]
        )
        endpoints.add_metric(["active"], found.active - found.failing)
        endpoints.add_metric(["failing"], found.failing)
        endpoints.add_metric(["paused"], found.paused)
        yield endpoints
        yield GaugeMetricFamily(
            "tallyd_webhook_requests_open", "Requests waiting for an answer", found.in_flight
        )
        oldest = found.oldest_at_ms
        age_s = 0.0 if oldest is None else max(0.0, (self._clock.now_ms() - oldest) / 1000)
        yield GaugeMetricFamily(
            "tallyd_webhook_queue_age_seconds",
            "Age of the oldest event that an endpoint which is not paused has not taken",
            age_s,
        )
