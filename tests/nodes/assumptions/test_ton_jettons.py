"""What the TON driver assumes of jettons (TEP-74, TEP-64) and of get methods, on the real TVM."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from pytoniq_core import Cell

from tests.helpers.ton import COIN_BASE, TonAddress, TonPeer, TonWallet
from tests.helpers.ton_shapes import v3_faults
from tests.helpers.ton_transactions import address_boc, body_of, mined
from tests.nodes.install import find, how_to_install

INTERNAL_TRANSFER, TRANSFER_NOTIFICATION = "0x178d4519", "0x7362d09c"


@pytest.fixture(scope="module")
def peer() -> Iterator[TonPeer]:
    """One peer for all tests here: each has accounts of its own."""
    if find("ton") is None:
        pytest.skip(how_to_install("ton"))
    with TonPeer() as running:
        yield running


@pytest.fixture
def payee(peer: TonPeer, request: pytest.FixtureRequest) -> TonWallet:
    """An account of the test's own, without code or coins."""
    return peer.wallet(str(request.node.nodeid))


@pytest.fixture(scope="module")
def usdt(peer: TonPeer) -> TonAddress:
    """A master of USDT's layout, and the payer has plenty of it."""
    return _jetton(peer, "stablecoin")


@pytest.fixture(scope="module")
def standard(peer: TonPeer) -> TonAddress:
    return _jetton(peer, "standard")


def _jetton(peer: TonPeer, kind: Any, **more: Any) -> TonAddress:
    made = peer.create_jetton(kind, **more)
    peer.mint(made, peer.payer, 10**15)
    peer.mine()
    return made


@pytest.mark.parametrize("kind", ["standard", "stablecoin"])
@pytest.mark.parametrize("place", ["inline", "ref"])
def test_a_jetton_payment_is_a_transaction_of_the_jetton_wallet(
    peer: TonPeer, payee: TonWallet, request: pytest.FixtureRequest, kind: str, place: Any
) -> None:
    """internal_transfer (0x178d4519) to the wallet that the master derives, from another wallet of
    it or from the master; it deploys that wallet. The comment is in it, and in the notification."""
    jetton: TonAddress = request.getfixturevalue({"stablecoin": "usdt"}.get(kind, kind))
    wallet = peer.jetton_wallet(jetton, payee)
    peer.pay_jetton(jetton, payee, 2_500_000, comment="inv-7", place=place)
    (found,) = mined(peer, wallet)
    assert found["description"]["aborted"] is False
    assert found["in_msg"]["opcode"] == INTERNAL_TRANSFER
    assert found["end_status"] == "active"
    body = body_of(found).begin_parse()
    assert (body.load_uint(32), body.load_uint(64), body.load_coins()) == (0x178D4519, 0, 2_500_000)
    assert body.load_address().wc == body.load_address().wc == 0
    assert body.load_coins() == 1
    payload = body.load_ref().begin_parse() if body.load_bit() else body
    assert payload.load_uint(32) == 0
    assert payload.load_snake_bytes() == b"inv-7"
    (notice,) = mined(peer, payee, at=found["mc_block_seqno"])
    assert (notice["in_msg"]["opcode"], notice["in_msg"]["value"]) == (TRANSFER_NOTIFICATION, "1")
    assert notice["in_msg"]["source"] == wallet.address
    assert peer.jetton_balance(jetton, payee) == 2_500_000


def test_without_a_forward_amount_the_owner_is_told_nothing(
    peer: TonPeer, payee: TonWallet, usdt: TonAddress
) -> None:
    """The jetton wallet's transaction is all there is."""
    peer.pay_jetton(usdt, payee, 7, forward_base=0)
    (found,) = mined(peer, peer.jetton_wallet(usdt, payee))
    assert found["in_msg"]["opcode"] == INTERNAL_TRANSFER
    assert mined(peer, payee, at=found["mc_block_seqno"]) == []


def test_minting_is_an_internal_transfer_too(
    peer: TonPeer, payee: TonWallet, standard: TonAddress
) -> None:
    """From the master, with no sender in it."""
    peer.mint(standard, payee, 9)
    (found,) = mined(peer, peer.jetton_wallet(standard, payee))
    assert found["in_msg"]["source"] == standard.address
    body = body_of(found).begin_parse()
    body.skip_bits(96)
    assert (body.load_coins(), body.load_address()) == (9, None)


def test_anyone_can_send_a_notification(peer: TonPeer, payee: TonWallet, usdt: TonAddress) -> None:
    """transfer_notification from what is not the owner's jetton wallet means nothing."""
    fake = {"op": "transfer_notification", "amount_base": "1", "sender": peer.payer.address}
    peer.pay(payee, 1, body=fake)
    (found,) = mined(peer, payee)
    assert found["in_msg"]["opcode"] == TRANSFER_NOTIFICATION
    assert found["in_msg"]["source"] != peer.jetton_wallet(usdt, payee).address


