"""What the TON driver assumes of toncenter's API v3 (the indexer). Docstrings say what.

The peer is ours (tests/nodes/ton): these tests pin it to what toncenter documents and to what its
sources do, and TON's own behaviour (bounces, undeployed wallets, jettons) to the real TVM.
"""

import base64
import json
from collections.abc import Iterator

import pytest

from tests.helpers.ton import COIN_BASE, TonPeer, TonPeerError, TonWallet
from tests.helpers.ton_shapes import v3_faults
from tests.helpers.ton_transactions import BY_BLOCK, body_of, mined
from tests.nodes.install import find, how_to_install

DROPPED = 13 * COIN_BASE


@pytest.fixture(scope="module")
def peer() -> Iterator[TonPeer]:
    """One peer for all tests here: each makes its own blocks, and undoes what it sets."""
    if find("ton") is None:
        pytest.skip(how_to_install("ton"))
    with TonPeer(first=1000) as running:
        yield running


@pytest.fixture
def payee(peer: TonPeer, request: pytest.FixtureRequest) -> TonWallet:
    """An account of the test's own, without code or coins."""
    return peer.wallet(str(request.node.nodeid))


# --- blocks ---


def test_the_tip_and_the_network(peer: TonPeer) -> None:
    """`masterchainInfo` has the first and last indexed masterchain block; global_id -239 is
    mainnet, -3 testnet. Sequence numbers are numbers, times and logical times text."""
    told = peer.get("/api/v3/masterchainInfo")
    assert not list(v3_faults(told, "masterchainInfo"))
    assert told["last"]["seqno"] == peer.height()
    assert told["first"]["seqno"] == 1000
    assert (told["last"]["workchain"], told["last"]["shard"]) == (-1, "8000000000000000")
    assert base64.b64decode(told["last"]["root_hash"]).hex() == peer.tip()
    assert told["last"]["global_id"] == -239
    with TonPeer(network="testnet") as other:
        assert other.get("/api/v3/masterchainInfo")["last"]["global_id"] == -3


def test_a_block_does_not_tell_its_parent_s_hash(peer: TonPeer) -> None:
    """`prev_blocks` names workchain, shard and number only: the parent has to be asked for."""
    peer.mine(2)
    seqno = peer.height()
    place = {"workchain": -1, "shard": "8000000000000000"}
    (block,) = peer.get("/api/v3/blocks", **place, seqno=seqno)["blocks"]
    assert not list(v3_faults(block, "Block"))
    assert block["prev_blocks"] == [{**place, "seqno": seqno - 1}]
    assert peer.get("/api/v3/blocks", **place, seqno=seqno + 1) == {"blocks": []}


def test_shard_blocks_belong_to_a_masterchain_block(peer: TonPeer) -> None:
    """By `mc_seqno` the masterchain block and every shard block since the last one."""
    peer.set_shards(2, blocks=2)
    (block,) = peer.mine()
    peer.set_shards(1)
    found = peer.get("/api/v3/blocks", mc_seqno=block.seqno, limit=100)["blocks"]
    assert sorted((one["workchain"], one["shard"]) for one in found) == [
        (-1, "8000000000000000"),
        (0, "4000000000000000"), (0, "4000000000000000"),
        (0, "C000000000000000"), (0, "C000000000000000"),
    ]  # fmt: skip
    assert {one["masterchain_block_ref"]["seqno"] for one in found} == {block.seqno}
    same = peer.get("/api/v3/masterchainBlockShards", seqno=block.seqno, limit=100)["blocks"]
    assert sorted(one["root_hash"] for one in same) == sorted(one["root_hash"] for one in found)


def test_a_block_that_is_not_indexed_is_404(peer: TonPeer) -> None:
    """Not an empty list, which only older indexers answer: the tip has to be known first."""
    above = peer.height() + 1
    status, answer = peer.request(f"{BY_BLOCK}?seqno={above}")
    assert (status, json.loads(answer)) == (404, {"error": f"masterchain block {above} not found"})
    peer.set(empty_unknown=True)
    assert peer.get(BY_BLOCK, seqno=above)["transactions"] == []
    peer.set(empty_unknown=False)


