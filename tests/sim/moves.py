"""What a step does to a simulated chain: customers, miners and thieves by their verbs."""

from __future__ import annotations

from tests.helpers.fake_chain import FakeTx
from tests.helpers.virtual_clock import VirtualClock
from tests.sim.account import SimAccount
from tests.sim.plan import Step
from tests.sim.world import Followed

REORG_LIMIT = 10
BELIEVED_MS = 8_000
"""More than it takes the daemon to believe that a payment is gone from the mempool."""
BELIEVED_BLOCKS = 4
"""More than come in that time."""


def move(one: Followed, clock: VirtualClock, step: Step) -> None:
    """Play a step of a plan on its chain; one that needs what is not there does nothing."""
    one.highest = max(one.highest, one.node.height)
    verb, _, *args = step
    name = "_" + verb.replace(" ", "_")
    _Mover(one, clock).__getattribute__(name)(*args)


class _Mover:
    def __init__(self, one: Followed, clock: VirtualClock) -> None:
        self.one = one
        self.node = one.node
        self.clock = clock
        self.waiting = list(one.node.mempool.values())

    def account(self, number: int) -> SimAccount | None:
        accounts = self.one.accounts
        return accounts[number % len(accounts)] if accounts else None

    def amount(self, account: SimAccount, share: int) -> int:
        return max(1, (account.terms.required_base or 100) * share // 100)

    def keep(self, tx: FakeTx) -> None:
        self.one.paid.append(tx)

    # --- payments ---------------------------------------------------------------------------------

    def _pay(self, number: int, share: int, **more) -> None:
        account = self.account(number)
        if account is not None:
            amount_base = self.amount(account, share)
            self.keep(self.node.pay(account.terms.destination, amount_base, **more))

    def _pay_replaceable(self, number: int, share: int) -> None:
        self._pay(number, share, replaceable=True)

    def _pay_outputs(self, number: int, count: int) -> None:
        account = self.account(number)
        if account is not None:
            amounts = [self.amount(account, 50)] * count
            self.keep(self.node.pay(account.terms.destination, *amounts))

    def _pay_many(self, first: int, second: int) -> None:
        accounts = {id(one): one for n in (first, second) if (one := self.account(n)) is not None}
        if accounts:
            payments = [(a.terms.destination, self.amount(a, 100)) for a in accounts.values()]
            self.keep(self.node.pay_many(*payments))

    def _pay_token(self, number: int) -> None:
        self._pay(number, 100, asset="HOUSE_TOKEN")

    def _pay_locked(self, number: int, blocks: int) -> None:
        self._pay(number, 100, unlock_height=self.node.height + blocks)

    def _pay_locked_for(self, number: int, seconds: int) -> None:
        # In whole seconds, as the headers of blocks and the node's own record are.
        self._pay(number, 100, unlock_ms=(self.clock.now_ms() // 1000 + seconds) * 1000)

    def _pay_one_key(self, number: int, share: int) -> None:
        account = self.account(number)
        if account is not None:
            self._pay(number, share, one_time_key=account.terms.destination)

    def _lie(self, number: int) -> None:
        account = self.account(number)
        if account is not None and len(account.refused) < 8:
            tx = self.node.lie(account.terms.destination)
            self.one.lies.update(out.outpoint for out in tx.refused)

    # --- what becomes of them ---------------------------------------------------------------------

    def _bump(self, which: int, number: int) -> None:
        account = self.account(number)
        if self.waiting and account is not None:
            old = self.waiting[which % len(self.waiting)]
            self._pay(number, 100, replaces=old)

    def _contest(self, which: int) -> None:
        if self.waiting:
            self.node.contest(self.waiting[which % len(self.waiting)])

    def _steal(self, which: int) -> None:
        if self.waiting:
            self.node.broadcast(self.node.steal(self.waiting[which % len(self.waiting)]))

    def _evict(self, which: int) -> None:
        if self.waiting:
            gone = self.waiting[which % len(self.waiting)]
            self._doubt(gone)
            self.node.evict(gone)
            self.one.evicted.append(gone)

    def _doubt(self, gone: FakeTx) -> None:
        """A lock may end before the daemon believes that the payment is gone: it counts then."""
        now_ms, height = self.clock.now_ms(), self.node.height
        if any(
            now_ms < (out.unlock_ms or 0) <= now_ms + BELIEVED_MS
            or height < (out.unlock_height or 0) <= height + BELIEVED_BLOCKS
            for out in gone.outputs
        ):
            for account in self.one.accounts:
                account.judged &= not account.paid_by(gone)

    def _return(self, which: int) -> None:
        if not self.one.evicted:
            return
        tx = self.one.evicted.pop(which % len(self.one.evicted))
        spent = {coin for _, txs in self.node.blocks for other in txs for coin in other.spends}
        spent |= {coin for other in self.node.mempool.values() for coin in other.spends}
        if not spent.intersection(tx.spends):
            self.node.broadcast(tx)

    # --- blocks -----------------------------------------------------------------------------------

    def _mine(self, taken: int, empty: int) -> None:
        txs = [tx for at, tx in enumerate(self.waiting) if taken >> at % 6 & 1]
        if txs:
            self.node.mine(*txs)
        self.node.mine_empty(empty if txs else empty + 1)

    def _mine_theft(self, which: int) -> None:
        if self.waiting:
            self.node.mine(self.node.steal(self.waiting[which % len(self.waiting)]))

    def _reorg(self, depth: int, taken: int, thefts: int) -> None:
        node = self.node
        lowest = max(self.one.highest - REORG_LIMIT, node.final or 0)
        depth = min(depth, node.height - lowest)
        if depth < 1:
            return
        self.one.branches.append(list(node.blocks))
        free = [tx for _, txs in node.blocks[-depth:] for tx in txs]
        free += node.mempool.values()
        take = []
        for at, tx in enumerate(free):
            if taken >> at % 6 & 1:
                take.append(tx)
            elif thefts >> at % 6 & 1:
                take.append(node.steal(tx))
        self.one.shaken = True
        node.reorg(depth, take=take)

    def _go_back(self, which: int) -> None:
        """To a branch that was the active one before, if that is no deeper than a reorg may be."""
        node = self.node
        branch = self.one.branches[which % len(self.one.branches)]
        lowest = max(self.one.highest - REORG_LIMIT, node.final or 0)
        if not self.one.remembers or fork_height(node.blocks, branch) < lowest:
            return
        self.one.shaken = True
        self.one.branches.append(list(node.blocks))
        node.switch_to(branch)
        # Grown by one: an ancestor of what we know would only be waited for.
        node.mine_empty()

    def _finalise(self, by: int) -> None:
        if self.node.final is not None:
            self.node.final = min(self.node.height, self.node.final + by)

    def _lose(self) -> None:
        """A reorg that is deeper than what is followed."""
        self.one.lost = list(self.node.blocks)
        depth = min(self.node.height, REORG_LIMIT + 3)
        self.node.reorg(depth)

    def _come_back(self) -> None:
        assert self.one.lost is not None
        self.node.switch_to(self.one.lost)
        self.one.lost = None
        self.one.shaken = True
        self.node.mine_empty()


def fork_height(ours: list, theirs: list) -> int:
    """The height of the newest common block."""
    height = 0
    for mine, other in zip(ours, theirs, strict=False):
        if mine[0].hash != other[0].hash:
            break
        height = mine[0].height
    return height