@pytest.mark.parametrize("exists", [False, True])
def test_a_jetton_wallet_refuses_transfers_of_strangers(
    peer: TonPeer, payee: TonWallet, usdt: TonAddress, exists: bool
) -> None:
    """internal_transfer from whom the wallet cannot derive: aborted, whether the wallet is there or
    not, bounced back or not: without the flag the TON stay, and still no jettons came."""
    if exists:
        peer.pay_jetton(usdt, payee, 5)
        peer.mine()
    wallet = peer.jetton_wallet(usdt, payee)
    for bounce in (True, False):
        fake = {"op": "internal_transfer", "amount_base": "10", "sender": peer.payer.address}
        peer.pay(wallet, COIN_BASE, body=fake, bounce=bounce)
        (found,) = mined(peer, wallet)
        assert found["in_msg"]["opcode"] == INTERNAL_TRANSFER
        assert found["description"]["aborted"] is True
        assert ("bounce" in found["description"]) is bounce
    assert peer.jetton_balance(usdt, payee) == (5 if exists else 0)


def test_another_master_of_the_same_code_has_other_wallets(
    peer: TonPeer, payee: TonWallet, standard: TonAddress
) -> None:
    """A fake has the name, the decimals and the code of the real one, but not its address."""
    fake = _jetton(peer, "standard", salt=1)
    real, faked = peer.jetton_wallet(standard, payee), peer.jetton_wallet(fake, payee)
    peer.pay_jetton(fake, payee, 10**9)
    (found,) = mined(peer, faked)
    assert found["in_msg"]["opcode"] == INTERNAL_TRANSFER
    assert real != faked
    codes = [
        one["jetton_wallet_code_hash"]
        for one in peer.get("/api/v3/jetton/masters", address=[standard.address, fake.address])[
            "jetton_masters"
        ]
    ]
    assert len(codes) == 2
    assert codes[0] == codes[1]


def test_what_a_master_tells_of_itself(peer: TonPeer, usdt: TonAddress, payee: TonWallet) -> None:
    """`jetton/masters` has the decimals as text, and only the hash of the wallets' code; the code
    is the last of get_jetton_data. USDT's is a library cell: 8 bits of type, then a hash."""
    told = peer.get("/api/v3/jetton/masters", address=usdt.bounceable)
    assert not list(v3_faults(told, "JettonMasters"))
    (master,) = told["jetton_masters"]
    assert master["jetton_content"]["decimals"] == "6"
    asked = {"address": usdt.address, "method": "get_jetton_data", "stack": []}
    ran = peer.post("/api/v3/runGetMethod", asked)
    assert not list(v3_faults(ran, "RunGetMethod"))
    assert [one["type"] for one in ran["stack"]] == ["num", "num", "cell", "cell", "cell"]
    assert [one["value"] for one in ran["stack"][:2]] == [hex(int(master["total_supply"])), "-0x1"]
    code = Cell.one_from_boc(base64.b64decode(ran["stack"][4]["value"]))
    assert base64.b64encode(code.hash).decode() == master["jetton_wallet_code_hash"]
    assert code.is_exotic
    assert peer.get("/api/v3/jetton/masters", address=payee.address)["jetton_masters"] == []


def test_a_master_derives_the_wallet_of_an_owner(
    peer: TonPeer, usdt: TonAddress, payee: TonWallet
) -> None:
    """get_wallet_address takes the owner as a slice and answers with an address in a cell. The
    indexer lists the wallet only once it exists."""
    stack = [{"type": "slice", "value": address_boc(payee)}]
    asked = {"address": usdt.address, "method": "get_wallet_address", "stack": stack}
    (answer,) = peer.post("/api/v3/runGetMethod", asked)["stack"]
    found = Cell.one_from_boc(base64.b64decode(answer["value"])).begin_parse().load_address()
    wallet = peer.jetton_wallet(usdt, payee)
    assert (answer["type"], found.hash_part) == ("cell", wallet.account[1:])
    query = {"owner_address": payee.address, "jetton_address": usdt.address}
    assert peer.get("/api/v3/jetton/wallets", **query)["jetton_wallets"] == []
    peer.pay_jetton(usdt, payee, 5)
    peer.mine()
    told = peer.get("/api/v3/jetton/wallets", **query)
    assert not list(v3_faults(told, "JettonWallets"))
    (one,) = told["jetton_wallets"]
    assert (one["address"], one["balance"]) == (wallet.address, "5")


def test_get_methods_that_fail(peer: TonPeer, usdt: TonAddress, payee: TonWallet) -> None:
    """-13 where there is no code, 11 where there is no such method: HTTP 200 all the same."""
    for address, method, code in ((payee, "seqno", -13), (usdt, "no_such", 11)):
        asked = {"address": address.address, "method": method, "stack": []}
        told = peer.post("/api/v3/runGetMethod", asked)
        assert (told["exit_code"], told["stack"]) == (code, [])
    status, _ = peer.request("/api/v3/runGetMethod", {"method": "seqno", "stack": []})
    assert status == 401


def test_account_states(peer: TonPeer, payee: TonWallet) -> None:
    """Unknown accounts are `uninit` with nothing, not an error."""
    told = peer.get("/api/v3/addressInformation", address=payee.address)
    assert not list(v3_faults(told, "AddressInformation"))
    assert (told["balance"], told["status"], told["code"]) == ("0", "uninit", None)
    told = peer.get("/api/v3/addressInformation", address=peer.payer.address)
    assert (told["status"], int(told["balance"])) == ("active", peer.balance(peer.payer))