# --- transactions ---


def test_a_block_s_transactions_come_in_pages(peer: TonPeer) -> None:
    """Ten without a limit, 1000 at most, newest first unless asked; of one logical time by account.

    Those of all shards and of the masterchain itself, whose own have no inbound message.
    """
    peer.set_shards(4)
    peer.flood(2500)
    (block,) = peer.mine()
    peer.set_shards(1)
    pages = [
        peer.get(BY_BLOCK, seqno=block.seqno, limit=1000, offset=offset, sort="asc")["transactions"]
        for offset in range(0, 4000, 1000)
    ]
    assert [len(page) for page in pages] == [1000, 1000, 502, 0]
    found = [one for page in pages for one in page]
    keys = [(int(one["lt"]), one["account"]) for one in found]
    assert keys == sorted(keys)
    assert len({lt for lt, _ in keys}) < len(keys) == len({one["hash"] for one in found})
    assert [one["hash"] for one in found] == [one["hash"] for one in peer.transactions(block.seqno)]
    ticks = [one for one in found if one["account"].startswith("-1:")]
    assert [(one["in_msg"], one["description"]["type"]) for one in ticks] == 2 * [
        (None, "tick_tock")
    ]
    short = peer.get(BY_BLOCK, seqno=block.seqno)["transactions"]
    assert [int(one["lt"]) for one in short] == sorted((lt for lt, _ in keys), reverse=True)[:10]
    status, answer = peer.request(f"{BY_BLOCK}?seqno={block.seqno}&limit=1001")
    assert (status, json.loads(answer)) == (500, {"error": "limit is not allowed: 1001 > 1000"})


def test_pages_may_overlap(peer: TonPeer) -> None:
    """What was on one page may come again on the next, when rows were added meanwhile."""
    peer.flood(20)
    (block,) = peer.mine()
    peer.set(repeat=3)
    pages = [
        peer.get(BY_BLOCK, seqno=block.seqno, limit=10, offset=offset, sort="asc")["transactions"]
        for offset in (0, 10, 20)
    ]
    peer.set(repeat=0)
    hashes = [[one["hash"] for one in page] for page in pages]
    assert hashes[0][-3:] == hashes[1][:3]
    assert {one for page in hashes for one in page} == {
        one["hash"] for one in peer.transactions(block.seqno)
    }


def test_a_payment_to_an_undeployed_account_is_aborted_and_stays(
    peer: TonPeer, payee: TonWallet
) -> None:
    """`aborted` and a skipped computation, yet no bounce phase and no outbound message: the value
    of the inbound message is the account's. Fees of the recipient are not in it."""
    peer.pay(payee, DROPPED, comment="for coffee")
    (found,) = mined(peer, payee)
    assert found["description"]["aborted"] is True
    assert found["description"]["compute_ph"] == {"skipped": True, "reason": "no_state"}
    assert "bounce" not in found["description"]
    assert (found["out_msgs"], found["end_status"]) == ([], "uninit")
    message = found["in_msg"]
    assert (message["value"], message["bounce"], message["bounced"]) == (str(DROPPED), False, False)
    assert (message["source"], message["destination"]) == (peer.payer.address, payee.address)
    assert peer.balance(payee) == DROPPED


def test_a_bounceable_payment_to_an_undeployed_account_goes_back(
    peer: TonPeer, payee: TonWallet
) -> None:
    """A bounce phase of type ok, and an outbound message; the sender gets it as `bounced`, with
    less value, and its own transaction succeeds."""
    peer.pay(payee, DROPPED, bounce=True)
    (found,) = mined(peer, payee)
    seqno = found["mc_block_seqno"]
    assert found["description"]["aborted"] is True
    assert found["description"]["bounce"]["type"] == "ok"
    (back,) = found["out_msgs"]
    assert (back["bounced"], back["destination"]) == (True, peer.payer.address)
    *_, returned = mined(peer, peer.payer, at=seqno)
    assert returned["in_msg"]["bounced"] is True
    assert DROPPED - COIN_BASE < int(returned["in_msg"]["value"]) < DROPPED
    assert returned["description"]["aborted"] is False
    assert peer.balance(payee) == 0


