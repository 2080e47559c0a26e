"""A simulated chain and its node, with what real nodes and drivers do wrong, by a seed.

The chain's truth is `FakeChain`'s. What the node *says* may be old (a replica behind a balancer, a
restart that lost its last blocks), refused (rate limits, a mempool that is still being loaded),
slow, doubled, out of order, or not said at all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from random import Random

from actors.core.chain_events import ChainTx
from actors.core.chain_view import BlockRef
from actors.core.watch_index import WatchIndex
from actors.ports import NodeStatus, PersistentError, Signal, TransientError, TxArrived, TxLeft
from tests.helpers.fake_chain import FakeChain

PUSHES = {TxArrived, TxLeft}


@dataclass
class NodeFaults:
    """What is wrong with a node now; set and mended by the history."""

    refuses: float = 0.0
    """Part of the answers that are a rate limit's."""
    down: bool = False
    rejected: bool = False
    """Down in a way that only a person can mend."""
    stale_by: int = 0
    """Blocks that it has lost, and will have again."""
    replicas: float = 0.0
    """Part of the questions about blocks that reach a backend which is one or two blocks behind."""
    loading: bool = False
    """Its mempool is being read from disk."""
    slow_s: float = 0.0
    deaf: bool = False
    """No push about transactions."""
    blind: bool = False
    """No push about blocks."""
    shuffled: bool = False

    @property
    def blinding(self) -> bool:
        """Whether the daemon cannot learn what happens now."""
        return bool(self.down or self.rejected or self.stale_by or self.loading)

    @property
    def disturbing(self) -> bool:
        """Whether it may learn it late, or not in the order in which it happens."""
        return bool(self.refuses or self.replicas or self.slow_s or self.loading)


@dataclass
class _Held:
    signals: list[Signal] = field(default_factory=list)
    holding: bool = False


class SimNode(FakeChain):
    """One chain."""

    def __init__(self, chain: str, *, random: Random, **given: object) -> None:
        self.faults = NodeFaults()
        self._random = random
        self._held = _Held()
        self.by_hash: dict[bytes, int] = {}
        self.ever: dict[bytes, tuple] = {}
        """Block hash → its transactions, of every branch."""
        super().__init__(chain, **given)

    def _add_block(self, txs: tuple) -> None:
        super()._add_block(txs)
        block, mined = self.blocks[-1]
        self.ever[block.hash] = mined

    # --- what it pushes ---------------------------------------------------------------------------

    def push(self, signal: Signal) -> None:
        faults = self.faults
        if (faults.deaf and type(signal) in PUSHES) or (
            faults.blind and type(signal) not in PUSHES
        ):
            return
        if self._held.holding:
            self._held.signals.append(signal)
        else:
            super().push(signal)

    def hold(self) -> None:
        """Keep what there is to push until `let_go`: several things happen at one moment."""
        self._held.holding = True

    def let_go(self) -> None:
        """Push it; if it is shuffled, the news of one transaction stay in their order."""
        signals, self._held = self._held.signals, _Held()
        if self.faults.shuffled:
            lanes: dict[object, list[Signal]] = {}
            for one in signals:
                lanes.setdefault(_about(one), []).append(one)
            signals = []
            while lanes:
                lane = self._random.choice([*lanes])
                signals.append(lanes[lane].pop(0))
                if not lanes[lane]:
                    del lanes[lane]
        for signal in signals:
            super().push(signal)

    # --- what it answers --------------------------------------------------------------------------

    async def _answer(self, question: str) -> None:
        faults = self.faults
        if faults.slow_s:
            self.delays_s[question] = faults.slow_s
        else:
            self.delays_s.pop(question, None)
        await super()._answer(question)
        if faults.down:
            raise TransientError(f"coin.{self.chain}.daemon.url: connection refused")
        if faults.rejected:
            raise PersistentError(f"coin.{self.chain}.daemon.url: 401, the password is wrong")
        if faults.loading and question == "read_mempool":
            raise TransientError("the node is still loading its mempool")
        if faults.refuses and self._random.random() < faults.refuses:
            raise TransientError("429: too many requests, come again in 1 s")

    def _visible(self) -> int:
        """How many blocks the backend has that this question reaches."""
        faults = self.faults
        behind = faults.stale_by
        if faults.replicas and self._random.random() < faults.replicas:
            behind = max(behind, self._random.choice((1, 2)))
        return max(1, len(self.blocks) - behind)

    async def status(self) -> NodeStatus:
        found = await super().status()
        tip = self.blocks[self._visible() - 1][0]
        return NodeStatus(
            software=found.software,
            network=found.network,
            genesis=found.genesis,
            tip=tip,
            headers_height=tip.height,
            syncing=found.syncing,
            pruned_below=found.pruned_below,
            push=found.push,
        )

    async def tip(self) -> BlockRef:
        await self._answer("tip")
        return self.blocks[self._visible() - 1][0]

    async def block_at(self, height: int) -> BlockRef | None:
        await self._answer("block_at")
        return self.blocks[height][0] if 0 <= height < self._visible() else None

    async def read_blocks(
        self, heights: range, index: WatchIndex
    ) -> AsyncGenerator[tuple[BlockRef, tuple[ChainTx, ...]], None]:
        last = self._visible()
        async with aclosing(super().read_blocks(heights, index)) as blocks:
            async for block, txs in blocks:
                if block.height >= last:
                    return
                yield block, txs

    async def final_height(self) -> int | None:
        return None if self.final is None else min(self.final, self.height)


def _about(signal: Signal) -> object:
    if isinstance(signal, TxArrived):
        return signal.tx.txid
    return signal.txid if isinstance(signal, TxLeft) else type(signal)
