"""The main job on TON: real daemon, real contracts on a real TVM behind toncenter's API."""

import json
import re
import signal
from collections.abc import Iterator
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from nacl.signing import SigningKey

from tests.e2e.conftest import MakeDaemon, check_log_text
from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay, StatusStream, enum_number
from tests.helpers.process import wait_until
from tests.helpers.ton import COIN_BASE, TonAddress, TonPeer
from tests.nodes.install import find, how_to_install

DEFAULT_SUBWALLET = 698983191
ASSET = """
[[asset]]
id = "USDT_TON"
chain = "ton"
symbol = "USDT"
name = "Tether of our own"
exponent = 6
contract = "{contract}"
network = "mainnet"
"""


@pytest.fixture(scope="module")
def peer() -> Iterator[TonPeer]:
    if find("ton") is None:
        pytest.skip(how_to_install("ton"))
    with TonPeer() as running:
        running.mine()
        yield running


@pytest.fixture(scope="module")
def usdt(peer: TonPeer) -> TonAddress:
    """A jetton of our own in the place of USDT, of which the payer has enough."""
    master = peer.create_jetton("standard", decimals=6)
    peer.mine()
    peer.mint(master, peer.payer, 10**12)
    peer.mine(3)
    return master


@pytest.fixture(scope="module")
def settings(peer: TonPeer, usdt: TonAddress, tmp_path_factory: pytest.TempPathFactory) -> dict:
    file = tmp_path_factory.mktemp("assets") / "assets.toml"
    file.write_text(ASSET.format(contract=usdt.bounceable))
    return {
        "TON_DAEMON_URL": peer.url,
        "TALLY_ASSETS_FILE": str(file),
        "TALLY_TON_POLL_INTERVAL_S": "0.2",
    }


