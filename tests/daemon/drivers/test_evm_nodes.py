"""The driver on a real node, from the payment to the invoice's state."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio

from actors.core.chain_events import Removal
from actors.core.invoice import State
from actors.core.watch_index import WatchIndex
from actors.ports import MempoolSnapshot, Signal, TxArrived
from daemon.drivers.evm import EvmSource
from daemon.drivers.evm_internal import Way
from daemon.drivers.evm_wire import BALANCE, INTERNAL
from tests.helpers.anvil import COIN_BASE, AnvilNode, new_address
from tests.helpers.evm_shop import CHAINS, POLICY, away, evm_shop, raw, token_of
from tests.nodes.install import find, how_to_install

TOKEN = "TOKEN"


@pytest.fixture(params=[1, 56])
def node(request: pytest.FixtureRequest) -> Iterator[AnvilNode]:
    """A node of its own for each test, with either chain id."""
    if find("evm") is None:
        pytest.skip(how_to_install("evm"))
    with AnvilNode(request.param) as running:
        yield running


@pytest.fixture(params=["ws", "http"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- payments -------------------------------------------------------------------------------------


async def test_a_native_payment_is_seen_and_settles(node: AnvilNode, transport: str) -> None:
    async with evm_shop(node, transport=transport) as shop:
        sold = await shop.sell(20 * COIN_BASE)
        txid = raw(await away(node.pay, sold.address, 20 * COIN_BASE))
        seen = await shop.until_state(sold, State.SEEN)
        assert seen.payments[0].outpoint.txid == txid
        assert seen.payments[0].unconfirmed
        await away(node.mine)
        settled = await shop.until_state(sold, State.SETTLED)
        (payment,) = settled.payments
        assert (payment.amount_base, payment.outpoint.index) == (20 * COIN_BASE, 0)
        assert await shop.kinds(sold) == [
            "invoice.created",
            "payment.seen",
            "invoice.covered",
            "payment.included",
            "invoice.settled",
        ]


@pytest.mark.parametrize("contract", ["Token", "SilentToken"])
async def test_a_token_payment_is_seen_and_settles(
    node: AnvilNode, transport: str, contract: str
) -> None:
    arguments = (6, 10**27) if contract == "Token" else (10**27,)
    address = await away(node.deploy, contract, *arguments)
    token = token_of(CHAINS[node.chain_id], address)
    async with evm_shop(node, transport=transport, tokens=[token]) as shop:
        sold = await shop.sell(10**26, asset=TOKEN)
        await away(node.pay_token, address, sold.address, 10**26)
        seen = await shop.until_state(sold, State.SEEN)
        assert seen.payments[0].unconfirmed
        await away(node.mine)
        settled = await shop.until_state(sold, State.SETTLED)
        (payment,) = settled.payments
        assert (payment.amount_base, payment.outpoint.index) == (10**26, 1)


async def test_a_fee_on_transfer_is_credited_as_the_log_says(node: AnvilNode) -> None:
    address = await away(node.deploy, "FeeToken", 10**26)
    token = token_of(CHAINS[node.chain_id], address, exponent=18)
    async with evm_shop(node, tokens=[token]) as shop:
        sold = await shop.sell(1000, asset=TOKEN)
        await away(node.pay_token, address, sold.address, 1000)
        await shop.until_state(sold, State.SEEN)  # the call promises the whole amount
        await away(node.mine)
        paid = await shop.until_state(sold, State.PENDING)
        assert [(p.amount_base, p.height is not None) for p in paid.payments] == [(990, True)]
        await away(node.pay_token, address, sold.address, 11)
        await away(node.mine)
        assert (await shop.until_state(sold, State.SETTLED)).received_base == 990 + 11


async def test_several_logs_of_one_transaction_add_up(node: AnvilNode) -> None:
    address = await away(node.deploy, "Token", 6, 10**9)
    payer = await away(node.deploy, "Payer")
    token = token_of(CHAINS[node.chain_id], address)
    async with evm_shop(node, tokens=[token]) as shop:
        one, other = [await shop.sell(100, asset=TOKEN) for _ in range(2)]
        await away(node.invoke, "Token", address, "approve(address,uint256)", payer, 1000)
        to = [one.address, other.address, one.address]
        signature = "payTokens(address,address[],uint256[])"
        await away(node.invoke, "Payer", payer, signature, address, to, [40, 100, 60])
        await away(node.mine)
        first = await shop.until_state(one, State.SETTLED)
        second = await shop.until_state(other, State.SETTLED)
        assert [(p.outpoint.index, p.amount_base) for p in first.payments] == [(1, 40), (3, 60)]
        assert [(p.outpoint.index, p.amount_base) for p in second.payments] == [(2, 100)]


async def test_a_transfer_from_another_s_allowance_is_promised(node: AnvilNode) -> None:
    address = await away(node.deploy, "Token", 6, 10**9)
    owner, spender = node.accounts[0], node.accounts[1]
    async with evm_shop(node, tokens=[token_of(CHAINS[node.chain_id], address)]) as shop:
        sold = await shop.sell(70, asset=TOKEN)
        await away(node.invoke, "Token", address, "approve(address,uint256)", spender, 70)
        await away(node.mine)
        signature = "transferFrom(address,address,uint256)"
        await away(
            node.invoke, "Token", address, signature, owner, sold.address, 70, sender=spender
        )
        await shop.until_state(sold, State.SEEN)
        await away(node.mine)
        assert len((await shop.until_state(sold, State.SETTLED)).payments) == 1


async def test_only_the_asked_asset_counts(node: AnvilNode) -> None:
    """Native coin for a token invoice, the token for a native one, a stranger's token for both."""
    address = await away(node.deploy, "Token", 6, 10**9)
    stranger = await away(node.deploy, "Token", 6, 10**9)
    async with evm_shop(node, tokens=[token_of(CHAINS[node.chain_id], address)]) as shop:
        native, token = await shop.sell(100), await shop.sell(100, asset=TOKEN)
        await away(node.pay_token, address, native.address, 100)
        await away(node.pay, token.address, 100)
        for sold in (native, token):
            await away(node.pay_token, stranger, sold.address, 100)
        await away(node.mine)
        for sold in (native, token):
            recorded = await shop.until(sold, lambda invoice: any(
                p.height is not None for p in invoice.payments
            ))  # fmt: skip
            assert recorded.state is State.PENDING
            assert recorded.received_base == 0
            assert len(recorded.payments) == 1


