"""What the driver assumes of monerod's RPC interface. Docstrings say what."""

import http.client
import json
import re
from pathlib import Path

import pytest

from tests.helpers.epee import pack, unpack
from tests.helpers.monero_address import keccak
from tests.helpers.monero_coinbase import Payout, mine_paying, new_scalar
from tests.helpers.monero_wallet import MoneroWallet
from tests.helpers.monerod import COIN_BASE, COINBASE_LOCK_BLOCKS, NOBODY, MoneroNode
from tests.helpers.monerod_rpc import HttpError, MoneroClient, RpcError, digest
from tests.helpers.process import wait_until
from tests.nodes.install import find, how_to_install

NO_HASH = "00" * 32


@pytest.fixture(params=["unrestricted", "restricted"])
def client(request: pytest.FixtureRequest, xmr_node: MoneroNode) -> MoneroClient:
    """Each of the shared node's two RPC ports in turn."""
    return xmr_node.client if request.param == "unrestricted" else xmr_node.restricted()


# --- who the node is ---


def test_the_network_is_fakechain_and_its_height_counts_blocks(
    xmr_node: MoneroNode, client: MoneroClient
) -> None:
    """`get_info`: `nettype` fakechain (mainnet's prefixes), `height` one more than the tip's.

    `top_block_hash` is the tip's; `target_height` is 0, and `synchronized` true, when offline. A
    restricted node says that it is, and hides its version, as an empty text.
    """
    info = client.rpc("get_info")
    last = client.rpc("get_last_block_header")["block_header"]
    assert info["nettype"] == "fakechain"
    assert (info["mainnet"], info["testnet"], info["stagenet"]) == (False, False, False)
    assert info["height"] == last["height"] + 1
    assert info["top_block_hash"] == last["hash"]
    assert info["target_height"] == 0
    assert info["synchronized"]
    restricted = client.port == xmr_node.restricted_port
    assert info["restricted"] == restricted
    assert bool(info["version"]) == (not restricted)
    assert client.rpc("get_version")["version"] > 0


def test_a_login_is_http_digest_with_a_nonce_per_connection() -> None:
    """401 offers MD5 and MD5-sess in two headers, qop auth. The nonce belongs to the connection.

    On another connection it is answered by 401 with `stale=true`, and so is a nonce count that was
    used before; a wrong password by `stale=false`. Each 401 brings a new nonce, which voids the old
    one, and leaves the connection open.
    """
    if find("xmr") is None:
        pytest.skip(how_to_install("xmr"))
    login = ("merchant", "s3cret")
    with MoneroNode(login=login) as node:
        first, other = (http.client.HTTPConnection("127.0.0.1", node.rpc_port) for _ in range(2))

        def ask(connection: http.client.HTTPConnection, token: str | None) -> tuple[int, list[str]]:
            headers = {} if token is None else {"Authorization": token}
            connection.request("POST", "/get_height", b"{}", headers)
            response = connection.getresponse()
            response.read()
            return response.status, response.headers.get_all("www-authenticate", [])

        status, offers = ask(first, None)
        assert status == 401
        assert [re.findall(r"algorithm=([\w-]+)", offer) for offer in offers] == [
            ["MD5"],
            ["MD5-sess"],
        ]
        assert all('qop="auth"' in offer and "stale=false" in offer for offer in offers)
        token = digest(offers[0], "POST", "/get_height", *login)
        status, offers = ask(other, token)
        assert status == 401
        assert ask(first, token)[0] == 200
        status, offers = ask(first, token)
        assert status == 401
        assert "stale=true" in offers[0]
        wrong = digest(offers[0], "POST", "/get_height", "merchant", "wrong")
        status, offers = ask(first, wrong)
        assert status == 401
        assert "stale=false" in offers[0]
        assert ask(first, digest(offers[0], "POST", "/get_height", *login))[0] == 200
        first.close()
        other.close()


# --- errors ---


def test_errors_of_json_rpc_have_codes_and_others_a_status(client: MoneroClient) -> None:
    """A height above the tip is -2, an unknown hash -5, an unknown method -32601.

    The other endpoints say what is wrong as `status` in an answer with HTTP 200.
    """
    for method, params, code in (
        ("get_block_header_by_height", {"height": 1_000_000}, -2),
        ("get_block_headers_range", {"start_height": 0, "end_height": 1_000_000}, -2),
        ("get_block_header_by_hash", {"hash": NO_HASH}, -5),
        ("get_block", {"hash": NO_HASH}, -5),
        ("nonsense", {}, -32601),
    ):
        with pytest.raises(RpcError) as caught:
            client.rpc(method, **params)
        assert caught.value.code == code, method
    status, body = client.send("/get_transactions", b'{"txs_hashes":["xy"]}')
    assert status == 200
    assert "Failed to parse hex" in json.loads(body)["status"]


