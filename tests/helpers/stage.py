"""The stage of a scenario: customers, miners and nodes by their verbs, under a way of delivery."""

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

    async def cancel(self, invoice: Terms) -> None:
        """Ask the daemon to cancel the invoice, as soon as it is there."""
        if self.delivery is Delivery.RESTARTED:
            await self.it.start()
            await self.it.told()
        await self.it.supervisor.cancel(invoice.invoice_id)
        if self.delivery is Delivery.RESTARTED:
            await self.it.stop()

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


def end(state: State, credited: int, received: int, *flags: str, **present: int | None) -> Outcome:
    return Outcome(state, credited, received, frozenset(present.items()), frozenset(flags))
