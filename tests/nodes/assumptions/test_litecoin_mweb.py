"""What the driver assumes of Litecoin's MWEB, on a live node. Docstrings say what.

`tests/nodes/data/ltc_mweb.json` holds the same shapes for tests that have no node.
"""

from collections.abc import Iterator

import pytest

from tests.helpers.bitcoin_rpc import RpcClient, RpcError
from tests.helpers.bitcoind import COIN_BASE, MWEB_HEIGHT, BitcoinNode, base_units, coins
from tests.nodes.install import find, how_to_install

FLAG_WITNESS = 1
FLAG_MWEB = 8


@pytest.fixture(scope="module")
def node() -> Iterator[BitcoinNode]:
    """A node with MWEB active."""
    if find("ltc") is None:
        pytest.skip(how_to_install("ltc"))
    with BitcoinNode("ltc") as node:
        node.activate_mweb()
        node.mine(2)
        yield node


@pytest.fixture(scope="module")
def private_wallet(node: BitcoinNode) -> RpcClient:
    """A wallet that has coins within MWEB only."""
    node.rpc("createwallet", "private")
    private = node.client.for_wallet("private")
    payer = node.client.for_wallet("tests")
    for _ in range(3):
        address = private.call("getnewaddress", "", "mweb")
        payer.call("sendtoaddress", address, coins(3 * COIN_BASE))
    node.rpc("generatetodescriptor", 10, "raw(51)")
    return private


def new_address(node: BitcoinNode, kind: str) -> str:
    return str(node.client.for_wallet("tests").call("getnewaddress", "", kind))


def mine(node: BitcoinNode) -> str:
    return str(node.rpc("generatetodescriptor", 1, "raw(51)")[0])


def flag(raw: str) -> int:
    """Return the flag byte of an extended serialisation (BIP 144, LIP 3), 0 for the plain one."""
    return int(raw[10:12], 16) if raw[8:10] == "00" else 0


def test_block_432_cannot_be_mined_without_a_peg_in() -> None:
    """On regtest the activating block needs a pending peg-in."""
    if find("ltc") is None:
        pytest.skip(how_to_install("ltc"))
    with BitcoinNode("ltc") as node:
        node.rpc("generatetodescriptor", MWEB_HEIGHT - 1, "raw(51)")
        with pytest.raises(RpcError):
            node.rpc("generatetodescriptor", 1, "raw(51)")
        assert node.height() == MWEB_HEIGHT - 1


def test_every_block_ends_with_a_hogex(node: BitcoinNode) -> None:
    """The last transaction is the HogEx: flag 8, first output of a type and script of its own."""
    block = node.rpc("getblock", mine(node), 2)
    hogex = block["tx"][-1]
    assert len(block["tx"]) == 2
    assert flag(hogex["hex"]) == FLAG_MWEB
    assert hogex["vout"][0]["scriptPubKey"]["type"] == "witness_mweb_hogaddr"
    assert hogex["vout"][0]["scriptPubKey"]["hex"].startswith("5820")  # OP_8 and 32 bytes
    below = node.rpc("getblock", block["previousblockhash"], 2)
    assert hogex["vin"][0]["txid"] == below["tx"][-1]["txid"]


def test_a_raw_block_goes_on_after_its_transactions(node: BitcoinNode) -> None:
    """After the last transaction comes 01 and the MWEB block: a parser stops at the count."""
    block_hash = mine(node)
    raw = node.rpc("getblock", block_hash, 0)
    transactions = "".join(tx["hex"] for tx in node.rpc("getblock", block_hash, 2)["tx"])
    head, rest = raw[:162], raw[162:]
    assert int(head[160:], 16) == 2
    assert rest.startswith(transactions)
    assert rest[len(transactions) :].startswith("01")