async def test_a_failed_transaction_pays_nothing(node: AnvilNode) -> None:
    """The mempool shows a promise, the block takes it back."""
    address = await away(node.deploy, "FailingToken", 10**26)
    token = token_of(CHAINS[node.chain_id], address, exponent=18)
    async with evm_shop(node, tokens=[token]) as shop:
        sold = await shop.sell(100, asset=TOKEN)
        await away(node.pay_token, address, sold.address, 100)
        await shop.until_state(sold, State.SEEN)
        await away(node.mine)
        failed = await shop.until_state(sold, State.PENDING)
        assert [p.gone for p in failed.payments] == [Removal.FAILED]


@pytest.mark.parametrize("way", [Way.TRACE_BLOCK, Way.DEBUG_TRACE, Way.BALANCES, None])
async def test_a_contract_pays_several(node: AnvilNode, way: Way | None) -> None:
    payer = await away(node.deploy, "Payer")
    async with evm_shop(node, way=way) as shop:
        one, other = [await shop.sell(20 * COIN_BASE) for _ in range(2)]
        # Beside it, a direct payment: a balance that rises by both must not count twice.
        direct = raw(await away(node.pay, one.address, 5 * COIN_BASE))
        payouts = {one.address: 15 * COIN_BASE, other.address: 20 * COIN_BASE}
        txid = raw(await away(node.pay_batch, payer, payouts))
        await away(node.mine)
        first = await shop.until_state(one, State.SETTLED)
        second = await shop.until_state(other, State.SETTLED)
        block = raw(await away(node.tip))
        found = {(p.outpoint.txid, p.outpoint.index): p.amount_base for p in first.payments}
        inside = (block, BALANCE) if way is Way.BALANCES else (txid, INTERNAL)
        assert found == {(direct, 0): 5 * COIN_BASE, inside: 15 * COIN_BASE}
        assert second.received_base == 20 * COIN_BASE
        await away(node.mine, 3)
        await shop.until_read()
        assert (await shop.invoice(one)).received_base == 20 * COIN_BASE


async def test_the_way_is_told(node: AnvilNode) -> None:
    async with evm_shop(node) as shop:
        assert (await shop.source.status()).push == (
            "websocket newHeads, newPendingTransactions (full); internal payments by trace_block"
        )
    async with evm_shop(node, transport="http", way=Way.BALANCES) as shop:
        assert (await shop.source.status()).push == "poll 0.2s; internal payments by balance checks"


# --- the mempool ----------------------------------------------------------------------------------


