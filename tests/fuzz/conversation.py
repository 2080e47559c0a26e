"""All that is ever asked of a node, in one go; and what came back of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import trio

from actors.core.chain_events import ChainTx, Output
from actors.core.watch_index import WatchIndex
from actors.ports import Heartbeat, PersistentError, TransientError, TxArrived

SIGNALS = 6
LISTEN_S = 40.0


class Conversation:
    """With a driver. `errors` are those that it raised, `outputs` the payments it reported."""

    def __init__(self, source: Any, index: WatchIndex) -> None:
        self.source = source
        self.index = index
        self.errors: list[Exception] = []
        self.outputs: set[tuple[bytes, str, int]] = set()
        """(destination, asset, base units)"""
        self.txs: list[ChainTx] = []

    async def hold(self, heights: range, *, listen: bool = True) -> None:
        """Everything, whatever fails; what is neither of the world's errors is raised."""
        source = self.source
        await self._ask(source.status)
        source.disabled_assets()
        tip = await self._ask(source.tip)
        await self._ask(lambda: source.block_at(heights[0]))
        await self._ask(source.final_height)
        if tip is not None:
            assert tip.height >= 0
            await self._ask(lambda: source.window(tip, 5))
        await self._ask(lambda: self._read_blocks(heights))
        await self._ask(self._read_mempool)
        if listen:
            await self._ask(self._listen)

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await call()
        except (TransientError, PersistentError) as error:
            self.errors.append(error)
            _look_at(str(error))
            return None

    async def _read_blocks(self, heights: range) -> None:
        count = 0
        blocks: AsyncIterator[Any] = self.source.read_blocks(heights, self.index)
        last = None
        async with _closing(blocks):
            async for block, txs in blocks:
                assert block.height == heights[count], "blocks come in order"
                assert last is None or block.parent == last.hash, "each follows the one before"
                last, count = block, count + 1
                self._note(txs)

    async def _read_mempool(self) -> None:
        self._note((await self.source.read_mempool(self.index)).txs)

    async def _listen(self) -> None:
        with trio.move_on_after(LISTEN_S):
            async with self.source.signals(self.index) as news:
                count = 0
                async for signal in news:
                    if isinstance(signal, TxArrived):
                        self._note((signal.tx,))
                    count += isinstance(signal, Heartbeat)
                    if count >= SIGNALS:
                        return

    def _note(self, txs: Any) -> None:
        for tx in txs:
            assert isinstance(tx, ChainTx)
            self.txs.append(tx)
            for out in tx.outputs:
                assert isinstance(out, Output)
                assert type(out.amount_base) is int
                assert 0 <= out.amount_base < 2**256
                self.outputs.add((out.destination, out.asset, out.amount_base))


def _look_at(said: str) -> None:
    assert 0 < len(said) < 3000, said[:200]
    assert "coin." in said, f"names no setting: {said}"


def _closing(iterator: Any) -> Any:
    if hasattr(iterator, "aclose"):
        return aclosing(iterator)

    class Plain:
        async def __aenter__(self) -> None:
            pass

        async def __aexit__(self, *_: object) -> None:
            iterator.close()

    return Plain()