def test_a_payment_to_a_deployed_wallet_is_not_aborted(peer: TonPeer) -> None:
    """Whatever the bounce flag; the same account sends with an external message, without value."""
    for version in ("v4r2", "v5r1"):
        wallet = peer.wallet("deployed", version=version, balance_base=COIN_BASE, deploy=True)
        peer.mine()
        peer.pay(wallet, DROPPED, bounce=True)
        (found,) = mined(peer, wallet)
        assert found["description"]["aborted"] is False
        assert found["description"]["compute_ph"]["success"] is True
        peer.pay(peer.payer, DROPPED, sender=wallet)
        spent, *_ = mined(peer, wallet)
        assert spent["in_msg"]["value"] is spent["in_msg"]["source"] is None
        assert [one["value"] for one in spent["out_msgs"]] == [str(DROPPED)]


@pytest.mark.parametrize(
    ("body", "opcode", "text"),
    [
        ({"comment": "inv-7"}, "0x00000000", "inv-7"),
        ({"comment": ""}, "0x00000000", ""),
        ({"bare": "inv-7"}, "0x696e762d", None),
        ({"bare": "7"}, None, None),
        ({"encrypted": "00" * 40}, "0x2167da4b", None),
        ({}, None, None),
    ],
)
def test_comments(
    peer: TonPeer, payee: TonWallet, body: dict[str, str], opcode: str | None, text: str | None
) -> None:
    """`body` is a bag of cells in base64; opcode is null below 32 bits. `decoded` is a help only:
    the body says it all, 32 zero bits and then text."""
    peer.pay(payee, DROPPED, body=body)
    (found,) = mined(peer, payee)
    message = found["in_msg"]
    assert message["opcode"] == opcode
    decoded = message["message_content"]["decoded"]
    assert (decoded["comment"] if decoded else None) == text
    content = body_of(found).begin_parse()
    if text is not None:
        assert content.load_uint(32) == 0
        assert content.load_snake_bytes().decode() == text


def test_a_long_comment_goes_on_in_references(peer: TonPeer, payee: TonWallet) -> None:
    """123 bytes of text fit beside the prefix; the rest is in a chain of cells."""
    text = "ü" * 500
    peer.pay(payee, DROPPED, comment=text)
    (found,) = mined(peer, payee)
    content = body_of(found).begin_parse()
    assert (content.load_uint(32), content.remaining_refs) == (0, 1)
    assert content.load_snake_bytes().decode() == text


def test_what_cannot_happen_can_be_told(peer: TonPeer, payee: TonWallet) -> None:
    """The peer can show oddities: amounts beyond int64, bodies that are no cells."""
    huge = {"value": str(2**64), "message_content": {"body": "te6cc!"}}
    peer.flood(items=[{"to": payee.address, "amount_base": "5", "patch": {"in_msg": huge}}])
    (found,) = mined(peer, payee)
    assert found["in_msg"]["value"] == str(2**64)
    assert found["in_msg"]["message_content"]["body"] == "te6cc!"


def test_pending_transactions_are_guesses(peer: TonPeer, payee: TonWallet) -> None:
    """Emulated, with a hash and a logical time that are not those in the block: what stays is
    `trace_external_hash`. 404 where an account has none, 422 without an account, 500 where the
    indexer has no emulator."""
    path = "/api/v3/pendingTransactions"
    status, answer = peer.request(f"{path}?account={payee.address}")
    assert (status, json.loads(answer)) == (404, {"error": "emulated traces not found"})
    assert peer.request(path)[0] == 422
    external = peer.pay(payee, DROPPED, comment="soon")
    (guess,) = peer.get(path, account=payee.non_bounceable)["transactions"]
    assert not list(v3_faults(guess, "Transaction"))
    assert (guess["emulated"], guess["finality"]) == (True, "pending")
    assert guess["in_msg"]["value"] == str(DROPPED)
    (found,) = mined(peer, payee)
    assert (found["emulated"], found["finality"]) == (False, "finalized")
    assert found["trace_external_hash"] == guess["trace_external_hash"] == external
    assert found["hash"] != guess["hash"]
    assert found["in_msg"]["hash"] != guess["in_msg"]["hash"]
    peer.set(pending=False)
    assert peer.request(f"{path}?account={payee.address}")[0] == 500
    peer.set(pending=True)


