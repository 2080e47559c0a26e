"""`python -m benchmarks`: every figure of docs/performance.md, as a table and as JSON.

Each benchmark has a process of its own: what one leaves in memory does not slow the next. The exit
status is 0 also when a target is missed (the table says so), and 1 when a benchmark failed to run.
A benchmark that is also a proof is shown with the proofs, and can be written alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import proofs, report
from benchmarks.report import ROOT, Outcome
from benchmarks.suite import SUITE, Benchmark

RESULTS = ROOT / ".cache" / "bench" / "results.json"
TIMEOUT_S = 900
_BY_NAME = {benchmark.name: benchmark for benchmark in SUITE}
_PROOFS = {proof.name for proof in proofs.PROOFS}


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    if chosen.child:
        figures = _BY_NAME[chosen.child].run(quick=chosen.quick)
        chosen.json.write_text(json.dumps(figures))
        return 0
    if chosen.page:
        proofs.refresh()
        print(f"written: the proofs in {proofs.PAGE.relative_to(ROOT)}")
        return 0
    if chosen.write and (chosen.quick or set(chosen.only or ()) - _PROOFS):
        print("--write needs every benchmark in full: leave out --only and --quick")
        return 2
    machine = report.machine()
    benchmarks = [_BY_NAME[name] for name in chosen.only] if chosen.only else SUITE
    outcomes = []
    for number, benchmark in enumerate(benchmarks, 1):
        print(f"[{number}/{len(benchmarks)}] {benchmark.name}", file=sys.stderr, flush=True)
        outcome = _run(benchmark, quick=chosen.quick)
        ended = outcome.failure or f"done in {outcome.took_s:.0f} s"
        print(f"      {ended}", file=sys.stderr, flush=True)
        outcomes.append(outcome)
    found = report.verdicts(outcomes)
    print(f"\n{report.table(found)}\n\n{report.summary(found, machine)}")
    if chosen.quick:
        print("--quick: these figures prove that the benchmarks run, and nothing else")
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    document = report.document(outcomes, machine, quick=chosen.quick)
    chosen.json.write_text(json.dumps(document, indent=2) + "\n")
    print(f"all figures: {os.path.relpath(chosen.json)}")
    failed = any(outcome.failure for outcome in outcomes)
    if chosen.write and not failed:
        _write(outcomes, machine)
        print(f"written: {proofs.PAGE.relative_to(ROOT)}")
    return int(failed)


def _write(outcomes: Sequence[Outcome], machine: Mapping[str, Any]) -> None:
    """The page anew if all were run; of those that are proofs, their part of it."""
    for outcome in outcomes:
        name = outcome.benchmark.name
        if name in _PROOFS:
            command = f".venv/bin/python -m benchmarks --only {name}"
            proofs.record(name, command=command, figures=outcome.figures, machine=machine)
    measured = [outcome for outcome in outcomes if outcome.benchmark.name not in _PROOFS]
    if measured:
        proofs.PAGE.write_text(report.page(measured, machine, proofs=proofs.section()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure tallyd against what it promises."
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=_BY_NAME, help=f"of: {', '.join(_BY_NAME)}"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        default=RESULTS,
        help="where all figures go (default: .cache/bench/results.json)",
    )
    parser.add_argument("--quick", action="store_true", help="tiny: only to see that it runs")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md anew")
    parser.add_argument(
        "--page", action="store_true", help="only put the kept proofs into docs/performance.md"
    )
    parser.add_argument("--child", choices=_BY_NAME, help=argparse.SUPPRESS)
    return parser


def _run(benchmark: Benchmark, *, quick: bool) -> Outcome:
    """Run it in a process of its own; what it prints is progress."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as folder:
        answer = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "benchmarks", "--child", benchmark.name]
        command += ["--json", str(answer), *(["--quick"] if quick else [])]
        try:
            subprocess.run(command, cwd=ROOT, stdout=sys.stderr, timeout=TIMEOUT_S, check=True)
            figures = json.loads(answer.read_text())
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            return Outcome(benchmark, time.monotonic() - began, failure=f"FAILED: {error}")
    missing = [one.figure for one in benchmark.targets if one.figure not in figures]
    failure = f"FAILED: it reported no {', '.join(missing)}" if missing else None
    return Outcome(benchmark, time.monotonic() - began, figures, failure)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
