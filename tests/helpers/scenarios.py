"""What customers, miners and nodes do to an invoice, and what must come of it.

Each scenario is one script over a `Stage`; the stage decides in what order and how often the daemon
gets to know (see `Delivery`). The end must be the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

import trio

from actors.core.chain_view import ChainView
from actors.core.events import Terms
from actors.core.invoice import State
from actors.ports import MempoolStale, TipMoved, TransientError, TxArrived, TxLeft
from tests.helpers.fake_chain import FakeTx
from tests.helpers.watched_chain import WatchedChain

TTL_S = 60.0
REWIND = 3


class Delivery(Enum):
    IN_ORDER = auto()
    DUPLICATED = auto()
    """All news come twice, and after each step the daemon forgets its last blocks."""
    TIPS_SKIPPED = auto()
    """No block is announced; heartbeats find them."""
    MEMPOOL_FIRST = auto()
    """Every transaction is seen in the mempool before its block comes."""
    BLOCKS_ONLY = auto()
    """Nothing is said of the mempool until the end."""
    DEEP_REORG = auto()
    """After each block a deep reorg brings the same transactions in other blocks."""
    RESTARTED = auto()
    """The daemon is down while anything happens."""
    BURST = auto()
    """Steps follow each other faster than the daemon looks."""


@dataclass(frozen=True)
class Outcome:
    """What an invoice says in the end."""

    state: State
    credited: int
    received: int
    present: frozenset[tuple[str, int | None]]
    """Payments that are there, by name, with the number of confirmations (None: unconfirmed)."""
    flags: frozenset[str] = frozenset()


class Stage:
    """The script's verbs. Names stand for transactions."""

    def __init__(self, it: WatchedChain, delivery: Delivery) -> None:
        self.it = it
        self.node = it.node
        self.delivery = delivery
        self.txs: dict[str, FakeTx] = {}
        self.invoices: list[Terms] = []
        self._first_height = it.node.height

    async def begin(self) -> None:
        """Call once, with the daemon running."""
        if self.delivery is Delivery.TIPS_SKIPPED:
            self.node.swallow = {TipMoved}
        if self.delivery is Delivery.BLOCKS_ONLY:
            self.node.swallow = {TxArrived, TxLeft}
        self.node.echo = self.delivery is Delivery.DUPLICATED

    async def invoice(self, amount_base: int = 100, **changes) -> Terms:
        terms = await self.it.create(amount_base, **{"ttl_s": TTL_S, **changes})
        self.invoices.append(terms)
        if self.delivery is Delivery.RESTARTED:
            await self.it.stop()
        return terms

    # --- verbs ------------------------------------------------------------------------------------

    async def pay(
        self, name: str, to: Terms, *amounts: int, bumps: str | None = None, **output: Any
    ) -> None:
        """Broadcast a payment; `bumps` names the transaction whose coins it spends instead.

        `output` are further fields of each output: a one-time key, a lock.
        """
        replaced = self.txs[bumps] if bumps else None
        self.txs[name] = self.node.make(to.destination, *amounts, replaces=replaced, **output)
        self.node.broadcast(self.txs[name])
        await self.step()

    async def pay_both(self, name: str, *payments: tuple[Terms, int]) -> None:
        self.txs[name] = self.node.pay_many(*((to.destination, n) for to, n in payments))
        await self.step()

    async def steal(self, name: str, *, mined: bool) -> None:
        """Spend the coins of a payment to somebody else."""
        theft = self.txs[f"theft of {name}"] = self.node.steal(self.txs[name])
        if mined:
            await self.mine(f"theft of {name}")
        else:
            self.node.broadcast(theft)
            await self.step()

    async def contest(self, name: str) -> None:
        """The node sees a rival of an unconfirmed payment, and keeps what it has."""
        self.node.contest(self.txs[name])
        await self.step()

    async def lie(self, name: str, to: Terms) -> None:
        """Broadcast what claims to be a payment and proves nothing."""
        self.txs[name] = self.node.lie(to.destination)
        await self.step()

    async def evict(self, name: str) -> None:
        self.node.evict(self.txs[name])
        await self.step()

    async def rebroadcast(self, name: str) -> None:
        self.node.broadcast(replace(self.txs[name], first_seen_s=self.it.clock.now_ms() // 1000))
        await self.step()

    async def mine(self, *names: str, empty: int = 0) -> None:
        """A block with the named transactions (none: an empty one), then `empty` more."""
        txs = [self.txs[name] for name in names]
        if self.delivery is Delivery.MEMPOOL_FIRST:
            for tx in txs:
                if tx.txid not in self.node.mempool:
                    self.node.broadcast(tx)
                    await self.it.told()
        if txs:
            self.node.mine(*txs)
        self.node.mine_empty(empty if txs else max(1, empty))
        await self.step()
        if self.delivery is Delivery.DEEP_REORG:
            self.node.remine(self.it.policy.reorg_limit // 2)
            await self.step()

    async def reorg(self, depth: int, *names: str) -> None:
        self.node.reorg(depth, take=[self.txs[name] for name in names])
        await self.step()

    async def wait(self, seconds: float) -> None:
        if self.delivery is Delivery.RESTARTED:
            await self.it.start()
            await trio.sleep(seconds)
            await self.it.stop()
        else:
            await trio.sleep(seconds)

    async def node_down(self) -> None:
        """The daemon cannot reach its node; the chain goes on."""
        self.node.fail_with = TransientError("coin.btc.daemon.url: connection refused")
        self.node.disconnect()
        await self.step()

    async def node_up(self) -> None:
        self.node.fail_with = None
        if self.delivery is not Delivery.RESTARTED:
            await trio.sleep(10)
        await self.step()

    async def step(self) -> None:
        """The world has made a step: let the daemon know in this delivery's way."""
        match self.delivery:
            case Delivery.BURST:
                return
            case Delivery.RESTARTED:
                await self.it.start()
                await self.it.told()
                await self.it.stop()
            case Delivery.DUPLICATED:
                await self.it.told()
                await self._forget_and_repeat()
            case _:
                await self.it.told()

    async def rest(self) -> None:
        """Everything there is to know is told."""
        self.node.swallow = set()
        if self.delivery is Delivery.RESTARTED:
            await self.it.start()
        self.node.push(MempoolStale("the end of the scenario"))
        await trio.sleep(self.it.policy.eviction_grace_s + 5)

    async def _forget_and_repeat(self) -> None:
        """As after a crash between append and cursor: the last blocks are read a second time."""
        store = self.it.store
        await self.it.stop()
        recorded = await store.last_seq()
        cursor = await store.cursor("btc")
        assert cursor is not None
        view = ChainView(cursor.view.blocks[:-REWIND])
        await store.save_cursor(replace(cursor, view=view))
        await self.it.start()
        if self.node.fail_with is None:
            await self.it.told()
            assert await store.last_seq() == recorded, "a duplicate was recorded"

    # --- the end ----------------------------------------------------------------------------------

    async def outcome(self, of: Terms) -> Outcome:
        invoice = await self.it.invoice(of)
        names = {tx.txid: name for name, tx in self.txs.items()}
        tip = self.node.height
        flags = {
            flag
            for flag in ("underpaid", "overpaid", "late", "reversed", "deadline_reached", "refused")
            if getattr(invoice, flag)
        }
        assert len(invoice.refused) <= 1, "one lie is recorded once"
        return Outcome(
            state=invoice.state,
            credited=invoice.credited_base,
            received=invoice.received_base,
            present=frozenset(
                (names[p.outpoint.txid], None if p.height is None else p.confirmations(tip))
                for p in invoice.payments
                if p.gone is None
            ),
            flags=frozenset(flags),
        )


Script = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    name: str
    play: Script
    ends: tuple[Outcome, ...]
    """One per invoice, in the order of their creation."""
    not_in: frozenset[Delivery] = frozenset()
    """Deliveries under which the daemon cannot know what the scenario is about."""


def _end(state: State, credited: int, received: int, *flags: str, **present: int | None) -> Outcome:
    return Outcome(state, credited, received, frozenset(present.items()), frozenset(flags))


async def _exact(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.mine("t", empty=1)


async def _two_partials(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 40)
    await stage.mine("t")
    await stage.pay("u", invoice, 30, 30)
    await stage.mine("u", empty=1)


async def _partial_only(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 40)
    await stage.mine("t")
    await stage.wait(TTL_S)


async def _over(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 150)
    await stage.mine("t", empty=1)


async def _late(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.wait(TTL_S + 5)
    await stage.pay("t", invoice, 100)
    await stage.mine("t", empty=1)


async def _late_long_after(stage: Stage) -> None:
    """The invoice has been let go of when the money comes."""
    invoice = await stage.invoice()
    await stage.wait(TTL_S + 5)
    await stage.mine(empty=10)
    await stage.wait(TTL_S)
    await stage.pay("t", invoice, 100)
    await stage.mine("t")


async def _batch_payout(stage: Stage) -> None:
    one, two = await _two_invoices(stage)
    await stage.pay_both("t", (one, 100), (two, 7), (two, 8))
    await stage.mine("t", empty=1)


async def _two_invoices(stage: Stage) -> tuple[Terms, Terms]:
    one = await stage.it.create(100, ttl_s=TTL_S)
    stage.invoices.append(one)
    return one, await stage.invoice(15)


async def _bumped_to_self(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.pay("u", invoice, 100, bumps="t")
    await stage.pay("v", invoice, 100, bumps="u")
    await stage.mine("v", empty=1)


async def _bumped_after_the_deadline(stage: Stage) -> None:
    """The money was there in time; a higher fee does not make it late."""
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.wait(TTL_S + 2)
    await stage.pay("u", invoice, 100, bumps="t")
    await stage.mine("u", empty=1)


async def _bumped_to_another(stage: Stage) -> None:
    one, two = await _two_invoices(stage)
    await stage.pay("t", one, 100)
    await stage.pay("u", two, 15, bumps="t")
    await stage.mine("u", empty=1)


async def _bumped_away(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.steal("t", mined=False)
    await stage.wait(TTL_S)


async def _bumped_away_and_mined(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.steal("t", mined=False)
    await stage.mine("theft of t")
    await stage.wait(TTL_S)


async def _double_spent_in_a_block(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.steal("t", mined=True)
    await stage.wait(TTL_S)


async def _evicted_and_back(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.evict("t")
    await stage.wait(10)
    await stage.rebroadcast("t")
    await stage.mine("t", empty=1)


async def _evicted_for_good(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.evict("t")
    await stage.wait(TTL_S + 10)


async def _reorganised_into_another_block(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.mine("t")
    await stage.reorg(1)
    await stage.mine("t", empty=1)


async def _reorganised_and_double_spent(stage: Stage) -> None:
    """The coins go elsewhere in the new branch, which the mempool never showed."""
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.mine("t")
    stage.txs["theft of t"] = stage.node.steal(stage.txs["t"])
    await stage.reorg(1, "theft of t")
    await stage.wait(TTL_S)


async def _there_and_back(stage: Stage) -> None:
    """A → B → A, with the payment only in A."""
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    before = list(stage.node.blocks)
    await stage.mine("t")
    branch_a = list(stage.node.blocks)
    stage.node.switch_to(before)
    await stage.mine(empty=2)
    stage.node.switch_to(branch_a)
    await stage.step()
    await stage.mine()


async def _expired_while_the_node_was_down(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.node_down()
    stage.txs["t"] = stage.node.make(invoice.destination, 100)
    stage.node.mine(stage.txs["t"])
    await stage.wait(TTL_S + 30)
    await stage.node_up()
    await stage.mine()


async def _in_the_mempool_while_the_node_was_down(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.node_down()
    stage.txs["t"] = stage.node.make(invoice.destination, 100)
    stage.node.broadcast(stage.txs["t"])
    await stage.wait(TTL_S + 30)
    await stage.node_up()
    await stage.mine("t", empty=1)


async def _unpaid_while_the_node_was_down(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.node_down()
    await stage.wait(TTL_S + 30)
    stage.txs["t"] = stage.node.make(invoice.destination, 100)
    stage.node.mine(stage.txs["t"])
    await stage.node_up()
    await stage.mine()


async def _no_confirmation_needed(stage: Stage) -> None:
    invoice = await stage.invoice(confirmations=0)
    await stage.pay("t", invoice, 100)


async def _any_amount(stage: Stage) -> None:
    invoice = await stage.invoice(0)
    await stage.pay("t", invoice, 1)
    await stage.mine("t", empty=1)


async def _settled_then_reversed(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.mine("t", empty=1)
    await stage.it.told()
    stage.txs["theft of t"] = stage.node.steal(stage.txs["t"])
    await stage.reorg(2, "theft of t")


async def _reversed_then_restored(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.mine("t", empty=1)
    branch_a = list(stage.node.blocks)
    await stage.it.told()
    stage.txs["theft of t"] = stage.node.steal(stage.txs["t"])
    await stage.reorg(2, "theft of t")
    await stage.it.told()
    stage.node.switch_to(branch_a)
    await stage.step()
    await stage.mine()


KEY = b"one-time key"


async def _unlocked_by_a_block(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_height=stage.node.height + 7)
    await stage.mine("t", empty=4)
    await stage.mine(empty=2)


async def _unlocked_after_the_deadline(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_height=stage.node.height + 8)
    await stage.mine("t", empty=2)
    await stage.wait(TTL_S + 2)
    await stage.mine(empty=5)


async def _unlocked_by_time(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_ms=stage.it.clock.now_ms() + 40_000)
    await stage.mine("t", empty=4)
    await stage.wait(40)


async def _unlocked_by_time_after_the_deadline(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_ms=stage.it.clock.now_ms() + 70_000)
    await stage.mine("t", empty=4)
    await stage.wait(80)


async def _unlocked_while_the_node_was_down(stage: Stage) -> None:
    """The deadline passes too, but after the lock ended."""
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_height=stage.node.height + 7)
    await stage.mine("t", empty=2)
    await stage.node_down()
    await stage.mine(empty=4)
    await stage.wait(TTL_S)
    await stage.node_up()


async def _unlocked_too_late_while_the_node_was_down(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_height=stage.node.height + 7)
    await stage.mine("t", empty=2)
    await stage.node_down()
    await stage.wait(TTL_S + 2)
    await stage.mine(empty=4)
    await stage.node_up()


async def _locked_and_reorganised(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_height=stage.node.height + 5)
    await stage.mine("t", empty=4)
    await stage.reorg(5)
    await stage.mine("t", empty=1)


async def _locked_money_bumped(stage: Stage) -> None:
    """A bump may lift the lock."""
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100, unlock_height=10**6)
    await stage.pay("u", invoice, 100, bumps="t")
    await stage.mine("u", empty=1)


async def _one_key_twice(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 60, one_time_key=KEY)
    await stage.mine("t")
    await stage.pay("u", invoice, 60, one_time_key=KEY)
    await stage.mine("u", empty=1)
    await stage.wait(TTL_S)


async def _one_key_twice_in_swapped_order(stage: Stage) -> None:
    invoice = await stage.invoice(60)
    await stage.pay("t", invoice, 60, one_time_key=KEY)
    await stage.mine("t")
    await stage.pay("u", invoice, 60, one_time_key=KEY)
    await stage.mine("u")
    await stage.reorg(2, "u")
    await stage.mine("t", empty=1)


async def _one_key_twice_and_the_first_goes(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 40, one_time_key=KEY)
    await stage.pay("u", invoice, 100, one_time_key=KEY)
    await stage.steal("t", mined=True)
    await stage.mine("u", empty=1)


async def _a_lie(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.lie("t", invoice)
    await stage.mine("t")
    await stage.reorg(1)
    await stage.mine("t")


async def _contested_and_mined(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.contest("t")
    await stage.mine("t", empty=1)


async def _contested_and_lost(stage: Stage) -> None:
    invoice = await stage.invoice()
    await stage.pay("t", invoice, 100)
    await stage.contest("t")
    await stage.steal("t", mined=True)
    await stage.wait(TTL_S)


async def _contested_without_confirmations(stage: Stage) -> None:
    invoice = await stage.invoice(confirmations=0)
    await stage.pay("t", invoice, 100)
    await stage.contest("t")


async def _contested_without_confirmations_and_mined(stage: Stage) -> None:
    invoice = await stage.invoice(confirmations=0)
    await stage.pay("t", invoice, 100)
    await stage.contest("t")
    await stage.mine("t")


NEVER_UNDISPUTED = frozenset({Delivery.BLOCKS_ONLY, Delivery.BURST})
"""Who looks when there is a rival already has never taken the payment for one."""

SCENARIOS = (
    Scenario("exact", _exact, (_end(State.SETTLED, 100, 100, t=2),)),
    Scenario("two partials", _two_partials, (_end(State.SETTLED, 100, 100, t=3, u=2),)),
    Scenario(
        "partial only",
        _partial_only,
        (_end(State.EXPIRED, 40, 40, "underpaid", "deadline_reached", t=1),),
    ),
    Scenario("over", _over, (_end(State.SETTLED, 150, 150, "overpaid", t=2),)),
    Scenario("late", _late, (_end(State.EXPIRED, 0, 100, "late", "deadline_reached", t=2),)),
    Scenario(
        "late, long after",
        _late_long_after,
        (_end(State.EXPIRED, 0, 100, "late", "deadline_reached", t=1),),
    ),
    Scenario(
        "batch payout",
        _batch_payout,
        (_end(State.SETTLED, 100, 100, t=2), _end(State.SETTLED, 15, 15, t=2)),
    ),
    Scenario("bumped to self", _bumped_to_self, (_end(State.SETTLED, 100, 100, v=2),)),
    Scenario(
        "bumped after the deadline",
        _bumped_after_the_deadline,
        (_end(State.SETTLED, 100, 100, "deadline_reached", u=2),),
        # A daemon that only reads blocks has never seen what was bumped.
        not_in=frozenset({Delivery.BLOCKS_ONLY}),
    ),
    Scenario(
        "bumped to another",
        _bumped_to_another,
        (_end(State.PENDING, 0, 0), _end(State.SETTLED, 15, 15, u=2)),
    ),
    Scenario("bumped away", _bumped_away, (_end(State.EXPIRED, 0, 0, "deadline_reached"),)),
    Scenario(
        "bumped away and mined",
        _bumped_away_and_mined,
        (_end(State.EXPIRED, 0, 0, "deadline_reached"),),
    ),
    Scenario(
        "double-spent in a block",
        _double_spent_in_a_block,
        (_end(State.EXPIRED, 0, 0, "deadline_reached"),),
    ),
    Scenario("evicted and back", _evicted_and_back, (_end(State.SETTLED, 100, 100, t=2),)),
    Scenario(
        "evicted for good", _evicted_for_good, (_end(State.EXPIRED, 0, 0, "deadline_reached"),)
    ),
    Scenario(
        "reorganised into another block",
        _reorganised_into_another_block,
        (_end(State.SETTLED, 100, 100, t=2),),
    ),
    Scenario(
        "reorganised and double-spent",
        _reorganised_and_double_spent,
        (_end(State.EXPIRED, 0, 0, "deadline_reached"),),
    ),
    Scenario("there and back", _there_and_back, (_end(State.SETTLED, 100, 100, t=2),)),
    Scenario(
        "expired while the node was down, mined in time",
        _expired_while_the_node_was_down,
        (_end(State.SETTLED, 100, 100, "deadline_reached", t=2),),
    ),
    Scenario(
        "expired while the node was down, in its mempool in time",
        _in_the_mempool_while_the_node_was_down,
        (_end(State.SETTLED, 100, 100, "deadline_reached", t=2),),
    ),
    Scenario(
        "expired while the node was down, paid late",
        _unpaid_while_the_node_was_down,
        (_end(State.EXPIRED, 0, 100, "late", "deadline_reached", t=2),),
    ),
    Scenario("0-conf", _no_confirmation_needed, (_end(State.SETTLED, 100, 100, t=None),)),
    Scenario("any amount", _any_amount, (_end(State.SETTLED, 1, 1, t=2),)),
    Scenario(
        "settled, then reversed",
        _settled_then_reversed,
        (_end(State.SETTLED, 0, 0, "reversed"),),
    ),
    Scenario(
        "reversed, then restored", _reversed_then_restored, (_end(State.SETTLED, 100, 100, t=3),)
    ),
    Scenario("unlocked by a block", _unlocked_by_a_block, (_end(State.SETTLED, 100, 100, t=7),)),
    Scenario(
        "unlocked after the deadline",
        _unlocked_after_the_deadline,
        (_end(State.EXPIRED, 0, 100, "late", "deadline_reached", t=8),),
    ),
    Scenario("unlocked by time", _unlocked_by_time, (_end(State.SETTLED, 100, 100, t=5),)),
    Scenario(
        "unlocked by time after the deadline",
        _unlocked_by_time_after_the_deadline,
        (_end(State.EXPIRED, 0, 100, "late", "deadline_reached", t=5),),
    ),
    Scenario(
        "unlocked while the node was down",
        _unlocked_while_the_node_was_down,
        (_end(State.SETTLED, 100, 100, t=7),),
    ),
    Scenario(
        "unlocked too late while the node was down",
        _unlocked_too_late_while_the_node_was_down,
        (_end(State.EXPIRED, 0, 100, "late", "deadline_reached", t=7),),
    ),
    Scenario(
        "locked and reorganised", _locked_and_reorganised, (_end(State.SETTLED, 100, 100, t=2),)
    ),
    Scenario("locked money bumped", _locked_money_bumped, (_end(State.SETTLED, 100, 100, u=2),)),
    Scenario(
        "one key twice",
        _one_key_twice,
        (_end(State.EXPIRED, 60, 60, "underpaid", "deadline_reached", t=3, u=2),),
    ),
    Scenario(
        "one key twice, in swapped order",
        _one_key_twice_in_swapped_order,
        (_end(State.SETTLED, 60, 60, t=2, u=5),),
    ),
    Scenario(
        "one key twice, and the first goes",
        _one_key_twice_and_the_first_goes,
        (_end(State.SETTLED, 100, 100, u=2),),
    ),
    Scenario("a lie", _a_lie, (_end(State.PENDING, 0, 0, "refused"),)),
    Scenario("contested and mined", _contested_and_mined, (_end(State.SETTLED, 100, 100, t=2),)),
    Scenario(
        "contested and lost", _contested_and_lost, (_end(State.EXPIRED, 0, 0, "deadline_reached"),)
    ),
    Scenario(
        "contested without confirmations",
        _contested_without_confirmations,
        (_end(State.SETTLED, 0, 0, "reversed"),),
        not_in=NEVER_UNDISPUTED,
    ),
    Scenario(
        "contested without confirmations and mined",
        _contested_without_confirmations_and_mined,
        (_end(State.SETTLED, 100, 100, t=1),),
    ),
)
