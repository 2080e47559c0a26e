"""How much goes on in this run of Trio, and waiting until something has happened."""

from __future__ import annotations

from collections.abc import Callable

import trio
import trio.testing


def tasks() -> int:
    """How many there are."""
    found, left = 0, [trio.lowlevel.current_root_task()]
    while left:
        one = left.pop()
        if one is not None:
            found += 1
            left += [task for nursery in one.child_nurseries for task in nursery.child_tasks]
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Look whenever nothing else can go on; for what comes over real sockets."""
    with trio.fail_after(10):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.005)
