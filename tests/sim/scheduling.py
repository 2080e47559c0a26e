"""One seed decides everything: a run of Trio whose every choice comes from it.

HAZARD. Trio chooses the order of the tasks that are ready at random, from a generator of its own,
and it orders them by their age before only where `_ALLOW_DETERMINISTIC_SCHEDULING` says so; both
are private, and made for Hypothesis. A set of objects without a hash of their own is in the order
of their addresses: Trio keeps its tasks and scopes in such sets, which shows in the order in which
they are *woken*, and is mended by the ordering above. Ours must not show anywhere: a test plays
the same seeds under two hash seeds and compares what was traced.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
import trio.testing

T = TypeVar("T")


def run_seeded(seed: int, main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` on a virtual clock that jumps whenever all wait."""
    core = trio._core._run
    before = core._ALLOW_DETERMINISTIC_SCHEDULING
    core._ALLOW_DETERMINISTIC_SCHEDULING = True
    core._r.seed(seed)
    random.seed(seed)
    # It writes down how the simulated death of a process went through it.
    hypercorn = logging.getLogger("hypercorn.error")
    hypercorn.disabled, heard = True, hypercorn.disabled
    try:
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        core._ALLOW_DETERMINISTIC_SCHEDULING = before
        hypercorn.disabled = heard


async def until(ready: Callable[[], bool], *, within_s: float, every_s: float = 1.0) -> bool:
    """Look again and again, in virtual time; False if it does not become so."""
    with trio.move_on_after(within_s):
        while not ready():  # noqa: ASYNC110 - it looks from outside of what it waits for
            await trio.sleep(every_s)
        return True
    return ready()