async def test_a_replacement_takes_the_place(node: AnvilNode, transport: str) -> None:
    async with evm_shop(node, transport=transport) as shop:
        sold = await shop.sell(100)
        first = await away(node.pay, sold.address, 100)
        await shop.until_state(sold, State.SEEN)
        second = await away(node.replace, first, amount_base=120)
        replaced = await shop.until(sold, lambda invoice: invoice.received_base == 120)
        assert [(p.gone, p.gone_by) for p in replaced.payments] == [
            (Removal.REPLACED, raw(second)),
            (None, None),
        ]
        await away(node.mine)
        await shop.until_state(sold, State.SETTLED)


async def test_a_replacement_that_pays_somebody_else(node: AnvilNode) -> None:
    async with evm_shop(node) as shop:
        sold = await shop.sell(100)
        first = await away(node.pay, sold.address, 100)
        await shop.until_state(sold, State.SEEN)
        second = await away(node.replace, first, to=new_address(9))
        taken = await shop.until_state(sold, State.PENDING)
        assert [(p.gone, p.gone_by) for p in taken.payments] == [(Removal.REPLACED, raw(second))]


async def test_a_replacement_that_was_not_seen_before_its_block(node: AnvilNode) -> None:
    async with evm_shop(node) as shop:
        sold = await shop.sell(100)
        first = await away(node.pay, sold.address, 100)
        await shop.until_state(sold, State.SEEN)
        await shop.stop()
        await away(node.replace, first, to=new_address(9))
        await away(node.mine)
        await shop.start()
        taken = await shop.until_state(sold, State.PENDING)
        # Whose nonce it was is remembered over the restart.
        assert [p.gone for p in taken.payments] == [Removal.DOUBLE_SPENT]


async def test_a_dropped_transaction_is_told_after_a_grace(node: AnvilNode, transport: str) -> None:
    async with evm_shop(node, transport=transport) as shop:
        sold = await shop.sell(100)
        txid = await away(node.pay, sold.address, 100)
        await shop.until_state(sold, State.SEEN)
        await away(node.drop, txid)
        dropped = await shop.until_state(sold, State.PENDING)
        assert [p.gone for p in dropped.payments] == [Removal.EVICTED]


async def test_what_waits_in_the_mempool_at_the_start_is_seen(
    node: AnvilNode, transport: str
) -> None:
    async with evm_shop(node, transport=transport) as shop:
        sold = await shop.sell(100)
        await shop.stop()
        await away(node.pay, sold.address, 100)
        await shop.start()
        await shop.until_state(sold, State.SEEN)


@pytest.mark.parametrize("contract", ["FailingToken", "FeeToken"])
async def test_a_push_that_comes_after_its_block(node: AnvilNode, contract: str) -> None:
    """What a late push promised, and the block did not keep, does not stay for ever."""
    address = await away(node.deploy, contract, 10**26)
    token = token_of(CHAINS[node.chain_id], address, exponent=18)
    async with evm_shop(node, tokens=[token]) as shop:
        sold = await shop.sell(100, asset=TOKEN)
        await shop.stop()
        pushes = LatePushes(shop.evm)
        shop.source = pushes
        await shop.start()
        await shop.until_read()
        await away(node.pay_token, address, sold.address, 100)
        await away(node.mine)
        await shop.until_read()
        pushes.release()
        if contract == "FailingToken":
            await shop.until_state(sold, State.SEEN)
            failed = await shop.until_state(sold, State.PENDING)
            assert [p.gone for p in failed.payments] == [Removal.EVICTED]
        else:
            await shop.until(sold, lambda invoice: invoice.received_base == 99)


