"""What the driver assumes of the RPC interface of bitcoind and litecoind. Docstrings say what."""

import hashlib
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.bitcoin_rpc import HttpError, RpcClient, RpcError
from tests.helpers.bitcoind import ALL_TOPICS, BitcoinNode, Family
from tests.helpers.process import wait_until
from tests.nodes.assumptions.spare import families, spare_node

# --- push ---


def test_bitcoin_tells_its_zmq_endpoints(btc_node: BitcoinNode) -> None:
    """`getzmqnotifications` lists one entry per topic, with `type` "pub" + topic and `address`."""
    told = btc_node.rpc("getzmqnotifications")
    assert {entry["type"] for entry in told} == {f"pub{topic}" for topic in ALL_TOPICS}
    assert {entry["address"] for entry in told} == {btc_node.zmq_endpoint}
    assert all(entry["hwm"] == 1000 for entry in told)


def test_bitcoin_without_zmq_settings_lists_none() -> None:
    """A node that could publish but is not set to answers with an empty list, not an error."""
    with spare_node("btc", zmq=()) as node:
        assert node.rpc("getzmqnotifications") == []


def test_litecoin_has_no_zmq_and_ignores_its_settings(ltc_node: BitcoinNode) -> None:
    """Debian's litecoind takes -zmqpub* silently; `getzmqnotifications` is an unknown method."""
    with pytest.raises(RpcError) as caught:
        ltc_node.rpc("getzmqnotifications")
    assert caught.value.code == -32601


# --- blocks and the mempool ---


