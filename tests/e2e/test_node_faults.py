"""Nodes that die, lie, or are another one: said clearly, and nothing is lost or moved."""

import secrets

import pytest

from tests.helpers.bitcoin_rpc import RpcClient
from tests.helpers.bitcoind import BitcoinNode, base_units, coins
from tests.helpers.daemon import Daemon
from tests.helpers.goipay_client import GoiPay
from tests.helpers.process import wait_until
from tests.helpers.shop import Shop

AMOUNT = 5_678_901
LIFE = ["PENDING", "PENDING_MEMPOOL", "CONFIRMED"]
RETRY_SOON_S = 60.0


@pytest.fixture(scope="module")
def own_node():
    """A Bitcoin node that tests may kill, restart and replace."""
    with BitcoinNode("btc") as node:
        node.fund()
        yield node


def chain(daemon: Daemon, coin: str = "btc"):
    items = daemon.http("GET", "/v1/chains")[2]["items"]
    return next(one for one in items if one["chain"] == coin)


def until_state(daemon: Daemon, state: str, coin: str = "btc"):
    def probe():
        found = chain(daemon, coin)
        return found if found["state"] == state else None

    return wait_until(probe, f"{coin} is {state}", timeout_s=RETRY_SOON_S)


def impostor(family: str, of: BitcoinNode, **options) -> BitcoinNode:
    """Another node with the same address and credentials."""
    other = BitcoinNode(family, **options)
    other.rpc_port, other.user, other.password = of.rpc_port, of.user, of.password
    other.client = RpcClient(other.rpc_port, other._credentials)
    return other


def test_a_node_that_dies_is_named_and_takes_nothing_else_down(own_node, ltc_node, make_daemon):
    daemon = make_daemon(own_node, ltc_node)
    daemon.start()
    with GoiPay(daemon.grpc_port) as client:
        stream = client.watch()
        btc, ltc = (Shop(daemon, node, client, stream) for node in (own_node, ltc_node))
        before, during = btc.sell(AMOUNT), ltc.sell(AMOUNT)
        txid = before.pay()
        before.heard("PENDING_MEMPOOL")
        own_node.rpc("gettxoutsetinfo")  # writes the chain to disk
        own_node.rpc("savemempool")
        own_node.kill()
        found = until_state(daemon, "unreachable")
        assert "coin.btc.daemon.url" in found["reason"]
        status, _, ready = daemon.http("GET", "/readyz")
        assert status == 503
        assert not ready["ready"]
        assert "coin.btc.daemon.url" in ready["chains"]["btc"]["reason"]
        assert ready["chains"]["ltc"]["state"] == "current"
        # The other chain works, and so do both APIs; an invoice for the dead node is taken.
        during.pay()
        during.heard("PENDING_MEMPOOL")
        ltc_node.mine()
        during.heard("CONFIRMED")
        waiting = btc.sell(AMOUNT)
        assert waiting.heard("PENDING")
        assert before.rest()["status"] == "PENDING_MEMPOOL"
        own_node.start()
        waiting.pay()
        until_state(daemon, "current")
        assert daemon.http("GET", "/readyz")[0] == 200
        waiting.heard("PENDING_MEMPOOL")
        own_node.mine()
        for ticket in (before, during, waiting):
            ticket.heard("CONFIRMED")
            assert ticket.told() == LIFE
            ticket.check()
        assert before.rest()["txid"] == txid
        log = daemon.log.read_text()
        assert "chain is current again" in log


def test_a_wrong_password_is_refused_with_the_name_of_the_setting(own_node, ltc_node, make_daemon):
    wrong = secrets.token_hex(8)
    daemon = make_daemon(own_node, ltc_node, env={"BTC_DAEMON_PASS": wrong})
    daemon.start(ready=False)
    found = until_state(daemon, "refused")
    assert "coin.btc" in found["reason"]
    assert "pass" in found["reason"]
    assert "401" in found["reason"]
    assert wrong not in found["reason"]
    until_state(daemon, "current", "ltc")
    assert daemon.http("GET", "/readyz")[0] == 503
    assert wrong not in daemon.log.read_text()


