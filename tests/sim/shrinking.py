"""A smaller plan that fails in the same way: steps are left out while it still does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.sim.plan import Step


def shrunk(plan: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """The plan without what its failure does not need; the halves first, then ever smaller parts.

    `fails` plays a plan. What was drawn together with a step is left as it is.
    """
    kept = list(plan)
    size = max(1, len(kept) // 2)
    while True:
        at = 0
        while at < len(kept):
            without = kept[:at] + kept[at + size :]
            if without and fails(without):
                kept = without
            else:
                at += size
        if size == 1:
            return kept
        size //= 2