def double_sha256(data: bytes) -> str:
    """Return a block hash or txid as RPC writes it."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()[::-1].hex()


def test_getblock_0_is_the_serialised_block(node: BitcoinNode) -> None:
    """Verbosity 0 is hex of header (80 bytes, its double SHA-256 the hash), count, transactions.

    On Litecoin too, whose proof of work is another function of the same header.
    """
    txid = node.pay(node.new_address(), 1_000_000)
    (block_hash,) = node.mine()
    raw = bytes.fromhex(node.rpc("getblock", block_hash, 0))
    decoded = node.rpc("getblock", block_hash, 2)
    assert double_sha256(raw[:80]) == block_hash
    assert raw[:80].hex() == node.rpc("getblockheader", block_hash, False)
    assert raw[4:36][::-1].hex() == decoded["previousblockhash"]
    # One byte says how many, below 253; the shared node's mempool may have held others.
    assert raw[80] == len(decoded["tx"]) >= 2
    assert raw[81:].hex() == "".join(tx["hex"] for tx in decoded["tx"])
    assert txid in [tx["txid"] for tx in decoded["tx"][1:]]


def test_getblockheader_tells_which_blocks_are_on_the_active_chain(node: BitcoinNode) -> None:
    """A displaced block stays known, with `confirmations` -1 and its height."""
    node.mine_empty(2)
    old, new = node.reorg(2)
    assert node.rpc("getblockheader", old[0])["confirmations"] == -1
    assert node.rpc("getblockheader", new[0])["confirmations"] == 3
    assert node.rpc("getblockheader", old[0])["height"] == node.height() - 2
    assert (
        node.rpc("getblockheader", new[0])["previousblockhash"]
        == (node.rpc("getblockheader", old[0])["previousblockhash"])
    )


def test_an_unknown_block_is_error_5(node: BitcoinNode) -> None:
    """`getblockheader` and `getblock` say -5 for a hash, `getblockhash` -8 for a height."""
    for method in ("getblockheader", "getblock"):
        with pytest.raises(RpcError) as caught:
            node.rpc(method, "11" * 32)
        assert caught.value.code == -5
    with pytest.raises(RpcError) as caught:
        node.rpc("getblockhash", node.height() + 1)
    assert caught.value.code == -8


def test_getrawtransaction_finds_the_mempool_without_an_index(node: BitcoinNode) -> None:
    """Without -txindex a mempool transaction is found by txid, a mined one only with its block."""
    txid = node.pay(node.new_address(), 1_000_000)
    raw = node.rpc("getrawtransaction", txid)
    (block_hash,) = node.mine()
    with pytest.raises(RpcError) as caught:
        node.rpc("getrawtransaction", txid)
    assert caught.value.code == -5
    assert node.rpc("getrawtransaction", txid, False, block_hash) == raw


def test_getrawmempool_lists_txids(node: BitcoinNode) -> None:
    """`getrawmempool` is a flat list; a replaced transaction is no longer on it."""
    node.mine()
    first = node.pay(node.new_address(), 1_000_000)
    assert node.mempool() == [first]
    second = node.replace(first)
    assert node.mempool() == [second]
    third = node.replace(second, outputs={}, extra_fee_base=60_000)
    assert node.mempool() == [third]
    node.mine()
    assert node.mempool() == []


def test_a_reorg_returns_transactions_to_the_mempool(node: BitcoinNode) -> None:
    """What displaced blocks held is in the mempool again, unless the new branch has it."""
    txid = node.pay(node.new_address(), 1_000_000)
    node.mine(2)
    assert node.mempool() == []
    node.reorg(2)
    assert node.mempool() == [txid]
    node.mine()


@families
def test_a_reorg_drops_what_is_dated_by_the_displaced_tip(family: Family) -> None:
    """It may not be in the next block, so it leaves the mempool; its wallet still counts 0."""
    with spare_node(family) as node:
        node.fund()
        raw = node.rpc("createrawtransaction", [], {node.new_address(): 0.01}, node.height())
        funded = node.rpc("fundrawtransaction", raw)["hex"]
        signed = node.rpc("signrawtransactionwithwallet", funded)["hex"]
        txid = node.rpc("sendrawtransaction", signed)
        node.reorg(1)
        node.mine()
        assert txid not in node.mempool()
        assert node.rpc("gettransaction", txid)["confirmations"] == 0
        assert node.rpc("sendrawtransaction", signed) == txid


# --- state of the node ---


@families
def test_a_fresh_node_is_in_initial_block_download(family: Family) -> None:
    """`initialblockdownload` is true until the tip is recent; `pruned` and `chain` are there."""
    with spare_node(family) as node:
        info = node.rpc("getblockchaininfo")
        assert info["initialblockdownload"] is True
        assert info["chain"] == "regtest"
        assert info["pruned"] is False
        assert "pruneheight" not in info
        assert (info["blocks"], info["headers"]) == (0, 0)
        node.mine_empty()
        assert node.rpc("getblockchaininfo")["initialblockdownload"] is False


def test_a_pruned_node_says_from_which_height_it_has_blocks() -> None:
    """`pruneheight` is the lowest block it still has; `getblock` below fails with -1, pruned.

    Headers stay. On Bitcoin only: Litecoin 0.21 cannot prune a chain as small as a test's.
    """
    # -fastprune makes block files of 64 kB, so that a small chain has some to delete.
    with spare_node("btc", "-prune=1", "-fastprune") as node:
        node.rpc("generatetodescriptor", 700, "raw(51)")
        node.rpc("pruneblockchain", 700 - 288)  # fewer are always kept
        info = node.rpc("getblockchaininfo")
        lowest = info["pruneheight"]
        assert info["pruned"] is True
        assert 1 < lowest <= 700 - 288
        with pytest.raises(RpcError, match="pruned data") as caught:
            node.rpc("getblock", node.rpc("getblockhash", lowest - 1), 0)
        assert caught.value.code == -1
        assert node.rpc("getblock", node.rpc("getblockhash", lowest), 0)
        assert node.rpc("getblockheader", node.rpc("getblockhash", 1))["height"] == 1


@families
def test_a_node_that_may_prune_says_so_from_the_start(family: Family) -> None:
    """With -prune set `pruned` is true and `pruneheight` 0 while no block is gone."""
    with spare_node(family, "-prune=1") as node:
        info = node.rpc("getblockchaininfo")
        assert (info["pruned"], info["pruneheight"]) == (True, 0)


@families
def test_a_starting_node_answers_error_28(family: Family, threads: ThreadPoolExecutor) -> None:
    """Until its chain is loaded every call fails with -28 over HTTP 500, the text saying why."""
    with spare_node(family) as node:
        node.mine_empty(50)
        seen: list[tuple[int, Any]] = []

        def watch() -> None:
            while not any(answer["error"] is None for _, answer in seen):
                try:
                    status, body = node.client.post({"id": 1, "method": "getblockcount"})
                except (OSError, http.client.HTTPException):
                    continue
                seen.append((status, json.loads(body)))

        node.stop()
        call = threads.submit(watch)
        node.start()
        call.result(timeout=60)
        *early, (status, ready) = seen
        assert (status, ready["result"]) == (200, 50)
        assert early
        assert {(status, answer["error"]["code"]) for status, answer in early} == {(500, -28)}
        assert all(answer["error"]["message"] for _, answer in early)


# --- the RPC server ---


def test_a_batch_is_answered_in_order_and_item_by_item(node: BitcoinNode) -> None:
    """A batch is HTTP 200 whatever its items say; answers stand in the order of the requests."""
    status, body = node.client.post(
        [
            {"id": "c", "method": "getblockhash", "params": [0]},
            {"id": "a", "method": "nosuchmethod"},
            {"id": "b", "method": "getblockhash", "params": [10**6]},
            {"id": "d", "method": "getblockcount"},
        ]
    )
    answers = json.loads(body)
    assert status == 200
    assert [answer["id"] for answer in answers] == ["c", "a", "b", "d"]
    assert [(answer["error"] or {}).get("code") for answer in answers] == [None, -32601, -8, None]


def test_a_batch_may_be_long(node: BitcoinNode) -> None:
    """There is no limit on the number of items: 5000 in one request are answered in order."""
    top = node.height()
    calls = [("getblockhash", [number % top]) for number in range(5000)]
    answers = node.client.batch(calls)
    assert len(answers) == 5000
    assert answers[0] == answers[top]
    assert len(set(answers)) == top


def test_an_empty_batch_is_answered_with_an_empty_list(node: BitcoinNode) -> None:
    """It is no error."""
    status, body = node.client.post([])
    assert (status, json.loads(body)) == (200, [])


@pytest.mark.parametrize(
    ("request_body", "status", "code"),
    [
        ({"id": 1, "method": "nosuchmethod"}, 404, -32601),
        ({"id": 1, "method": "getblockhash", "params": [10**6]}, 500, -8),
        ({"id": 1, "method": 5}, 400, -32600),
    ],
)
def test_a_single_error_has_a_json_body_and_a_status(
    node: BitcoinNode, request_body: dict[str, Any], status: int, code: int
) -> None:
    """Errors of single calls come with 404, 400 or 500, and still with JSON-RPC's error object."""
    got, body = node.client.post(request_body)
    assert (got, json.loads(body)["error"]["code"]) == (status, code)


