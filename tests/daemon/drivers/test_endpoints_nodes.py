"""The pool of endpoints on real nodes: push, batches, and a node that goes away and comes back."""

from functools import partial

import pytest
import trio

from actors.ports import TransientError
from daemon.drivers.endpoint import PoolPolicy
from daemon.drivers.endpoints import open_endpoints
from daemon.drivers.jsonrpc_words import RpcError
from tests.helpers.anvil import AnvilNode, new_address
from tests.helpers.recording_log import RecordingLog

away = trio.to_thread.run_sync


async def test_calls_batches_and_news_of_a_real_node(eth_node: AnvilNode) -> None:
    pool = open_endpoints([eth_node.ws_url], setting="coin.eth", chain_id=1, log=RecordingLog())
    assert await pool.call("eth_chainId") == "0x1"
    async with (
        pool.subscribe("newHeads") as heads,
        pool.subscribe("newPendingTransactions", True) as pending,
    ):
        txid = await away(partial(eth_node.pay, new_address(1), 5))
        assert (await anext(pending))["hash"] == txid
        (block_hash,) = await away(eth_node.mine)
        assert (await anext(heads))["hash"] == block_hash
        block, receipts = await pool.batch(
            [("eth_getBlockByHash", (block_hash, True)), ("eth_getBlockReceipts", (block_hash,))]
        )
    assert block["transactions"][0]["value"] == "0x5"
    assert receipts[0]["transactionHash"] == txid
    with pytest.raises(RpcError, match="refused eth_nonsense"):
        await pool.call("eth_nonsense")
    assert pool.statistics().connections == 1
    await pool.aclose()


async def test_the_second_node_takes_over_while_the_first_restarts(
    eth_node: AnvilNode,
) -> None:
    log = RecordingLog()
    policy = PoolPolicy(failures=1, first_absence_s=0.0, check_every_s=0.1)
    with AnvilNode(1) as other:
        urls = [eth_node.ws_url, other.url]
        pool = open_endpoints(urls, setting="coin.eth", chain_id=1, log=log, policy=policy)
        async with pool.subscribe("newHeads") as heads:
            await away(eth_node.stop)
            with pytest.raises(TransientError, match=r"closed|reset"):
                await anext(heads)
        assert await pool.call("eth_blockNumber") == "0x0"
        assert [each.state for each in pool.health()] == ["left", "active"]
        assert not pool.can_subscribe
        await away(eth_node.restart)
        with trio.fail_after(30), pytest.raises(TransientError, match=r"returned to .*ws://"):
            await pool.watch()
        assert pool.can_subscribe
        await pool.aclose()
    assert log.of("left endpoint")
    assert log.of("endpoint is well again")
