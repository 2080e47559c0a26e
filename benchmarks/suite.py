"""Which benchmarks there are, what they promise, and how small they can be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Target:
    """What one figure is held against."""

    what: str
    figure: str
    limit: float
    unit: str = "×"  # noqa: RUF001 - the sign of a ratio
    at_least: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A function that returns its figures by name; imported only in the process that runs it."""

    name: str
    module: str
    function: str
    targets: tuple[Target, ...]
    quick: Mapping[str, Any] = field(default_factory=dict)
    """Arguments for a run that proves only that it works."""

    def run(self, *, quick: bool) -> dict[str, Any]:
        figures: dict[str, Any] = self._callable()(**(self.quick if quick else {}))
        return figures

    @property
    def text(self) -> str:
        """What is measured and how, in the words of module and function, without hard breaks."""
        words = [import_module(self.module).__doc__ or "", self._callable().__doc__ or ""]
        paragraphs = "\n\n".join(word.strip() for word in words).split("\n\n")
        return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)

    def _callable(self) -> Any:
        return getattr(import_module(self.module), self.function)


SUITE = (
    Benchmark(
        "blocks",
        "benchmarks.blocks",
        "run",
        (
            Target("block search, 100 k open invoices : parsing alone", "match_100k_to_parse", 2),
            Target("block search, 1 M open invoices : 1 k", "match_1m_to_1k", 1.2),
        ),
        quick={"rounds": 3, "watched": (100, 1_000, 10_000)},
    ),
    Benchmark(
        "store",
        "benchmarks.store",
        "figures",
        (
            Target(
                "log appends, 1000 at a time : raw sqlite3",
                "sqlite_ratio_to_raw",
                0.7,
                at_least=True,
            ),
        ),
        quick={"live": 2_000, "repeats": 1, "callers": 100},
    ),
    Benchmark(
        "unary",
        "benchmarks.grpc_server",
        "bench_unary",
        (
            Target(
                "gRPC calls, 32 at a time : grpclib on asyncio", "unary_ratio", 1.2, at_least=True
            ),
        ),
        quick={"calls": 640, "rounds": 1},
    ),
    Benchmark(
        "fanout",
        "benchmarks.grpc_server",
        "bench_fanout",
        (
            Target(
                "gRPC stream to 1000 subscribers : grpclib on asyncio",
                "fanout_ratio",
                1.5,
                at_least=True,
            ),
        ),
        quick={"subscribers": 40, "events": 20, "connections": 4, "rounds": 1},
    ),
    Benchmark(
        "replay",
        "benchmarks.outbox",
        "run_replay",
        (
            Target(
                "tally.v1 replay of 1 M events from SQLite, one stream",
                "replay_events_per_s",
                50_000,
                unit=" events/s",
                at_least=True,
            ),
        ),
        quick={"events": 6_000, "rounds": 1},
    ),
    Benchmark(
        "followers",
        "benchmarks.outbox",
        "run_followers",
        (Target("1000 live followers of tally.v1 : GoiPay's stream, CPU", "follower_ratio", 1.3),),
        quick={"followers": 40, "events": 20, "connections": 4, "rounds": 1},
    ),
    Benchmark(
        "latency",
        "benchmarks.latency",
        "run",
        (
            Target(
                "node push → client's stream, 50 payments/s, p50",
                "push_to_client_ms_p50",
                8,
                unit=" ms",
            ),
            Target("the same, p99", "push_to_client_ms_p99", 40, unit=" ms"),
        ),
        quick={"payments": 50},
    ),
    Benchmark(
        "house",
        "benchmarks.house",
        "run",
        (
            Target(
                "memory per open invoice, 100 k of them",
                "memory_bytes_per_invoice",
                1_500,
                unit=" B",
            ),
            Target("start-up with 100 k open invoices", "start_s", 5, unit=" s"),
        ),
        quick={"invoices": 2_000, "starts": 1, "idle_s": 0.5, "payments": 20},
    ),
    Benchmark(
        "recovery",
        "benchmarks.recovery",
        "run",
        (
            Target(
                "`kill -9` with 100 k open invoices → serving, SQLite",
                "sqlite_recovery_s",
                5,
                unit=" s",
            ),
            Target("the same, PostgreSQL", "postgres_recovery_s", 5, unit=" s"),
        ),
        quick={"invoices": 2_000, "kills": 1},
    ),
    Benchmark(
        "evm",
        "benchmarks.evm",
        "run",
        (
            Target(
                "5000 Transfer logs, 100 k open invoices : orjson.loads", "logs_100k_to_parse", 2
            ),
            Target("the same, 1 M open invoices : 1 k", "logs_1m_to_1k", 1.2),
            Target(
                "EVM block of 400 transactions with receipts, CPU",
                "busy_block_cpu_ms",
                15,
                unit=" ms",
            ),
        ),
        quick={"rounds": 3, "watched": (100, 1_000, 10_000)},
    ),
    Benchmark(
        "evm-catch-up",
        "benchmarks.evm",
        "catch_up",
        (
            Target(
                "missed EVM blocks of 150 transactions read, receipts and traces",
                "catch_up_with_receipts_and_traces_blocks_per_s",
                50,
                unit=" blocks/s",
                at_least=True,
            ),
        ),
        quick={"rounds": 1, "blocks": 40},
    ),
    Benchmark(
        "monero",
        "benchmarks.monero",
        "run",
        (
            Target(
                "Monero outputs with a key each : libsodium's Edwards multiplication",
                "scan_to_floor",
                1.8,
                at_least=True,
            ),
            Target(
                "the same, per core and view key",
                "outputs_per_s",
                25_000,
                unit=" outputs/s",
                at_least=True,
            ),
        ),
        quick={"rounds": 1, "outputs": 120},
    ),
    Benchmark(
        "monero-crowd",
        "benchmarks.monero",
        "crowd",
        (
            Target(
                "100 view keys on one Monero block, speed-up by all cores : possible",
                "block_speedup_to_machine",
                0.9,
                at_least=True,
            ),
            Target(
                "the same, longest stall of the event loop",
                "loop_stall_ms_worst",
                20,
                unit=" ms",
            ),
        ),
        quick={"view_keys": 20, "block_txs": 30, "rounds": 1},
    ),
    Benchmark(
        "monero-week",
        "benchmarks.monero",
        "week",
        (
            Target(
                "a week of Monero's mainnet parsed and scanned, all cores",
                "week_s",
                30,
                unit=" s",
            ),
        ),
        quick={"sample_txs": 300, "rounds": 1},
    ),
    Benchmark(
        "ton",
        "benchmarks.ton",
        "run",
        (
            Target(
                "TON page of 1000 transactions, 100 k open invoices : orjson.loads",
                "match_100k_to_parse",
                2,
            ),
            Target("the same, 1 M open invoices : 1 k", "match_1m_to_1k", 1.2),
        ),
        quick={"rounds": 3, "watched": (100, 1_000, 10_000), "txs": 200},
    ),
    Benchmark(
        "ton-follow",
        "benchmarks.ton",
        "follow",
        (
            Target(
                "TON transactions followed, per second of one core",
                "catch_up_txs_per_cpu_s",
                1_000,
                unit=" tx/s",
                at_least=True,
            ),
            Target(
                "TON blocks behind at 1000 transactions/s, at most",
                "blocks_behind_worst",
                1,
                unit=" blocks",
            ),
            Target(
                "questions to the server per TON block that does not concern us",
                "requests_per_block",
                2,
                unit="",
            ),
        ),
        quick={"blocks": 3, "block_txs": 40, "live_blocks": 3, "live_s": 0.5},
    ),
    Benchmark(
        "webhooks",
        "benchmarks.webhooks",
        "run",
        (
            Target(
                "webhooks delivered to a local receiver, per second of one core",
                "webhooks_per_cpu_s",
                500,
                unit=" webhooks/s",
                at_least=True,
            ),
            Target(
                "the same alone : beside a paused endpoint that 1 M events wait for",
                "paused_cost",
                1.05,
            ),
        ),
        quick={"invoices": 50, "queued": 2_000, "rounds": 1},
    ),
    Benchmark(
        "payment-page",
        "benchmarks.payment_page",
        "run",
        (
            Target(
                "payment page's first byte, 50 pages opened/s on one core, p50",
                "first_byte_ms_p50",
                15,
                unit=" ms",
            ),
            Target("the same, p99", "first_byte_ms_p99", 15, unit=" ms"),
            Target(
                "the whole page with style sheet and script, p99",
                "complete_ms_p99",
                100,
                unit=" ms",
            ),
            Target(
                "memory per page that is open and told of changes, 2000 of them",
                "kb_per_open_page",
                25,
                unit=" KB",
            ),
        ),
        quick={"pages": 20, "rate_per_s": 20.0, "warm": 5},
    ),
)