@pytest.fixture(scope="module", params=["address", "comment"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def daemon(mode: str, settings: dict, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for each mode; its log holds no failure in the end."""
    running = Daemon(tmp_path_factory.mktemp(mode), env={**settings, "TALLY_TON_INVOICES": mode})
    with running:
        yield running
    check_log_text(running)


class Shop:
    """A user with a key of its own, and what its invoices came to."""

    def __init__(self, daemon: Daemon, peer: TonPeer, client: GoiPay, name: str) -> None:
        self.daemon = daemon
        self.peer = peer
        self.client = client
        self.stream: StatusStream = client.watch()
        self.key = bytes(SigningKey(sha256(name.encode()).digest()).verify_key)
        self.user_id = client.register()
        client.set_keys(self.user_id, ton=self.key.hex())

    def wallet(self, number: int) -> TonAddress:
        return self.peer.derived(self.key, subwallet=DEFAULT_SUBWALLET + number)

    def sell(self, asset: str, amount: str) -> dict:
        body = {"user_id": self.user_id, "asset": asset, "amount": amount, "expires_in": 3600}
        status, _, invoice = self.daemon.http("POST", "/v1/invoices", body)
        assert status == 201, invoice
        return invoice

    def now(self, invoice: dict) -> dict:
        return self.daemon.http("GET", f"/v1/invoices/{invoice['id']}")[2]

    def until_confirmed(self, invoice: dict) -> dict:
        wait_until(
            lambda: self.now(invoice)["status"] == "CONFIRMED", f"invoice {invoice['id']} is paid"
        )
        return self.now(invoice)

    def chain(self) -> dict:
        return self.daemon.http("GET", "/readyz")[2]["chains"]["ton"]

    def until_away(self) -> None:
        """Wait until the chain is not current."""
        wait_until(lambda: self.chain()["state"] != "current", "the chain is in trouble")

    def until_read(self) -> None:
        """Wait until the daemon has told every invoice of the peer's newest block."""
        height = self.peer.height()
        wait_until(lambda: self.chain()["height"] >= height, f"block {height} is read")


@pytest.fixture
def shop(daemon: Daemon, peer: TonPeer, request: pytest.FixtureRequest) -> Iterator[Shop]:
    with GoiPay(daemon.grpc_port) as client:
        yield Shop(daemon, peer, client, request.node.nodeid)


def test_a_coin_invoice_over_goipay(shop: Shop, peer: TonPeer, mode: str):
    made = shop.client.call(
        "CreateInvoice",
        userId=shop.user_id,
        coin=enum_number("crypto.v1.CoinType", "TON"),
        amount=1.5,
        timeout=3600,
        confirmations=1,
    )
    if mode == "address":
        wallet = shop.wallet(1)
        assert made.address == wallet.non_bounceable
        peer.pay(made.address, 3 * COIN_BASE // 2)
    else:
        link = urlsplit(made.address)
        wallet = shop.wallet(0)
        assert link.path == f"/{wallet.non_bounceable}"
        [comment] = parse_qs(link.query)["text"]
        peer.pay(wallet.non_bounceable, 3 * COIN_BASE // 2)
        peer.pay(wallet.non_bounceable, 3 * COIN_BASE // 2, comment=comment)
    peer.mine(3)
    shop.stream.until(made.paymentId, "CONFIRMED")
    statuses = [status for status, _ in groupby(shop.stream.statuses(made.paymentId))]
    assert statuses == ["PENDING", "PENDING_MEMPOOL", "CONFIRMED"]
    [told] = shop.client.get(made.paymentId)
    assert told.address == made.address
    shown = shop.now({"id": made.paymentId})
    assert (shown["address"], shown["received"]) == (wallet.non_bounceable, "1.5")
    assert [one["state"] for one in shown["payments"]] == ["included"]
    assert shown["payment_uri"] is None


def test_a_jetton_invoice_over_rest(shop: Shop, peer: TonPeer, usdt: TonAddress, mode: str):
    invoice, other = shop.sell("USDT_TON", "19.99"), shop.sell("USDT_TON", "19.99")
    assert (invoice["address"] == other["address"]) is (mode == "comment")
    assert (invoice["memo"] is None) is (mode == "address")
    query = parse_qs(urlsplit(invoice["payment_uri"]).query)
    assert query["jetton"] == [usdt.bounceable]
    assert query["amount"] == ["19990000"]
    assert query.get("text") == (None if mode == "address" else [invoice["memo"]])
    peer.pay_jetton(usdt, invoice["address"], 19_990_000, comment=invoice["memo"])
    peer.mine(4)
    paid = shop.until_confirmed(invoice)
    assert (paid["received"], paid["asset"]) == ("19.99", "USDT_TON")
    assert shop.now(other)["payments"] == []


def test_money_that_is_nobody_s(shop: Shop, peer: TonPeer, mode: str):
    first, second = shop.sell("TON", "1"), shop.sell("TON", "1")
    if mode == "comment":
        for said in (None, first["memo"][:-1], f" {first['memo']}", f"{first['memo']}0"):
            peer.pay(first["address"], COIN_BASE, comment=said)
    peer.pay(shop.wallet(77), COIN_BASE)
    peer.mine(3)
    shop.until_read()
    assert shop.now(first)["payments"] == shop.now(second)["payments"] == []
    told = shop.daemon.http("GET", f"/v1/invoices/{first['id']}/explain")[2]["reasons"][0]["text"]
    assert first["address"] in told
    assert (first["memo"] or "No payment") in told
    shown = shop.daemon.command("invoice", "show", first["id"]).stdout
    assert (f"Comment    {first['memo']}\n" in shown) is (mode == "comment")


def test_check_and_preview(shop: Shop, mode: str):
    done = shop.daemon.command("check")
    assert done.returncode == 0, done.stdout
    for wanted in ("network mainnet", "in sync", "1 of 1 contracts are as the asset data say"):
        assert wanted in done.stdout
    what = {"address": "a v4r2 wallet each", "comment": "the key's own v4r2 wallet, and a comment"}
    assert f"new invoices get {what[mode]}" in done.stdout
    shown = shop.daemon.command("keys", "preview", "TON", "-", stdin=f"{shop.key.hex()}\n")
    wallet = shop.wallet(1 if mode == "address" else 0)
    assert wallet.non_bounceable in shown.stdout


def test_another_mode_after_a_restart_leaves_old_invoices_as_they_are(
    make_daemon: MakeDaemon, peer: TonPeer, settings: dict
):
    daemon = make_daemon(env={**settings, "TALLY_TON_INVOICES": "comment"})
    daemon.start()
    with GoiPay(daemon.grpc_port) as client:
        shop = Shop(daemon, peer, client, "changes its mind")
        old = shop.sell("TON", "2")
        assert daemon.stop()
        daemon.extra_env |= {"TALLY_TON_INVOICES": "address", "TALLY_TON_WALLET": "v5r1"}
        daemon.start()
        new = shop.sell("TON", "3")
        assert new["address"] == peer.derived(shop.key, version="v5r1", subwallet=2).non_bounceable
        peer.pay(old["address"], 2 * COIN_BASE, comment=old["memo"])
        peer.pay(new["address"], 3 * COIN_BASE)
        peer.mine(3)
        for invoice, received in ((old, "2"), (new, "3")):
            assert shop.until_confirmed(invoice)["received"] == received


def test_another_network_than_the_setting_s_is_refused(make_daemon: MakeDaemon, settings: dict):
    daemon = make_daemon(env={**settings, "TALLY_TON_NETWORK": "testnet"})
    done = daemon.command("check")
    assert done.returncode == 1, done.stdout
    [failed] = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert "mainnet" in failed
    assert "testnet" in failed


def test_a_new_api_key_is_taken_without_a_restart(make_daemon: MakeDaemon, tmp_path: Path):
    if find("ton") is None:
        pytest.skip(how_to_install("ton"))
    key_file = tmp_path / "ton_daemon_api_key"
    key_file.write_text("the-first-key\n")
    with TonPeer(api_key="the-first-key") as peer:
        peer.mine()
        daemon = make_daemon(
            env={
                "TON_DAEMON_URL": peer.url,
                "TALLY_TON_POLL_INTERVAL_S": "0.2",
                "CREDENTIALS_DIRECTORY": str(tmp_path),
            }
        )
        daemon.start()
        with GoiPay(daemon.grpc_port) as client:
            shop = Shop(daemon, peer, client, "changes the key")
            invoice = shop.sell("TON", "2")
            peer.set(api_key="the-second-key")
            shop.until_away()
            reason = shop.chain()["reason"]
            key_file.write_text("the-second-key\n")
            daemon.send(signal.SIGHUP)
            peer.pay(invoice["address"], 2 * COIN_BASE)
            peer.mine(3)
            shop.until_confirmed(invoice)
    assert "coin.ton.daemon.api_key" in reason
    assert not re.search("the-(first|second)-key", daemon.log.read_text() + reason)


def test_an_audit_of_all_that_happened_here_is_clean(daemon):
    """Last of all: each way of paying above, derived once more from the chain."""
    done = daemon.command("audit", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    looked = json.loads(done.stdout)["coins"]
    assert all(one["payments"] or not one["invoices"] for one in looked), looked
