"""`make fuzz [TARGET=…] [SECONDS=…] [SEED=… [CASE=…]] [INPUT=…]`: until stopped, or for a time.

Without TARGET all targets take turns; its beginning is enough. Each turn draws a new seed and says
it. SEED repeats one, from the session of CASE on if that is given; INPUT repeats a saved input.
The first failure ends it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import secrets
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.fuzz.engine import Progress, Target, for_seconds, repeat, run
from tests.fuzz.targets import chosen

TURN_S = 20.0
TOLD_EVERY_S = 1.0 if sys.stdout.isatty() else 10.0
ADDRESS_SPACE_BYTES = 8 * 2**30
"""What takes everything is ended before the machine is."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", default="")
    parser.add_argument("--seconds", type=_number(float), default=None)
    parser.add_argument("--seed", type=_number(int), default=None)
    parser.add_argument("--case", type=_number(int), default=None)
    parser.add_argument("--input", default="")
    asked = parser.parse_args()
    try:
        targets = chosen(asked.target)
    except LookupError as error:
        parser.error(str(error))
    if (asked.input or asked.case is not None) and len(targets) > 1:
        parser.error("say which TARGET the input or the case is of")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    try:
        _run(asked, targets)
    except KeyboardInterrupt:
        print("\nstopped")
    except BaseException:  # noqa: BLE001 - whatever it is, it is what was looked for
        traceback.print_exc()
        # Servers in threads or tasks that hang must not hold up the end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    return 0


def _number(kind: type) -> object:
    """Make hands over an empty text for what was not said."""
    return lambda text: kind(text) if text else None


def _run(asked: argparse.Namespace, targets: list[Target]) -> None:
    if asked.input:
        repeat(targets[0], Path(asked.input).read_bytes())
        print(f"{targets[0].name}: nothing is wrong with {asked.input}")
        return
    if asked.case is not None:
        _repeat_case(asked, targets[0])
        return
    end = for_seconds(asked.seconds)
    for target in itertools.cycle(targets):
        seed = secrets.randbelow(2**32) if asked.seed is None else asked.seed
        begun = Progress(seed)
        if not end(begun):
            return
        meter = Meter(target, begun)
        limits = [end] if len(targets) == 1 else [end, for_seconds(TURN_S)]
        run(target, begun, goes_on=partial(_goes_on, meter, limits))
        meter.tell(last=True)


def _goes_on(meter: Meter, limits: list[Callable[[Progress], bool]], now: Progress) -> bool:
    meter.look()
    return all(limit(now) for limit in limits)


def _repeat_case(asked: argparse.Namespace, target: Target) -> None:
    first = asked.case - asked.case % target.per_session
    progress = Progress(asked.seed or 0)
    run(target, progress, first=first, goes_on=lambda now: now.case <= asked.case)
    print(f"{target.name}: nothing is wrong with cases {first} to {asked.case} of {progress.seed}")


class Meter:
    """The line that says how it goes on."""

    def __init__(self, target: Target, progress: Progress) -> None:
        self._target = target
        self._progress = progress
        self._since = self._told = time.monotonic()
        print(f"{target.name}: seed {progress.seed}", flush=True)

    def look(self) -> None:
        if time.monotonic() - self._told >= TOLD_EVERY_S:
            self.tell()

    def tell(self, *, last: bool = False) -> None:
        self._told = now = time.monotonic()
        done, taken_s = self._progress.done, max(now - self._since, 0.001)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        line = f"  {done:>9,} cases  {done / taken_s:>7,.0f}/s  {taken_s:>6,.0f} s  {peak} MiB"
        is_live = sys.stdout.isatty() and not last
        print(f"\r{line}" if sys.stdout.isatty() else line, end="" if is_live else "\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
