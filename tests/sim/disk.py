"""The simulated database: what is durable, and one process's way to it through its writer.

`Disk` outlives every process. `ProcessStore` is one process's store, with the real one's theory: a
writer takes what is queued, commits it, publishes what was committed, and only then answers. A
process may die between any two of these. Faults are the disk's, so a restart does not mend them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import outcome
import trio
from trio._core._traps import CancelShieldedCheckpoint

from actors.core.invoice import Invoice, fold
from actors.ports import (
    ChainCursor,
    CommitListener,
    Committed,
    PersistentError,
    StoreStatistics,
    TransientError,
)
from daemon.store.memory import MemoryStore

LOG_ID = "51517a11"
READS = frozenset(
    {
        "account",
        "account_by_id",
        "accounts",
        "acts",
        "api_keys",
        "api_keys_revision",
        "attempts",
        "brand",
        "cursor",
        "destinations",
        "endpoint",
        "endpoints",
        "find",
        "has_user",
        "history",
        "invoice",
        "live",
        "log_id",
        "matching",
        "newest_order",
        "order",
        "order_of_invoice",
        "owed",
        "owing",
        "owners",
        "policy",
        "published",
        "quarantined",
        "read",
        "wallet",
        "wallets",
    }
)
"""All else is a write."""
PLACED = ("payment.seen", "payment.included", "payment.disconnected", "payment.displaced")
BATCH = 64
LATE_S = 0.3
"""Until a commit whose answer was lost is found to be there."""


class KilledError(BaseException):
    """The process is dead; nothing that it still tries has any effect."""


@dataclass
class DiskFaults:
    """What is wrong with the disk; set and mended by the history."""

    commit_s: float = 0.0
    full: bool = False
    """Nothing can be written; or, with `broken_writes`, the next so many batches cannot."""
    broken_writes: int = 0
    lost_answers: int = 0
    """The next so many batches are committed, and nobody hears of it for a while."""
    broken_reads: int = 0
    persistent: bool = False
    """Failures are of the kind that a person has to mend."""

    @property
    def any(self) -> bool:
        return bool(
            self.commit_s
            or self.full
            or self.broken_writes
            or self.lost_answers
            or self.broken_reads
        )

    def error(self, what: str) -> Exception:
        kind = PersistentError if self.persistent else TransientError
        return kind(f"the simulated disk: {what}; nothing was recorded")


class Disk(MemoryStore):
    """Everything durable. `watch_cursor` looks at each cursor before it becomes so."""

    def __init__(self) -> None:
        self.fresh: list[Committed] = []
        super().__init__(self.fresh.extend)
        self._log_id = LOG_ID
        self.faults = DiskFaults()
        self.watch_cursor: Callable[[ChainCursor], None] = lambda _cursor: None

    async def save_cursor(self, cursor: ChainCursor) -> None:
        await trio.lowlevel.checkpoint()
        self.watch_cursor(cursor)
        self._cursors[cursor.chain] = cursor

    @property
    def log(self) -> list[Any]:
        return self._log

    def states(self) -> list[Invoice]:
        """Every invoice as it is stored now, by creation."""
        return [row.invoice for row in self._invoices.values()]

    def state(self, invoice_id: Any) -> Invoice | None:
        row = self._invoices.get(invoice_id)
        return None if row is None else row.invoice

    def payee(self, chain: str, destination: bytes) -> Invoice | None:
        invoice_id = self._destinations.get((chain, destination))
        return None if invoice_id is None else self._invoices[invoice_id].invoice

    def placed(self, invoice: Invoice) -> tuple[int, int]:
        """How often a payment of the invoice came, went or moved; and how often out of a block."""
        kinds = [entry.event.kind for entry in self._histories[invoice.terms.invoice_id]]
        return sum(kind in PLACED for kind in kinds), kinds.count("payment.disconnected")

    def check(self) -> None:
        """Dense sequence numbers; each stored state is the fold of its history."""
        assert [entry.seq for entry in self._log] == [*range(1, len(self._log) + 1)]
        for invoice_id, row in self._invoices.items():
            history = self._histories[invoice_id]
            assert fold(entry.event for entry in history) == row.invoice
            assert [entry.version for entry in history] == [*range(1, len(history) + 1)]
            assert row.updated_seq == history[-1].seq


@dataclass(eq=False)
class _Request:
    call: Callable[[], Any]
    append: bool
    done: trio.Event = field(default_factory=trio.Event)
    answer: Any = None
    error: BaseException | None = None


class ProcessStore:
    """`actors.ports.Store` of one process; `run` is its writer."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._queue: deque[_Request] = deque()
        self._work = trio.Event()
        self._late: list[Committed] = []
        """Committed, with an answer that was lost: published before anything else is written."""
        self._listener: CommitListener = lambda _batch: None
        self.dead = False
        disk.fresh.clear()
        self.published_seq = len(disk.log)
        self.first_seq = self.published_seq
        self.commits = 0
        for name in ("webhooks", "policies", "wallets", "orders", "brands"):
            setattr(self, name, _Book(self, getattr(disk, name)))

    def listen(self, listener: CommitListener) -> None:
        self._listener = listener

    def __getattr__(self, name: str) -> Any:
        return self._through(self._disk, name)

    async def last_seq(self) -> int:
        """As the real one: what the listener has been told of."""
        await trio.lowlevel.checkpoint()
        return self.published_seq

    def statistics(self) -> StoreStatistics:
        return StoreStatistics(
            backend="simulated",
            queued=len(self._queue),
            commits=self.commits,
            events=self.published_seq - self.first_seq,
            last_commit_s=0.0,
        )

    # --- reads and writes -------------------------------------------------------------------------

    def _through(self, book: Any, name: str) -> Any:
        method = getattr(book, name)
        if name in READS:

            async def read(*args: Any, **given: Any) -> Any:
                if self.dead:
                    raise KilledError
                await trio.lowlevel.checkpoint()
                faults = self._disk.faults
                if faults.broken_reads:
                    faults.broken_reads -= 1
                    raise faults.error("a read failed")
                return at_once(method(*args, **given))

            return read

        async def write(*args: Any, **given: Any) -> Any:
            await self._alive()
            request = _Request(lambda: method(*args, **given), append=name == "append")
            self._queue.append(request)
            self._work.set()
            await request.done.wait()
            if self.dead:
                raise KilledError
            if request.error is not None:
                raise request.error
            return request.answer

        return write

    async def _alive(self) -> None:
        if self.dead:
            raise KilledError
        await trio.lowlevel.checkpoint_if_cancelled()

    def kill(self) -> None:
        self.dead = True
        for request in self._queue:
            request.done.set()

    # --- the writer -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled: it ends with the process, wherever it is."""
        try:
            while not self.dead:
                if not self._queue:
                    self._work = trio.Event()
                    with trio.move_on_after(LATE_S if self._late else float("inf")):
                        await self._work.wait()
                self._publish_late()
                if self._queue:
                    await self._write()
        finally:
            self.kill()

    async def _write(self) -> None:
        faults = self._disk.faults
        await trio.sleep(faults.commit_s)
        batch = [self._queue[at] for at in range(min(BATCH, len(self._queue)))]
        if faults.full or faults.broken_writes:
            faults.broken_writes = max(0, faults.broken_writes - 1)
            self._answer(batch, faults.error("no space left"))
            return
        if self.dead:
            return
        committed = self._commit(batch)
        if faults.lost_answers:
            faults.lost_answers -= 1
            self._late = committed
            self._answer(batch, TransientError("it is not known yet whether it was recorded"))
            return
        # Committed and not yet published: here other tasks run, and the process may die.
        await trio.lowlevel.checkpoint()
        self._publish(committed)
        self._answer(batch, None)

    def _commit(self, batch: Sequence[_Request]) -> list[Committed]:
        """One transaction: nothing else runs, and nothing can die, in the middle of it."""
        self.commits += 1
        for request in sorted(batch, key=lambda one: one.append):
            try:
                request.answer = at_once(request.call())
            except Exception as error:  # noqa: BLE001 - whoever asked for it gets it
                request.error = error
        committed = [*self._disk.fresh]
        self._disk.fresh.clear()
        return committed

    def _answer(self, batch: Sequence[_Request], error: Exception | None) -> None:
        for request in batch:
            if self._queue and self._queue[0] is request:
                self._queue.popleft()
            if error is not None:
                request.error = type(error)(*error.args)
            request.done.set()

    def _publish_late(self) -> None:
        late, self._late = self._late, []
        self._publish(late)

    def _publish(self, committed: Sequence[Committed]) -> None:
        if not committed or self.dead:
            return
        assert committed[0].seq == self.published_seq + 1, "published without a gap"
        self.published_seq = committed[-1].seq
        self._listener(committed)


def at_once(call: Any) -> Any:
    """The result of a method of MemoryStore, which only pretends to wait."""
    send: Any = None
    while True:
        try:
            asked = call.send(send)
        except StopIteration as stop:
            return stop.value
        assert asked is CancelShieldedCheckpoint, "a method of MemoryStore waits for something"
        send = outcome.Value(None)


class _Book:
    """A part of the store, through the same writer."""

    def __init__(self, store: ProcessStore, book: Any) -> None:
        self._store = store
        self._book = book

    def __getattr__(self, name: str) -> Any:
        return self._store._through(self._book, name)