def test_transactions_by_account_and_hash(peer: TonPeer, payee: TonWallet) -> None:
    """Accounts in any form, several at once; hashes in hex or base64."""
    peer.pay(payee, DROPPED)
    (found,) = mined(peer, payee)
    path = "/api/v3/transactions"
    for form in (payee.address, payee.bounceable, payee.non_bounceable):
        assert peer.get(path, account=form)["transactions"] == [found]
    hexed = base64.b64decode(found["hash"]).hex()
    for form in (hexed, found["hash"]):
        assert peer.get(path, hash=form)["transactions"] == [found]
    assert peer.request(f"{path}?account=EQabc")[0] == 422


# --- keys, limits, lag ---


def test_a_wrong_key_is_401(peer: TonPeer) -> None:
    """In the header X-API-Key or the query's api_key."""
    peer.set(api_key="k")
    path = "/api/v3/masterchainInfo"
    refused = {"ok": False, "code": 401, "error": "API key does not exist"}
    for headers in ({}, {"X-API-Key": "x"}):
        status, answer = peer.request(path, headers=headers)
        assert (status, json.loads(answer)) == (401, refused)
    assert peer.request(path, headers={"X-API-Key": "k"})[0] == 200
    assert peer.request(f"{path}?api_key=k")[0] == 200
    peer.set(api_key=None)


def test_too_many_requests_are_429(peer: TonPeer) -> None:
    """With the envelope of v2, whatever was asked; the older gateway has `result` for `error`."""
    peer.set(rate_per_s=0)
    status, answer = peer.request("/api/v3/masterchainInfo")
    told = {"ok": False, "error": "Ratelimit exceeded", "code": 429}
    assert (status, json.loads(answer)) == (429, told)
    peer.set(v2_style="python")
    status, answer = peer.request("/api/v3/masterchainInfo")
    told = {"ok": False, "result": "Ratelimit exceed", "code": 429}
    assert (status, json.loads(answer)) == (429, told)
    peer.set(rate_per_s=None, v2_style="cpp")


def test_another_indexer_behind_the_same_address_may_lag(peer: TonPeer) -> None:
    """The tip goes back, and blocks that were there are 404 for a while."""
    peer.mine(5)
    tip = peer.height()
    peer.set(lag_v3=3)
    assert peer.get("/api/v3/masterchainInfo")["last"]["seqno"] == tip - 3
    assert peer.request(f"{BY_BLOCK}?seqno={tip}")[0] == 404
    peer.set(lag_v3=0)
    assert peer.get("/api/v3/masterchainInfo")["last"]["seqno"] == tip


def test_where_v3_is_missing_it_is_a_plain_404(peer: TonPeer) -> None:
    """Not JSON: what a proxy answers for a path it does not know."""
    peer.set(v3=False)
    status, answer = peer.request("/api/v3/masterchainInfo")
    peer.set(v3=True)
    assert status == 404
    assert answer[:1] != b"{"


def test_planned_faults_come_and_go(peer: TonPeer) -> None:
    """Gateways in front of it answer with whatever they like."""
    peer.fail("masterchainInfo", times=2, status=502, body="<html>Bad Gateway</html>")
    answers = [peer.request("/api/v3/masterchainInfo")[0] for _ in range(3)]
    assert answers == [502, 502, 200]
    peer.fail(close=True)
    with pytest.raises(ConnectionError):
        peer.request("/api/v3/masterchainInfo")
    with pytest.raises(TonPeerError, match="unknown option"):
        peer.set(nonsense=1)
