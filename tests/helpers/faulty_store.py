"""A MemoryStore that fails, forgets to answer or stands still as it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

import trio

from actors.core.invoice import Invoice, fold
from actors.ports import (
    ChainCursor,
    CommitListener,
    Committed,
    InvoiceRow,
    LogEntry,
    Step,
    VersionConflict,
)
from daemon.store.memory import MemoryStore


@dataclass
class Fault:
    """The next `times` calls of `method` raise `error`, those for `invoice_id` if it is given."""

    method: str
    error: Exception
    times: int
    after_commit: bool
    """The call does its work first; only the answer is lost."""
    invoice_id: UUID | None


class FaultyStore(MemoryStore):
    """Outlives the actors of a test: restarting them on it is restarting the daemon."""

    def __init__(self, on_commit: CommitListener | None = None) -> None:
        super().__init__(on_commit)
        self.calls: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self.gate: trio.Event | None = None
        """While set and not opened, appends wait."""
        self.saved_heights: list[int] = []

    def listen(self, on_commit: CommitListener) -> None:
        """Publish to a new listener: the daemon was started again."""
        self._on_commit = on_commit

    def fail(
        self,
        method: str,
        error: Exception,
        *,
        times: int = 1,
        after_commit: bool = False,
        invoice_id: UUID | None = None,
    ) -> Fault:
        fault = Fault(method, error, times, after_commit, invoice_id)
        self.faults.append(fault)
        return fault

    async def entries(self) -> tuple[LogEntry, ...]:
        """The whole log."""
        return await self.read(after_seq=0, limit=1_000_000)

    async def check(self) -> None:
        """Each stored state is the fold of its history, and versions have no gap."""
        for invoice_id, row in self._invoices.items():
            history = await self.history(invoice_id)
            assert fold(entry.event for entry in history) == row.invoice
            assert [entry.version for entry in history] == list(range(1, len(history) + 1))
            assert row.updated_seq == history[-1].seq

    # --- the store --------------------------------------------------------------------------------

    async def append(
        self, before: Invoice | None, steps: Sequence[Step]
    ) -> tuple[Committed, ...] | VersionConflict:
        invoice_id = steps[0].after.terms.invoice_id
        self._enter("append", invoice_id)
        if self.gate is not None:
            await self.gate.wait()
        outcome = await super().append(before, steps)
        self._leave("append", invoice_id)
        return outcome

    async def invoice(self, invoice_id: UUID) -> InvoiceRow | None:
        self._enter("invoice", invoice_id)
        return await super().invoice(invoice_id)

    async def live(self, chain: str, *, tip_height: int) -> tuple[Invoice, ...]:
        self._enter("live", None)
        return await super().live(chain, tip_height=tip_height)

    async def owners(self, chain: str, destinations: Collection[bytes]) -> dict[bytes, UUID]:
        self._enter("owners", None)
        return await super().owners(chain, destinations)

    async def cursor(self, chain: str) -> ChainCursor | None:
        self._enter("cursor", None)
        return await super().cursor(chain)

    async def save_cursor(self, cursor: ChainCursor) -> None:
        self._enter("save_cursor", None)
        await super().save_cursor(cursor)
        self.saved_heights.append(cursor.view.tip.height)

    async def quarantine(self, invoice_id: UUID, chain: str, *, from_height: int) -> None:
        self._enter("quarantine", invoice_id)
        await super().quarantine(invoice_id, chain, from_height=from_height)

    async def release(self, invoice_id: UUID) -> None:
        self._enter("release", invoice_id)
        await super().release(invoice_id)

    # --- faults -----------------------------------------------------------------------------------

    def _enter(self, method: str, invoice_id: UUID | None) -> None:
        self.calls[method] += 1
        self._raise(method, invoice_id, after_commit=False)

    def _leave(self, method: str, invoice_id: UUID | None) -> None:
        self._raise(method, invoice_id, after_commit=True)

    def _raise(self, method: str, invoice_id: UUID | None, *, after_commit: bool) -> None:
        for fault in self.faults:
            if (
                fault.method == method
                and fault.times > 0
                and fault.after_commit == after_commit
                and fault.invoice_id in (None, invoice_id)
            ):
                fault.times -= 1
                raise fault.error
