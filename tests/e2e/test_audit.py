"""`tallyd audit` on real nodes: clean beside real daemons, and each falsified row is found."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, select, update

from actors.core.chain_events import OutPoint
from actors.core.invoice import Invoice, State
from actors.core.payment import Payment
from daemon.store import rows
from daemon.store.errors import parse_url
from daemon.store.schema import invoices
from tests.e2e.conftest import FAST, check_log_text
from tests.helpers.anvil import COIN_BASE as ETHER
from tests.helpers.anvil import AnvilNode
from tests.helpers.bitcoind import BitcoinNode, connect
from tests.helpers.daemon import Daemon
from tests.helpers.evm_market import Market
from tests.helpers.goipay_client import GoiPay
from tests.helpers.shop import Json, Shop, Ticket, leaks
from tests.nodes.install import find, how_to_install

AMOUNT = 4_567_890
STORES = ("sqlite", "postgres")


@dataclass
class Sold:
    """What one daemon has, and who it is."""

    daemon: Daemon
    tickets: dict[str, str]
    """Name → invoice id."""

    def audit(self, *arguments: str, url: str | None = None) -> tuple[int, str]:
        """Status and what was printed; nothing of it is a secret."""
        env = self.daemon.extra_env
        try:
            if url is not None:
                self.daemon.extra_env = {**env, "TALLY_DATABASE_URL": url}
            done = self.daemon.command("audit", *arguments)
            assert not leaks(done.stdout + done.stderr, self.daemon)
        finally:
            self.daemon.extra_env = env
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    def findings(self, *arguments: str, url: str | None = None) -> tuple[int, Json]:
        status, text = self.audit("--json", *arguments, url=url)
        return status, json.loads(text)


@dataclass
class World:
    btc: BitcoinNode
    other_btc: BitcoinNode
    """Connected with `btc`; another program with a chain and a mempool of its own."""
    ltc: BitcoinNode
    eth: AnvilNode
    sold: dict[str, Sold]


@pytest.fixture(scope="module")
def world(ltc_node, postgres_server, tmp_path_factory) -> Iterator[World]:
    """Two daemons whose customers paid, bumped, paid in part, too late, and met reorgs."""
    if find("evm") is None:
        pytest.skip(how_to_install("evm"))
    with ExitStack() as stack:
        btc = stack.enter_context(BitcoinNode("btc"))
        btc.fund()
        other = stack.enter_context(BitcoinNode("btc"))
        connect(btc, other)
        eth = stack.enter_context(AnvilNode(1))
        payer = eth.deploy("Payer")
        daemons = {}
        for store in STORES:
            env = {**FAST, "ETH_DAEMON_URL": eth.ws_url}
            if store == "postgres":
                env["TALLY_DATABASE_URL"] = postgres_server.create_database()
            daemon = Daemon(tmp_path_factory.mktemp(store), nodes=(btc, ltc_node), env=env)
            daemons[store] = stack.enter_context(daemon)
        clients = {s: stack.enter_context(GoiPay(d.grpc_port)) for s, d in daemons.items()}
        streams = {store: client.watch() for store, client in clients.items()}
        shops = {s: Shop(daemons[s], btc, clients[s], streams[s]) for s in STORES}
        light = {s: Shop(daemons[s], ltc_node, clients[s], streams[s]) for s in STORES}
        markets = {s: Market(daemons[s], {"eth": eth}, clients[s], streams[s]) for s in STORES}
        names = happen(shops, light, markets, payer)
        yield World(btc, other, ltc_node, eth, {s: Sold(daemons[s], names[s]) for s in STORES})
        for daemon in daemons.values():
            check_log_text(daemon)


def happen(
    shops: dict[str, Shop], light: dict[str, Shop], markets: dict[str, Market], payer: str
) -> dict[str, dict[str, str]]:
    """Sell and pay in every way; returns the invoices' ids by name."""
    btc, ltc = shops["sqlite"].node, light["sqlite"].node
    eth = markets["sqlite"].nodes["eth"]
    made: dict[str, dict[str, Ticket]] = {}
    for store, shop in shops.items():
        made[store] = {
            "late": shop.sell(AMOUNT, timeout_s=10),
            "unpaid": shop.sell(AMOUNT),
            "settled": shop.sell(AMOUNT),
            "partial": shop.sell(AMOUNT),
            "bumped": shop.sell(AMOUNT),
            "moved": shop.sell(AMOUNT),
            "waiting": shop.sell(AMOUNT, confirmations=200),
            "light": light[store].sell(AMOUNT),
        }
        for name in ("settled", "light"):
            made[store][name].pay()
        made[store]["partial"].pay(AMOUNT // 3)
        first = made[store]["bumped"].pay()
        made[store]["bumped"].heard("PENDING_MEMPOOL")
        btc.replace(first)
    btc.mine()
    ltc.mine()
    for tickets in made.values():
        for name in ("settled", "bumped", "light"):
            tickets[name].heard("CONFIRMED")
        tickets["moved"].pay()
        tickets["waiting"].pay()
    btc.mine()
    for tickets in made.values():
        tickets["moved"].heard("CONFIRMED")
    btc.reorg(1)
    btc.mine()
    for tickets in made.values():
        tickets["late"].heard("EXPIRED")
        tickets["late"].pay()
    btc.mine()
    ids = {s: {name: one.id for name, one in made[s].items()} for s in made}
    for store, market in markets.items():
        plain, by_contract = market.sell("ETH", ETHER), market.sell("ETH", 2 * ETHER)
        plain.pay()
        eth.pay_batch(payer, {by_contract.address: 2 * ETHER})
        eth.mine()
        for sale in (plain, by_contract):
            sale.heard("CONFIRMED")
        ids[store] |= {"ether": plain.id, "by contract": by_contract.id}
    for tickets in made.values():
        for name in ("late", "moved", "waiting"):
            tickets[name].until(
                lambda one: any(p["state"] == "included" for p in one["payments"]), "mined again"
            )
    return ids


@pytest.fixture(params=STORES)
def sold(request, world) -> Sold:
    return world.sold[request.param]


@pytest.fixture
def copy(sold, tmp_path, postgres_server) -> Iterator[str]:
    """The address of a copy of the daemon's database, which nobody uses."""
    url = sold.daemon.extra_env.get("TALLY_DATABASE_URL")
    if url is None:
        assert sold.daemon.stop()
        shutil.copy(sold.daemon.folder / "tallyd.db", tmp_path / "copy.db")
        sold.daemon.start()
        yield f"sqlite:///{tmp_path / 'copy.db'}"
        return
    assert sold.daemon.stop()
    copied = postgres_server.create_database()
    source, target = (parse_url(one).database for one in (url, copied))
    engine = create_engine(parse_url(postgres_server.url("postgres")))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f'DROP DATABASE "{target}"')
        connection.exec_driver_sql(f'CREATE DATABASE "{target}" TEMPLATE "{source}"')
    engine.dispose()
    sold.daemon.start()
    yield copied
    postgres_server.drop_database(copied)