class LatePushes:
    """A source whose pushed transactions are held back until they are released."""

    def __init__(self, source: EvmSource) -> None:
        self._source = source
        self._held: list[TxArrived] = []
        self._out, self._in = trio.open_memory_channel[TxArrived](100)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def release(self) -> None:
        assert self._held, "something was pushed"
        for signal in self._held:
            # It looks as new as it is to whoever gets it.
            self._out.send_nowait(replace(signal, received_at=trio.current_time()))

    async def read_mempool(self, index: WatchIndex) -> MempoolSnapshot:
        snapshot = await self._source.read_mempool(index)
        return MempoolSnapshot(snapshot.txids, ())

    @asynccontextmanager
    async def signals(self, index: WatchIndex) -> AsyncIterator[AsyncIterator[Signal]]:
        async with self._source.signals(index) as news, trio.open_nursery() as nursery:
            send, receive = trio.open_memory_channel[Signal](100)

            async def pump() -> None:
                async for signal in news:
                    if isinstance(signal, TxArrived):
                        self._held.append(signal)
                    else:
                        await send.send(signal)

            async def late() -> None:
                async for signal in self._in:
                    await send.send(signal)

            nursery.start_soon(pump)
            nursery.start_soon(late)
            yield receive
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("tag", ["safe", "finalized"])
async def test_a_chain_s_finality_settles(tag: str) -> None:
    if find("evm") is None:
        pytest.skip(how_to_install("evm"))
    with AnvilNode(56, extra=["--slots-in-an-epoch=2"]) as running:
        policy = replace(POLICY, finality=tag)
        async with evm_shop(running, finality=tag, policy=policy) as shop:
            sold = await shop.sell(100, finality=tag)
            await away(running.pay, sold.address, 100)
            await away(running.mine)
            await shop.until_state(sold, State.SEEN)
            depth = {"safe": 2, "finalized": 4}[tag]
            await away(running.mine, depth - 1)
            await shop.until_read()
            assert (await shop.invoice(sold)).state is State.SEEN
            await away(running.mine)
            await shop.until_state(sold, State.SETTLED)


# --- reorgs and restarts --------------------------------------------------------------------------


@pytest.mark.parametrize("way", [Way.TRACE_BLOCK, Way.BALANCES])
async def test_a_reorg_that_drops_a_payment(node: AnvilNode, transport: str, way: Way) -> None:
    async with evm_shop(node, transport=transport, way=way) as shop:
        sold = await shop.sell(100, confirmations=5)
        await away(node.pay, sold.address, 100)
        await away(node.mine, 2)
        await shop.until_read()
        assert (await shop.invoice(sold)).payments[0].height is not None
        await away(node.reorg, 2)
        # Anvil does not put it back into the mempool, so it is gone for good.
        dropped = await shop.until_state(sold, State.PENDING)
        assert [(p.gone, p.height) for p in dropped.payments] == [(Removal.EVICTED, None)]


async def test_a_reorg_that_moves_a_payment(node: AnvilNode, transport: str) -> None:
    async with evm_shop(node, transport=transport) as shop:
        sold = await shop.sell(100, confirmations=5)
        txid = await away(node.pay, sold.address, 100)
        await away(node.mine, 2)
        await shop.until_read()
        before = (await shop.invoice(sold)).payments[0]
        await away(node.reorg, 2, keep=[(txid, 1)])
        moved = await shop.until(
            sold,
            lambda invoice: invoice.payments[0].height not in (None, before.height),
        )
        assert moved.payments[0].height == (before.height or 0) + 1
        assert moved.payments[0].block_hash != before.block_hash
        await away(node.mine, 4)
        settled = await shop.until_state(sold, State.SETTLED)
        assert len(settled.payments) == 1


async def test_a_reorg_that_moves_what_a_balance_told(node: AnvilNode) -> None:
    """The same rise in another block takes the place of the first: the money counts once."""
    payer = await away(node.deploy, "Payer")
    async with evm_shop(node, way=Way.BALANCES) as shop:
        sold = await shop.sell(100, confirmations=5)
        txid = await away(node.pay_batch, payer, {sold.address: 60})
        await away(node.mine, 2)
        await shop.until_read()
        assert (await shop.invoice(sold)).received_base == 60
        await away(node.reorg, 2, keep=[(txid, 1)])
        await shop.until_read()
        moved = await shop.invoice(sold)
        assert moved.received_base == 60
        assert [p.gone for p in moved.payments] == [Removal.DOUBLE_SPENT, None]


@pytest.mark.parametrize("way", [Way.TRACE_BLOCK, Way.NONE])
async def test_a_restart_during_catch_up(node: AnvilNode, transport: str, way: Way) -> None:
    """Stopped again and again while it reads 300 blocks: each payment is recorded once."""
    async with evm_shop(node, transport=transport, way=way) as shop:
        sold = [await shop.sell(100) for _ in range(6)]
        await shop.stop()
        for one in sold:
            await away(node.pay, one.address, 100)
            await away(node.mine, 50)
        for one in sold[:-1]:
            await shop.start()
            await shop.until_state(one, State.SETTLED)
            shop.crash()
            await shop.stopped()
        await shop.start()
        await shop.until_read()
        for one in sold:
            settled = await shop.invoice(one)
            assert settled.state is State.SETTLED
            assert len(settled.payments) == 1
