"""A chain followed by the real actors through the real EVM driver, on a real node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import trio

from actors.chain_supervisor import ChainState
from actors.chain_watcher import WatchPolicy
from actors.core.assets import Asset, Chain
from actors.core.events import Terms
from actors.core.invoice import Invoice, State
from daemon.clock import SystemClock
from daemon.drivers.evm import EvmSource
from daemon.drivers.evm_internal import Way
from daemon.drivers.jsonrpc_ws import JsonRpcWs
from daemon.drivers.rpc_client import HttpRpc, RpcClient
from tests.helpers.anvil import AnvilNode, new_address
from tests.helpers.recording_log import RecordingLog
from tests.helpers.watched_chain import WatchedChain

T = TypeVar("T")
PATIENCE_S = 60
POLICY = WatchPolicy(reorg_limit=20, settled_watch_depth=30, lag_patience_s=3, eviction_grace_s=1)
CHAINS = {
    1: Chain("eth", "Ethereum", "evm", "ETH", 12, 12),
    56: Chain("bnb", "BNB Smart Chain", "evm", "BNB", 0.45, 15),
}


async def away(blocking: Callable[..., T], *args: Any, **named: Any) -> T:
    return await trio.to_thread.run_sync(partial(blocking, *args, **named))


def raw(address: str) -> bytes:
    return bytes.fromhex(address.removeprefix("0x"))


def native_of(chain: Chain) -> Asset:
    return Asset(chain.coin, chain.id, chain.coin, chain.name, 18)


def token_of(chain: Chain, address: str, *, name: str = "TOKEN", exponent: int = 6) -> Asset:
    return Asset(name, chain.id, name, name, exponent, raw(address))


def client_of(node: AnvilNode, transport: str, *, timeout_s: float = 30.0) -> RpcClient:
    setting = f"coin.{CHAINS[node.chain_id].id}"
    if transport == "ws":
        return JsonRpcWs(node.ws_url, setting=setting, timeout_s=timeout_s)
    return HttpRpc(node.url, setting=setting, timeout_s=timeout_s)


class EvmShop(WatchedChain):
    """`node`'s chain, with invoices whose addresses nobody has a key of."""

    def __init__(
        self,
        nursery: trio.Nursery,
        node: AnvilNode,
        *,
        transport: str = "ws",
        tokens: Sequence[Asset] = (),
        way: Way | None = None,
        finality: str | None = None,
        policy: WatchPolicy = POLICY,
    ) -> None:
        chain = CHAINS[node.chain_id]
        self.opened: list[bytes] = []
        self._published_more = trio.Event()
        self._addresses = 0x5000
        source = EvmSource(
            client_of(node, transport),
            chain=chain,
            assets=[native_of(chain), *tokens],
            log=RecordingLog(),
            chain_id=node.chain_id,
            poll_interval_s=0.2,
            finality=finality,
            open_destinations=lambda: self.opened,
            internal_way=way,
        )
        super().__init__(
            nursery, clock=SystemClock(), node=node, chain=chain, source=source, policy=policy
        )  # type: ignore[arg-type]
        self.evm = source

    async def sell(self, amount_base: int, *, asset: str | None = None, **changes: Any) -> Terms:
        """An invoice; by default it needs 1 confirmation of the native coin."""
        self._addresses += 1
        address = new_address(self._addresses)
        found = await self.create(
            amount_base,
            **{
                "asset": asset or self.chain.coin,
                "network": str(self.node.chain_id),
                "address": address,
                "destination": raw(address),
                "confirmations": 1,
                **changes,
            },
        )
        self.opened.append(found.destination)
        return found

    async def until(self, of: Terms, holds: Callable[[Invoice], bool]) -> Invoice:
        """The invoice once `holds`; looked at after every event that is published."""
        invoice = await self.invoice(of)
        with trio.move_on_after(PATIENCE_S):
            while True:
                news = self._published_more
                invoice = await self.invoice(of)
                if holds(invoice):
                    return invoice
                await news.wait()
        raise AssertionError((invoice, self.health(), self.log.level("warning")))

    async def until_state(self, of: Terms, state: State) -> Invoice:
        return await self.until(of, lambda invoice: invoice.state is state)

    async def until_read(self) -> None:
        """Wait until the node's tip has been told and the node was found to be quiet."""
        wanted = raw(await away(self.node.tip))
        with trio.fail_after(PATIENCE_S):
            while True:
                health = self.health()
                if (
                    health.state is ChainState.CURRENT
                    and health.tip is not None
                    and health.tip.hash == wanted
                ):
                    return
                await trio.sleep(0.02)

    def _publish(self, batch: list[Any]) -> None:
        super()._publish(batch)
        news, self._published_more = self._published_more, trio.Event()
        news.set()


@asynccontextmanager
async def evm_shop(node: AnvilNode, **wishes: Any) -> AsyncIterator[EvmShop]:
    """A followed chain; what must hold at every moment is checked at the end."""
    async with trio.open_nursery() as nursery:
        it = EvmShop(nursery, node, **wishes)
        try:
            await it.start()
            await it.until_read()
            yield it
            await it.stop()
        finally:
            await it.source.aclose()
    await it.check()
