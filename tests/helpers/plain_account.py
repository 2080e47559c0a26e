"""What an invoice ought to say, from nothing but the chain's truth at moments of rest.

No inputs, no index, no order of delivery: sets of transactions, sums, and the six rules of
`actors.core.invoice`.
"""

from __future__ import annotations

from collections.abc import Iterator

from actors.core.chain_events import OutPoint, Output
from actors.core.events import Terms
from actors.core.invoice import State
from actors.core.policy import Policy
from tests.helpers.fake_chain import FakeChain, FakeTx


class PlainAccount:
    """One invoice's account; `look` at each moment at which the daemon knows everything."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.policy = terms.policy or Policy()
        self.closes_ms = terms.expires_at_ms + self.policy.accept_late_s * 1000
        """Until when money counts, late or not."""
        self.state = State.PENDING
        self.reversed = False
        self.deadline = False
        self.present: dict[bytes, tuple[FakeTx, int | None]] = {}
        """txid → transaction and height, of all that pays the invoice now."""
        self.in_time: dict[bytes, bool] = {}
        """Every transaction ever looked at, and whether its money came in time, or late by no more
        than the policy accepts."""
        self.spenders: dict[bytes, set[bytes]] = {}
        self.held: set[bytes] = set()
        """Transactions that stood, or waited beside a rival, at the last look."""
        self.locked: set[bytes] = set()
        """Transactions whose money is there and locked: all outputs of one have the same lock."""
        self.order: list[bytes] = []
        """Transactions in the order in which they were first looked at."""
        self.refused: set[OutPoint] = set()
        self.judged = True
        """False once the daemon cannot know what was in time."""

    def paid_by(self, tx: FakeTx) -> list[Output]:
        return [out for out in tx.outputs if out.destination == self.terms.destination]

    def counting(self) -> Iterator[tuple[bytes, int, int | None]]:
        """Transaction, amount and height of all that is there, but of a one-time key the first."""
        keys: set[bytes] = set()
        for txid in self.order:
            if txid not in self.present:
                continue
            tx, height = self.present[txid]
            for out in self.paid_by(tx):
                if out.one_time_key is None or out.one_time_key not in keys:
                    yield txid, out.amount_base, height
                if out.one_time_key is not None:
                    keys.add(out.one_time_key)

    @property
    def received(self) -> int:
        return sum(amount_base for _, amount_base, _ in self.counting())

    def counts(self, txid: bytes) -> bool:
        return self.in_time[txid] and txid not in self.locked

    @property
    def credited(self) -> int:
        return sum(amount_base for txid, amount_base, _ in self.counting() if self.counts(txid))

    def confirmed(self, tip: int) -> int:
        return sum(
            amount_base
            for txid, amount_base, height in self.counting()
            if self.counts(txid)
            and (0 if height is None else tip - height + 1) >= self.depth_of(self.present[txid][0])
        )

    def depth_of(self, tx: FakeTx) -> int:
        depth = self.terms.confirmations
        for band in self.policy.bands:
            depth = band.confirmations if band.from_base <= self.terms.required_base else depth
        return max(depth, (self.policy.rbf_confirmations or 0) if tx.replaceable else 0)

    @property
    def needed(self) -> int:
        allowed = [n for n in (self.policy.tolerance_base, self.share) if n]
        return max(1, self.terms.required_base - min(allowed, default=0))

    @property
    def share(self) -> int:
        """What the tolerance in basis points comes to."""
        return self.terms.required_base * self.policy.tolerance_bps // 10_000

    def cancel(self) -> None:
        """The daemon was asked to, knowing what it knew at the last look."""
        if self.cancellable:
            self.state = State.CANCELLED

    @property
    def cancellable(self) -> bool:
        return self.state is State.PENDING and not self.received

    def look(self, node: FakeChain, now_ms: int, *, remembers: bool) -> None:
        """`remembers`: the daemon has run without a break since the last look."""
        known, self.present = self.present, self._truth(node)
        for txid, (tx, height) in self.present.items():
            if txid not in known:
                mined_s = None if height is None else node.blocks[height][0].time_s
                self._judge(tx, mined_s, remembers=remembers)
                self._lock(tx, node.height if height is None else height, mined_s)
                if txid not in self.order:
                    self.order.append(txid)
        self.locked.intersection_update(self.present)
        self._see_lies(node)
        self._unlock(node, now_ms)
        # Deadlines are read after the blocks and the mempool before them.
        self._follow(node.height, now_ms)
        self.deadline |= now_ms >= self.terms.expires_at_ms and self.open
        self._follow(node.height, now_ms)
        self.held = {*self.present, *(node.contested & self.in_time.keys())}

    @property
    def open(self) -> bool:
        return self.state in (State.PENDING, State.SEEN)

    def _truth(self, node: FakeChain) -> dict[bytes, tuple[FakeTx, int | None]]:
        found: dict[bytes, tuple[FakeTx, int | None]] = {
            tx.txid: (tx, block.height) for block, txs in node.blocks for tx in txs
        }
        found |= {
            txid: (tx, None) for txid, tx in node.mempool.items() if txid not in node.contested
        }
        return {txid: pair for txid, pair in found.items() if self.paid_by(pair[0])}

    def _judge(self, tx: FakeTx, mined_s: int | None, *, remembers: bool) -> None:
        # A replacement inherits the time of what stood until it came, not of what was gone.
        earlier = {other for coin in tx.spends for other in self.spenders.get(coin, ())}
        earlier &= self.held
        for coin in tx.spends:
            self.spenders.setdefault(coin, set()).add(tx.txid)
        assert tx.first_seen_s is not None
        in_time = tx.first_seen_s * 1000 <= self.closes_ms
        if in_time and mined_s is not None and mined_s * 1000 > self.closes_ms:
            # Whoever was down all the time knows it from its block only, which came too late.
            self.judged &= remembers
        if tx.txid in self.in_time:
            in_time = self.in_time[tx.txid]
        if any(self.in_time[other] for other in earlier if other != tx.txid) and not in_time:
            # A replacement inherits the time, if the daemon still knows which inputs were spent.
            in_time = True
            self.judged &= remembers
        if self.state in (State.EXPIRED, State.CANCELLED):
            in_time = False
        self.in_time[tx.txid] = in_time

    def _lock(self, tx: FakeTx, height: int, mined_s: int | None) -> None:
        """A lock that has ended when the money comes is none."""
        out = self.paid_by(tx)[0]
        known_s = tx.first_seen_s if mined_s is None else mined_s
        by_height = out.unlock_height is not None and out.unlock_height > height
        by_time = out.unlock_ms is not None and out.unlock_ms > (known_s or 0) * 1000
        if by_height or by_time:
            self.locked.add(tx.txid)
        else:
            self.locked.discard(tx.txid)

    def _unlock(self, node: FakeChain, now_ms: int) -> None:
        """Once unlocked it stays so; what was unlocked after the deadline is late."""
        for txid in list(self.locked):
            out = self.paid_by(self.present[txid][0])[0]
            if out.unlock_height is not None and out.unlock_height <= node.height:
                ended_ms = node.blocks[out.unlock_height][0].time_s * 1000
            elif out.unlock_ms is not None and out.unlock_ms <= now_ms:
                ended_ms = out.unlock_ms
            else:
                continue
            self.locked.discard(txid)
            late = ended_ms > self.closes_ms
            late |= self.state in (State.EXPIRED, State.CANCELLED)
            self.in_time[txid] = self.in_time[txid] and not late

    def _see_lies(self, node: FakeChain) -> None:
        seen = [tx for _, txs in node.blocks for tx in txs]
        seen += [tx for txid, tx in node.mempool.items() if txid not in node.contested]
        mine = self.terms.destination
        self.refused |= {r.outpoint for tx in seen for r in tx.refused if r.destination == mine}

    def _follow(self, tip: int, now_ms: int) -> None:
        if self.deadline and self.closes_ms == self.terms.expires_at_ms:
            # What has passed has passed, also if the clock is moved back after that.
            now_ms = max(now_ms, self.closes_ms)
        needed = self.needed
        covered = self.credited >= needed
        if self.state is State.PENDING and covered:
            self.state = State.SEEN
        if self.state is State.SEEN and self.confirmed(tip) >= needed:
            self.state = State.SETTLED
        if self.state is State.SEEN and not covered:
            self.state = State.PENDING
        if self.state is State.PENDING and self.deadline and now_ms >= self.closes_ms:
            self.state = State.EXPIRED
        if self.state is State.SETTLED:
            self.reversed = not covered