def test_a_restricted_node_takes_100_hashes_and_no_commands(xmr_node: MoneroNode) -> None:
    """101 hashes are refused, by `status` with HTTP 200; what commands the node is not there.

    JSON-RPC methods then are -32601 and other endpoints 404, as on a node that has never heard of
    them.
    """
    client = xmr_node.restricted()
    assert client.post("/get_transactions", txs_hashes=[NO_HASH] * 100)["missed_tx"]
    with pytest.raises(RpcError, match="Too many transactions requested in restricted mode"):
        client.post("/get_transactions", txs_hashes=[NO_HASH] * 101)
    for method in ("flush_txpool", "generateblocks", "get_connections"):
        with pytest.raises(RpcError) as caught:
            client.rpc(method, amount_of_blocks=1, wallet_address=NOBODY)
        assert caught.value.code == -32601
    with pytest.raises(HttpError) as refused:
        client.post("/pop_blocks", nblocks=1)
    assert refused.value.status == 404


# --- blocks ---


def test_a_block_blob_is_what_its_json_says(xmr_node: MoneroNode, xmr_wallet: MoneroWallet) -> None:
    """`get_block`: `blob` ends with the txids, `block_header` has hash, prev_hash and height."""
    sent = xmr_wallet.transfer({NOBODY: COIN_BASE})
    (block_hash,) = xmr_node.mine()
    block = xmr_node.block(block_hash)
    header = block["block_header"]
    assert header["hash"] == block_hash
    assert not header["orphan_status"]
    assert block["tx_hashes"] == [sent.txid]
    blob = bytes.fromhex(block["blob"])
    assert blob.endswith(b"\x01" + bytes.fromhex(sent.txid))
    assert bytes.fromhex(header["prev_hash"]) in blob[:60]
    assert json.loads(block["json"])["miner_tx"]["vin"][0]["gen"]["height"] == header["height"]


def test_a_displaced_block_is_known_by_its_hash_only(xmr_node: MoneroNode) -> None:
    """`get_block_header_by_hash` finds it with `orphan_status` true and its own height."""
    xmr_node.mine(2)
    height = xmr_node.height()
    old, new = xmr_node.reorg(2)
    header = xmr_node.rpc("get_block_header_by_hash", hash=old[1])["block_header"]
    assert header["orphan_status"]
    assert (header["height"], header["prev_hash"]) == (height, old[0])
    assert xmr_node.block_hash(height) == new[1]


def test_get_blocks_bin_gives_blocks_from_a_height(
    xmr_node: MoneroNode, xmr_wallet: MoneroWallet, client: MoneroClient
) -> None:
    """`/get_blocks.bin` {start_height, prune} without block_ids: blocks up to the tip.

    Whole, `txs` are blobs; pruned, {blob, prunable_hash}, and here prunable_hash is ZERO: the txid
    cannot be computed then, and has to be taken from the block. Height 0 and heights above the tip
    are `status` "Failed". A restricted node answers the same; 0.18.4 ignores `max_block_count`.
    """
    sent = xmr_wallet.transfer({NOBODY: COIN_BASE})
    xmr_node.mine(2)
    tip = xmr_node.height()

    def ask(height: int, **more: bool | int) -> dict:
        status, body = client.send("/get_blocks.bin", pack({"start_height": height, **more}))
        assert status == 200
        return unpack(body)

    pruned, whole = ask(tip - 1, prune=True), ask(tip - 1, prune=False)
    assert pruned["status"] == whole["status"] == b"OK"
    assert (pruned["start_height"], pruned["current_height"]) == (tip - 1, tip + 1)
    assert len(pruned["blocks"]) == len(whole["blocks"]) == 2
    assert pruned["blocks"][0]["block"] == bytes.fromhex(xmr_node.block(tip - 1)["blob"])
    (short,), (long,) = pruned["blocks"][0]["txs"], whole["blocks"][0]["txs"]
    assert long.startswith(short["blob"])
    assert short["prunable_hash"] == bytes(32)
    assert long.hex() == sent.blob_hex
    assert "txs" not in pruned["blocks"][1]
    assert len(ask(tip - 1, prune=True, max_block_count=1)["blocks"]) == 2
    for height in (0, tip + 1, tip + 1000):
        refused = ask(height, prune=True)
        assert refused["status"] == b"Failed"
        assert "blocks" not in refused


