"""A small world of coins, blocks, a mempool and a clock; and feeds that tell one invoice about it.

The world is the truth. A feed is a watcher and router reduced to the order in which it tells what
it finds; beside it runs a plain account of what the invoice ought to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from actors.core.chain_events import OutPoint, Output, Removal
from actors.core.chain_view import BlockRef
from actors.core.inputs import (
    ChainShortened,
    HeightTaken,
    Input,
    TimeReached,
    TipReached,
    TxIncluded,
    TxRemoved,
    TxSeen,
)
from actors.core.invoice import Invoice, State
from actors.core.policy import Policy
from actors.core.watch_index import WatchIndex
from tests.helpers.invoices import ASSET, CREATED_MS, DESTINATION, EXPIRES_MS, History, txid


@dataclass(frozen=True)
class Tx:
    """A transaction that spends one coin; without amounts it pays somebody else."""

    name: str
    coin: int
    amounts_base: tuple[int, ...]
    asset: str = ASSET
    one_time_key: bytes | None = None
    """Of its first output."""
    unlock_height: int | None = None
    unlock_ms: int | None = None
    replaceable: bool = False

    @property
    def txid(self) -> bytes:
        return txid(self.name)

    @property
    def spends(self) -> tuple[bytes, ...]:
        return (b"coin %d" % self.coin,)

    @property
    def outputs(self) -> tuple[Output, ...]:
        return tuple(
            Output(
                OutPoint(self.txid, index),
                DESTINATION,
                amount_base,
                self.asset,
                one_time_key=None if index else self.one_time_key,
                unlock_height=self.unlock_height,
                unlock_ms=self.unlock_ms,
            )
            for index, amount_base in enumerate(self.amounts_base)
        )

    def locked(self, height: int, now_ms: int) -> bool:
        """Whether its lock holds at this tip and instant."""
        by_height = self.unlock_height is not None and self.unlock_height > height
        return by_height or (self.unlock_ms is not None and self.unlock_ms > now_ms)


@dataclass
class World:
    now_ms: int = CREATED_MS
    chain: list[tuple[BlockRef, tuple[Tx, ...]]] = field(default_factory=list)
    mempool: list[Tx] = field(default_factory=list)
    evicted: list[Tx] = field(default_factory=list)
    contested: set[str] = field(default_factory=set)
    """Names of those for whose coin the node saw a rival while they were in the mempool."""
    made: int = 0

    def __post_init__(self) -> None:
        self.mine([])

    def make(
        self, coin: int | None, amounts_base: tuple[int, ...], asset: str = ASSET, **output: Any
    ) -> Tx:
        self.made += 1
        coin = self.made if coin is None else coin
        # Every other one signals that it may be replaced.
        signals = self.made % 2 == 0
        return Tx(f"tx {self.made}", coin, amounts_base, asset, replaceable=signals, **output)

    def bumped(self, tx: Tx) -> Tx:
        """The same payment from the same coin, with its lock."""
        return self.make(
            tx.coin,
            tx.amounts_base,
            tx.asset,
            unlock_height=tx.unlock_height,
            unlock_ms=tx.unlock_ms,
        )

    def broadcast(self, tx: Tx) -> None:
        self.mempool = [other for other in self.mempool if other.coin != tx.coin]
        self.mempool.append(tx)

    def mine(self, txs: list[Tx]) -> None:
        self.made += 1
        height = len(self.chain)
        parent = self.chain[-1][0].hash if self.chain else b""
        ref = BlockRef(height, txid(f"block {self.made}"), parent, self.now_ms // 1000)
        self.chain.append((ref, tuple(txs)))
        spent = {tx.coin for tx in txs}
        self.mempool = [tx for tx in self.mempool if tx.coin not in spent]
        self.contested.intersection_update(tx.name for tx in self.mempool)

    def evict(self, tx: Tx) -> None:
        self.mempool.remove(tx)
        self.evicted.append(tx)

    def reorganise(self, depth: int, take: set[int], *, bumps: set[int], thefts: set[int]) -> None:
        """Replace the last `depth` blocks by one more, whose first holds the `take`n transactions.

        Numbers select among the transactions that are free again. The first block also holds
        `bumps`, which pay the same from the same coin; the second holds `thefts`, which spend a
        coin to somebody else.
        """
        freed = [tx for _, txs in self.chain[-depth:] for tx in txs]
        del self.chain[-depth:]
        for tx in reversed(freed):
            if all(tx.coin != other.coin for other in self.mempool):
                self.mempool.insert(0, tx)
        candidates = list(self.mempool)
        self.mine(
            [
                self.bumped(tx) if number in bumps else tx
                for number, tx in enumerate(candidates)
                if number in take | bumps
            ]
        )
        robbed = [tx for n, tx in enumerate(candidates) if n in thefts and tx in self.mempool]
        self.mine([self.make(tx.coin, ()) for tx in robbed])
        for _ in range(depth - 1):
            self.mine([])

    @property
    def spent(self) -> set[int]:
        return {tx.coin for _, txs in self.chain for tx in txs} | {tx.coin for tx in self.mempool}

    def live(self) -> list[Tx]:
        return [tx for _, txs in self.chain for tx in txs] + self.undisputed()

    def undisputed(self) -> list[Tx]:
        return [tx for tx in self.mempool if tx.name not in self.contested]


class Style(Enum):
    """In what order and how often a feed tells."""

    IN_ORDER = auto()
    DUPLICATED = auto()
    """Everything that still holds is told again after each step."""
    AMNESIAC = auto()
    """Forgets its last blocks before each step: a crash between append and cursor."""
    SKIPPED_TIPS = auto()
    """Tells a tip only when the invoice's `wake_height` asks for it."""
    MEMPOOL_FIRST = auto()
    """Tells every transaction of a block as seen before it tells it as included."""
    BLOCKS_ONLY = auto()
    """Reads the mempool only when the world comes to rest."""
    LAZY = auto()
    """Looks only when the world comes to rest: many steps become one, reorgs add up."""