def test_a_payment_within_mweb_has_no_plain_inputs_or_outputs(
    node: BitcoinNode, private_wallet: RpcClient
) -> None:
    """Its raw form has flag 8 and counts 0; decoded, each vin and vout is `ismweb` without txid.

    It is listed by getrawmempool with vsize 0, and when mined it is in no block's transactions.
    """
    txid = private_wallet.call("sendtoaddress", new_address(node, "mweb"), coins(COIN_BASE))
    assert txid in node.mempool()
    assert node.rpc("getmempoolentry", txid)["vsize"] == 0
    decoded = node.rpc("getrawtransaction", txid, True)
    assert decoded["hex"][8:16] == "00080000"  # marker, flag, no inputs, no outputs
    assert decoded["vin"]
    assert decoded["vout"]
    assert all(part["ismweb"] for part in (*decoded["vin"], *decoded["vout"]))
    assert not any("txid" in part for part in decoded["vin"])
    assert not any("scriptPubKey" in part for part in decoded["vout"])
    block_hash = mine(node)
    assert node.mempool() == []
    assert txid not in node.rpc("getblock", block_hash)["tx"]


def test_a_peg_out_pays_in_the_hogex(node: BitcoinNode, private_wallet: RpcClient) -> None:
    """A payment out of MWEB to an ordinary address is an output of the block's HogEx.

    Before, its mempool transaction shows no such output, and its txid never appears in a block:
    the payment is seen when it is mined, under the HogEx's txid.
    """
    address = new_address(node, "bech32")
    script = node.rpc("validateaddress", address)["scriptPubKey"]
    txid = private_wallet.call("sendtoaddress", address, coins(COIN_BASE))
    decoded = node.rpc("getrawtransaction", txid, True)
    assert decoded["hex"][8:16] == "00080000"
    assert all(out["ismweb"] for out in decoded["vout"])
    block = node.rpc("getblock", mine(node), 2)
    assert txid not in [tx["txid"] for tx in block["tx"]]
    paid = {out["scriptPubKey"]["hex"]: out["value"] for out in block["tx"][-1]["vout"]}
    assert base_units(paid[script]) == COIN_BASE


def test_a_peg_in_is_an_ordinary_transaction_with_an_extension(node: BitcoinNode) -> None:
    """In the mempool it has flags 1 and 8 together; in the block the extension is gone.

    Its txid is the same in both, and its output (OP_9 and 32 bytes) is spent by the HogEx.
    """
    wallet = node.client.for_wallet("tests")
    spendable = wallet.call("getbalance")
    assert spendable > 20
    txid = wallet.call("sendtoaddress", new_address(node, "mweb"), coins(20 * COIN_BASE))
    in_mempool = node.rpc("getrawtransaction", txid, True)
    assert flag(in_mempool["hex"]) == FLAG_WITNESS | FLAG_MWEB
    block = node.rpc("getblock", mine(node), 2)
    in_block = next(tx for tx in block["tx"] if tx["txid"] == txid)
    assert flag(in_block["hex"]) == FLAG_WITNESS
    assert in_block["vout"][0]["scriptPubKey"]["type"] == "witness_mweb_pegin"
    assert in_block["vout"][0]["scriptPubKey"]["hex"].startswith("5920")
    assert txid in [vin["txid"] for vin in block["tx"][-1]["vin"]]


def test_a_reorg_pays_a_peg_out_again_under_another_txid(
    node: BitcoinNode, private_wallet: RpcClient
) -> None:
    """A displaced HogEx is gone; a later HogEx of the new branch pays its peg-outs.

    The MWEB transaction itself returns to the mempool. So one payment may have another outpoint
    after a reorg, while the old one is neither spent nor replaced: it is only no longer there. (A
    block of the same height and MWEB content would have the same HogEx.)
    """
    address = new_address(node, "bech32")
    script = node.rpc("validateaddress", address)["scriptPubKey"]
    txid = private_wallet.call("sendtoaddress", address, coins(COIN_BASE))
    old = node.rpc("getblock", mine(node), 2)
    node.rpc("invalidateblock", old["hash"])
    assert node.mempool() == [txid]
    node.rpc("prioritisetransaction", txid, 0, -COIN_BASE)
    # To another address, or the block would be the invalidated one again.
    node.rpc("generatetoaddress", 1, new_address(node, "bech32"))
    node.rpc("prioritisetransaction", txid, 0, COIN_BASE)
    assert node.mempool() == [txid]
    new = node.rpc("getblock", mine(node), 2)
    for block in (old, new):
        scripts = [out["scriptPubKey"]["hex"] for out in block["tx"][-1]["vout"]]
        assert scripts.index(script) > 0
    assert old["tx"][-1]["txid"] != new["tx"][-1]["txid"]
    assert old["tx"][-1]["txid"] not in node.mempool()