def test_get_blocks_by_height_bin_gives_whole_transactions(
    xmr_node: MoneroNode, xmr_wallet: MoneroWallet, client: MoneroClient
) -> None:
    """`/get_blocks_by_height.bin` {heights} ignores `prune`; height 0 is fine.

    With a height above the tip among them, all are refused by `status`.
    """
    sent = xmr_wallet.transfer({NOBODY: COIN_BASE})
    xmr_node.mine()
    tip = xmr_node.height()

    def ask(*heights: int) -> dict:
        request = pack({"heights": list(heights), "prune": True})
        return unpack(client.send("/get_blocks_by_height.bin", request)[1])

    blocks = ask(0, tip)["blocks"]
    assert [block["block"].hex() for block in blocks] == [
        xmr_node.block(height)["blob"] for height in (0, tip)
    ]
    assert [tx.hex() for tx in blocks[1]["txs"]] == [sent.blob_hex]
    assert ask(tip, tip + 1)["status"] != b"OK"


def test_coinbase_outputs_are_locked_by_unlock_time_for_60_blocks(xmr_node: MoneroNode) -> None:
    """A coinbase's `unlock_time` is its height plus 60; its amount is clear, its rct type 0.

    Others cannot be locked: the wallet refuses an unlock_time (see below), and the pool has a flag
    for it, nonzero_unlock_time.
    """
    xmr_node.mine()
    height = xmr_node.height()
    miner_tx = json.loads(xmr_node.block(height)["json"])["miner_tx"]
    assert miner_tx["unlock_time"] == height + COINBASE_LOCK_BLOCKS
    assert miner_tx["rct_signatures"]["type"] == 0
    assert miner_tx["vout"][0]["amount"] > 0


def test_a_one_time_key_may_be_there_twice(xmr_node: MoneroNode, xmr_wallet: MoneroWallet) -> None:
    """The burning bug: nothing but the payee's care keeps two outputs from sharing a key.

    Both have the same key image, so only one can ever be spent; wallet2 counts the greater one.
    """
    to, secret = xmr_wallet.address(0, 4), new_scalar()
    first, second = (
        mine_paying(xmr_node, [Payout(to, amount_base, secret)])
        for amount_base in (COIN_BASE, 2 * COIN_BASE)
    )
    assert first.one_time_keys == second.one_time_keys
    assert first.txid != second.txid
    xmr_wallet.refresh()
    (counted,) = (
        one for one in xmr_wallet.received() if one.one_time_key == first.one_time_keys[0]
    )
    assert (counted.txid, counted.amount_base) == (second.txid, 2 * COIN_BASE)


# --- transactions ---


def test_a_transaction_has_view_tags_rct_type_6_and_public_key_images(
    xmr_node: MoneroNode, xmr_wallet: MoneroWallet
) -> None:
    """Hard fork 16: `tagged_key` outputs, 8-byte amounts, the inputs' key images in clear.

    To two subaddresses: one additional key (tag 4) per output, besides the first key (tag 1).
    """
    xmr_wallet.address(0, 2)
    to = {xmr_wallet.address(0, minor): COIN_BASE for minor in (1, 2)}
    sent = xmr_wallet.transfer(to, relay=False)
    xmr_wallet.relay(sent)
    found = xmr_node.transaction(sent.txid)
    assert found is not None
    tx = json.loads(found["as_json"])
    assert tx["version"] == 2
    assert tx["unlock_time"] == 0
    assert [vin["key"]["k_image"] for vin in tx["vin"]] == list(sent.key_images)
    assert all(vin["key"]["amount"] == 0 for vin in tx["vin"])
    assert all(len(out["target"]["tagged_key"]["view_tag"]) == 2 for out in tx["vout"])
    assert tx["rct_signatures"]["type"] == 6
    assert all(len(ecdh["amount"]) == 16 for ecdh in tx["rct_signatures"]["ecdhInfo"])
    extra = bytes(tx["extra"])
    assert (extra[0], extra[33], extra[34]) == (1, 4, len(tx["vout"]))
    xmr_node.mine()


