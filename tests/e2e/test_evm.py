"""The main job on Ethereum, BNB Smart Chain and a chain that an operator describes in a file."""

import contextlib
import json
from collections.abc import Iterator

import pytest

from daemon.keys.evm import parse_address
from tests.e2e.conftest import check_log_text
from tests.helpers.anvil import COIN_BASE, AnvilNode
from tests.helpers.daemon import Daemon
from tests.helpers.evm_assets import Token, write_assets
from tests.helpers.evm_market import Market, Sale
from tests.helpers.goipay_client import GoiPay
from tests.helpers.process import wait_until
from tests.helpers.shop import Shop
from tests.nodes.install import find, how_to_install

LIFE = ["PENDING", "PENDING_MEMPOOL", "CONFIRMED"]
SUPPLY_BASE = 10**27
WHOLE = 10**16
"""An amount of 18 decimals that also GoiPay's clients, who see eight, know exactly."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[dict[str, AnvilNode]]:
    """A node with Ethereum's chain id and one with BNB Smart Chain's."""
    if find("evm") is None:
        pytest.skip(how_to_install("evm"))
    with AnvilNode(1) as eth, AnvilNode(56) as bnb:
        yield {"eth": eth, "bnb": bnb}


@pytest.fixture(scope="module")
def tokens(nodes) -> dict[str, Token]:
    """Contracts of our own in the place of the well-known ones."""
    eth, bnb = nodes["eth"], nodes["bnb"]
    found = [
        Token("DAI_ERC20", "eth", eth.deploy("Token", 18, SUPPLY_BASE), 18, 1),
        Token("USDT_ERC20", "eth", eth.deploy("SilentToken", SUPPLY_BASE), 6, 1),
        Token("UNI_ERC20", "eth", eth.deploy("FeeToken", SUPPLY_BASE), 18, 1),
        Token("LINK_ERC20", "eth", eth.deploy("Token", 6, SUPPLY_BASE), 18, 1),
        Token("BSCUSD_BEP20", "bnb", bnb.deploy("Token", 18, SUPPLY_BASE), 18, 56),
    ]
    return {token.asset: token for token in found}


@pytest.fixture(scope="module")
def daemon(nodes, tokens, btc_node, tmp_path_factory) -> Iterator[Daemon]:
    """One daemon on both nodes and on Bitcoin's; its log holds no failure in the end."""
    folder = tmp_path_factory.mktemp("evm")
    env = {
        "TALLY_ASSETS_FILE": str(write_assets(folder / "assets.toml", *tokens.values())),
        "ETH_DAEMON_URL": nodes["eth"].ws_url,
        "BNB_DAEMON_URL": nodes["bnb"].ws_url,
    }
    running = Daemon(folder, nodes=(btc_node,), env=env)
    with running:
        yield running
    check_log_text(running)


@pytest.fixture(scope="module")
def market(daemon, nodes) -> Iterator[Market]:
    with GoiPay(daemon.grpc_port) as client:
        yield Market(daemon, nodes, client, client.watch())


@contextlib.contextmanager
def market_of(daemon: Daemon, **nodes: AnvilNode) -> Iterator[Market]:
    with GoiPay(daemon.grpc_port) as client:
        yield Market(daemon, nodes, client, client.watch())


def reason_of(daemon: Daemon, chain: str, state: str) -> str:
    """Wait until the chain is in that state; returns why."""

    def probe() -> str | None:
        found = daemon.http("GET", "/readyz")[2]["chains"][chain]
        return str(found["reason"]) if found["state"] == state else None

    return wait_until(probe, f"{chain} is {state}")


def height_of(daemon: Daemon, chain: str) -> int:
    return daemon.http("GET", "/readyz")[2]["chains"][chain]["height"] or 0


def mined(sale: Sale, depth: int = 1) -> dict:
    return sale.until(
        lambda one: [p["confirmations"] for p in one["payments"] if p["height"]] == [depth],
        f"{depth} confirmations",
    )


def parts_of(sale: Sale) -> dict[str, list[int]]:
    """What arrived at the address, by asset, in order."""
    found: dict[str, list[int]] = {}
    for one in sale.check()["payments"]:
        found.setdefault(one["asset"], []).append(int(one["amount_base"]))
    return found


