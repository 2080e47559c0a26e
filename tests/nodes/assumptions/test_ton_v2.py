"""What the TON driver assumes of toncenter's API v2 (lite servers over HTTP). Docstrings say what.

Two implementations are in use: the C++ one of toncenter.com, and the older Python one.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pytoniq_core import Cell, Transaction

from tests.helpers.ton import COIN_BASE, TonAddress, TonPeer, TonWallet
from tests.helpers.ton_shapes import V2_EXAMPLES, example_faults
from tests.helpers.ton_transactions import address_boc
from tests.nodes.install import find, how_to_install

MASTER = {"workchain": -1, "shard": "-9223372036854775808"}
PLACE = ("workchain", "shard", "seqno")
AMOUNT = 3 * COIN_BASE


@pytest.fixture(scope="module")
def peer() -> Iterator[TonPeer]:
    """One peer for all tests here, without the indexer."""
    if find("ton") is None:
        pytest.skip(how_to_install("ton"))
    with TonPeer(v3=False) as running:
        yield running


@pytest.fixture
def python_peer(peer: TonPeer) -> Iterator[TonPeer]:
    """The same, as the older implementation."""
    peer.set(v2_style="python")
    yield peer
    peer.set(v2_style="cpp")


@pytest.fixture
def payee(peer: TonPeer, request: pytest.FixtureRequest) -> TonWallet:
    return peer.wallet(str(request.node.nodeid))


def ask(peer: TonPeer, method: str, **query: Any) -> Any:
    told = peer.get(f"/api/v2/{method}", **query)
    assert told["ok"] is True
    return told["result"]


def refused(peer: TonPeer, path: str) -> tuple[int, str]:
    """Return status and error, which are in the answer too."""
    status, answer = peer.request(f"/api/v2/{path}")
    told = json.loads(answer)
    assert (told["ok"], told["code"]) == (False, status)
    return status, str(told["error"])


def place_of(block: dict[str, Any]) -> dict[str, Any]:
    return {name: block[name] for name in PLACE}


def test_the_tip_and_the_network(python_peer: TonPeer) -> None:
    """`getMasterchainInfo`: last, and init, whose root hash is that of the network's zero state.

    Shards are signed numbers in text here, unlike v3's hexadecimal.
    """
    told = ask(python_peer, "getMasterchainInfo")
    assert told.pop("@extra")
    assert not list(example_faults(told, V2_EXAMPLES["getMasterchainInfo"]))
    assert told["init"] == V2_EXAMPLES["getMasterchainInfo"]["init"]
    assert place_of(told["last"]) == {**MASTER, "seqno": python_peer.height()}
    assert base64.b64decode(told["last"]["root_hash"]).hex() == python_peer.tip()
    with TonPeer(network="testnet") as other:
        init = ask(other, "getMasterchainInfo")["init"]["root_hash"]
    assert init == "gj+B8wb/AmlPk1z1AhVI484rhrUpgSr2oSFIh56VoSg="


def test_shards_of_a_masterchain_block(peer: TonPeer) -> None:
    """`getShards` in the one implementation, `shards` in the other: the last block of each."""
    (block,) = peer.mine()
    told = ask(peer, "getShards", seqno=block.seqno)
    assert not list(example_faults(told, V2_EXAMPLES["getShards"]))
    assert refused(peer, f"shards?seqno={block.seqno}") == (404, "Not Found")
    peer.set(v2_style="python")
    assert ask(peer, "shards", seqno=block.seqno)["shards"] == told["shards"]
    assert refused(peer, f"getShards?seqno={block.seqno}") == (404, "Not Found")
    peer.set(v2_style="cpp")


def test_a_block_by_its_number(peer: TonPeer) -> None:
    """`lookupBlock` gives the hashes; one above the tip is an error of the lite server."""
    (block,) = peer.mine()
    found = ask(peer, "lookupBlock", **MASTER, seqno=block.seqno)
    assert base64.b64decode(found["root_hash"]).hex() == block.root_hash
    above = f"lookupBlock?workchain=-1&shard=-9223372036854775808&seqno={block.seqno + 1}"
    status, error = refused(peer, above)
    assert status == 542
    assert error.startswith("LITE_SERVER_NOTREADY: cannot find block")
    peer.set(v2_style="python")
    assert refused(peer, above)[0] == 500
    peer.set(v2_style="cpp")


def test_unreadable_parameters_are_422(peer: TonPeer) -> None:
    assert refused(peer, "getShards?seqno=x") == (422, "failed to parse seqno")
    assert refused(peer, "getAddressInformation?address=x") == (422, "failed to parse address")
    place = "workchain=0&shard=-9223372036854775808&seqno=1"
    assert refused(peer, f"getBlockTransactionsExt?{place}&count=0")[0] == 422
    assert refused(peer, f"getBlockTransactionsExt?{place}&after_lt=1")[0] == 422


def test_transactions_have_the_documented_shape(python_peer: TonPeer, payee: TonWallet) -> None:
    """As the documentation's example; what it has as raw data is text where it is a comment."""
    python_peer.pay(payee, AMOUNT, comment="inv-7")
    (block,) = python_peer.mine()
    (shard,) = ask(python_peer, "shards", seqno=block.seqno)["shards"]
    told = ask(python_peer, "getBlockTransactionsExt", **place_of(shard))
    assert told.pop("@extra")
    assert not list(example_faults(told, V2_EXAMPLES["getBlockTransactionsExt"]))
    (found,) = [one for one in told["transactions"] if one["account"] == payee.address]
    assert found["address"]["account_address"] == payee.bounceable
    assert found["in_msg"]["value"] == str(AMOUNT)
    text = base64.b64encode(b"inv-7").decode()
    assert found["in_msg"]["msg_data"] == {"@type": "msg.dataText", "text": text}


