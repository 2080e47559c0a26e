"""A bounded queue from many senders to one receiver, who takes all that is there at once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MailboxStatistics:
    depth: int
    capacity: int
    senders_waiting: int


class Mailbox(Generic[T]):
    """First in, first out. A full mailbox makes its senders wait; it never drops and never grows.

    `put` and `take_all` are atomic with respect to cancellation: a cancelled call has done nothing.
    """

    def __init__(self, capacity: int) -> None:
        assert capacity > 0, "a mailbox holds at least one item"
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._senders = trio.lowlevel.ParkingLot()
        self._receiver = trio.lowlevel.ParkingLot()

    async def put(self, item: T) -> None:
        """Add `item`, waiting while the mailbox is full."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while len(self._items) >= self._capacity:
            await self._senders.park()
        self._items.append(item)
        self._receiver.unpark()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def take_all(self) -> list[T]:
        """Everything that is there, oldest first; waits until there is something."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._items:
            await self._receiver.park()
        taken = list(self._items)
        self._items.clear()
        self._senders.unpark_all()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return taken

    def statistics(self) -> MailboxStatistics:
        return MailboxStatistics(
            depth=len(self._items),
            capacity=self._capacity,
            senders_waiting=self._senders.statistics().tasks_waiting,
        )