def test_each_asset_is_pending_then_seen_then_confirmed(market, tokens, nodes, btc_node):
    """20 ETH and 10^26 base units are exact; BTC goes on beside them."""
    bitcoin = Shop(market.daemon, btc_node, market.client, market.stream).sell(12_345_679)
    amounts = {
        "ETH": 20 * COIN_BASE + 1,
        "DAI_ERC20": 10**26 + 1,
        "USDT_ERC20": 12_345_678,
        "BNB": 3 * COIN_BASE // 2,
        "BSCUSD_BEP20": 10**26,
    }
    sales = [market.sell(asset, amount) for asset, amount in amounts.items()]
    assert len({sale.address for sale in sales}) == len(sales)
    assert all(parse_address(sale.address) for sale in sales), "EIP-55"
    txids = {}
    for sale in sales:
        token = tokens.get(sale.asset)
        txids[sale.asset] = sale.pay() if token is None else sale.pay_token(token)
        assert sale.heard("PENDING_MEMPOOL") == LIFE[:2]
    bitcoin.pay()
    bitcoin.heard("PENDING_MEMPOOL")
    for node in (*nodes.values(), btc_node):
        node.mine()
    for sale in sales:
        assert sale.heard("CONFIRMED") == LIFE
        shown = sale.check()
        (payment,) = shown["payments"]
        assert (payment["txid"], payment["asset"]) == (txids[sale.asset], sale.asset)
        assert payment["index"] == (1 if sale.asset in tokens else 0)
        receipt = sale.node.receipt(payment["txid"])
        assert payment["block_hash"] == receipt["blockHash"]
        assert shown["confirmed_base"] == str(sale.amount_base)
        assert sale.kinds() == [
            "invoice.created",
            "payment.seen",
            "invoice.covered",
            "payment.included",
            "invoice.settled",
        ]
    assert bitcoin.heard("CONFIRMED")


def test_goipay_sells_a_token_and_shares_the_index_sequence(market, tokens):
    user = market.client.register()
    key = (
        "xpub6BosfCnifzxcFwrSzQiqu2DBVTshkCXacvNsWGYJVVhhawA7d4R5WSWGFNbi8Aw6ZRc1brxMyWMzG3DSSSSoek"
        "kudhUd9yLb6qx39T9nMdj"
    )
    market.client.set_keys(user, eth=key, bnb=key)
    coins = ("ETH", "USDT_ERC20", "BNB", "BSCUSD_BEP20")
    created = {coin: market.client.create(user, coin, 10**8) for coin in coins}
    # One sequence per chain, from 0/1; the same key gives the same addresses on both.
    assert created["ETH"].address == created["BNB"].address
    assert created["USDT_ERC20"].address == created["BSCUSD_BEP20"].address
    assert created["ETH"].address != created["USDT_ERC20"].address
    token = tokens["USDT_ERC20"]
    node = market.nodes["eth"]
    node.pay_token(token.contract, created["USDT_ERC20"].address, 10**6)
    node.mine()
    updates = market.stream.until(created["USDT_ERC20"].id, "CONFIRMED")
    assert updates[-1].actual_base == 10**8
    assert market.stream.statuses(created["ETH"].id) == ["PENDING"]