REWIND = 3
NEVER = 10**18
"""First seen after the invoice was closed: never in time."""


class Feed:
    """Tells one invoice of the world in one style, and keeps a plain account beside it."""

    def __init__(self, style: Style, *, policy: Policy | None = None, **changes: Any) -> None:
        self.style = style
        changes["policy"] = policy
        self.policy = policy or Policy()
        self.closes_ms = EXPIRES_MS + self.policy.accept_late_s * 1000
        """Until when money may come, late or not."""
        self.story = History(**changes)
        self.index = WatchIndex()
        self.index.update(None, self.story.invoice)
        self.blocks: list[BlockRef] = []
        self.believed: dict[int, Tx] = {}
        """Coin → the transaction that spends it, as far as this feed was told."""
        self.first_ms: dict[str, int] = {}
        self.disputed: dict[int, Tx] = {}
        """Coin → the transaction that was believed, and has a rival: what replaces it inherits."""
        self.locked: set[str] = set()
        """Names of those believed whose lock holds."""
        self.judged = True
        """Whether the account can tell what was in time."""

    # --- telling ----------------------------------------------------------------------------------

    def step(self, world: World) -> None:
        """The world has made one step; a restful feed does not look."""
        if self.style is Style.LAZY:
            return
        self.look(world, mempool=self.style is not Style.BLOCKS_ONLY)

    def rest(self, world: World) -> None:
        """Tell everything there is to know."""
        self.look(world, mempool=True)
        expired = self.closed
        self.tell(TimeReached(world.now_ms))
        if self.blocks:
            # As the router does: what an instant unlocked may have been deep enough for long.
            self._tell_tip(self.blocks[-1], world.now_ms)
        self._unlock_by_time(world, expired=expired)

    def look(self, world: World, *, mempool: bool) -> None:
        if self.style is Style.AMNESIAC:
            del self.blocks[-REWIND:]
        expired = self.closed
        self._read_blocks(world)
        if mempool:
            self._read_mempool(world)
            if self.blocks:
                # As the router does: a replacement may have made do with fewer confirmations.
                self._tell_tip(self.blocks[-1], world.now_ms)
        self._account(world, mempool=mempool, expired=expired)
        if self.style is Style.DUPLICATED:
            del self.blocks[-REWIND:]
            recorded = len(self.story.events)
            self._read_blocks(world)
            if mempool:
                self._read_mempool(world)
            assert len(self.story.events) == recorded, "a duplicate was recorded"

    @property
    def closed(self) -> bool:
        """It ended unpaid: what comes from now on is too late."""
        return self.story.invoice.state in (State.EXPIRED, State.CANCELLED)

    def tell(self, happened: Input) -> None:
        before = self.story.invoice
        self.story.tell(happened)
        if not before.open:
            assert self.story.invoice.state is before.state, "a closed invoice stays closed"
        self.index.update(before, self.story.invoice)

    def _read_blocks(self, world: World) -> None:
        now_ms = world.now_ms
        theirs = [ref for ref, _ in world.chain]
        common = 0
        while common < min(len(self.blocks), len(theirs)) and self.blocks[common] == theirs[common]:
            common += 1
        if common < len(self.blocks):
            del self.blocks[common:]
            self.tell(ChainShortened(common - 1, now_ms))
        for ref, txs in world.chain[common:]:
            if self.index.holders_elsewhere(ref.height, ref.hash):
                self.tell(HeightTaken(ref.height, ref.hash, now_ms))
            for tx in txs:
                losers = self.index.conflicting(tx.txid, tx.spends)
                if tx.outputs:
                    if self.style is Style.MEMPOOL_FIRST:
                        self._see(tx, now_ms)
                    self.tell(
                        TxIncluded(
                            tx.txid, tx.outputs, ref, now_ms, losers, replaceable=tx.replaceable
                        )
                    )
                    self.index.claim(tx.txid, tx.spends)
                else:
                    self._lose(losers, Removal.DOUBLE_SPENT, tx, now_ms)
            self.blocks.append(ref)
            self._tell_tip(ref, now_ms)

    def _tell_tip(self, ref: BlockRef, now_ms: int) -> None:
        reached = TipReached(ref.height, now_ms, ref.time_s * 1000)
        if self.style is not Style.SKIPPED_TIPS:
            self.tell(reached)
            return
        for due in (Invoice.unlock_height, Invoice.wake_height):
            height = due(self.story.invoice)
            if height is not None and height <= ref.height:
                self.tell(reached)

    def _read_mempool(self, world: World) -> None:
        for tx in world.mempool:
            if tx.name in world.contested:
                if tx.txid in self.index.unconfirmed:
                    self.tell(TxRemoved(tx.txid, Removal.CONTESTED, None, world.now_ms))
            elif tx.outputs:
                self._see(tx, world.now_ms)
            else:
                losers = self.index.conflicting(tx.txid, tx.spends)
                self._lose(losers, Removal.REPLACED, tx, world.now_ms)
        present = {tx.txid for tx in world.mempool}
        for missing in {*self.index.unconfirmed, *self.index.contested} - present:
            self.tell(TxRemoved(missing, Removal.EVICTED, None, world.now_ms))

    def _see(self, tx: Tx, now_ms: int) -> None:
        losers = self.index.conflicting(tx.txid, tx.spends)
        tip_height = len(self.blocks) - 1
        self.tell(
            TxSeen(
                tx.txid,
                tx.outputs,
                now_ms,
                losers,
                tip_height=tip_height,
                replaceable=tx.replaceable,
            )
        )
        self.index.claim(tx.txid, tx.spends)

    def _lose(self, losers: tuple[bytes, ...], reason: Removal, tx: Tx, now_ms: int) -> None:
        for loser in losers:
            self.tell(TxRemoved(loser, reason, tx.txid, now_ms))

    # --- the plain account ------------------------------------------------------------------------

    def _account(self, world: World, *, mempool: bool, expired: bool) -> None:
        """What the invoice ought to say now, from nothing but sets of transactions."""
        before = dict(self.believed)
        header_ms = {tx: ref.time_s * 1000 for ref, txs in world.chain for tx in txs}
        if mempool:
            self.believed = {tx.coin: tx for tx in world.live()}
        else:
            self.believed |= {tx.coin: tx for _, txs in world.chain for tx in txs}
        self.believed = {coin: tx for coin, tx in self.believed.items() if tx.outputs}
        if mempool:
            self.disputed |= {c: tx for c, tx in before.items() if tx.name in world.contested}
        if not expired and self.closed:
            # What appeared in this very look may have come before or after the expiry.
            self.judged = not any(before.get(c) != tx for c, tx in self.believed.items())
        for coin, tx in self.believed.items():
            if before.get(coin) == tx:
                continue
            if expired:
                self.first_ms[tx.name] = NEVER
                continue
            times = [self.first_ms[tx.name]] if tx.name in self.first_ms else []
            for known in (before, self.disputed):
                times += [self.first_ms[known[coin].name]] if coin in known else []
            if not times:
                mined_ms = header_ms.get(tx, world.now_ms)
                seen_first = self.style is Style.MEMPOOL_FIRST
                times.append(world.now_ms if seen_first else min(world.now_ms, mined_ms))
            self.first_ms[tx.name] = min(times)
        if mempool:
            waiting = {tx.name for tx in world.mempool}
            self.disputed = {c: tx for c, tx in self.disputed.items() if tx.name in waiting}
        self._lock(world, before)
        self._unlock_by_height(world, expired=expired)

    def _lock(self, world: World, before: dict[int, Tx]) -> None:
        """What has just come is locked, unless its lock had ended by then."""
        places = {tx.name: ref for ref, txs in world.chain for tx in txs}
        for coin, tx in self.believed.items():
            if before.get(coin) == tx:
                continue
            ref = places.get(tx.name)
            if ref is None:
                locked = tx.locked(len(world.chain) - 1, world.now_ms)
            elif self.style is Style.MEMPOOL_FIRST:
                locked = tx.locked(ref.height - 1, world.now_ms)
            else:
                locked = tx.locked(ref.height, min(world.now_ms, ref.time_s * 1000))
            (self.locked.add if locked else self.locked.discard)(tx.name)

    def _unlock_by_height(self, world: World, *, expired: bool) -> None:
        for tx in self._locked_ones():
            if tx.unlock_height is not None and tx.unlock_height < len(self.blocks):
                header_ms = world.chain[tx.unlock_height][0].time_s * 1000
                self._unlock(tx, min(world.now_ms, header_ms), expired=expired)

    def _unlock_by_time(self, world: World, *, expired: bool) -> None:
        for tx in self._locked_ones():
            if tx.unlock_ms is not None and tx.unlock_ms <= world.now_ms:
                self._unlock(tx, tx.unlock_ms, expired=expired)

    def _locked_ones(self) -> list[Tx]:
        return [tx for tx in self.believed.values() if tx.name in self.locked]

    def _unlock(self, tx: Tx, ended_ms: int, *, expired: bool) -> None:
        self.locked.discard(tx.name)
        if not expired and self.closed and ended_ms <= self.closes_ms:
            # It ended in the very look in which the invoice expired: before or after that?
            self.judged = False
        if expired or ended_ms > self.closes_ms:
            self.first_ms[tx.name] = NEVER

    def counting(self) -> dict[OutPoint, int]:
        """The outputs that count, and how much: of a one-time key, the one recorded first."""
        order = {p.outpoint: n for n, p in enumerate(self.story.invoice.payments)}
        found = [
            (order[output.outpoint], output)
            for tx in self.believed.values()
            for output in tx.outputs
            if output.asset == ASSET
        ]
        keys: set[bytes] = set()
        counted: dict[OutPoint, int] = {}
        for _, output in sorted(found, key=lambda pair: pair[0]):
            if output.one_time_key is None or output.one_time_key not in keys:
                counted[output.outpoint] = output.amount_base
            if output.one_time_key is not None:
                keys.add(output.one_time_key)
        return counted

    def sum_of(self, txs: Iterable[Tx]) -> int:
        counted = self.counting()
        return sum(counted.get(output.outpoint, 0) for tx in txs for output in tx.outputs)

    @property
    def received_base(self) -> int:
        return self.sum_of(self.believed.values())

    def credited(self) -> list[Tx]:
        return [
            tx
            for tx in self.believed.values()
            if self.first_ms[tx.name] <= self.closes_ms and tx.name not in self.locked
        ]

    def confirmed_base(self, world: World) -> int:
        """Timely money at the required depth of the world's chain."""
        heights = {tx: height for height, (_, txs) in enumerate(world.chain) for tx in txs}
        tops = {tx: len(world.chain) - height for tx, height in heights.items()}
        return self.sum_of(tx for tx in self.credited() if tops.get(tx, 0) >= self.depth_of(tx))

    def depth_of(self, tx: Tx) -> int:
        """How deep the terms and their policy want this one."""
        terms = self.story.invoice.terms
        amount_base = terms.required_base or self.sum_of(self.credited())
        depth = terms.confirmations
        for band in self.policy.bands:
            depth = band.confirmations if band.from_base <= amount_base else depth
        if tx.replaceable:
            depth = max(depth, self.policy.rbf_confirmations or 0)
        return depth
