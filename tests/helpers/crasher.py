"""Kills what runs at its n-th step, wherever it then is, and starts it again.

A step is what a task does between two moments at which Trio may run another: to cancel after the
n-th, for every n, is to crash at every await.
"""

from __future__ import annotations

from collections.abc import Callable

import trio


class Crasher(trio.abc.Instrument):
    """Counts the steps of all tasks but the `spared`; calls `crash` when the count is reached."""

    def __init__(self, at_step: int | None, crash: Callable[[], None]) -> None:
        self._at_step = at_step
        self._crash = crash
        self._spared: set[trio.lowlevel.Task] = set()
        self.steps = 0
        self.crashed = False
        self.counting = False
        self._came = trio.Event()

    def crash_after(self, steps: int | None) -> None:
        """Crash that many steps from now; None: not at all."""
        self._at_step = None if steps is None else self.steps + steps

    async def crash_came(self) -> None:
        """Wait for the next crash."""
        await self._came.wait()
        self._came = trio.Event()

    def spare(self, task: trio.lowlevel.Task) -> None:
        """Do not count this task's steps: it is the world's, not the daemon's."""
        self._spared.add(task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self.counting or task in self._spared:
            return
        self.steps += 1
        if self.steps == self._at_step:
            self.crashed = True
            self._crash()
            self._came.set()
