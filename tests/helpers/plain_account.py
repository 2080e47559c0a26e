"""What an invoice ought to say, from nothing but the chain's truth at moments of rest.

No inputs, no index, no order of delivery: sets of transactions, sums, and the six rules of
`actors.core.invoice`.
"""

from __future__ import annotations

from actors.core.events import Terms
from actors.core.invoice import State
from tests.helpers.fake_chain import FakeChain, FakeTx


class PlainAccount:
    """One invoice's account; `look` at each moment at which the daemon knows everything."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.state = State.PENDING
        self.reversed = False
        self.deadline = False
        self.present: dict[bytes, tuple[FakeTx, int | None]] = {}
        """txid → transaction and height, of all that pays the invoice now."""
        self.in_time: dict[bytes, bool] = {}
        """Every transaction ever looked at, and whether its money came in time."""
        self.spenders: dict[bytes, set[bytes]] = {}
        self.judged = True
        """False once the daemon cannot know what was in time."""

    def paid_by(self, tx: FakeTx) -> int:
        mine = self.terms.destination
        return sum(out.amount_base for out in tx.outputs if out.destination == mine)

    @property
    def received(self) -> int:
        return sum(self.paid_by(tx) for tx, _ in self.present.values())

    @property
    def credited(self) -> int:
        return sum(self.paid_by(tx) for tx, _ in self.present.values() if self.in_time[tx.txid])

    def confirmed(self, tip: int) -> int:
        return sum(
            self.paid_by(tx)
            for tx, height in self.present.values()
            if self.in_time[tx.txid]
            and height is not None
            and tip - height + 1 >= self.terms.confirmations
        )

    def look(self, node: FakeChain, now_ms: int, *, remembers: bool) -> None:
        """`remembers`: the daemon has run without a break since the last look."""
        known, self.present = self.present, self._truth(node)
        for txid, (tx, height) in self.present.items():
            if txid not in known:
                mined_s = None if height is None else node.blocks[height][0].time_s
                self._judge(tx, mined_s, remembers=remembers)
        # Deadlines are read after the blocks and the mempool before them.
        self._follow(node.height)
        self.deadline |= now_ms >= self.terms.expires_at_ms and self.open
        self._follow(node.height)

    @property
    def open(self) -> bool:
        return self.state in (State.PENDING, State.SEEN)

    def _truth(self, node: FakeChain) -> dict[bytes, tuple[FakeTx, int | None]]:
        found: dict[bytes, tuple[FakeTx, int | None]] = {
            tx.txid: (tx, block.height) for block, txs in node.blocks for tx in txs
        }
        found |= {txid: (tx, None) for txid, tx in node.mempool.items()}
        return {txid: pair for txid, pair in found.items() if self.paid_by(pair[0])}

    def _judge(self, tx: FakeTx, mined_s: int | None, *, remembers: bool) -> None:
        earlier = {other for coin in tx.spends for other in self.spenders.get(coin, ())}
        for coin in tx.spends:
            self.spenders.setdefault(coin, set()).add(tx.txid)
        assert tx.first_seen_s is not None
        in_time = tx.first_seen_s * 1000 <= self.terms.expires_at_ms
        if in_time and mined_s is not None and mined_s * 1000 > self.terms.expires_at_ms:
            # Whoever was down all the time knows it from its block only, which came too late.
            self.judged &= remembers
        if tx.txid in self.in_time:
            in_time = self.in_time[tx.txid]
        if any(self.in_time[other] for other in earlier if other != tx.txid) and not in_time:
            # A replacement inherits the time, if the daemon still knows which inputs were spent.
            in_time = True
            self.judged &= remembers
        if self.state is State.EXPIRED:
            in_time = False
        self.in_time[tx.txid] = in_time

    def _follow(self, tip: int) -> None:
        needed = max(1, self.terms.required_base)
        covered = self.credited >= needed
        if self.state is State.PENDING and covered:
            self.state = State.SEEN
        if self.state is State.SEEN and self.confirmed(tip) >= needed:
            self.state = State.SETTLED
        if self.state is State.SEEN and not covered:
            self.state = State.PENDING
        if self.state is State.PENDING and self.deadline:
            self.state = State.EXPIRED
        if self.state is State.SETTLED:
            self.reversed = not covered
