"""What was paid to the audited addresses, read through a driver; it writes nothing anywhere."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import trio

from actors.core.chain_events import ChainTx, OutPoint, Output
from actors.core.chain_view import BlockRef
from actors.core.invoice import Invoice
from actors.core.watch_index import WatchIndex
from actors.ports import ChainSource, MempoolSnapshot, PersistentError, TransientError

ATTEMPTS = 6
"""In a row, without a block more; with the pauses below half a minute."""
FIRST_PAUSE_S = 1.0
KEPT_BLOCKS = 1000
"""How deep a reorg may go while an audit runs."""

MERGED_FROM = 64
"""Payments of one transaction to one invoice that are recorded one by one (docs/chains.md)."""

OnBlock = Callable[[int], None]
Batch = AsyncIterator[tuple[BlockRef, tuple[ChainTx, ...]]]


@dataclass(frozen=True, slots=True)
class Placed:
    """An output in a block, or (`block` None) in the mempool."""

    output: Output
    block: BlockRef | None

    @property
    def height(self) -> int | None:
        return None if self.block is None else self.block.height

    @property
    def txid(self) -> bytes:
        return self.output.outpoint.txid


@dataclass(slots=True)
class Paid:
    """What the chain has of one invoice."""

    outputs: dict[OutPoint, Placed]
    refused: dict[OutPoint, int]
    """Outputs that prove no amount, with their heights."""


class ChainReading:
    """Blocks in order from one height on, and the mempool; follows reorgs."""

    def __init__(self, source: ChainSource, *, first_height: int) -> None:
        self.index = WatchIndex()
        self.time_ms = 0
        """The time of the last block read."""
        self._source = source
        self._first = first_height
        self._blocks: deque[BlockRef] = deque(maxlen=KEPT_BLOCKS)
        self._paid: dict[UUID, Paid] = {}

    @property
    def next_height(self) -> int:
        return self._blocks[-1].height + 1 if self._blocks else self._first

    def watch(self, invoice: Invoice) -> UUID | None:
        """Look for payments to the invoice from now on; the other invoice that has its address."""
        terms = invoice.terms
        owner = self.index.owner(terms.destination)
        if owner is not None and owner != terms.invoice_id:
            return owner
        self.index.watch(terms.destination, terms.invoice_id)
        return None

    def expect(self, invoices: Iterable[Invoice]) -> None:
        """Ask for what these wait for in the mempool by name: some nodes do not list it."""
        for invoice in invoices:
            for payment in invoice.payments:
                if payment.unconfirmed:
                    holders = self.index.unconfirmed.setdefault(payment.outpoint.txid, set())
                    holders.add(invoice.terms.invoice_id)

    def paid(self, invoice_id: UUID) -> Paid:
        return self._paid.setdefault(invoice_id, Paid({}, {}))

    async def read_up_to(self, height: int, on_block: OnBlock) -> None:
        """Have read the active chain up to `height`, which it must have.

        Raises PersistentError, and TransientError when the node does not get well.
        """
        failed, pause_s = 0, FIRST_PAUSE_S
        while True:
            before = self.next_height
            try:
                await self._go_back()
                if self.next_height > height:
                    return
                await self._read(range(self.next_height, height + 1), on_block)
                problem = TransientError(
                    f"the {self._source.chain} node does not give block {self.next_height}, though"
                    f" block {height} was on its chain. Look at the node, and try again"
                )
            except TransientError as error:
                problem = error
            if self.next_height > height:
                continue
            if self.next_height > before:
                failed, pause_s = 0, FIRST_PAUSE_S
                continue
            failed += 1
            if failed >= ATTEMPTS:
                raise problem
            await trio.sleep(pause_s)
            pause_s *= 2

    async def mempool(self) -> tuple[MempoolSnapshot, dict[UUID, list[Placed]]]:
        """What is in it, and what of it pays whom."""
        snapshot = await self._source.read_mempool(self.index)
        waiting: dict[UUID, list[Placed]] = {}
        for tx in snapshot.txs:
            for output in tx.outputs:
                invoice_id = self.index.owner(output.destination)
                if invoice_id is not None and output.amount_base > 0:
                    waiting.setdefault(invoice_id, []).append(Placed(output, None))
        return snapshot, waiting

    async def _read(self, heights: range, on_block: OnBlock) -> None:
        blocks: Batch = self._source.read_blocks(heights, self.index)
        try:
            async for block, txs in blocks:
                if self._blocks and block.parent != self._blocks[-1].hash:
                    return
                self._take(block, txs)
                on_block(block.height)
        finally:
            if isinstance(blocks, AsyncGenerator):
                await blocks.aclose()

    def _take(self, block: BlockRef, txs: tuple[ChainTx, ...]) -> None:
        for tx in txs:
            for output in tx.outputs:
                invoice_id = self.index.owner(output.destination)
                if invoice_id is not None and output.amount_base > 0:
                    self.paid(invoice_id).outputs[output.outpoint] = Placed(output, block)
            for refused in tx.refused:
                invoice_id = self.index.owner(refused.destination)
                if invoice_id is not None:
                    self.paid(invoice_id).refused[refused.outpoint] = block.height
        self._blocks.append(block)
        self.time_ms = block.time_s * 1000

    async def _go_back(self) -> None:
        """Forget the blocks that are not on the active chain any more."""
        had = self._blocks[0].height if self._blocks else None
        dropped = False
        while self._blocks:
            last = self._blocks[-1]
            theirs = await self._source.block_at(last.height)
            if theirs is not None and theirs.hash == last.hash:
                break
            self._blocks.pop()
            dropped = True
        if not dropped:
            return
        if not self._blocks and had != self._first:
            raise PersistentError(
                f"the {self._source.chain} node has another chain than it had a moment ago: more"
                f" than {KEPT_BLOCKS} blocks were replaced. Look at the node"
            )
        kept = self.next_height
        for paid in self._paid.values():
            stale = [at for at, one in paid.outputs.items() if (one.height or 0) >= kept]
            for outpoint in stale:
                del paid.outputs[outpoint]
            for outpoint in [at for at, height in paid.refused.items() if height >= kept]:
                del paid.refused[outpoint]


def merged(found: Sequence[Placed], recorded: Collection[OutPoint]) -> dict[OutPoint, Placed]:
    """By place. Of a transaction with more outputs than are recorded one by one, those beyond are
    added to the last recorded one of their asset, as the daemon does.
    """
    by_tx: dict[bytes, list[Placed]] = {}
    for one in found:
        by_tx.setdefault(one.txid, []).append(one)
    by_place: dict[OutPoint, Placed] = {}
    for outputs in by_tx.values():
        ordered = sorted(outputs, key=lambda one: one.output.outpoint.index)
        last: dict[str, OutPoint] = {}
        for number, one in enumerate(ordered):
            output = one.output
            at = last.get(output.asset)
            if number >= MERGED_FROM and at is not None and output.outpoint not in recorded:
                grown = by_place[at].output.amount_base + output.amount_base
                by_place[at] = replace(one, output=replace(by_place[at].output, amount_base=grown))
                continue
            by_place[output.outpoint] = one
            if output.one_time_key is None and not has_lock(one):
                last[output.asset] = output.outpoint
    return by_place


def has_lock(one: Placed) -> bool:
    return one.output.unlock_height is not None or one.output.unlock_ms is not None


async def height_before(source: ChainSource, at_ms: int, *, low: int, tip: BlockRef) -> int:
    """The highest block from `low` to `tip` whose time, and that of those it was looked for among,
    is before `at_ms`; `low` when there is none. Header times are no exact order: leave slack.
    """
    high = tip.height
    while low < high:
        middle = (low + high + 1) // 2
        block = await source.block_at(middle)
        # What a server has thrown away is older than what it has.
        if block is None or block.time_s * 1000 < at_ms:
            low = middle
        else:
            high = middle - 1
    return low
