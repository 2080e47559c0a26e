"""What an invoice of the simulation ought to say: the plain account, with what chains differ in.

Adds to `PlainAccount`: finality instead of a number of confirmations, money of another asset, and
moments at which the daemon cannot know in which order things happened (`unsure`): then the money is
compared exactly, and of the rest only what must hold whatever the order was.
"""

from __future__ import annotations

from collections.abc import Iterator

from actors.core.chain_events import Output
from actors.core.invoice import Invoice, State
from tests.helpers.fake_chain import FakeTx
from tests.helpers.plain_account import PlainAccount
from tests.sim.node import SimNode


class SimAccount(PlainAccount):
    """One invoice's account."""

    final: int | None = None
    placed = displaced = 0
    """What was recorded of its payments up to the last look, and how often one left its block."""

    def paid_by(self, tx: FakeTx) -> list[Output]:
        return [out for out in super().paid_by(tx) if out.asset == self.terms.asset]

    _either = False
    _cancelled = False
    """Since the last look."""

    def cancel(self) -> None:
        was_open = self.open
        super().cancel()
        self._cancelled |= was_open and not self.open

    def standing(self, node: SimNode) -> dict[bytes, int | None]:
        """txid → height of all that has to do with the invoice, in any asset; -1 if contested."""
        found: dict[bytes, int | None] = {}
        for block, txs in node.blocks:
            for tx in txs:
                if super().paid_by(tx):
                    found[tx.txid] = block.height
        for tx in node.mempool.values():
            if super().paid_by(tx):
                found[tx.txid] = -1 if tx.txid in node.contested else None
        return found

    def look(self, node: SimNode, now_ms: int, *, remembers: bool) -> None:
        self.final = node.final
        was_open = self.open or self._cancelled
        self._cancelled = False
        super().look(node, now_ms, remembers=remembers)
        # Settled, or cancelled, and overdue in the same moment: either may have come first.
        closed = was_open and not self.open
        self._either = closed and not self.deadline and now_ms >= self.terms.expires_at_ms

    def confirmed(self, tip: int) -> int:
        if self.terms.finality is None:
            return super().confirmed(tip)
        return super().confirmed(-1 if self.final is None else self.final)

    def depth_of(self, tx: FakeTx) -> int:
        if self.terms.finality is None:
            return super().depth_of(tx)
        return max(1, (self.policy.rbf_confirmations or 0) if tx.replaceable else 0)

    def compare(self, invoice: Invoice, tip: int) -> None:
        """The invoice as the daemon has it, at a moment at which it knows the world."""
        mine = [p for p in invoice.payments if p.asset == self.terms.asset]
        found = {p.outpoint.txid: p.height for p in mine if p.gone is None}
        assert found == {txid: height for txid, (_, height) in self.present.items()}, (
            "the payments that are there"
        )
        assert {one.outpoint for one in invoice.refused} == self.refused, "refused"
        if self._either:
            self.deadline = invoice.deadline_reached
        if self.judged:
            assert invoice.received_base == self.received, "received"
            assert invoice.credited_base == self.credited, "credited"
            assert invoice.state is self.state, "the state"
            assert invoice.deadline_reached == self.deadline, "the deadline"
            assert invoice.reversed == self.reversed, "reversed"
        else:
            for what in self._contradictions(invoice, tip):
                raise AssertionError(what)

    def check_news(self, placed: int, displaced: int, *, unchanged: bool, shaken: bool) -> None:
        """Where nothing has changed, nothing may have been recorded: a duplicate is no fact."""
        assert placed == self.placed or not unchanged, "a fact was recorded that is none"
        assert displaced == self.displaced or shaken, "a payment left a block that stands"
        self.placed, self.displaced = placed, displaced

    def _contradictions(self, invoice: Invoice, tip: int) -> Iterator[str]:
        """What cannot be at rest, in whatever order things came; by the invoice's own money."""
        covered = invoice.credited_base >= self.needed
        if invoice.state is State.PENDING and covered:
            yield "it is covered, and pending"
        if invoice.state is State.SEEN and not covered:
            yield "it is not covered, and seen"
        if invoice.state is State.SETTLED and invoice.reversed == covered:
            yield "it is settled, and reversed is not whether money is missing"
        if invoice.state is not State.SETTLED and invoice.reversed:
            yield "it is reversed, and was never settled"
        if invoice.state is State.SEEN and self._deep(invoice, tip) >= self.needed:
            yield "its money is deep enough, and it is not settled"
        if invoice.state is State.EXPIRED and not invoice.deadline_reached:
            yield "it expired before its deadline"

    def _deep(self, invoice: Invoice, tip: int) -> int:
        """The part of the credited money that has its depth."""
        top = tip if self.terms.finality is None else (-1 if self.final is None else self.final)
        total = 0
        for payment in invoice.credited():
            tx, height = self.present[payment.outpoint.txid]
            depth = 0 if height is None else top - height + 1
            total += payment.amount_base if depth >= self.depth_of(tx) else 0
        return total
