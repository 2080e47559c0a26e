"""`make load [RATE=100] [MINUTES=60] [MERCHANTS=200] [DATABASE=sqlite|postgres] [WRITE=1]`.

Ctrl-C ends the run early, and what was found until then is reported. Exit status 1: something went
wrong, a view differs from the chain, or memory grows.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable

from benchmarks import proofs
from benchmarks.report import machine
from tests.helpers.process import ServerError
from tests.load.figures import WARM_UP
from tests.load.plot import page
from tests.load.report import Report
from tests.load.run import FOLDER, ROOT, Options, run

PLOT = ROOT / "docs" / "load.svg"


def main() -> int:
    asked = _parser().parse_args()
    # Also where a shell began us in the background, and had us ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    options = Options(
        rate_per_s=asked.rate,
        seconds=asked.minutes * 60,
        merchants=asked.merchants,
        database=asked.database,
        sample_s=min(10.0, asked.minutes * 60 / 40),
    )
    described = machine()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f}s  {text}", flush=True)

    try:
        report = Report(run(options, say=say))
    except ServerError as error:
        print(f"the load was not run: {error}", file=sys.stderr)
        return 1
    print(report.text())
    name = f"load-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    (FOLDER / f"{name}.json").write_text(json.dumps(report.document, indent=1) + "\n")
    (FOLDER / f"{name}.svg").write_text(plotted(report, options))
    print(f"\nall figures: {FOLDER.relative_to(ROOT)}/{name}.json, curves: {name}.svg")
    if asked.write:
        PLOT.write_text(plotted(report, options))
        command = f"make load RATE={asked.rate:g} MINUTES={asked.minutes:g}" + "".join(
            f" {word.upper()}={getattr(asked, word)}"
            for word in ("merchants", "database")
            if getattr(asked, word) != _parser().get_default(word)
        )
        proofs.record("load", command=command, figures=report.proof(), machine=described)
    return 0 if report.errors == 0 and report.is_flat else 1


def plotted(report: Report, options: Options) -> str:
    ran_s = report.document["ran_s"]
    subtitle = (
        f"{options.rate_per_s:g} events/s asked for, {options.merchants} merchants,"
        f" {ran_s / 60:.1f} minutes on {options.database}; shaded: warm-up"
    )
    return page(
        report.document["curves"],
        title="tallyd under load",
        subtitle=subtitle,
        end_s=ran_s,
        warm_s=WARM_UP * ran_s,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--rate", type=_positive(float), default=100.0)
    parser.add_argument("--minutes", type=_positive(float), default=60.0)
    parser.add_argument("--merchants", type=_positive(int), default=200)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--write", action="store_true")
    return parser


def _positive(kind: type[float] | type[int]) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value < 1e6:
            raise ValueError(f"{text} is not above 0")
        return value

    read.__name__ = f"positive {kind.__name__}"  # argparse names it when it refuses
    return read


if __name__ == "__main__":
    sys.exit(main())
