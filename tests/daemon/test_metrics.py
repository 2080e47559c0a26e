"""Every figure that is promised is in /metrics of a running daemon, and follows what happens."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay
from tests.helpers.process import wait_until
from tests.helpers.shop import Shop

AMOUNT = 9_012_345
PROMISED = {
    "tallyd_chain_tip_height": "gauge",
    "tallyd_chain_node_height": "gauge",
    "tallyd_chain_lag_blocks": "gauge",
    "tallyd_chain_read_age_seconds": "gauge",
    "tallyd_chain_open_invoices": "gauge",
    "tallyd_chain_watched_addresses": "gauge",
    "tallyd_chain_mailbox_depth": "gauge",
    "tallyd_chain_state": "gauge",
    "tallyd_chain_restarts": "counter",
    "tallyd_chain_actor_crashes": "counter",
    "tallyd_chain_blocks_read": "counter",
    "tallyd_chain_reorgs": "counter",
    "tallyd_push_to_stream_seconds": "histogram",
    "tallyd_log_append_seconds": "histogram",
    "tallyd_log_events": "counter",
    "tallyd_log_queued": "gauge",
    "tallyd_hub_last_seq": "gauge",
    "tallyd_hub_waiters": "gauge",
    "tallyd_webhook_attempts": "counter",
    "tallyd_webhook_dead": "counter",
    "tallyd_webhook_pauses": "counter",
    "tallyd_webhook_endpoints": "gauge",
    "tallyd_webhook_requests_open": "gauge",
    "tallyd_webhook_queue_age_seconds": "gauge",
    "tallyd_grpc_calls": "counter",
    "tallyd_grpc_connections_open": "gauge",
    "tallyd_grpc_streams_open": "gauge",
}


class Figures:
    """One scrape, read as Prometheus reads it."""

    def __init__(self, daemon):
        status, headers, text = daemon.http("GET", "/metrics")
        assert status == 200
        assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = list(text_string_to_metric_families(text))
        assert len({family.name for family in families}) == len(families)
        self.kinds = {family.name: family.type for family in families}
        self.helps = {family.name: family.documentation for family in families}
        self._samples = [sample for family in families for sample in family.samples]

    def value(self, name, **labels):
        (found,) = [
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return found


@pytest.fixture
def daemon(btc_node, tmp_path):
    with Daemon(tmp_path / "metrics", nodes=(btc_node,)) as running:
        yield running


def test_what_is_promised_is_there_and_moves(daemon, btc_node):
    fresh = Figures(daemon)
    for name, kind in PROMISED.items():
        assert fresh.kinds.get(name) == kind, name
        assert fresh.helps[name], name
    assert fresh.value("tallyd_chain_tip_height", chain="btc") == btc_node.height()
    assert fresh.value("tallyd_chain_lag_blocks", chain="btc") == 0
    assert fresh.value("tallyd_chain_state", chain="btc", state="current") == 1
    assert fresh.value("tallyd_chain_open_invoices", chain="btc") == 0
    assert fresh.value("tallyd_push_to_stream_seconds_count") == 0
    with GoiPay(daemon.grpc_port) as client:
        shop = Shop(daemon, btc_node, client, client.watch())
        ticket = shop.sell(AMOUNT)
        wait_until(
            lambda: Figures(daemon).value("tallyd_chain_open_invoices", chain="btc") == 1,
            "the invoice is counted",
        )
        ticket.pay()
        ticket.heard("PENDING_MEMPOOL")
        btc_node.mine()
        ticket.heard("CONFIRMED")
        ticket.until(lambda one: one["payments"][0]["confirmations"] == 1, "the block is read")
        known = Figures(daemon)
        assert known.value("tallyd_grpc_streams_open") == 1
    events = len(ticket.events())
    assert known.value("tallyd_log_events_total") == events
    assert known.value("tallyd_hub_last_seq") == events
    assert 0 < known.value("tallyd_log_append_seconds_count") <= events
    assert known.value("tallyd_log_append_seconds_sum") > 0
    assert known.value("tallyd_push_to_stream_seconds_count") >= 1
    assert known.value("tallyd_chain_open_invoices", chain="btc") == 0
    assert known.value("tallyd_chain_watched_addresses", chain="btc") == 1
    assert known.value("tallyd_chain_blocks_read_total", chain="btc") >= 1
    assert known.value("tallyd_grpc_calls_total", status="OK") >= 3
    restarts = known.value("tallyd_chain_restarts_total", chain="btc", family="transient")
    assert restarts == 0


def test_a_node_that_is_away_is_seen_in_the_figures(tmp_path):
    env = {"BTC_DAEMON_URL": "http://127.0.0.1:1"}
    away = Daemon(tmp_path / "metrics", env=env)
    away.start(ready=False)
    try:
        figures = wait_until(
            lambda: (
                (found := Figures(away)).value(
                    "tallyd_chain_restarts_total", chain="btc", family="transient"
                )
                and found
            ),
            "a restart is counted",
        )
        assert figures.value("tallyd_chain_state", chain="btc", state="unreachable") == 1
    finally:
        assert away.stop()