def test_pool_entries_are_told_apart_and_dated(
    xmr_node: MoneroNode, xmr_wallet: MoneroWallet, client: MoneroClient
) -> None:
    """`/get_transaction_pool_hashes` names them; `/get_transactions` has them `in_pool`.

    Their time of arrival is `received_timestamp`, in seconds, there, and `receive_time` in
    `/get_transaction_pool`: both 0 from a restricted node, which shows a transaction only when the
    node has passed it on. Absent lists stand for empty ones. With `prune`, blobs are
    `pruned_as_hex` with a true `prunable_hash`; `as_hex` is then empty.
    """
    assert "tx_hashes" not in client.post("/get_transaction_pool_hashes")
    assert "transactions" not in client.post("/get_transaction_pool")
    sent = xmr_wallet.transfer({NOBODY: COIN_BASE})
    assert xmr_node.pool_txids() == {sent.txid}
    told = wait_until(
        lambda: client.post("/get_transaction_pool_hashes").get("tx_hashes"), "it is passed on"
    )
    assert told == [sent.txid]
    (entry,) = client.post("/get_transaction_pool")["transactions"]
    (tx,) = client.post("/get_transactions", txs_hashes=[sent.txid], prune=True)["txs"]
    assert (entry["id_hash"], tx["tx_hash"], tx["in_pool"]) == (sent.txid, sent.txid, True)
    assert tx["double_spend_seen"] is entry["double_spend_seen"] is False
    restricted = client.port == xmr_node.restricted_port
    assert (tx["received_timestamp"] == 0) == restricted
    assert entry["receive_time"] == tx["received_timestamp"]
    assert tx["as_hex"] == ""
    assert sent.blob_hex.startswith(tx["pruned_as_hex"])
    rest = bytes.fromhex(sent.blob_hex.removeprefix(tx["pruned_as_hex"]))
    assert keccak(rest).hex() == tx["prunable_hash"]
    xmr_node.mine()
    (tx,) = client.post("/get_transactions", txs_hashes=[sent.txid], prune=True)["txs"]
    assert not tx["in_pool"]
    assert (tx["block_height"], tx["confirmations"]) == (xmr_node.height(), 1)


def test_a_second_spend_is_refused_but_marks_the_first(
    xmr_node: MoneroNode, xmr_wallet: MoneroWallet
) -> None:
    """The pool keeps the first; it has `double_spend_seen` from then on, the second is refused.

    Flushed from the pool, the first is unknown, and the second is let in without a mark.
    """
    first, second = (xmr_wallet.transfer({NOBODY: COIN_BASE}, relay=False) for _ in range(2))
    assert set(first.key_images) == set(second.key_images)
    xmr_wallet.relay(first)
    answer = xmr_node.send_raw(second.blob_hex)
    assert (answer["status"], answer["double_spend"]) == ("Failed", True)
    found = xmr_node.transaction(first.txid)
    assert found is not None
    assert found["double_spend_seen"]
    assert [entry["double_spend_seen"] for entry in xmr_node.pool()] == [True]
    xmr_node.flush_pool(first.txid)
    assert xmr_node.transaction(first.txid) is None
    xmr_wallet.relay(second)
    assert [entry["double_spend_seen"] for entry in xmr_node.pool()] == [False]
    xmr_node.mine()
    xmr_wallet.refresh()


def test_neither_wallet_nor_pool_let_a_payer_lock_money(xmr_wallet: MoneroWallet) -> None:
    """monero-wallet-rpc 0.18.4 refuses an `unlock_time`; only old chains and coinbases have one."""
    with pytest.raises(RpcError, match="non-zero unlock time"):
        xmr_wallet.transfer({NOBODY: COIN_BASE}, unlock_time=1_000, relay=False)


def test_popped_and_displaced_transactions_return_to_the_pool(
    xmr_node: MoneroNode, xmr_wallet: MoneroWallet
) -> None:
    """`/pop_blocks` and a longer branch both put them back; the branch's later blocks have them.

    Blocks of a branch that is not active yet leave the pool out.
    """
    sent = xmr_wallet.transfer({NOBODY: COIN_BASE})
    xmr_node.mine()
    xmr_node.pop(1)
    assert xmr_node.pool_txids() == {sent.txid}
    xmr_node.mine()
    assert xmr_node.pool_txids() == set()
    xmr_node.reorg(1)
    assert xmr_node.pool_txids() == {sent.txid}
    (block,) = xmr_node.mine()
    assert xmr_node.block(block)["tx_hashes"] == [sent.txid]


def test_the_pool_is_on_disk(tmp_path: Path) -> None:
    """A restart, and a kill too, leave the pool with its times of arrival."""
    if find("xmr") is None:
        pytest.skip(how_to_install("xmr"))
    with MoneroNode(datadir=tmp_path / "node") as node, MoneroWallet(node) as wallet:
        wallet.fund(coinbases=20)
        sent = wallet.transfer({NOBODY: COIN_BASE})
        before = [(entry["id_hash"], entry["receive_time"]) for entry in node.pool()]
        assert [txid for txid, _ in before] == [sent.txid]
        node.restart()
        assert [(entry["id_hash"], entry["receive_time"]) for entry in node.pool()] == before
        node.kill()
        node.start()
        assert [(entry["id_hash"], entry["receive_time"]) for entry in node.pool()] == before
