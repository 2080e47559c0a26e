"""Random scripts over a simulated chain, with restarts and crashes: the plain account is right."""

from __future__ import annotations

import os
from dataclasses import replace

import trio
import trio.testing
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from actors.core.invoice import Invoice, State
from actors.core.policy import Band, Policy
from actors.ports import TransientError, TxArrived, TxLeft
from tests.helpers.crasher import Crasher
from tests.helpers.fake_chain import FakeTx
from tests.helpers.plain_account import PlainAccount
from tests.helpers.watched_chain import POLICY, WatchedChain, watched_chain

POLICY_HERE = replace(POLICY, reorg_limit=100, settled_watch_depth=500)
REST_S = POLICY.eviction_grace_s + 3

number = st.integers(0, 5)
POLICIES = (
    Policy(accept_late_s=30),
    Policy(tolerance_base=60, tolerance_bps=5000, accept_late_s=45),
    Policy(rbf_confirmations=2, tolerance_bps=4000),
    Policy(bands=(Band(50, 3), Band(101, 0))),
)
TTLS_S = st.sampled_from([25, 10**6])
STEPS = st.one_of(
    st.tuples(st.just("create"), st.integers(1, 3), TTLS_S),
    st.tuples(
        st.just("create"),
        st.integers(0, 2),
        st.sampled_from([25, 10**6]),
        st.sampled_from(POLICIES),
    ),
    st.tuples(st.just("cancel"), number),
    st.tuples(st.just("pay"), number, st.sampled_from([30, 50, 100, 150])),
    st.tuples(st.just("pay"), number, st.sampled_from([30, 50, 100, 150])),
    st.tuples(st.just("pay replaceable"), number, st.sampled_from([60, 100])),
    st.tuples(st.just("pay locked"), number, st.integers(1, 6)),
    st.tuples(st.just("pay locked for"), number, st.integers(1, 40)),
    st.tuples(st.just("pay one key"), number, st.sampled_from([30, 100])),
    st.tuples(st.just("pay one key"), number, st.sampled_from([30, 100])),
    st.tuples(st.just("lie"), number),
    st.tuples(st.just("contest"), number),
    st.tuples(st.just("bump"), number, number),
    st.tuples(st.just("steal"), number),
    st.tuples(st.just("evict"), number),
    st.tuples(st.just("return"), number),
    st.tuples(st.just("mine"), st.integers(0, 63), st.integers(0, 2)),
    st.tuples(st.just("mine"), st.integers(0, 63), st.integers(0, 2)),
    st.tuples(st.just("mine theft"), number),
    st.tuples(st.just("reorg"), st.integers(1, 4), st.integers(0, 63), st.integers(0, 63)),
    st.tuples(st.just("go back"), number),
    st.tuples(st.just("stop")),
    st.tuples(st.just("start")),
    st.tuples(st.just("node down")),
    st.tuples(st.just("node up")),
    st.tuples(st.just("deaf"), st.booleans()),
    st.tuples(st.just("crash soon"), st.integers(1, 60)),
    st.tuples(st.just("wait"), st.integers(1, 30)),
)


STRANGE = ("pay locked", "pay locked for", "pay one key", "lie", "contest")


