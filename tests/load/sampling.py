"""What the daemon's process uses, again and again over a run."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import cpu_s
from tests.load.figures import mean

_MEMORY = re.compile(r"^(Rss|Pss|Private_Clean|Private_Dirty):\s+(\d+) kB$", re.MULTILINE)
_HELD = re.compile(
    rb'^tallyd_chain_(open_invoices|loaded_invoices|watched_addresses)\{chain="btc"\} (\S+)$',
    re.MULTILINE,
)


@dataclass(frozen=True)
class Sample:
    at_s: float
    """Since the run began."""
    rss_bytes: int
    pss_bytes: int
    uss_bytes: int
    """Private to the process."""
    cpu_s: float
    """Used since the process began."""
    files: int
    database_bytes: int
    wal_bytes: int
    events: int
    """In the log, as far as the stream has told."""
    held: dict[str, int]
    """What the daemon says that it keeps in memory."""


class Sampler:
    """Looks at one process; `database` tells the size of the data and of its write-ahead log."""

    def __init__(
        self, pid: int, url: str, *, database: Callable[[], tuple[int, int]], began: float
    ) -> None:
        self._pid = pid
        self._url = url
        self._database = database
        self._began = began
        self.samples: list[Sample] = []

    def take(self, events: int) -> None:
        found = dict(_MEMORY.findall(Path(f"/proc/{self._pid}/smaps_rollup").read_text()))
        kib = {name: int(value) * 1024 for name, value in found.items()}
        database_bytes, wal_bytes = self._database()
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=30) as answer:
            held = {name.decode(): int(float(n)) for name, n in _HELD.findall(answer.read())}
        self.samples.append(
            Sample(
                at_s=time.monotonic() - self._began,
                rss_bytes=kib["Rss"],
                pss_bytes=kib["Pss"],
                uss_bytes=kib["Private_Clean"] + kib["Private_Dirty"],
                cpu_s=cpu_s(self._pid),
                files=len(list(Path(f"/proc/{self._pid}/fd").iterdir())),
                database_bytes=database_bytes,
                wal_bytes=wal_bytes,
                events=events,
                held=held,
            )
        )

    def cpu_shares(self) -> list[tuple[float, float]]:
        """(seconds since the start, share of one core) between each two looks."""
        return [
            ((one.at_s + two.at_s) / 2, (two.cpu_s - one.cpu_s) / (two.at_s - one.at_s))
            for one, two in self._pairs()
        ]

    def rates(self) -> list[tuple[float, float]]:
        """(seconds since the start, events per second) between each two looks."""
        return [
            ((one.at_s + two.at_s) / 2, (two.events - one.events) / (two.at_s - one.at_s))
            for one, two in self._pairs()
        ]

    def _pairs(self) -> list[tuple[Sample, Sample]]:
        """Two looks in a row; the last two may be too near each other to say what a second had."""
        pairs = list(zip(self.samples, self.samples[1:], strict=False))
        spans_s = [two.at_s - one.at_s for one, two in pairs]
        return [
            pair for pair, span_s in zip(pairs, spans_s, strict=True) if span_s > mean(spans_s) / 2
        ]


def sqlite_sizes(folder: Path) -> tuple[int, int]:
    """Of the database and of its write-ahead log."""
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.db*")}
    wal = sum(size for name, size in sizes.items() if name.endswith("-wal"))
    return sum(sizes.values()) - wal, wal
