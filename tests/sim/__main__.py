"""`make sim`: histories until it is stopped, or so many of them, or one again.

python -m tests.sim                     from a seed of this moment, on every core
python -m tests.sim --histories 10000   so many; with --write to docs/performance.md
python -m tests.sim --seed 4711         one, and a failure's plan made as small as it gets
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from types import FrameType
from typing import Any

from benchmarks import proofs, report
from tests.sim.history import Played, play, play_seed
from tests.sim.plan import draw
from tests.sim.shrinking import shrunk

CHUNK = 10
"""Histories that a worker plays before it reports."""
REAL_S = 60
"""A history that takes longer on the real clock hangs."""
LINE_EVERY_S = 5.0


@dataclass
class Failed:
    seed: int
    why: str


class HangsError(BaseException):
    """Nothing that a history catches."""


def _hangs(_signal: int, _frame: FrameType | None) -> None:
    raise HangsError(f"the history still runs after {REAL_S} s")


def attempt(seed: int) -> Played | Failed:
    """Play one seed; whatever it raises is its failure."""
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(REAL_S)
    try:
        return play_seed(seed)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told with its seed
        return Failed(seed, f"{type(error).__name__}: {error}")
    finally:
        signal.alarm(0)


def _work(seeds: list[int]) -> tuple[list[Played | Failed], float]:
    began_s = time.process_time()
    found = [attempt(seed) for seed in seeds]
    gc.collect()
    return found, time.process_time() - began_s


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()


def _chunks(first: int, histories: int | None) -> Iterator[list[int]]:
    seeds = count(first) if histories is None else iter(range(first, first + histories))
    while chunk := list(islice(seeds, CHUNK)):
        yield chunk


class Tally:
    """Adds up what the workers report."""

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.sums: Counter[str] = Counter()
        self.cpu_s = 0.0
        self.failed: list[Failed] = []
        self._line_at_s = self.began_s

    def take(self, found: list[Played | Failed], cpu_s: float) -> None:
        self.cpu_s += cpu_s
        self.sums["histories"] += len(found)
        for one in found:
            if isinstance(one, Failed):
                self.failed.append(one)
                tell_failure(one)
                continue
            for name in ("events", "kills", "comparisons", "exact"):
                self.sums[name] += getattr(one, name)
            self.sums["virtual_s"] += round(one.virtual_s)
        if time.monotonic() - self._line_at_s >= LINE_EVERY_S:
            self._line_at_s = time.monotonic()
            print(self.line(), flush=True)

    def line(self) -> str:
        took_s = time.monotonic() - self.began_s
        histories = self.sums["histories"]
        return (
            f"{histories} histories, {histories / took_s * 60:.0f}/minute,"
            f" {self.sums['kills']} deaths, {self.sums['events']} events,"
            f" {self.sums['comparisons']} comparisons, {len(self.failed)} failed"
        )

    def figures(self, workers: int) -> dict[str, Any]:
        """For docs/performance.md."""
        took_s = time.monotonic() - self.began_s
        cpu_ms = self.cpu_s / max(1, self.sums["histories"]) * 1000
        return {
            **self.sums,
            "failing_seeds": len(self.failed),
            "failed": [str(one.seed) for one in self.failed],
            "seconds": round(took_s, 1),
            "per_10_minutes": round(self.sums["histories"] / took_s * 600),
            "cpu_ms_per_history": round(cpu_ms, 1),
            # What the machine could do if nobody else used it.
            "per_10_minutes_by_processor_time": round(workers * 600_000 / cpu_ms),
            "workers": workers,
        }


def tell_failure(failed: Failed) -> None:
    print(f"\nSEED {failed.seed} FAILS: {failed.why}", flush=True)
    print(f"again: make sim SEED={failed.seed}\n", flush=True)


def run_many(first: int, histories: int | None, workers: int, *, write: bool = False) -> int:
    machine = report.machine()
    print(f"histories from seed {first} on {workers} cores; stop with Ctrl-C", flush=True)
    tally = Tally()
    context = multiprocessing.get_context("fork")
    with context.Pool(workers, initializer=_ignore_interrupts) as pool:
        try:
            for found, cpu_s in pool.imap_unordered(_work, _bounded(first, histories)):
                tally.take(found, cpu_s)
        except KeyboardInterrupt:
            pool.terminate()
    print(tally.line())
    figures = {"first_seed": str(first), **tally.figures(workers)}
    print(json.dumps(figures, indent=2))
    if write:
        command = f"make sim HISTORIES={histories}"
        print(proofs.record("simulation", command=command, figures=figures, machine=machine))
    return 1 if tally.failed else 0


def _bounded(first: int, histories: int | None) -> Iterator[list[int]]:
    """A pool takes all that it is offered at once: an endless offer has an end, far away."""
    return _chunks(first, 1_000_000 if histories is None else histories)


def run_one(seed: int) -> int:
    found = attempt(seed)
    if isinstance(found, Played):
        print(found)
        return 0
    tell_failure(found)
    print("looking for a smaller plan that fails as well ...", flush=True)

    def fails(plan: Any) -> bool:
        try:
            play(plan, seed=seed)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            return type(error).__name__ == found.why.partition(":")[0]
        return False

    print("PLAN = [")
    for step in shrunk(draw(seed), fails):
        print(f"    {step!r},")
    print(f"]\nplay(PLAN, seed={seed})")
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Deterministic simulation of the whole daemon.")
    parser.add_argument("--seed", type=int, help="play this one again, and shrink it if it fails")
    parser.add_argument("--histories", type=int, help="stop after so many")
    parser.add_argument("--from", dest="first", type=int, help="the first seed of many")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    given = parser.parse_args()
    if given.write and given.histories is None:
        parser.error("--write needs --histories: the figures of so many")
    if given.seed is not None:
        return run_one(given.seed)
    first = time.time_ns() // 1_000_000 % 10**9 if given.first is None else given.first
    return run_many(first, given.histories, given.workers, write=given.write)


if __name__ == "__main__":
    sys.exit(main())
