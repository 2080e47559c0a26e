"""What the benchmarks have found: held against the targets, as a table, as JSON and as a page."""

from __future__ import annotations

import datetime as dt
import math
import os
import platform
import sqlite3
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.suite import Benchmark, Target

_INTRODUCTION = """\
Measured and written by `.venv/bin/python -m benchmarks --write`. To repeat it, run `make bench`: it
gets and starts what it needs (the daemon itself, a real Bitcoin node), takes about {minutes},
prints the first table and puts all figures into `.cache/bench/results.json`. Ratios are of one run,
in which what is compared takes turns; single figures are medians."""
QUIET_SHARE = 0.25
"""Of the cores: a higher load before the run is other work that would spoil the figures."""
HEAD = ("what", "figure", "target", "")
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    *("trio", "SQLAlchemy", "h2", "grpclib", "betterproto2", "pyzmq", "orjson", "grpcio"),
    *("cryptography", "PyNaCl", "safe-pysha3"),
)


@dataclass
class Outcome:
    """One benchmark's figures, or why it has none."""

    benchmark: Benchmark
    took_s: float
    figures: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None


@dataclass(frozen=True)
class Verdict:
    """One target and what was found; `value` is None when the benchmark failed."""

    target: Target
    value: float | None

    @property
    def met(self) -> bool:
        if self.value is None:
            return False
        limit = self.target.limit
        return self.value >= limit if self.target.at_least else self.value <= limit

    @property
    def word(self) -> str:
        if self.value is None:
            return "FAILED"
        return "met" if self.met else "MISSED"


def verdicts(outcomes: Iterable[Outcome]) -> list[Verdict]:
    """One for each target of the benchmarks that were run; a figure that is missing is an error."""
    return [
        Verdict(target, None if outcome.failure else float(outcome.figures[target.figure]))
        for outcome in outcomes
        for target in outcome.benchmark.targets
    ]


# --- for people -----------------------------------------------------------------------------------


def table(found: Sequence[Verdict]) -> str:
    """Columns for a terminal."""
    rows = [HEAD, *map(cells, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def summary(found: Sequence[Verdict], machine: Mapping[str, Any]) -> str:
    """One or two sentences: how many targets are met, and whether to believe it."""
    missed = sum(not verdict.met for verdict in found)
    text = f"{missed} of {len(found)} targets are MISSED." if missed else "All targets are met."
    if machine["quiet"]:
        return text
    return (
        f"{text} The machine was busy before (load {machine['load before']} on"
        f" {machine['cores']} cores): measure again when it is quiet."
    )


def page(outcomes: Sequence[Outcome], machine: Mapping[str, Any], *, proofs: str) -> str:
    """docs/performance.md; `proofs` is the section of what is not measured here."""
    found = verdicts(outcomes)
    parts = [
        "# Performance",
        _INTRODUCTION.format(minutes=_minutes(outcomes)),
        markdown(HEAD, map(cells, found)),
        summary(found, machine),
        proofs,
        "## Machine",
        markdown(("", ""), ((key, str(value)) for key, value in machine.items())),
        "## All figures",
    ]
    for outcome in outcomes:
        parts.append(f"### {outcome.benchmark.name}")
        parts.append(outcome.benchmark.text)
        figures = ((f"`{key}`", plain(value)) for key, value in outcome.figures.items())
        parts.append(markdown(("figure", ""), figures))
    return "\n\n".join(parts) + "\n"


def cells(verdict: Verdict) -> tuple[str, str, str, str]:
    target, value = verdict.target, verdict.value
    bound = f"{'≥' if target.at_least else '≤'} {target.limit:g}{target.unit}"
    shown = "-" if value is None else f"{_short(value)}{target.unit}"
    return target.what, shown, bound, verdict.word


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _minutes(outcomes: Sequence[Outcome]) -> str:
    return f"{math.ceil(sum(outcome.took_s for outcome in outcomes) / 60)} minutes"


# --- for programs ---------------------------------------------------------------------------------


def document(
    outcomes: Sequence[Outcome], machine: Mapping[str, Any], *, quick: bool
) -> dict[str, Any]:
    """Everything, as JSON values."""
    return {
        "machine": dict(machine),
        "quick": quick,
        "targets": [
            {
                "what": verdict.target.what,
                "figure": verdict.target.figure,
                "value": verdict.value,
                "limit": verdict.target.limit,
                "at_least": verdict.target.at_least,
                "met": verdict.met,
            }
            for verdict in verdicts(outcomes)
        ],
        "benchmarks": {
            outcome.benchmark.name: {
                "took_s": round(outcome.took_s, 1),
                "failure": outcome.failure,
                "figures": dict(outcome.figures),
            }
            for outcome in outcomes
        },
    }


def machine() -> dict[str, Any]:
    """What the figures depend on; names nobody's machine."""
    cores, load = os.cpu_count() or 1, round(os.getloadavg()[0], 2)
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": cores,
        "memory": _field("/proc/meminfo", "MemTotal"),
        "load before": load,
        "quiet": load < QUIET_SHARE * cores,
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{package: version(package) for package in PACKAGES},
    }


def _field(file: str, name: str) -> str | None:
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


# --- for benchmarks -------------------------------------------------------------------------------


def say(text: str) -> None:
    """Progress; the figures themselves go elsewhere."""
    print(f"      {text}", file=sys.stderr, flush=True)
