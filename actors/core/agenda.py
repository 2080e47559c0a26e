"""Which invoices are due at a height or an instant: a heap with lazy deletion.

An entry is a reminder, not a truth: whoever pops it looks at the invoice's state and drops what no
longer applies. So nothing is ever searched for or removed from the middle.
"""

from __future__ import annotations

from heapq import heappop, heappush
from uuid import UUID

SLICE = 200
"""Entries popped at once: 100 000 deadlines at the same instant must not stall the loop."""


class Agenda:
    """Invoices by the height (or Unix millisecond) at which something is due."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[int, UUID]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def remind(self, invoice_id: UUID, due: int) -> None:
        """Have `invoice_id` popped once `due` is reached. Repeats are allowed."""
        heappush(self._heap, (due, invoice_id))

    def pop_due(self, now: int, limit: int = SLICE) -> list[UUID]:
        """Up to `limit` invoices whose due is not above `now`, earliest first, without repeats."""
        due: dict[UUID, None] = {}
        while self._heap and self._heap[0][0] <= now and len(due) < limit:
            due[heappop(self._heap)[1]] = None
        return list(due)
