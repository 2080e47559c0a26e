"""Runs targets on mutated inputs: seeded, within a budget, and every failure can be repeated.

Case number n of a seed is drawn from dice of its own, so that a seed and a number name an input
whatever was run before it. Cases run in sessions: what a session opens (a server, a node) serves a
number of them and must end in order. A case fails if its check raises, takes longer than HANG_S, or
makes the process larger than MEMORY_BYTES above where the session began.
"""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import trio
import trio.testing

ROOT = Path(__file__).resolve().parents[2]
SAVED = ROOT / ".cache" / "fuzz"
"""Where the inputs of failures are kept."""
HANG_S = 30.0
"""Of one case, also on a busy machine."""
OWN_HANG_S = 3600.0
"""The same where time passes by itself: longer than every patience there is."""
MEMORY_BYTES = 256 * 2**20

Check = Callable[[bytes], Awaitable[None]]
"""Raises what is wrong with the answer to an input."""
Session = Callable[[], AbstractAsyncContextManager[Check]]


@dataclass(frozen=True)
class Target:
    """Something that takes bytes from outside. Its name is its module's, or begins with it."""

    name: str
    draw: Callable[[Random], bytes]
    """An input of the form that the check takes."""
    session: Session
    cases: int
    """How many `make test` runs."""
    per_session: int = 200
    has_own_time: bool = False
    """Its sessions need no socket or thread: time passes when nobody has anything to do."""


@dataclass
class Progress:
    """What was done; `case` is the number of the one that runs."""

    seed: int
    case: int = 0
    done: int = 0


class HangError(Exception):
    """A case did not end."""


class GrowthError(Exception):
    """A case took more memory than anything that it is worth."""


def plain(check: Callable[[bytes], None]) -> Session:
    """A session of checks that open nothing and wait for nothing."""

    @asynccontextmanager
    async def session() -> AsyncIterator[Check]:
        async def checked(data: bytes) -> None:
            check(data)

        yield checked

    return session


def run(
    target: Target, progress: Progress, *, first: int = 0, goes_on: Callable[[Progress], bool]
) -> None:
    """Run cases from number `first` (the begin of a session) while `goes_on` says so.

    A failure is raised with notes: what to run to repeat it, and where its input is.
    """
    progress.case = first
    while goes_on(progress):
        data = b""

        async def session() -> None:
            nonlocal data
            signal.setitimer(signal.ITIMER_REAL, 2 * HANG_S)
            async with target.session() as check:
                start = _peak_bytes(reset=True)
                for _ in range(target.per_session):
                    if not goes_on(progress):
                        return
                    data = target.draw(Random(f"{progress.seed} {target.name} {progress.case}"))
                    await _one(check, data, target, above=start)
                    progress.case += 1
                    progress.done += 1

        try:
            with alarm():
                trio.run(session, clock=_clock(target))
        except BaseException as error:
            _explain(error, target, progress, data)
            raise


async def _one(check: Check, data: bytes, target: Target, *, above: int) -> None:
    """Check one input within the limits of time and memory."""
    signal.setitimer(signal.ITIMER_REAL, 2 * HANG_S)
    with trio.move_on_after(OWN_HANG_S if target.has_own_time else HANG_S) as scope:
        await check(data)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if scope.cancelled_caught:
        raise HangError("waits without end")
    grown = _peak_bytes() - above
    if grown > MEMORY_BYTES:
        raise GrowthError(f"{grown >> 20} MiB more memory")


def _clock(target: Target) -> trio.abc.Clock | None:
    return trio.testing.MockClock(autojump_threshold=0) if target.has_own_time else None


@contextmanager
def alarm() -> Iterator[None]:
    """What computes without end is ended as well; the timer is started by each case."""

    def end(*_: object) -> None:
        raise HangError(f"no end after {2 * HANG_S:g} s, and nothing else runs meanwhile")

    before = signal.signal(signal.SIGALRM, end)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def repeat(target: Target, data: bytes) -> None:
    """Check one input in a session of its own."""

    async def session() -> None:
        async with target.session() as check:
            await _one(check, data, target, above=_peak_bytes(reset=True))

    with alarm():
        trio.run(session, clock=_clock(target))


async def until(condition: Callable[[], bool]) -> None:
    """For what other tasks do by themselves; raises TooSlowError."""
    with trio.fail_after(HANG_S):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.005)


def for_cases(count: int) -> Callable[[Progress], bool]:
    return lambda progress: progress.done < count


def for_seconds(seconds: float | None) -> Callable[[Progress], bool]:
    """None: without end."""
    end = None if seconds is None else time.monotonic() + seconds
    return lambda _: end is None or time.monotonic() < end


def _explain(error: BaseException, target: Target, progress: Progress, data: bytes) -> None:
    if isinstance(error, KeyboardInterrupt):
        return
    SAVED.mkdir(parents=True, exist_ok=True)
    file = SAVED / f"{target.name}-{progress.seed}-{progress.case}"
    file.write_bytes(data)
    name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
    error.add_note(
        f"fuzzing {target.name}: seed {progress.seed}, case {progress.case}; repeat it with\n"
        f"  make fuzz TARGET={target.name} SEED={progress.seed} CASE={progress.case}\n"
        f"  make fuzz TARGET={target.name} INPUT={name}"
    )


def _peak_bytes(*, reset: bool = False) -> int:
    """The most memory that the process had since the last reset (proc(5): clear_refs)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
