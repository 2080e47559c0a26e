"""Fans committed facts out to whoever listens, in sequence order, on the Trio thread.

The store calls `publish` once per commit. Listeners are synchronous and cheap: they encode once and
push into bounded buffers of their own. Nothing here waits, so nobody can hold up the writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import trio

from actors.ports import Committed, Log

Listener = Callable[[Sequence[Committed]], None]


@dataclass(frozen=True, slots=True)
class HubStatistics:
    last_seq: int
    listeners: int
    waiters: int
    listener_failures: int


class EventHub:
    """Publish and subscribe, in process."""

    def __init__(self, *, log: Log) -> None:
        self._log = log
        self._last_seq = 0
        self._listeners: list[Listener] = []
        self._bells: dict[UUID, set[trio.Event]] = {}
        self._failures = 0

    @property
    def last_seq(self) -> int:
        """Of what has been published; 0 before anything was."""
        return self._last_seq

    def publish(self, batch: Sequence[Committed]) -> None:
        """Tell every listener of a committed batch. Asserts that sequence numbers only grow."""
        for committed in batch:
            assert committed.seq > self._last_seq, "the store must publish in sequence order"
            self._last_seq = committed.seq
        for listener in tuple(self._listeners):
            self._tell(listener, batch)
        for committed in batch:
            for bell in self._bells.get(committed.after.terms.invoice_id, ()):
                bell.set()

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Have `listener` called with every batch committed from now on."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            if listener in self._listeners:
                self._listeners.remove(listener)

    @contextmanager
    def bell(self, invoice_id: UUID) -> Iterator[trio.Event]:
        """An event that is set at the invoice's next change.

        Ask for the bell first, then read the invoice: a change in between rings it.
        """
        bell = trio.Event()
        self._bells.setdefault(invoice_id, set()).add(bell)
        try:
            yield bell
        finally:
            bells = self._bells[invoice_id]
            bells.discard(bell)
            if not bells:
                del self._bells[invoice_id]

    def statistics(self) -> HubStatistics:
        return HubStatistics(
            last_seq=self._last_seq,
            listeners=len(self._listeners),
            waiters=sum(len(bells) for bells in self._bells.values()),
            listener_failures=self._failures,
        )

    def _tell(self, listener: Listener, batch: Sequence[Committed]) -> None:
        try:
            listener(batch)
        except Exception as error:  # noqa: BLE001 - one listener's bug must not silence the others
            self._failures += 1
            self._log.error("an event listener failed", error=repr(error), exc_info=error)
