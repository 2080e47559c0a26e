"""The driver against a made-up node: identity, tokens, reading blocks, what fails and how."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio

from actors.core.assets import Asset, Chain
from actors.core.chain_events import ChainTx
from actors.core.chain_view import BlockRef, consecutive
from actors.core.watch_index import WatchIndex
from actors.ports import PersistentError, TransientError
from daemon.drivers.evm import EvmSource
from daemon.drivers.evm_blocks import MOST_BLOCKS
from daemon.drivers.evm_internal import BALANCES_LIMIT, PATIENCE_S, Way
from daemon.drivers.evm_wire import BALANCE, INTERNAL
from daemon.drivers.jsonrpc_words import AnswerTooLargeError
from tests.helpers.evm_data import (
    CONTRACT,
    OTHER,
    OURS,
    STRANGER,
    FakeEvm,
    Json,
    digest,
    hexed,
    index_of,
    receipt,
    transaction,
    transfer_log,
)
from tests.helpers.recording_log import RecordingLog
from tests.helpers.table_rpc import refusal

ETH = Chain("eth", "Ethereum", "evm", "ETH", 12, 12)
COIN = Asset("ETH", "eth", "ETH", "Ether", 18)
TOKEN = Asset("TOKEN", "eth", "TOK", "Token", 6, CONTRACT)


def source_of(node: FakeEvm, **wishes: Any) -> EvmSource:
    return EvmSource(
        node,
        **{
            "chain": ETH,
            "assets": [COIN, TOKEN],
            "log": RecordingLog(),
            "chain_id": 1,
            "internal_way": Way.NONE,
            **wishes,
        },
    )


async def read(
    source: EvmSource, heights: range, index: WatchIndex | None = None
) -> list[tuple[BlockRef, tuple[ChainTx, ...]]]:
    return [found async for found in source.read_blocks(heights, index or index_of(OURS))]


def paying(name: str, amount_base: int, **more: Any) -> tuple[Json, Json]:
    tx = transaction(name, to=OURS, value=amount_base, **more)
    return tx, receipt(tx)


# --- identity -------------------------------------------------------------------------------------


async def test_status() -> None:
    node = FakeEvm(height=3)
    status = await source_of(node).status()
    assert status.software == "fake/1"
    assert (status.network, status.genesis) == ("1", digest("block 0"))
    assert status.tip.height == status.headers_height == 3
    assert not status.syncing
    assert status.push == "poll 1s; internal payments by nothing"


async def test_another_chain_id_is_refused() -> None:
    node = FakeEvm()
    node.methods["eth_chainId"] = "0x38"
    with pytest.raises(PersistentError, match=r"coin\.eth\.daemon\.url .* chain id 56, but eth is"):
        await source_of(node).status()


async def test_a_node_may_hide_its_name_but_not_its_first_block() -> None:
    node = FakeEvm()
    del node.methods["web3_clientVersion"]
    assert (await source_of(node).status()).software == "unknown"
    node.methods["eth_getBlockByNumber"] = lambda which, _: (
        None if which == "0x0" else node.blocks[-1][0]
    )
    with pytest.raises(PersistentError, match="block 0"):
        await source_of(node).status()


@pytest.mark.parametrize(
    ("syncing", "expected"),
    [
        ({"currentBlock": "0x3", "highestBlock": "0x99"}, (True, 0x99)),
        ({"currentBlock": "0x3", "highestBlock": "0x5"}, (False, 5)),
        ({"currentBlock": "0x0", "highestBlock": "0x0"}, (True, 3)),
        ({"stages": []}, (False, 3)),
        (False, (False, 3)),
    ],
)
async def test_a_syncing_node(syncing: object, expected: tuple[bool, int]) -> None:
    node = FakeEvm(height=3)
    node.methods["eth_syncing"] = syncing
    status = await source_of(node).status()
    assert (status.syncing, status.headers_height) == expected


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("eth_chainId", 1),
        ("eth_chainId", "0x"),
        ("eth_chainId", None),
        ("eth_syncing", True),
        ("eth_syncing", {"currentBlock": 3}),
        ("eth_getBlockByNumber", []),
        ("eth_getBlockByNumber", {}),
        ("eth_getCode", "zz"),
        ("eth_getCode", 5),
    ],
)
async def test_garbage_is_said(method: str, answer: object) -> None:
    node = FakeEvm()
    node.methods[method] = answer
    with pytest.raises(TransientError, match="answered garbage"):
        await source_of(node).status()


async def test_finality() -> None:
    node = FakeEvm(height=3)
    log = RecordingLog()
    assert await source_of(node).final_height() is None
    source = source_of(node, finality="safe", log=log)
    await source.tip()
    assert await source.final_height() is None
    assert [line.fields["tag"] for line in log.level("warning")] == ["safe"]
    node.methods["eth_getBlockByNumber"] = lambda which, _: node.blocks[
        2 if which == "safe" else -1
    ][0]
    assert await source.final_height() is None  # asked once per tip
    node.mine()
    await source.tip()
    assert await source.final_height() == 2


async def test_windows() -> None:
    node = FakeEvm(height=9)
    source = source_of(node)
    tip = await source.tip()
    window = await source.window(tip, 5)
    assert [block.height for block in window] == [5, 6, 7, 8, 9]
    assert consecutive(window)
    assert len(await source.window(tip, 50)) == 10
    assert await source.block_at(10) is None
    assert await source.block_at(9) == tip


async def test_a_window_of_a_branch_that_is_no_longer_active() -> None:
    node = FakeEvm(height=5)
    source = source_of(node)
    old = [node.mine(branch="a"), node.mine(branch="a", parent_branch="a")]
    tip = await source.tip()
    gone = [node.blocks.pop() for _ in range(2)]
    node.mine(branch="b")
    node.methods["eth_getBlockByHash"] = lambda wanted, _: next(
        one for one, _ in [*node.blocks, *gone] if one["hash"] == wanted
    )
    window = await source.window(tip, 4)
    assert [hexed(block.hash) for block in window[-2:]] == [one["hash"] for one in old]
    assert consecutive(window)
    assert [block.height for block in window] == [4, 5, 6, 7]


# --- tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"eth_getCode": "0x", "eth_call": "0x"}, "does not exist on chain id 1"),
        ({"eth_call": "0x" + "12".rjust(64, "0")}, "has 18 decimals, but the asset file says 6"),
        ({"eth_call": refusal("execution reverted", 3)}, "does not answer decimals()"),
        ({"eth_call": refusal("VM execution error.", -32015)}, "does not answer decimals()"),
        ({"eth_call": "0x"}, "does not answer decimals()"),
    ],
)
async def test_a_token_that_is_not_what_it_should_be(changes: Json, reason: str) -> None:
    node, log = FakeEvm(), RecordingLog()
    source = source_of(node, log=log)
    node.methods |= changes
    for _ in range(2):
        await source.status()
    assert list(source.disabled_assets()) == ["TOKEN"]
    assert reason in source.disabled_assets()["TOKEN"]
    assert log.events("error") == ["asset disabled"]
    node.methods |= {"eth_getCode": "0x01", "eth_call": "0x" + "6".rjust(64, "0")}
    await source.status()
    assert source.disabled_assets() == {}
    assert log.events("info") == ["asset enabled again"]


async def test_only_wrong_decimals_stop_the_counting() -> None:
    """A node that is mistaken for a moment must not lose a payment."""
    node = FakeEvm(height=0)
    tx = transaction("tx", to=CONTRACT)
    node.mine((tx, receipt(tx, transfer_log(OURS, 5))))
    source = source_of(node)
    node.methods["eth_getCode"] = "0x"
    await source.status()
    assert len((await read(source, range(1, 2)))[0][1]) == 1
    node.methods |= {"eth_getCode": "0x01", "eth_call": "0x" + "12".rjust(64, "0")}
    await source.status()
    assert (await read(source, range(1, 2)))[0][1] == ()


async def test_a_failure_while_tokens_are_checked_disables_nothing() -> None:
    node = FakeEvm()
    node.methods["eth_call"] = refusal("limit exceeded", -32005)
    source = source_of(node)
    with pytest.raises(TransientError, match="limit exceeded"):
        await source.status()
    assert source.disabled_assets() == {}


# --- blocks ---------------------------------------------------------------------------------------


@asynccontextmanager
async def ahead(source: EvmSource) -> AsyncIterator[None]:
    """Blocks are read ahead while the news are followed."""
    async with source.signals(index_of(OURS)):
        yield


@pytest.mark.parametrize("reads_ahead", [True, False])
@pytest.mark.parametrize("way", [Way.NONE, Way.TRACE_BLOCK])
@pytest.mark.parametrize("has_receipts", [True, False])
async def test_blocks_in_order(reads_ahead: bool, way: Way, has_receipts: bool) -> None:
    node = FakeEvm(height=0)
    if not has_receipts:
        del node.methods["eth_getBlockReceipts"]
    node.methods["trace_block"] = traces(node)
    for height in range(1, 301):
        token = transaction(f"token {height}", to=CONTRACT)
        extra = [(token, receipt(token, transfer_log(OURS, height)))] if height % 10 == 0 else []
        node.mine(*([paying(f"tx {height}", height)] if height % 7 == 0 else []), *extra)
    source = source_of(node, internal_way=way)
    if reads_ahead:
        async with ahead(source):
            found = await read(source, range(1, 400))
    else:
        found = await read(source, range(1, 400))
    assert [block.height for block, _ in found] == list(range(1, 301))
    assert consecutive([block for block, _ in found])
    paid = {
        block.height: [output.amount_base for tx in txs for output in tx.outputs]
        for block, txs in found
    }
    assert paid == {
        height: [height] * ((height % 7 == 0) + (height % 10 == 0)) for height in range(1, 301)
    }
    assert source.statistics().blocks_at_once == MOST_BLOCKS
    largest = max(len(request) for request in node.requests)
    assert largest <= 3 * MOST_BLOCKS + 2
    assert len(node.requests) < 100 + 80 * (not has_receipts or way is Way.NONE)


@pytest.mark.parametrize("way", [Way.TRACE_BLOCK, Way.NONE])
async def test_one_block_takes_few_requests(way: Way) -> None:
    node = FakeEvm(height=0)
    node.methods["trace_block"] = traces(node)
    node.mine(*(paying(f"tx {number}", 1, nonce=number) for number in range(300)))
    source = source_of(node, internal_way=way)
    ((_, txs),) = await read(source, range(1, 2))
    assert len(txs) == 300
    assert len(node.requests) == 1
    assert len(node.calls) <= 3


async def test_less_is_asked_for_when_the_node_cannot_bear_it() -> None:
    node = FakeEvm(height=200, largest_batch=10)
    source = source_of(node)
    async with ahead(source):
        assert len(await read(source, range(1, 201))) == 200
    assert 1 <= source.statistics().blocks_at_once <= 8
    node.failures = [AnswerTooLargeError("too large")] * 2
    assert len(await read(source, range(1, 201))) == 200


@pytest.mark.parametrize("way", [Way.TRACE_BLOCK, Way.NONE])
async def test_a_node_that_knows_no_batches_is_asked_one_by_one(way: Way) -> None:
    node = FakeEvm(height=0, largest_batch=0)
    node.methods["trace_block"] = traces(node)
    for height in range(1, 20):
        node.mine(paying(f"tx {height}", 1))
    source = source_of(node, internal_way=way)
    assert (await source.status()).tip.height == 19
    assert len(await source.window(await source.tip(), 9)) == 9
    found = await read(source, range(1, 20))
    assert [len(txs) for _, txs in found] == [1] * 19
    assert source.statistics().blocks_at_once <= 2


async def test_a_failure_ends_the_reading_and_is_told() -> None:
    node = FakeEvm(height=200)
    source = source_of(node)
    blocks = source.read_blocks(range(1, 201), index_of(OURS))
    got = [(await anext(blocks))[0].height for _ in range(30)]
    node.failures = [TransientError("gone")] * 9
    with pytest.raises(TransientError, match="gone"):
        got += [block.height async for block, _ in blocks]
    assert got == list(range(1, len(got) + 1))
    node.failures.clear()
    assert len(await read(source, range(1, 201))) == 200


async def test_a_reorg_while_blocks_are_read_ends_the_row() -> None:
    node = FakeEvm(height=40)
    source = source_of(node)
    got: list[BlockRef] = []
    async for block, _ in source.read_blocks(range(1, 41), index_of(OURS)):
        got.append(block)
        if block.height == 3:
            del node.blocks[10:]
            node.mine(branch="b", parent_branch="b")
            for _ in range(20):
                node.mine(branch="b", parent_branch="b")
    assert consecutive(got)
    assert got[-1].height < 31


async def test_receipts_of_another_branch_end_the_row() -> None:
    """A payment must not be overlooked because block and receipts are of different branches."""
    node = FakeEvm(height=1)
    node.mine(paying("tx", 5))
    _, receipts = node.blocks[2]
    other = [{**one, "blockHash": hexed(digest("other"))} for one in receipts]
    for answer in (other, None):
        node.methods["eth_getBlockReceipts"] = lambda which, answer=answer: (
            answer if which == "0x2" else []
        )
        assert [block.height for block, _ in await read(source_of(node), range(1, 3))] == [1]


async def test_logs_of_a_chain_that_moved_end_the_row() -> None:
    node = FakeEvm(height=1)
    del node.methods["eth_getBlockReceipts"]
    tx = transaction("tx", to=CONTRACT)
    node.mine((tx, receipt(tx, transfer_log(OURS, 5))))
    by_number = node.methods["eth_getBlockByNumber"]
    asked = []

    def moves(which: str, whole: bool) -> Json | None:
        asked.append(whole)
        return by_number(which, whole) if whole else {**node.blocks[2][0], "hash": hexed(bytes(32))}

    node.methods["eth_getBlockByNumber"] = moves
    assert await read(source_of(node), range(2, 3)) == []
    node.methods["eth_getBlockByNumber"] = by_number
    ((_, txs),) = await read(source_of(node), range(2, 3))
    assert len(txs) == 1


async def test_garbage_in_a_block_is_no_empty_block() -> None:
    node = FakeEvm(height=1)
    node.mine(paying("tx", 5))
    for spoil in (
        lambda tx: tx.pop("value"),
        lambda tx: tx.update(value="five"),
        lambda tx: tx.update(to=5),
        lambda tx: tx.pop("hash"),
    ):
        made, _ = node.blocks[2]
        kept = dict(made["transactions"][0])
        spoil(made["transactions"][0])
        with pytest.raises(TransientError, match="garbage"):
            await read(source_of(node), range(1, 3))
        made["transactions"][0] = kept
    assert len((await read(source_of(node), range(1, 3)))[1][1]) == 1


async def test_a_block_that_was_dropped_needs_another_node() -> None:
    node = FakeEvm(height=3)
    node.methods["eth_getBlockByNumber"] = refusal("pruned history unavailable", 4444)
    with pytest.raises(PersistentError, match="dropped block 1"):
        await read(source_of(node), range(1, 4))


async def test_an_index_that_changes_is_asked_when_a_block_is_handed_over() -> None:
    node = FakeEvm(height=0)
    for height in range(1, 40):
        node.mine(paying(f"tx {height}", 1))
    index = index_of(OTHER)
    seen = []
    async for block, txs in source_of(node).read_blocks(range(1, 40), index):
        if block.height == 20:
            index.watch(OURS, next(iter(index.destinations.values())))
        seen.append(len(txs))
    assert seen == [0] * 20 + [1] * 19


# --- payments by contracts ------------------------------------------------------------------------


def traces(node: FakeEvm, paid: dict[str, int] | None = None) -> Any:
    """An answer for trace_block: `paid` by transaction, to our address."""

    def trace(which: str) -> list[Json]:
        if int(which, 16) >= len(node.blocks):
            return []  # as nodes do
        made = node.blocks[int(which, 16)][0]
        entries = []
        for tx in made["transactions"]:
            place = {"blockHash": made["hash"], "transactionHash": tx["hash"], "type": "call"}
            entries.append({**place, "traceAddress": [], "action": {"to": hexed(STRANGER)}})
            if paid and tx["hash"] in paid:
                action = {"callType": "call", "to": hexed(OURS), "value": hex(paid[tx["hash"]])}
                entries.append({**place, "traceAddress": [0], "action": action})
        return entries

    return trace


async def test_the_best_way_is_found() -> None:
    node, log = FakeEvm(), RecordingLog()
    for offered, expected in (
        ({}, "nothing"),
        ({"debug_traceBlockByNumber": []}, "debug_traceBlockByNumber"),
        ({"trace_block": []}, "trace_block"),
        ({"trace_block": None}, "debug_traceBlockByNumber"),
    ):
        node.methods |= offered
        status = await source_of(node, internal_way=None, log=log).status()
        assert status.push.endswith(f"internal payments by {expected}")
    assert log.events("warning") == [
        "payments by contracts in the native coin are not seen: the node does not trace"
    ]
    node = FakeEvm()
    status = await source_of(node, internal_way=None, open_destinations=list).status()
    assert status.push.endswith("internal payments by balance checks")


async def test_a_way_that_was_chosen_must_be_offered() -> None:
    node = FakeEvm()
    with pytest.raises(PersistentError, match=r"trace_block, which coin\.eth\.internal asks for"):
        await source_of(node, internal_way=Way.TRACE_BLOCK).status()
    node.methods["trace_block"] = []
    status = await source_of(node, internal_way=Way.TRACE_BLOCK).status()
    assert status.push.endswith("internal payments by trace_block")


async def test_a_trace_that_does_not_belong_to_the_block_ends_the_row() -> None:
    node = FakeEvm(height=0)
    tx = transaction("tx")
    node.mine((tx, receipt(tx)))
    node.methods["trace_block"] = []
    assert await read(source_of(node, internal_way=Way.TRACE_BLOCK), range(1, 2)) == []
    node.methods["trace_block"] = traces(node, {tx["hash"]: 9})
    ((_, (found,)),) = await read(source_of(node, internal_way=Way.TRACE_BLOCK), range(1, 2))
    assert [(o.outpoint.index, o.amount_base) for o in found.outputs] == [(INTERNAL, 9)]


async def test_a_recent_block_s_missing_state_is_waited_for_an_old_one_s_is_borne(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node, log = FakeEvm(height=0), RecordingLog()
    for height in range(1, 101):
        node.mine(paying(f"tx {height}", 1))
    node.methods["trace_block"] = refusal("missing trie node 1234 (path )", -32000)
    source = source_of(node, internal_way=Way.TRACE_BLOCK, log=log)
    blocks = source.read_blocks(range(1, 101), index_of(OURS))
    for _ in range(30):
        assert len((await anext(blocks))[1]) == 1
    assert [line.fields["height"] for line in log.level("error")] == [1]
    with pytest.raises(TransientError, match="missing trie node"):
        await exhaust(blocks)
    with pytest.raises(TransientError, match="missing trie node"):
        await read(source, range(90, 101))
    await trio.sleep(PATIENCE_S)
    # The chain does not stand still for ever.
    found = await read(source, range(90, 101))
    assert [len(txs) for _, txs in found] == [1] * 11
    assert len(log.level("error")) == 1
    node.methods["trace_block"] = traces(node)
    await read(source, range(90, 101))
    node.methods["trace_block"] = refusal("missing trie node 1234 (path )", -32000)
    with pytest.raises(TransientError, match="missing trie node"):
        await read(source, range(90, 101))


async def exhaust(blocks: AsyncIterator[Any]) -> None:
    async for _ in blocks:
        pass


async def test_another_trace_failure_is_no_gap() -> None:
    node = FakeEvm(height=0)
    for height in range(1, 101):
        node.mine(paying(f"tx {height}", 1))
    node.methods["trace_block"] = refusal("limit exceeded", -32005)
    with pytest.raises(TransientError, match="limit exceeded"):
        await read(source_of(node, internal_way=Way.TRACE_BLOCK), range(1, 101))


class Balances:
    """eth_getBalance by address and height, and which heights still have their state."""

    def __init__(self, node: FakeEvm) -> None:
        self.rises: dict[tuple[str, int], int] = {}
        self.oldest = 0
        self.asked: list[tuple[str, int]] = []
        node.methods["eth_getBalance"] = self.balance
        node.methods["eth_getTransactionCount"] = "0x2"

    def balance(self, address: str, which: str) -> str:
        height = int(which, 16)
        self.asked.append((address, height))
        if height < self.oldest:
            raise refusal("historical state is not available", -32000)
        return hex(
            sum(rise for (to, at), rise in self.rises.items() if to == address and at <= height)
        )


async def test_a_balance_that_rises_by_more_than_is_explained() -> None:
    node = FakeEvm(height=3)
    balances = Balances(node)
    node.mine(paying("direct", 5))
    node.mine()
    balances.rises = {(hexed(OURS), 0): 100, (hexed(OURS), 4): 5 + 7, (hexed(OTHER), 5): 9}
    source = source_of(node, internal_way=Way.BALANCES, open_destinations=lambda: [OURS, OTHER])
    found = await read(source, range(2, 6), index_of(OURS, OTHER))
    assert [len(txs) for _, txs in found] == [0, 0, 2, 1]
    (block, (direct, rise)), (last, (other,)) = found[2:]
    assert direct.outputs[0].amount_base == 5
    assert rise.txid == block.hash
    assert [(o.destination, o.amount_base, o.outpoint.index) for o in rise.outputs] == [
        (OURS, 7, BALANCE)
    ]
    assert rise.spends == (OURS + (2).to_bytes(8, "big") + (100).to_bytes(32, "big"),)
    assert (other.txid, other.outputs[0].amount_base) == (last.hash, 9)
    # Each balance is asked for once per block, and once more before the first.
    assert sorted(balances.asked) == sorted(
        (hexed(address), height) for address in (OURS, OTHER) for height in range(1, 6)
    )
    # Read again, it is the same payment.
    assert await read(source, range(2, 6), index_of(OURS, OTHER)) == found


async def test_balances_are_only_compared_of_open_invoices() -> None:
    node = FakeEvm(height=5)
    balances = Balances(node)
    opened: list[bytes] = []
    source = source_of(node, internal_way=Way.BALANCES, open_destinations=lambda: opened)
    balances.rises = {(hexed(OURS), 3): 5}
    assert all(txs == () for _, txs in await read(source, range(1, 6)))
    assert balances.asked == []
    opened.append(OURS)
    assert [len(txs) for _, txs in await read(source, range(1, 6))] == [0, 0, 1, 0, 0]


async def test_too_many_open_invoices_are_bounded_and_said() -> None:
    node, log = FakeEvm(height=1), RecordingLog()
    balances = Balances(node)
    many = [number.to_bytes(20, "big") for number in range(BALANCES_LIMIT + 5)]
    source = source_of(node, internal_way=Way.BALANCES, open_destinations=lambda: many, log=log)
    await read(source, range(1, 2))
    assert len(balances.asked) == 2 * BALANCES_LIMIT
    assert log.level("warning")[0].fields["limit"] == BALANCES_LIMIT


async def test_balances_of_old_blocks_may_be_gone() -> None:
    node, log = FakeEvm(height=100), RecordingLog()
    balances = Balances(node)
    balances.oldest = 90
    balances.rises = {(hexed(OURS), 50): 5, (hexed(OURS), 95): 6}
    source = source_of(node, internal_way=Way.BALANCES, open_destinations=lambda: [OURS], log=log)
    with pytest.raises(TransientError, match="historical state"):
        await read(source, range(1, 101))
    found = await read(source, range(91, 101))
    assert [sum(o.amount_base for tx in txs for o in tx.outputs) for _, txs in found] == (
        [0] * 4 + [6] + [0] * 5
    )
    assert len(log.level("error")) == 1
    # What cannot be known is left to a person, with all that helps.
    (hint,) = log.level("warning")
    assert hint.fields["addresses"] == [hexed(OURS)]


async def test_balances_of_a_block_that_was_replaced_end_the_row() -> None:
    node = FakeEvm(height=5)
    balances = Balances(node)
    source = source_of(node, internal_way=Way.BALANCES, open_destinations=lambda: [OURS])
    got = []
    async for block, _ in source.read_blocks(range(1, 6), index_of(OURS)):
        got.append(block.height)
        if block.height == 2:
            made, receipts = node.blocks[3]
            node.blocks[3] = {**made, "hash": hexed(digest("new"))}, receipts
    assert got == [1, 2]
    assert balances.asked


# --- the mempool ----------------------------------------------------------------------------------


def pool_of(*txs: Json) -> Json:
    pending: Json = {}
    for tx in txs:
        pending.setdefault(tx["from"], {})[tx["nonce"]] = tx
    return {"pending": pending, "queued": {hexed(OTHER): {"0x9": paying("queued", 5)[0]}}}


async def test_the_mempool_by_txpool_content() -> None:
    node = FakeEvm()
    ours, other = paying("ours", 5)[0], transaction("other", nonce=1)
    node.pend(ours)
    node.methods["txpool_content"] = pool_of(ours, other)
    snapshot = await source_of(node).read_mempool(index_of(OURS))
    assert set(snapshot.txids) == {digest("ours")}
    assert [tx.txid for tx in snapshot.txs] == [digest("ours")]


@pytest.mark.parametrize("number", ["0x4", "0x3", None, 7])
async def test_the_mempool_by_the_pending_block(number: object) -> None:
    node = FakeEvm(height=3)
    by_number = node.methods["eth_getBlockByNumber"]
    pending = {"number": number, "hash": None, "transactions": [paying("ours", 5)[0]]}
    node.methods["eth_getBlockByNumber"] = lambda which, whole: (
        pending if which == "pending" else by_number(which, whole)
    )
    source = source_of(node)
    if number in (None, 7):
        with pytest.raises(TransientError, match="garbage"):
            await source.read_mempool(index_of(OURS))
        return
    snapshot = await source.read_mempool(index_of(OURS))
    # A node that answers its newest block shows none.
    assert [tx.txid for tx in snapshot.txs] == ([digest("ours")] if number == "0x4" else [])


async def test_a_node_without_a_mempool_is_asked_for_what_we_wait_for() -> None:
    node = FakeEvm()
    node.pend(paying("waits", 5)[0])
    node.mine(paying("mined", 6))
    index = index_of(OURS)
    for name in ("waits", "mined", "gone"):
        index.unconfirmed[digest(name)] = set()
    snapshot = await source_of(node).read_mempool(index)
    assert set(snapshot.txids) == {digest("waits")}
    assert [tx.txid for tx in snapshot.txs] == [digest("waits")]


async def test_garbage_in_the_mempool_is_said() -> None:
    node = FakeEvm()
    for answer in ({}, [], {"pending": {"x": []}}, pool_of({**paying("tx", 5)[0], "value": "x"})):
        node.methods["txpool_content"] = answer
        with pytest.raises(TransientError, match="garbage"):
            await source_of(node).read_mempool(index_of(OURS))


async def test_closing() -> None:
    node = FakeEvm()
    await source_of(node).aclose()
    assert node.closed
    with pytest.raises(TypeError):
        source_of(node).disabled_assets()["TOKEN"] = "x"  # type: ignore[index]
    assert replace(ETH, id="pol").id == "pol"
    await trio.lowlevel.checkpoint()