def change(url: str, invoice_id: str, falsify: Callable[[Invoice], Invoice]) -> Invoice:
    """Rewrite an invoice's row behind the daemon's back; returns what it was."""
    engine = create_engine(parse_url(url))
    mine = invoices.c.id == UUID(invoice_id)
    with engine.begin() as connection:
        row = connection.execute(select(invoices).where(mine)).one()
        honest = rows.decode_invoice(row.terms, row.snapshot)
        columns: dict[str, Any] = dict(
            zip(rows.STATE_COLUMNS, rows.state_columns(falsify(honest)), strict=True)
        )
        connection.execute(update(invoices).where(mine).values(columns))
    engine.dispose()
    return honest


def with_payment(invoice: Invoice, **changes: Any) -> Invoice:
    last = replace(invoice.payments[-1], **changes)
    return replace(invoice, payments=(*invoice.payments[:-1], last))


def test_all_that_happened_is_clean_beside_the_running_daemon(sold):
    status, found = sold.findings()
    assert (status, found["clean"], found["findings"]) == (0, True, []), found
    coins = {one["coin"]: one for one in found["coins"]}
    assert {name: one["invoices"] for name, one in coins.items()} == {"btc": 7, "ltc": 1, "eth": 2}
    assert {name: one["payments"] for name, one in coins.items()} == {"btc": 6, "ltc": 1, "eth": 2}
    assert coins["btc"]["trusted"]["gone"] == 1, "the bumped one's first"
    assert all(one["from_height"] <= one["to_height"] for one in coins.values())
    status, text = sold.audit("--coin", "BTC")
    assert status == 0
    assert text.startswith("btc: clean: 7 invoices, 6 payments in blocks ")
    assert "1 taken on trust: replaced" in text


def test_a_second_node_says_the_same_and_another_network_is_refused(sold, world):
    btc, other = world.btc, world.other_btc
    connect(btc, other)
    plain = other.url.replace("http://", f"http://{other.user}:{other.password}@")
    status, found = sold.findings("--coin", "btc", "--node", plain)
    assert (status, found["clean"]) == (0, True), found
    assert found["coins"][0]["node"] == other.url
    assert other.password not in json.dumps(found)
    light = world.ltc
    theirs = light.url.replace("http://", f"http://{light.user}:{light.password}@")
    status, text = sold.audit("--coin", "btc", "--node", theirs)
    assert status == 2
    assert "--node must be a node of the same network" in text