def test_only_what_was_asked_for_counts(market, tokens):
    """The coin does not pay a token's invoice, nor a token another's; both are shown."""
    coin, token = market.sell("ETH", WHOLE), market.sell("DAI_ERC20", WHOLE)
    token.pay(WHOLE)
    coin.pay_token(tokens["DAI_ERC20"])
    token.pay_token(tokens["USDT_ERC20"])
    coin.node.mine()
    coin.pay()
    token.pay_token(tokens["DAI_ERC20"], WHOLE // 4)
    token.pay_token(tokens["DAI_ERC20"], 3 * WHOLE // 4)
    coin.node.mine()
    assert coin.heard("CONFIRMED") == LIFE
    token.heard("CONFIRMED")
    assert parts_of(coin) == {"DAI_ERC20": [WHOLE], "ETH": [WHOLE]}
    parts = [WHOLE // 4, 3 * WHOLE // 4]
    assert parts_of(token) == {"ETH": [WHOLE], "USDT_ERC20": [WHOLE], "DAI_ERC20": parts}


def test_a_fee_on_transfer_is_credited_as_it_arrived(market, tokens):
    sale = market.sell("UNI_ERC20", WHOLE)
    sale.pay_token(tokens["UNI_ERC20"])
    sale.heard("PENDING_MEMPOOL")
    sale.node.mine()
    arrived = str(WHOLE - WHOLE // 100)
    shown = sale.until(lambda one: one["received_base"] == arrived, "what arrived is known")
    assert shown["status"] == "PENDING"
    assert shown["flags"]["underpaid"]
    sale.check()


def test_a_contract_pays_two_invoices_at_once(market, nodes):
    """An exchange's batch payout: no log, and the payees are not the transaction's `to`."""
    node = nodes["bnb"]
    payer = node.deploy("Payer")
    sales = [market.sell("BNB", COIN_BASE), market.sell("BNB", 2 * COIN_BASE)]
    txid = node.pay_batch(payer, {sale.address: sale.amount_base for sale in sales})
    node.mine()
    for sale in sales:
        sale.heard("CONFIRMED")
        (payment,) = sale.check()["payments"]
        assert payment["txid"] == txid
        assert payment["index"] >= 2**20


def test_a_replacement_takes_the_place_of_the_first(market, tokens):
    coin, token = market.sell("ETH", COIN_BASE), market.sell("DAI_ERC20", 10**20)
    old = coin.pay()
    coin.heard("PENDING_MEMPOOL")
    new = coin.node.replace(old)
    coin.until(lambda one: one["txid"] == new, "the replacement is seen")
    lost = token.pay_token(tokens["DAI_ERC20"])
    token.heard("PENDING_MEMPOOL")
    token.node.replace(lost, to=coin.node.accounts[1])
    token.heard("PENDING")
    coin.node.mine()
    assert coin.heard("CONFIRMED") == ["PENDING", "PENDING_MEMPOOL", "PENDING_MEMPOOL", "CONFIRMED"]
    shown = {one["txid"]: one for one in coin.check()["payments"]}
    assert (shown[old]["state"], shown[old]["replaced_by"]) == ("replaced", new)
    assert shown[new]["state"] == "included"
    assert [one["state"] for one in token.check()["payments"]] == ["replaced"]


def test_a_reorg_moves_one_payment_and_drops_another(market, tokens):
    kept = market.sell("ETH", COIN_BASE, confirmations=3)
    lost = market.sell("DAI_ERC20", 10**20, confirmations=3)
    kept.node.mine(2)
    txid = kept.pay()
    lost.pay_token(tokens["DAI_ERC20"])
    kept.node.mine()
    before = mined(kept)["payments"][0]["block_hash"]
    mined(lost)
    kept.node.reorg(1, keep=[(txid, 0)], length=2)
    after = mined(kept, 2)
    assert after["payments"][0]["block_hash"] != before
    shown = lost.until(lambda one: one["payments"][0]["height"] is None, "it left its block")
    assert shown["confirmed_base"] == "0"
    kept.node.mine()
    assert kept.heard("CONFIRMED") == LIFE
    kept.check()
    assert lost.rest()["status"] != "CONFIRMED"


def test_an_asset_whose_contract_is_another_one_is_disabled_and_the_rest_runs(market):
    items = market.daemon.http("GET", "/v1/assets")[2]["items"]
    assets = {one["id"]: one for one in items}
    assert "6 decimals" in assets["LINK_ERC20"]["reason"]
    assert not assets["LINK_ERC20"]["enabled"]
    assert "does not exist on chain id 1" in assets["AAVE_ERC20"]["reason"]
    assert assets["DAI_ERC20"]["enabled"]
    status, problem = market.ask("LINK_ERC20", 5)
    assert status in (409, 422, 503), problem
    assert "6 decimals" in str(problem)


def test_check_shows_nodes_tokens_and_how_payments_by_contracts_are_seen(market, nodes):
    done = market.daemon.command("check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "anvil" in done.stdout
    assert "chain id 1, block" in done.stdout
    assert "chain id 56, block" in done.stdout
    assert "internal payments by trace_block" in done.stdout
    assert "3 of 13 contracts are as the asset data say" in done.stdout
    assert "LINK_ERC20 is disabled" in done.stdout
    assert done.stderr == ""


def test_an_invoice_is_shown_in_units_of_its_token(market):
    sale = market.sell("USDT_ERC20", 1_500_000)
    done = market.daemon.command("invoice", "show", sale.id)
    assert done.returncode == 0, done.stderr
    assert "Required   1.5 USDT" in done.stdout
    assert "Asset      USDT_ERC20 on eth 1" in done.stdout


def test_a_crash_during_catch_up_loses_nothing_and_tells_nothing_twice(tmp_path):
    with AnvilNode(56) as node:
        daemon = Daemon(tmp_path, env={"BNB_DAEMON_URL": node.ws_url})
        with daemon, market_of(daemon, bnb=node) as market:
            sales = [market.sell("BNB", number * COIN_BASE) for number in range(1, 5)]
            assert daemon.stop()
            for sale in sales:
                sale.pay()
                node.mine(500)
            began = node.height() - 2000
            daemon.start(ready=False)
            wait_until(lambda: height_of(daemon, "bnb") >= began + 100, "it reads")
            daemon.kill()
            daemon.start()
            for sale in sales:
                sale.until(lambda one: one["status"] == "CONFIRMED", "it is found")
                assert sale.kinds().count("payment.included") == 1
                assert sale.check()["payments"][0]["confirmations"] > 1
        check_log_text(daemon)


def test_another_chain_than_the_setting_says(tmp_path, btc_node):
    """The chain says why; another one goes on; the right node mends it; no other chain later."""
    with AnvilNode(56) as wrong, AnvilNode(1) as right:
        env = {"ETH_DAEMON_URL": wrong.ws_url}
        daemon = Daemon(tmp_path, nodes=(btc_node,), env=env)
        daemon.start(ready=False)
        try:
            reason = reason_of(daemon, "eth", "refused")
            assert "56" in reason
            assert "coin.eth.daemon.url" in reason
            reason_of(daemon, "btc", "current")
            done = daemon.command("check")
            assert done.returncode == 1
            assert "coin.eth.daemon.url" in done.stdout
            daemon.stop()
            daemon.extra_env["ETH_DAEMON_URL"] = f"{wrong.ws_url},{right.url}"
            daemon.start()
            assert "left endpoint" in daemon.log.read_text()
            done = daemon.command("check")
            assert done.returncode == 0, done.stdout
            assert "its chain id is 56, not 1" in done.stdout
            assert "cannot push" in done.stdout
            daemon.stop()
            daemon.extra_env |= {"ETH_DAEMON_URL": wrong.ws_url, "TALLY_ETH_CHAIN_ID": "56"}
            daemon.start(ready=False)
            assert "has been used with '1'" in reason_of(daemon, "eth", "refused")
        finally:
            daemon.stop()


PRIVATE = """
[[chain]]
id = "own"
name = "Our own chain"
family = "evm"
coin = "OWN"
block_time_s = 2
confirmations = 3
networks = [31337]

[[asset]]
id = "OWN"
chain = "own"
symbol = "OWN"
name = "Our own coin"
exponent = 18

"""


def test_a_private_chain_is_a_few_lines_of_configuration(tmp_path):
    """Its coin and a token, its confirmations, and the node's word for finality instead."""
    with AnvilNode(31337) as node:
        token = Token("POINTS", "own", node.deploy("Token", 2, SUPPLY_BASE), 2, 31337)
        write_assets(tmp_path / "assets.toml", token, more=PRIVATE)
        (tmp_path / "tallyd.yml").write_text(
            f"assets: {{file: assets.toml}}\ncoin: {{own: {{daemon: {{url: '{node.ws_url}'}}}}}}\n"
        )
        env = {"TALLY_CONFIG": str(tmp_path / "tallyd.yml"), "TALLY_ACCESS_ANONYMOUS": "loopback"}
        daemon = Daemon(tmp_path / "state", env=env)
        with daemon, market_of(daemon, own=node) as market:
            coin, points = (
                market.sell("OWN", WHOLE),
                market.sell("POINTS", 1050, confirmations=None),
            )
            coin.pay()
            points.pay_token(token)
            node.mine()
            coin.until(lambda one: one["status"] == "CONFIRMED", "it is paid")
            assert mined(points)["confirmations_required"] == 3
            assert points.rest()["amount"] == "10.5"
            node.mine(2)
            points.until(lambda one: one["status"] == "CONFIRMED", "it is paid")
        daemon.extra_env["TALLY_OWN_FINALITY"] = "safe"
        with daemon, market_of(daemon, own=node) as market:
            sale = market.sell("OWN", WHOLE, confirmations=None)
            sale.pay()
            node.mine(4)
            assert mined(sale, 4)["status"] == "PENDING_MEMPOOL"
            node.mine(64)
            sale.until(lambda one: one["status"] == "CONFIRMED", "the node calls it safe")
        check_log_text(daemon)


def test_an_audit_of_all_that_happened_here_is_clean(daemon):
    """Last of all: each way of paying above, derived once more from the chain."""
    done = daemon.command("audit", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    looked = json.loads(done.stdout)["coins"]
    assert all(one["payments"] or not one["invoices"] for one in looked), looked