def test_another_network_at_the_same_address_moves_nothing(own_node, make_daemon):
    """First a Litecoin node, then a Bitcoin node with a chain of its own, then the right one."""
    daemon = make_daemon(own_node)
    daemon.start()
    with GoiPay(daemon.grpc_port) as client:
        shop = Shop(daemon, own_node, client, None)
        ticket = shop.sell(AMOUNT)
    height = chain(daemon)["height"]
    ticket.pay()
    ticket.until_status("PENDING_MEMPOOL")
    assert daemon.stop()
    own_node.mine(2)
    own_node.stop()
    for family in ("ltc", "btc"):
        with impostor(family, own_node) as other:
            other.fund()
            daemon.start(ready=False)
            found = until_state(daemon, "refused")
            assert found["height"] == height
            if family == "ltc":
                assert "genesis" in found["reason"]
            assert "coin.btc" in found["reason"]
            assert ticket.rest()["status"] == "PENDING_MEMPOOL"
            check = daemon.command("check")
            assert daemon.stop()
            if family == "ltc":
                assert check.returncode == 1
                assert "coin.btc.daemon.url" in check.stdout
    own_node.start()
    daemon.start()
    with GoiPay(daemon.grpc_port) as shop.client:
        ticket.until_status("CONFIRMED")
        ticket.check()
    assert chain(daemon)["height"] == height + 2


def test_a_node_without_zmq_and_with_a_cookie_is_polled(make_daemon):
    with BitcoinNode("btc", zmq=(), auth="cookie") as node:
        node.fund()
        env = {
            "TALLY_BTC_COOKIE_FILE": str(node.cookie_file),
            "TALLY_BTC_POLL_INTERVAL_S": "0.2",
            "BTC_DAEMON_USER": "",
            "BTC_DAEMON_PASS": "",
        }
        daemon = make_daemon(node, env=env)
        daemon.start()
        assert chain(daemon)["push"] == "long-poll, poll 0.2s"
        with GoiPay(daemon.grpc_port) as client:
            shop = Shop(daemon, node, client, client.watch())
            ticket = shop.sell(AMOUNT)
            first = ticket.pay()
            ticket.heard("PENDING_MEMPOOL")
            second = node.replace(first)
            ticket.heard(lambda all_: all_[-1].txid == second)
            # The cookie is another one after a restart: it is read again.
            node.restart()
            node.mine()
            ticket.heard("CONFIRMED", within_s=RETRY_SOON_S)
            assert ticket.told() == ["PENDING", "PENDING_MEMPOOL", "PENDING_MEMPOOL", "CONFIRMED"]
            ticket.check()


def test_litecoin_past_the_activation_of_mweb(make_daemon):
    """Peg-ins, HogEx and pure MWEB transactions around a payment do not disturb."""
    with BitcoinNode("ltc") as node:
        node.activate_mweb()
        daemon = make_daemon(node)
        daemon.start()
        with GoiPay(daemon.grpc_port) as client:
            shop = Shop(daemon, node, client, client.watch())
            plain, private, reorganised = (shop.sell(AMOUNT) for _ in range(3))
            node.pay(node.new_address("mweb"), 10 * AMOUNT)  # a peg-in beside it
            plain.pay()
            plain.heard("PENDING_MEMPOOL")
            node.mine()
            plain.heard("CONFIRMED")
            # A peg-out: the payer's coins come from the extension block.
            mweb = [one for one in node.rpc("listunspent") if one["address"].startswith("tmweb")]
            assert mweb
            node.rpc("lockunspent", False, _others(node, mweb))
            private.pay()
            node.rpc("lockunspent", True)
            node.mine(8)
            private.heard("CONFIRMED")
            assert "payment.seen" not in private.kinds()  # a peg-out is seen in its block
            # Litecoin forgets a peg-out whose block is displaced; a plain payment comes back.
            _pay_plainly(node, reorganised.address, AMOUNT)
            node.mine()
            reorganised.heard("CONFIRMED")
            node.reorg(2)
            node.mine(2)
            for ticket in (plain, private, reorganised):
                ticket.until(lambda one: one["payments"][0]["state"] == "included", "it is mined")
                assert ticket.told()[-1] == "CONFIRMED"
                ticket.check()


def _others(node: BitcoinNode, kept: list) -> list:
    """All transparent coins, so that only the kept ones are spent."""
    names = {(one["txid"], one.get("vout")) for one in kept}
    return [
        {"txid": one["txid"], "vout": one["vout"]}
        for one in node.rpc("listunspent")
        if (one["txid"], one.get("vout")) not in names and "vout" in one
    ]


def _pay_plainly(node: BitcoinNode, address: str, amount_base: int) -> None:
    """Pay from one transparent coin."""
    coin = next(one for one in node.rpc("listunspent") if one["address"].startswith("rltc"))
    rest_base = base_units(coin["amount"]) - amount_base - 10_000
    pays = {address: coins(amount_base), node.new_address(): coins(rest_base)}
    spent = [{"txid": coin["txid"], "vout": coin["vout"]}]
    signed = node.rpc("signrawtransactionwithwallet", node.rpc("createrawtransaction", spent, pays))
    node.rpc("sendrawtransaction", signed["hex"], 0)