def test_a_body_over_32_mib_is_cut_off(node: BitcoinNode) -> None:
    """The server closes the connection on a request body beyond 0x02000000 bytes."""
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        node.client.post(" " * 0x0200_0001)
    assert node.height()


def test_wrong_credentials_are_401_without_a_body(node: BitcoinNode) -> None:
    """401 has no JSON: the client must look at the status first."""
    stranger = RpcClient(node.rpc_port, lambda: "tests:wrong")
    with pytest.raises(HttpError) as caught:
        stranger.call("getblockcount")
    assert (caught.value.status, caught.value.body) == (401, b"")


@families
def test_the_cookie_is_user_and_password_and_new_at_each_start(family: Family) -> None:
    """The file holds "__cookie__:" and hex; a restart makes the old content invalid (401)."""
    with spare_node(family, auth="cookie") as node:
        before = node.cookie_file.read_text()
        assert before.startswith("__cookie__:")
        node.restart()
        assert node.cookie_file.read_text() != before
        with pytest.raises(HttpError) as caught:
            RpcClient(node.rpc_port, lambda: before).call("getblockcount")
        assert caught.value.status == 401
        node.stop()
        assert not node.cookie_file.exists()


@pytest.mark.parametrize(("family", "refusal"), [("btc", 503), ("ltc", 500)])
def test_a_full_work_queue_is_refused_without_json(
    family: Family, refusal: int, threads: ThreadPoolExecutor
) -> None:
    """Beyond -rpcthreads busy and -rpcworkqueue waiting calls: a plain text body.

    The status is 503 on Bitcoin and 500 on Litecoin, which is also an ordinary error's: only the
    body tells. Waiting calls such as `waitfornewblock` occupy a thread each (4 by default).
    """
    with spare_node(family, "-rpcthreads=1", "-rpcworkqueue=1") as node:
        request = {"id": 1, "method": "waitfornewblock", "params": [1000]}
        calls = [threads.submit(node.client.post, request) for _ in range(6)]
        answers = [call.result(timeout=60) for call in calls]
        assert {status for status, _ in answers} == {200, refusal}
        refused = {body for status, body in answers if status == refusal}
        assert refused == {b"Work queue depth exceeded"}


@families
def test_stop_leaves_the_chain_on_disk(family: Family, tmp_path: Path) -> None:
    """After stop() and start() on the same folder the tip is the same, mempool included."""
    node = spare_node(family, datadir=tmp_path / "node")
    with node:
        node.fund()
        txid = node.pay(node.new_address(), 1_000_000)
        tip = node.tip()
        node.restart()
        assert node.tip() == tip
        wait_until(lambda: node.mempool() == [txid], "the mempool is loaded")
        node.mine()
        assert node.mempool() == []
