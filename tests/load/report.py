"""What a run found, as figures for programs and as text for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from tests.load.customers import EVENTS_PER_INVOICE, Habit
from tests.load.figures import WARM_UP, Growth, binned, growth, mean, percentile, summary
from tests.load.run import Findings
from tests.load.team import Count

MIB = 2**20
_PLOTTED = 180
"""Points of a curve at most: more than that nobody sees."""

Timed = list[tuple[int, float]]
"""(CLOCK_MONOTONIC in ns, milliseconds)."""


class Report:
    """Of one run; `document` is all of it."""

    def __init__(self, found: Findings) -> None:
        self._found = found
        self._settled_at = {  # by the stream that tells it: height, then when
            "tally.v1": found.streams.settled,
            "GoiPay": _goipay_settled(found),
        }
        self.latencies = self._latencies()
        self.growth = self._growth()
        self.document = self._document()

    @property
    def errors(self) -> int:
        return sum(self._found.faults.values())

    @property
    def is_flat(self) -> bool:
        return self.verdict != "GROWING"

    @property
    def verdict(self) -> str:
        """Of resident and of private memory the worse one."""
        return max(self.growth.values(), key=lambda one: one.share).verdict

    # --- figures ----------------------------------------------------------------------------------

    def _latencies(self) -> dict[str, Timed]:
        found = self._found
        paid = found.streams.paid_ns
        accepted = [
            (at_ns, (paid[txid] - at_ns) / 1e6)
            for txid, at_ns in found.accepted_ns.items()
            if txid in paid
        ]
        latencies = {f"create over {wire}": took for wire, took in found.shops.create_ms.items()}
        latencies["poll"] = found.ears.poll_ms
        latencies["payment in mempool → stream"] = accepted
        for wire, settled in self._settled_at.items():
            latencies[f"block → CONFIRMED on {wire}"] = [
                (at_ns, (at_ns - found.blocks_ns[height]) / 1e6)
                for height, at_ns in settled
                if height in found.blocks_ns
            ]
        latencies["event → webhook"] = found.ears.hook_ms
        return latencies

    def _growth(self) -> dict[str, Growth]:
        found = self._found
        samples = found.sampler.samples
        named = {"resident": "rss_bytes", "private": "uss_bytes", "proportional": "pss_bytes"}
        return {
            name: growth(
                [(one.at_s, getattr(one, attribute)) for one in samples], end_s=samples[-1].at_s
            )
            for name, attribute in named.items()
        }

    def _document(self) -> dict[str, Any]:
        found, options = self._found, self._found.options
        board = found.board
        samples = found.sampler.samples
        begin_s = WARM_UP * found.ran_s
        first = next(one for one in samples if one.at_s >= begin_s)
        last = samples[-1]
        judged_s = max(last.at_s - first.at_s, 1e-9)
        cpu = (last.cpu_s - first.cpu_s) / judged_s
        events_per_s = (last.events - first.events) / judged_s
        stories = found.shops.stories
        rates = {
            "events": (options.rate_per_s, events_per_s),
            "invoices": (
                options.rate_per_s / EVENTS_PER_INVOICE,
                board[Count.CREATED] / found.ran_s,
            ),
        }
        counts = {
            "events": len(found.streams.heard.digests) - 1,
            "invoices": len(stories),
            "payments": board[Count.PAID],
            "blocks": len(found.blocks_ns),
            "server_sent_events": board[Count.SENT],
            "webhooks": board[Count.HOOKED],
            "webhooks_repeated": found.ears.hooked.repeats,
            "polls": board[Count.POLLED],
            "polls_unchanged": found.ears.unchanged,
            "bumps_too_late": found.shops.bumps_too_late,
        }
        return {
            "asked": asdict(options),
            "ran_s": found.ran_s,
            "ended_early": found.is_early,
            "rates_per_s": {
                name: {"asked": asked, "reached": reached}
                for name, (asked, reached) in rates.items()
            },
            "counts": counts,
            "habits": {one.value: sum(story.habit is one for story in stories) for one in Habit},
            "latency_ms": {
                name: summary(ms for _, ms in took) for name, took in self.latencies.items()
            },
            "driver_late_ms": summary(found.shops.late_ms),
            "cpu_share": cpu,
            "cpu_ms_per_event": cpu / events_per_s * 1000 if events_per_s else 0.0,
            "memory": {
                name: asdict(one) | {"verdict": one.verdict} for name, one in self.growth.items()
            },
            "verdict": self.verdict,
            "start": asdict(samples[0]),
            "warm": asdict(first),
            "end": asdict(last),
            "errors": dict(found.faults),
            "error_words": found.fault_words,
            "curves": self._curves(),
            "samples": [asdict(one) for one in samples],
        }

    def proof(self) -> dict[str, Any]:
        """The figures that are kept."""
        document = self.document
        latency = document["latency_ms"]
        kept = {
            "minutes": round(document["ran_s"] / 60, 1),
            "merchants": document["asked"]["merchants"],
            "database": document["asked"]["database"],
            "events_per_s_asked": document["asked"]["rate_per_s"],
            "events_per_s": round(document["rates_per_s"]["events"]["reached"], 1),
            **{name: document["counts"][name] for name in _COUNTED},
            "errors": self.errors,
            "processor_share_of_a_core": round(document["cpu_share"], 3),
            "memory_growth_percent": round(max(one.share for one in self._judged()) * 100, 2),
            "memory_mib_per_hour": round(max(one.per_hour for one in self._judged()) / MIB, 1),
            "memory_last_tenth_to_second": round(self.growth["resident"].late_to_early, 4),
            "memory_warm_mib": round(document["warm"]["rss_bytes"] / MIB, 1),
            "memory_end_mib": round(document["end"]["rss_bytes"] / MIB, 1),
            "open_files_end": document["end"]["files"],
            "database_mib_end": round(document["end"]["database_bytes"] / MIB, 1),
        }
        for name, word in _KEPT_LATENCIES.items():
            for part in ("p50", "p99"):
                kept[f"{word}_ms_{part}"] = round(latency[name].get(part, 0.0), 2)
        # Near nothing, unless the machine was too busy for what was asked.
        kept["driver_late_ms_p99"] = round(document["driver_late_ms"]["p99"], 2)
        return kept

    def _judged(self) -> list[Growth]:
        return [self.growth[name] for name in ("resident", "private")]

    # --- curves -----------------------------------------------------------------------------------

    def _curves(self) -> dict[str, dict[str, list[tuple[float, float]]]]:
        """By panel and name: (seconds since the start, value)."""
        found = self._found
        samples = found.sampler.samples
        width_s = max(found.options.sample_s, found.ran_s / _PLOTTED)

        def late(name: str) -> list[tuple[float, float]]:
            since = [((at - found.began_ns) / 1e9, ms) for at, ms in self.latencies[name]]
            inside = [(at_s, ms) for at_s, ms in since if 0 <= at_s <= found.ran_s]
            return [
                (min(at_s, found.ran_s), percentile(sorted(values), 99))
                for at_s, values in binned(inside, width_s=width_s)
            ]

        def thin(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
            return [
                (min(at_s, found.ran_s), mean(values))
                for at_s, values in binned(points, width_s=width_s)
            ]

        return {
            "memory, MiB": {
                "resident": thin((one.at_s, one.rss_bytes / MIB) for one in samples),
                "private": thin((one.at_s, one.uss_bytes / MIB) for one in samples),
            },
            "processor, % of a core": {
                "daemon": thin((at_s, share * 100) for at_s, share in found.sampler.cpu_shares()),
            },
            "events per second": {"written to the log": thin(found.sampler.rates())},
            "latency, ms (p99)": {
                "payment → stream": late("payment in mempool → stream"),
                "event → webhook": late("event → webhook"),
                "create": late("create over GoiPay"),
            },
        }

    # --- text -------------------------------------------------------------------------------------

    def text(self) -> str:
        document, found = self.document, self._found
        counts, memory = document["counts"], document["memory"]
        asked = document["asked"]
        early = " (ended early)" if document["ended_early"] else ""
        lines = [
            f"\n{found.ran_s:.0f} s{early}, {asked['merchants']} merchants, {asked['database']}",
            "",
            "throughput per second      asked   reached",
        ]
        for name, rate in document["rates_per_s"].items():
            lines.append(f"  {name:22} {rate['asked']:8.1f}  {rate['reached']:8.1f}")
        lines += [
            "",
            *_columns(counts),
            "",
            f"latency, ms {'':26} {'p50':>8} {'p90':>8} {'p99':>8} {'max':>8}",
        ]
        for name, one in [
            *document["latency_ms"].items(),
            ("(driver behind)", document["driver_late_ms"]),
        ]:
            if one["count"]:
                values = " ".join(f"{one[part]:8.1f}" for part in ("p50", "p90", "p99", "max"))
                lines.append(f"  {name:36} {values}   of {one['count']}")
        warm, end = document["warm"], document["end"]
        cpu = f"{document['cpu_share'] * 100:.0f} % of a core"
        database = f"{_mib(end['database_bytes'])}, write-ahead log {_mib(end['wal_bytes'])}"
        lines += [
            "",
            f"processor: {cpu}, {document['cpu_ms_per_event']:.2f} ms per event",
            f"open files: {warm['files']} → {end['files']}; database {database}",
            f"held by the daemon: {warm['held']} → {end['held']}",
        ]
        for name, one in memory.items():
            column = {"resident": "rss", "private": "uss", "proportional": "pss"}[name]
            lines.append(
                f"memory, {name}: {_mib(warm[f'{column}_bytes'])} → {_mib(end[f'{column}_bytes'])};"
                f" growth {one['share'] * 100:+.2f} % ({one['per_hour'] / MIB:+.1f} MiB/h), last"
                f" tenth : second {one['late_to_early']:.3f}: {one['verdict']}"
            )
        lines += ["", *self._errors()]
        return "\n".join(lines)

    def _errors(self) -> Iterable[str]:
        if not self.errors:
            return [
                "complete: every view of every invoice is what was done on the chain, on every wire"
            ]
        lines = [f"{self.errors} errors:"]
        for kind, count in sorted(self._found.faults.items()):
            lines.append(f"  {count} x {kind}")
            lines += [f"      {words}" for words in self._found.fault_words[kind]]
        return lines


_COUNTED = ("events", "invoices", "payments", "blocks", "webhooks", "webhooks_repeated", "polls")
_KEPT_LATENCIES = {
    "create over GoiPay": "create_goipay",
    "create over tally.v1": "create_tally",
    "create over REST": "create_rest",
    "poll": "poll",
    "payment in mempool → stream": "payment_to_stream",
    "block → CONFIRMED on GoiPay": "block_to_confirmed",
    "event → webhook": "event_to_webhook",
}


def _goipay_settled(found: Findings) -> list[tuple[int, int]]:
    """(height that decided, when GoiPay's stream said so)."""
    heights = found.streams.settled_heights
    return [
        (heights[one], at_ns)
        for one, at_ns in found.streams.goipay_settled_ns.items()
        if one in heights
    ]


def _columns(counts: Mapping[str, int]) -> list[str]:
    cells = [f"{name.replace('_', ' ')} {count}" for name, count in counts.items()]
    return ["  " + ", ".join(cells[at : at + 5]) for at in range(0, len(cells), 5)]


def _mib(count: int) -> str:
    return f"{count / MIB:.1f} MiB"