class Play:
    """One script played on one chain."""

    def __init__(self, it: WatchedChain, crasher: Crasher) -> None:
        self.it = it
        self.node = it.node
        self.crasher = crasher
        self.accounts: list[PlainAccount] = []
        self.paid: list[FakeTx] = []
        self.evicted: list[FakeTx] = []
        self.branches = [list(it.node.blocks)]
        self.up = True
        self.remembers = True

    async def step(self, what: str, *args: int) -> None:
        if what == "create":
            await self.create(*args)
        elif what == "cancel":
            await self.cancel(*args)
        elif what in ("stop", "start", "node down", "node up", "crash soon", "deaf", "wait"):
            await self.life(what, *args)
        elif what in STRANGE:
            self.strange(what, *args)
        else:
            self.world(what, *args)
        await self.rest()

    async def create(self, confirmations: int, ttl_s: int, policy: Policy | None = None) -> None:
        if self.it.running:
            terms = await self.it.create(
                100, confirmations=confirmations, ttl_s=ttl_s, policy=policy
            )
            self.accounts.append(PlainAccount(terms))

    async def cancel(self, which: int) -> None:
        """Only while the daemon knows what its account knows."""
        account = self.accounts[which % len(self.accounts)]
        if not (self.it.running and self.remembers and account.judged):
            return
        known = await self.it.invoice(account.terms)
        before = known.state
        try:
            await self.it.supervisor.cancel(account.terms.invoice_id)
        except TransientError:
            assert not self.it.running
        invoice = await self.it.invoice(account.terms)
        if invoice.state is State.CANCELLED and before is not State.CANCELLED:
            assert account.cancellable
            account.cancel()
        elif not self.crasher.crashed and self.it.running:
            assert not account.cancellable

    async def life(self, what: str, *args: int) -> None:
        it, node = self.it, self.node
        if what == "stop":
            await it.stop()
        elif what == "start" and not it.running and not self.crasher.crashed:
            await it.start()
        elif what == "node down":
            node.fail_with = TransientError("connection refused")
            node.disconnect()
        elif what == "node up":
            node.fail_with = None
        elif what == "deaf":
            node.swallow = {TxArrived, TxLeft} if args[0] else set()
        elif what == "crash soon":
            self.crasher.crash_after(args[0])
        elif what == "wait":
            await trio.sleep(args[0])

    def world(self, what: str, *args: int) -> None:
        node = self.node
        waiting = list(node.mempool.values())
        if what == "pay" and self.accounts:
            account = self.accounts[args[0] % len(self.accounts)]
            self.paid.append(node.pay(account.terms.destination, args[1]))
        elif what == "pay replaceable" and self.accounts:
            account = self.accounts[args[0] % len(self.accounts)]
            self.paid.append(node.pay(account.terms.destination, args[1], replaceable=True))
        elif what == "bump" and waiting and self.accounts:
            old = waiting[args[0] % len(waiting)]
            account = self.accounts[args[1] % len(self.accounts)]
            self.paid.append(node.pay(account.terms.destination, 100, replaces=old))
        elif what == "steal" and waiting:
            node.broadcast(node.steal(waiting[args[0] % len(waiting)]))
        elif what == "evict" and waiting:
            gone = waiting[args[0] % len(waiting)]
            node.evict(gone)
            self.evicted.append(gone)
        elif what == "return" and self.evicted:
            self.come_back(self.evicted.pop(args[0] % len(self.evicted)))
        elif what == "mine":
            taken = [tx for at, tx in enumerate(waiting) if args[0] >> at & 1]
            if taken:
                node.mine(*taken)
            node.mine_empty(args[1] if taken else args[1] + 1)
        elif what == "mine theft" and waiting:
            node.mine(node.steal(waiting[args[0] % len(waiting)]))
        elif what == "reorg":
            self.reorg(*args)
        elif what == "go back":
            self.branches.append(list(node.blocks))
            node.switch_to(self.branches[args[0] % len(self.branches)])
            # Grown by one: an ancestor of what we know would only be waited for.
            node.mine_empty()

    def strange(self, what: str, *args: int) -> None:
        """What only Monero knows."""
        node = self.node
        waiting = list(node.mempool.values())
        destination = self.accounts[args[0] % len(self.accounts)].terms.destination
        if what == "lie":
            node.lie(destination)
        elif what == "contest" and waiting:
            node.contest(waiting[args[0] % len(waiting)])
        elif what == "pay locked":
            tx = node.pay(destination, 100, unlock_height=node.height + args[1])
            self.paid.append(tx)
        elif what == "pay locked for":
            # In whole seconds, as the headers of blocks and the node's own record are.
            until_ms = (self.it.clock.now_ms() // 1000 + args[1]) * 1000
            self.paid.append(node.pay(destination, 100, unlock_ms=until_ms))
        elif what == "pay one key":
            self.paid.append(node.pay(destination, args[1], one_time_key=destination))

    def come_back(self, tx: FakeTx) -> None:
        spent = {coin for _, txs in self.node.blocks for other in txs for coin in other.spends}
        spent |= {coin for other in self.node.mempool.values() for coin in other.spends}
        if not spent.intersection(tx.spends):
            self.node.broadcast(tx)

    def reorg(self, depth: int, taken: int, thefts: int) -> None:
        node = self.node
        depth = min(depth, node.height)
        self.branches.append(list(node.blocks))
        free = [tx for _, txs in node.blocks[-depth:] for tx in txs]
        free += node.mempool.values()
        take = []
        for at, tx in enumerate(free):
            if taken >> at & 1:
                take.append(tx)
            elif thefts >> at & 1:
                take.append(node.steal(tx))
        node.reorg(depth, take=take)

    async def rest(self) -> None:
        """If the daemon can know the world, let it, and compare."""
        if not self.it.running or self.node.fail_with is not None:
            self.remembers = False
            return
        if self.node.swallow:
            self.node.lose_push()
        await trio.sleep(REST_S if self.remembers else REST_S + 5)
        if self.crasher.crashed:
            # It was started again in between; give it its time.
            self.crasher.crashed = self.remembers = False
            await trio.sleep(REST_S + 5)
        now_ms = self.it.clock.now_ms()
        ends = [account.terms.expires_at_ms for account in self.accounts]
        ends += [account.closes_ms for account in self.accounts]
        ends += [out.unlock_ms for tx in self.paid for out in tx.outputs if out.unlock_ms]
        while any(0 <= now_ms - end_ms < 2_500 for end_ms in ends):
            # A deadline or the end of a lock between two heartbeats: let the next one come.
            await self.it.told()
            now_ms = self.it.clock.now_ms()
        for account in self.accounts:
            account.look(self.node, now_ms, remembers=self.remembers)
            self.compare(account, await self.it.invoice(account.terms))
        self.remembers = True

    def compare(self, account: PlainAccount, invoice: Invoice) -> None:
        found = {p.outpoint.txid: p.height for p in invoice.payments if p.gone is None}
        assert found == {txid: height for txid, (_, height) in account.present.items()}
        assert invoice.received_base == account.received
        assert {one.outpoint for one in invoice.refused} == account.refused
        if account.judged:
            assert invoice.credited_base == account.credited
            assert invoice.state is account.state
            assert invoice.deadline_reached == account.deadline
            assert invoice.reversed == account.reversed

    async def end(self) -> None:
        self.node.fail_with = None
        self.node.swallow = set()
        self.crasher.crash_after(None)
        await trio.sleep(1)
        if not self.it.running:
            await self.it.start()
        self.remembers = False
        self.node.lose_push()
        await self.rest()


async def restart(it: WatchedChain, crasher: Crasher) -> None:
    """Start the daemon again whenever it was crashed."""
    crasher.spare(trio.lowlevel.current_task())
    while True:
        await crasher.crash_came()
        await it.stopped()
        await trio.sleep(0.7)
        await it.start()


async def play(script: list[tuple]) -> None:
    async with watched_chain(policy=POLICY_HERE, height=12) as it, trio.open_nursery() as nursery:
        crasher = Crasher(None, it.crash)
        crasher.spare(trio.lowlevel.current_task())
        crasher.counting = True
        trio.lowlevel.add_instrument(crasher)
        nursery.start_soon(restart, it, crasher)
        try:
            playing = Play(it, crasher)
            await playing.create(1, 10**6)
            for what, *args in script:
                await playing.step(what, *args)
                await it.store.check()
            await playing.end()
        finally:
            trio.lowlevel.remove_instrument(crasher)
        nursery.cancel_scope.cancel()


@given(st.lists(STEPS, min_size=1, max_size=14))
@settings(
    max_examples=int(os.environ.get("TALLY_RANDOM_SCRIPTS", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_every_script_ends_as_the_plain_account_says(script):
    note(repr(script))
    trio.run(play, script, clock=trio.testing.MockClock(autojump_threshold=0))