INVENTED = Payment(
    OutPoint(b"\5" * 32, 1), AMOUNT, "BTC", 0, late=False, height=110, block_hash=b"\6" * 32
)
FALSIFIED: dict[str, tuple[str, Callable[[Invoice], Invoice], str]] = {
    "a payment is taken out": (
        "settled",
        lambda one: replace(one, payments=(), state=State.PENDING),
        "unrecorded",
    ),
    "a payment is made up": (
        "unpaid",
        lambda one: replace(one, state=State.SETTLED, payments=(INVENTED,)),
        "absent",
    ),
    "another amount": ("partial", lambda one: with_payment(one, amount_base=AMOUNT), "amount"),
    "another block": ("moved", lambda one: with_payment(one, block_hash=bytes(32)), "place"),
    "still waiting": ("settled", lambda one: replace(one, state=State.SEEN), "state"),
    "settled too early": ("waiting", lambda one: replace(one, state=State.SETTLED), "state"),
    "never paid": ("unpaid", lambda one: replace(one, state=State.SETTLED), "state"),
    "expired all the same": ("bumped", lambda one: replace(one, state=State.EXPIRED), "state"),
    "an alarm for nothing": ("light", lambda one: replace(one, reversed=True), "reversed"),
    "not late": ("late", lambda one: with_payment(one, late=False), "late"),
    "ether taken out": ("ether", lambda one: replace(one, payments=()), "unrecorded"),
    "a contract's amount": ("by contract", lambda one: with_payment(one, amount_base=1), "amount"),
}


def test_what_is_changed_behind_the_daemon_s_back_is_found(sold, world, copy):
    status, found = sold.findings(url=copy)
    assert (status, found["findings"]) == (0, []), found
    left = dict(FALSIFIED)
    while left:
        # As many at once as there are invoices: each look takes seconds.
        now = {ticket: name for name, (ticket, _, _) in reversed(left.items())}
        honest = {t: change(copy, sold.tickets[t], FALSIFIED[name][1]) for t, name in now.items()}
        status, found = sold.findings(url=copy)
        assert (status, found["clean"]) == (1, False), now
        kinds: dict[str, list[str]] = {}
        for one in found["findings"]:
            kinds.setdefault(one["invoice_id"], []).append(one["kind"])
        assert kinds.keys() == {sold.tickets[ticket] for ticket in now}, found["findings"]
        for ticket, name in now.items():
            assert left.pop(name)[2] in kinds[sold.tickets[ticket]], (name, found["findings"])
            change(copy, sold.tickets[ticket], lambda _, was=honest[ticket]: was)
    assert sold.findings(url=copy)[0] == 0


def test_what_is_found_is_told_in_a_table(sold, copy):
    invoice_id = sold.tickets["settled"]
    change(copy, invoice_id, lambda one: with_payment(one, amount_base=AMOUNT + 1))
    status, text = sold.audit("--coin", "btc", url=copy)
    assert status == 1
    head, row, *_ = text.splitlines()
    assert head.split()[:3] == ["INVOICE", "COIN", "DIFFERS"]
    assert row.split()[:3] == [invoice_id, "btc", "amount"]
    assert "0.04567891 BTC" in row
    assert "0.0456789 BTC" in row
    assert sold.audit("--coin", "btc", "--until", "2020-01-01", url=copy)[0] == 0


def test_what_came_while_the_daemon_was_down_is_not_read_yet(sold, world):
    assert sold.daemon.stop()
    shown = {}
    try:
        address = sold_address(sold, "unpaid")
        world.btc.pay(address, AMOUNT // 2)
        status, shown = sold.findings("--coin", "btc")
        assert (status, shown["coins"][0]["trusted"]["not_read"]) == (0, 1), shown
        world.btc.mine()
        status, shown = sold.findings("--coin", "btc")
        assert status == 0, shown
    finally:
        sold.daemon.start()
    status, later = sold.findings("--coin", "btc")
    assert status == 0, later
    assert later["coins"][0]["payments"] == shown["coins"][0]["payments"] + 1
    assert later["coins"][0]["to_height"] > shown["coins"][0]["to_height"]


def test_a_node_that_is_down_is_no_difference(sold, world):
    env = sold.daemon.extra_env
    sold.daemon.extra_env = {**env, "ETH_DAEMON_URL": "http://127.0.0.1:1"}
    try:
        status, found = sold.findings()
        assert (status, found["clean"]) == (2, None), found
        failed = {one["coin"]: one["error"] for one in found["coins"]}
        assert failed["btc"] is None
        assert "coin.eth.daemon.url" in failed["eth"]
    finally:
        sold.daemon.extra_env = env


def sold_address(sold: Sold, name: str) -> str:
    done = sold.daemon.command("invoice", "show", sold.tickets[name])
    assert done.returncode == 0, done.stderr
    return next(word for word in done.stdout.split() if word.startswith("bcrt1"))