def test_a_transaction_is_there_as_a_bag_of_cells(peer: TonPeer, payee: TonWallet) -> None:
    """`data` alone tells of bounces and aborts; its root's hash is the transaction's."""
    peer.pay(payee, AMOUNT, bounce=True)
    (block,) = peer.mine()
    (shard,) = ask(peer, "getShards", seqno=block.seqno)["shards"]
    found = ask(peer, "getBlockTransactionsExt", **place_of(shard))["transactions"]
    (mine,) = [one for one in found if one["account"] == payee.address]
    cell = Cell.one_from_boc(base64.b64decode(mine["data"]))
    assert base64.b64encode(cell.hash).decode() == mine["transaction_id"]["hash"]
    parsed = Transaction.deserialize(cell.begin_parse())
    assert parsed.description.aborted
    assert parsed.description.bounce is not None
    assert parsed.in_msg.info.value_coins == AMOUNT
    assert "bounced" not in mine["in_msg"]


def test_pages_go_on_after_account_and_logical_time(peer: TonPeer) -> None:
    """40 unless asked, in the order of accounts; `incomplete` says that there are more. The next
    page needs both `after_lt` and `after_hash`, which is the account's id."""
    peer.flood(100)
    (block,) = peer.mine()
    (shard,) = ask(peer, "getShards", seqno=block.seqno)["shards"]
    told = ask(peer, "getBlockTransactionsExt", **place_of(shard))
    assert (told["req_count"], len(told["transactions"]), told["incomplete"]) == (40, 40, True)
    found, pages = told["transactions"], 1
    while told["incomplete"]:
        last = found[-1]
        after = {"after_lt": last["transaction_id"]["lt"], "after_hash": last["account"][2:]}
        told = ask(peer, "getBlockTransactionsExt", **place_of(shard), **after)
        found += told["transactions"]
        pages += 1
    accounts = [one["account"] for one in found]
    assert (len(accounts), pages) == (100, 3)
    assert accounts == sorted(set(accounts))
    short = ask(peer, "getBlockTransactions", **place_of(shard), count=1000)
    assert [one["account"].upper() for one in short["transactions"]] == accounts


