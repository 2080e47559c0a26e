"""The main job on Monero: real daemon, real node, and monero-wallet-rpc as the customer."""

import json
from collections.abc import Iterator
from itertools import groupby

import pytest

from tests.e2e.conftest import MakeDaemon, check_log_text
from tests.helpers.daemon import Daemon
from tests.helpers.evm_market import Sale
from tests.helpers.goipay_client import GoiPay
from tests.helpers.monero_address import MAINNET_SUBADDRESS, decode
from tests.helpers.monero_coinbase import Payout, mine_paying, new_scalar
from tests.helpers.monero_shop import MoneroShop, until_read
from tests.helpers.monero_wallet import MoneroWallet
from tests.helpers.monerod import COIN_BASE, COINBASE_LOCK_BLOCKS, NOBODY, MoneroNode
from tests.helpers.process import wait_until

LIFE = ["PENDING", "PENDING_MEMPOOL", "CONFIRMED"]
PRICE_BASE = COIN_BASE // 4


@pytest.fixture(scope="module")
def daemon(xmr_node: MoneroNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon on the restricted port, with ZMQ; its log holds no failure in the end."""
    folder = tmp_path_factory.mktemp("monero")
    running = Daemon(folder, nodes=(xmr_node,), env={"TALLY_LOG_LEVEL": "debug"})
    with running:
        yield running
    check_log_text(running)


@pytest.fixture(scope="module")
def shop(daemon: Daemon, xmr_wallet: MoneroWallet) -> Iterator[MoneroShop]:
    with GoiPay(daemon.grpc_port) as client:
        yield MoneroShop(daemon, xmr_wallet, client, client.watch())


@pytest.fixture(autouse=True)
def left_clean(xmr_node: MoneroNode) -> Iterator[None]:
    """What a test that failed left in the pool must not fail the next one."""
    yield
    if xmr_node.pool():
        xmr_node.mine()
    xmr_node.flush_pool()


def depth_of(sale: Sale, depth: int) -> dict:
    return sale.until(
        lambda one: [p["confirmations"] for p in one["payments"] if p["height"]] == [depth],
        f"{depth} confirmations",
    )


def life_of(sale: Sale, last: str = "CONFIRMED") -> list[str]:
    """The turns that GoiPay's stream told, up to `last`; news without a turn are left out."""
    sale.heard(last)
    return [status for status, _ in groupby(sale.market.stream.statuses(sale.id))]


def amounts(sale: Sale) -> list[int]:
    return sorted(int(one["amount_base"]) for one in sale.check()["payments"])


def test_a_goipay_client_sees_pending_then_the_pool_then_a_block(
    shop: MoneroShop, xmr_node: MoneroNode
) -> None:
    """The address is a subaddress of the user's keys, another one per invoice."""
    sales = [shop.sell_by_goipay(PRICE_BASE), shop.sell_by_goipay(PRICE_BASE, confirmations=3)]
    assert len({sale.address for sale in sales}) == 2
    assert all(decode(sale.address).prefix == MAINNET_SUBADDRESS for sale in sales)
    txids = [sale.pay() for sale in sales]
    for sale in sales:
        assert sale.heard("PENDING_MEMPOOL") == LIFE[:2]
    xmr_node.mine()
    assert sales[0].heard("CONFIRMED") == LIFE
    depth_of(sales[1], 1)
    assert shop.stream.statuses(sales[1].id) == LIFE[:2]
    xmr_node.mine(2)
    assert sales[1].heard("CONFIRMED") == LIFE
    for sale, txid in zip(sales, txids, strict=True):
        (payment,) = sale.check()["payments"]
        assert (payment["txid"], int(payment["amount_base"])) == (txid, PRICE_BASE)
        # The tip on which block height + 10, the first that may spend it, can be built.
        assert payment["spendable_at_height"] == payment["height"] + 9
        assert sale.kinds() == [
            "invoice.created",
            "payment.seen",
            "invoice.covered",
            "payment.included",
            "invoice.settled",
        ]


def test_zero_confirmations_settle_in_the_pool(shop: MoneroShop, xmr_node: MoneroNode) -> None:
    sale = shop.sell_xmr(PRICE_BASE, confirmations=0)
    sale.pay()
    assert sale.heard("CONFIRMED") == LIFE
    sale.check()
    xmr_node.mine()
    depth_of(sale, 1)


def test_one_transaction_pays_several_invoices_and_one_of_them_twice(
    shop: MoneroShop, xmr_node: MoneroNode
) -> None:
    """Several subaddresses in one transaction: every output has a transaction key of its own."""
    sales = [shop.sell_xmr(PRICE_BASE * (1 + n)) for n in range(3)]
    halves = [(sales[2].address, PRICE_BASE * 2), (sales[2].address, PRICE_BASE)]
    payouts = [(sale.address, sale.amount_base) for sale in sales[:2]]
    txid = shop.wallet.transfer([*payouts, *halves, (NOBODY, PRICE_BASE)]).txid
    for sale in sales:
        sale.heard("PENDING_MEMPOOL")
    xmr_node.mine()
    for sale in sales:
        assert sale.heard("CONFIRMED") == LIFE
        assert {one["txid"] for one in sale.check()["payments"]} == {txid}
    assert amounts(sales[0]) == [PRICE_BASE]
    assert amounts(sales[1]) == [2 * PRICE_BASE]
    assert amounts(sales[2]) == [PRICE_BASE, 2 * PRICE_BASE]


def test_partial_payments_add_up(shop: MoneroShop, xmr_node: MoneroNode) -> None:
    """The second comes after the first is in a block; one piconero less is not enough."""
    sale = shop.sell_xmr(PRICE_BASE)
    sale.pay(PRICE_BASE // 2)
    sale.until(lambda one: one["received_base"] == str(PRICE_BASE // 2), "half is there")
    xmr_node.mine()
    depth_of(sale, 1)
    sale.pay(PRICE_BASE // 2 - 1)
    sale.until(lambda one: one["due_base"] == "1", "one piconero is due")
    assert sale.rest()["status"] == "PENDING"
    sale.pay(1)
    sale.heard("PENDING_MEMPOOL")
    xmr_node.mine()
    assert life_of(sale) == LIFE
    assert amounts(sale) == [1, PRICE_BASE // 2 - 1, PRICE_BASE // 2]


def test_a_customer_sweeps_a_wallet_into_an_invoice(shop: MoneroShop, xmr_node: MoneroNode) -> None:
    """All of a subaddress goes to the invoice, without change: an open amount."""
    source = shop.wallet.address(0, 7)
    shop.wallet.transfer([(source, PRICE_BASE)] * 3)
    xmr_node.mine(10)
    sale = shop.sell_xmr(0)
    swept = shop.wallet.sweep(sale.address, subaddr_indices=[7])
    sale.heard("PENDING_MEMPOOL")
    xmr_node.mine()
    assert sale.heard("CONFIRMED") == LIFE
    assert sum(amounts(sale)) == 3 * PRICE_BASE - sum(one.fee_base for one in swept)


def test_a_double_spend_in_the_pool_takes_the_payment_away(
    shop: MoneroShop, xmr_node: MoneroNode
) -> None:
    """Seen by the node, it is not counted; in a block it is. The rival in a block is final."""
    sale = shop.sell_xmr(PRICE_BASE)
    paying = shop.wallet.transfer({sale.address: PRICE_BASE}, relay=False)
    rival = shop.wallet.transfer({NOBODY: PRICE_BASE}, relay=False)
    assert set(paying.key_images) == set(rival.key_images)
    shop.wallet.relay(paying)
    sale.heard("PENDING_MEMPOOL")
    xmr_node.send_raw(rival.blob_hex)
    sale.heard("PENDING")
    assert sale.check()["received_base"] == "0"
    xmr_node.flush_pool(paying.txid)
    shop.wallet.relay(rival)
    xmr_node.mine()
    until_read(shop.daemon, xmr_node)
    assert sale.check()["status"] == "PENDING"
    sale.pay()
    sale.heard("PENDING_MEMPOOL")
    xmr_node.mine()
    assert life_of(sale) == ["PENDING", "PENDING_MEMPOOL", *LIFE]
    sale.check()


def test_a_contested_payment_counts_when_a_block_has_it(
    shop: MoneroShop, xmr_node: MoneroNode
) -> None:
    sale = shop.sell_xmr(PRICE_BASE)
    paying = shop.wallet.transfer({sale.address: PRICE_BASE}, relay=False)
    rival = shop.wallet.transfer({NOBODY: PRICE_BASE}, relay=False)
    shop.wallet.relay(paying)
    sale.heard("PENDING_MEMPOOL")
    xmr_node.send_raw(rival.blob_hex)
    sale.heard("PENDING")
    xmr_node.mine()
    assert life_of(sale) == ["PENDING", "PENDING_MEMPOOL", *LIFE]
    assert amounts(sale) == [PRICE_BASE]


def test_the_node_forgets_a_payment(shop: MoneroShop, xmr_node: MoneroNode) -> None:
    """Flushed from the pool, it is not counted after 30 s; sent again, it is."""
    sale = shop.sell_xmr(PRICE_BASE)
    sent = shop.wallet.transfer({sale.address: PRICE_BASE}, relay=False)
    shop.wallet.relay(sent)
    sale.heard("PENDING_MEMPOOL")
    xmr_node.flush_pool(sent.txid)
    sale.heard("PENDING", within_s=60)
    shop.wallet.relay(sent)
    sale.heard("PENDING_MEMPOOL")
    xmr_node.mine()
    sale.heard("CONFIRMED")
    assert amounts(sale) == [PRICE_BASE]


def test_a_reorg_moves_a_payment_to_another_block(shop: MoneroShop, xmr_node: MoneroNode) -> None:
    """A longer branch without it: back in the pool; then it is mined again."""
    sale = shop.sell_xmr(PRICE_BASE, confirmations=4)
    sale.pay()
    sale.heard("PENDING_MEMPOOL")
    xmr_node.mine(2)
    before = depth_of(sale, 2)["payments"][0]
    xmr_node.reorg(2)
    sale.until(lambda one: one["payments"][0]["state"] == "mempool", "back in the pool")
    xmr_node.mine()
    after = depth_of(sale, 1)["payments"][0]
    assert after["block_hash"] != before["block_hash"]
    assert after["height"] == before["height"] + 3
    xmr_node.mine(3)
    assert sale.heard("CONFIRMED") == LIFE
    sale.check()


def test_a_reorg_with_a_rival_undoes_a_settled_payment(
    shop: MoneroShop, xmr_node: MoneroNode
) -> None:
    """The branch holds another spend of the same inputs: an alarm, and the status stays."""
    sale = shop.sell_xmr(PRICE_BASE)
    paying = shop.wallet.transfer({sale.address: PRICE_BASE}, relay=False)
    rival = shop.wallet.transfer({NOBODY: PRICE_BASE}, relay=False)
    shop.wallet.relay(paying)
    sale.heard("PENDING_MEMPOOL")
    xmr_node.mine()
    sale.heard("CONFIRMED")
    xmr_node.pop(1)
    xmr_node.flush_pool(paying.txid)
    shop.wallet.relay(rival)
    xmr_node.mine(2)
    shown = sale.until(lambda one: one["flags"]["reversed"], "reversed")
    assert shown["status"] == "CONFIRMED"
    assert shown["payments"][0]["state"] not in ("mempool", "included")
    sale.check()


def test_popped_blocks_are_replaced_without_a_word(shop: MoneroShop, xmr_node: MoneroNode) -> None:
    """Nothing is published when they go; what comes instead holds the payment elsewhere."""
    sale = shop.sell_xmr(PRICE_BASE, confirmations=3)
    sale.pay()
    sale.heard("PENDING_MEMPOOL")
    xmr_node.mine(2)
    before = depth_of(sale, 2)["payments"][0]
    xmr_node.pop(2)
    xmr_node.mine(3)
    assert life_of(sale) == LIFE
    after = depth_of(sale, 3)["payments"][0]
    assert after["height"] == before["height"]
    assert after["block_hash"] != before["block_hash"]
    sale.check()


def test_locked_money_does_not_count_until_it_is_unlocked(
    shop: MoneroShop, xmr_node: MoneroNode
) -> None:
    """A coinbase to the invoice: shown and explained at once, credited 60 blocks later."""
    sale = shop.sell_xmr(PRICE_BASE)
    mined = mine_paying(xmr_node, [Payout(sale.address, PRICE_BASE)])
    shown = depth_of(sale, 1)
    assert shown["status"] == "PENDING"
    assert shown["credited_base"] == "0"
    xmr_node.mine(COINBASE_LOCK_BLOCKS - 2)
    depth_of(sale, COINBASE_LOCK_BLOCKS - 1)
    assert sale.rest()["status"] == "PENDING"
    xmr_node.mine()
    assert mined.height + COINBASE_LOCK_BLOCKS == xmr_node.height() + 1
    assert life_of(sale) == LIFE


def test_a_second_output_with_the_same_one_time_key_counts_once(
    shop: MoneroShop, xmr_node: MoneroNode
) -> None:
    """The burning bug, on the chain for real: only one of the two can ever be spent."""
    sale = shop.sell_xmr(2 * PRICE_BASE)
    secret = new_scalar()
    first, second = (
        mine_paying(xmr_node, [Payout(sale.address, PRICE_BASE, secret)]) for _ in range(2)
    )
    assert first.one_time_keys == second.one_time_keys
    xmr_node.mine(COINBASE_LOCK_BLOCKS)
    shown = sale.until(lambda one: one["credited_base"] != "0", "one is credited")
    until_read(shop.daemon, xmr_node)
    shown = sale.rest()
    assert (shown["credited_base"], shown["status"]) == (str(PRICE_BASE), "PENDING")
    assert [one["duplicate"] for one in shown["payments"]] == [False, True]


def test_killed_in_the_middle_of_catching_up_it_misses_nothing(
    make_daemon: MakeDaemon, xmr_node: MoneroNode, xmr_wallet: MoneroWallet
) -> None:
    """Payments came while it was down; it is killed while it reads them, several times."""
    daemon = make_daemon(xmr_node)
    daemon.start()
    with GoiPay(daemon.grpc_port) as client:
        shop = MoneroShop(daemon, xmr_wallet, client, client.watch())
        sales = [shop.sell_xmr(PRICE_BASE) for _ in range(8)]
    daemon.kill()
    for part in range(4):
        payouts = {sale.address: PRICE_BASE for sale in sales[2 * part : 2 * part + 2]}
        xmr_wallet.transfer(payouts)
        xmr_node.mine(15)
    for _ in range(3):
        daemon.start(ready=False)
        daemon.kill()
    daemon.start()
    with GoiPay(daemon.grpc_port) as client:
        shop.client = client
        for sale in sales:
            sale.until(lambda one: one["status"] == "CONFIRMED", "settled")
            assert amounts(sale) == [PRICE_BASE]


def test_a_login_and_polling_alone_do_as_well(make_daemon: MakeDaemon, tmp_path) -> None:
    """HTTP Digest, no ZMQ, and a wrong password in words."""
    with (
        MoneroNode(login=("merchant", "s3cret-digest"), zmq=False) as node,
        MoneroWallet(node) as wallet,
    ):
        wallet.fund(coinbases=20)
        daemon = make_daemon(node)
        daemon.start()
        with GoiPay(daemon.grpc_port) as client:
            shop = MoneroShop(daemon, wallet, client, client.watch())
            sale = shop.sell_xmr(PRICE_BASE)
            sale.pay()
            sale.heard("PENDING_MEMPOOL")
            node.mine()
            assert sale.heard("CONFIRMED") == LIFE
        wrong = make_daemon(node, env={"XMR_DAEMON_PASS": "not-the-one"})
        wrong.start(ready=False)
        reason = wait_until(
            lambda: wrong.http("GET", "/readyz")[2]["chains"]["xmr"]["reason"], "it says why"
        )
        assert "coin.xmr.daemon.pass" in reason


def test_an_audit_of_all_that_happened_here_is_clean(daemon):
    """Last of all: each way of paying above, derived once more from the chain."""
    done = daemon.command("audit", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    looked = json.loads(done.stdout)["coins"]
    assert all(one["payments"] or not one["invoices"] for one in looked), looked