def test_walking_back_finds_every_shard_block(peer: TonPeer) -> None:
    """Between two masterchain blocks a shard may have several blocks, may split and merge: only
    `prev_blocks` of `getBlockHeader` leads through all of them, and each once."""
    everything: set[str] = set()
    known = {str(place_of(one)) for one in ask(peer, "getShards", seqno=peer.height())["shards"]}
    first = peer.height()
    for count in (1, 2, 4, 2, 1):
        peer.set_shards(count, blocks=3)  # type: ignore[arg-type]
        for number in range(3):
            peer.pay(peer.wallet(f"walk {count} {number}"), AMOUNT)
        peer.flood(5)
        peer.mine()
    peer.set_shards(1)
    for seqno in range(first + 1, peer.height() + 1):
        expected = {
            one["hash"] for one in peer.transactions(seqno) if one["account"].startswith("0:")
        }
        found, known = _walk(peer, seqno, known)
        assert {one["transaction_id"]["hash"] for one in found} == expected
        assert len(found) == len(expected) == 11
        everything |= expected
    assert len(everything) == 55


def _walk(peer: TonPeer, seqno: int, known: set[str]) -> tuple[list[dict[str, Any]], set[str]]:
    tops = ask(peer, "getShards", seqno=seqno)["shards"]
    waiting, seen, found = list(tops), set(known), []
    while waiting:
        block = place_of(waiting.pop())
        if str(block) in seen:
            continue
        seen.add(str(block))
        found += ask(peer, "getBlockTransactionsExt", **block, count=1000)["transactions"]
        waiting += ask(peer, "getBlockHeader", **block)["prev_blocks"]
    return found, {str(place_of(top)) for top in tops}


def test_get_methods(peer: TonPeer) -> None:
    """The stack is of pairs: a number in hexadecimal, a cell or a slice as an object with its bag
    of cells. A contract without code ends with -13."""
    jetton = peer.create_jetton("stablecoin")
    owner = peer.wallet("owner")
    stack = [["tvm.Slice", address_boc(owner)]]
    asked = {"address": jetton.address, "method": "get_wallet_address", "stack": stack}
    told = peer.post("/api/v2/runGetMethod", asked)["result"]
    ((kind, value),) = told["stack"]
    found = Cell.one_from_boc(base64.b64decode(value["bytes"])).begin_parse().load_address()
    assert (kind, told["exit_code"]) == ("cell", 0)
    assert found.hash_part == peer.jetton_wallet(jetton, owner).account[1:]
    asked = {"address": jetton.address, "method": "get_jetton_data", "stack": []}
    told = peer.post("/api/v2/runGetMethod", asked)["result"]
    assert told["stack"][:2] == [["num", "0x0"], ["num", "-0x1"]]
    asked = {"address": owner.address, "method": "seqno", "stack": []}
    assert peer.post("/api/v2/runGetMethod", asked)["result"]["exit_code"] == -13


def test_every_method_is_there_as_json_rpc(peer: TonPeer) -> None:
    """One address for all: method and params, the same answers and the same statuses."""
    body = {"jsonrpc": "2.0", "id": "1", "method": "getMasterchainInfo", "params": {}}
    told = peer.post("/api/v2/jsonRPC", body)
    assert told["result"]["last"]["seqno"] == peer.height()
    body = {"method": "getShards", "params": {"seqno": peer.height() + 1}}
    status, answer = peer.request("/api/v2/jsonRPC", body)
    assert (status, json.loads(answer)["code"]) == (542, 542)


def test_account_states(peer: TonPeer) -> None:
    """`uninitialized` is the word here; v3's is `uninit`."""
    nobody: TonAddress = peer.wallet("nobody")
    told = ask(peer, "getAddressInformation", address=nobody.non_bounceable)
    assert (told["state"], told["balance"], told["code"]) == ("uninitialized", "0", "")
