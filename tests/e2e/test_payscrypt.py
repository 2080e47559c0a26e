"""Payscrypt's calls on the real daemon, with a real node: made, paid, made again, cut off."""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import grpc
import pytest

from tests.helpers.daemon import Daemon
from tests.helpers.google_messages import google_class
from tests.helpers.grpc_node import require_grpc_js, run_node
from tests.helpers.payscrypt import CREATE, LATER, PUBLIC, SERVICE, as_json
from tests.helpers.process import wait_until
from tests.helpers.shop import new_key

SEED = int(os.environ.get("TALLY_TEST_SEED", "0")) or random.randrange(1, 10**9)
CUTS = 6
PATIENCE_S = 10.0
GONE = (OSError, http.client.HTTPException)
_numbers = count(1)


class Merchant:
    """A merchant with a wallet and a key, set up over our own REST API."""

    def __init__(self, daemon: Daemon, *chains: str) -> None:
        self.daemon = daemon
        self.user_id = self._admin("/v1/users", {})["id"]
        assets = [{"asset": "BTC", "confirmations": 2}]
        keys = {chain: new_key() for chain in chains or ("btc",)}
        wallet = {"name": "shop", "keys": keys, "assets": assets}
        self.wallet_id = self._admin(f"/v1/users/{self.user_id}/wallets", wallet)["id"]
        wanted = {"name": "shop", "scopes": ["write"], "user_id": self.user_id}
        self.token = self._admin("/v1/keys", wanted)["key"]

    def _admin(self, path, body):
        status, _, document = self.daemon.http("POST", path, body)
        assert status == 201, document
        return document

    def wanted(self, **change):
        return {
            "merchant_order_id": f"A-{next(_numbers)}",
            "asset_name": "BTC",
            "target_value": "150000",
            "pg_wallet_id": str(self.wallet_id),
            **change,
        }

    def create(self, wanted, *, path=CREATE, token=None):
        """(code, order or message)."""
        return self._told("POST", path, wanted, {"apikey": token or self.token})

    def look(self, order_id, **more):
        code, found = self._told("POST", PUBLIC, {"id": order_id, **more}, {})
        assert code == 0, found
        return found

    def _told(self, method, path, body, headers):
        status, received, document = self.daemon.http(method, path, body, headers)
        code = int(received["grpc-code"])
        assert (status == 200) == (code == 0)
        return code, document["message"] if code else next(iter(document.values()))

    def until(self, order_id, status):
        return wait_until(
            lambda: (found := self.look(order_id))["status"] == status and found,
            f"order {order_id} is {status}",
        )

    @contextmanager
    def grpc(self) -> Iterator[object]:
        """`call(rpc, fields, token)` with Google's client → (code, order or message)."""
        with grpc.insecure_channel(f"127.0.0.1:{self.daemon.grpc_port}") as channel:

            def call(rpc, fields, token=None):
                name = f"payscrypt.pg.{rpc[:1].upper()}{rpc[1:]}"
                method = channel.unary_unary(
                    f"/{SERVICE}/{rpc}",
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=google_class(f"{name}Response").FromString,
                )
                wallet = {name: int(fields[name]) for name in ("pg_wallet_id",) if name in fields}
                request = google_class(f"{name}Request")(**{**fields, **wallet})
                metadata = (("apikey", token or self.token),)
                try:
                    reply = method(request, timeout=30, metadata=metadata, wait_for_ready=True)
                except grpc.RpcError as error:
                    return error.code().value[0], error.details()
                return 0, as_json(reply)["order"]

            yield call

    def invoices(self):
        """Every invoice that was ever made for the merchant, by address."""
        path = f"/v1/invoices?user_id={self.user_id}&limit=500"
        status, _, page = self.daemon.http("GET", path)
        assert (status, page["next"]) == (200, None)
        return {one["address"]: one for one in page["items"]}


@pytest.fixture(params=["sqlite", "postgres"])
def merchant(request, daemons):
    return Merchant(daemons[request.param])


def test_an_order_is_paid_and_read_back(merchant, btc_node):
    wanted = merchant.wanted(description="Tea", callback_url="https://shop.example/thanks")
    code, order = merchant.create(wanted)
    assert code == 0, order
    assert (order["status"], order["value"], order["network"]) == ("PENDING", "0", "regtest")
    assert order["redirect_url"] == f"{merchant.daemon.url}/pay/{order['id']}"
    with merchant.grpc() as call:
        assert call("createOrder", wanted) == (0, order)
    (address,) = order["variants"]
    btc_node.pay(address, 100_000)
    part = wait_until(
        lambda: (one := merchant.look(order["id"]))["value"] != "0" and one, "it is paid in part"
    )
    assert (part["status"], part["value"]) == ("PENDING", "100000")
    btc_node.pay(address, 60_000)
    assert merchant.until(order["id"], "CONFIRMING")["value"] == "160000"
    assert merchant.create(wanted)[1]["status"] == "CONFIRMING"
    btc_node.mine()
    wait_until(lambda: merchant.look(order["id"])["confirmations"] == "1", "one confirmation")
    btc_node.mine()
    done = merchant.until(order["id"], "SUCCESSFUL")
    assert done["confirmations"] == done["target_confirmations"] == "2"
    payments = merchant.look(order["id"], with_payments=True)["payments"]
    assert sorted(int(one["value"]) for one in payments) == [60_000, 100_000]
    with merchant.grpc() as call:
        found = call("getPublicOrderById", {"id": order["id"], "with_payments": True})
        assert found == (0, merchant.look(order["id"], with_payments=True))
    later = merchant.daemon.http("GET", f"{LATER}/{order['id']}")[2]["invoice"]
    assert (later["status"], later["price"]) == ("SUCCESSFUL", "150000")


def test_other_merchants_do_not_exist(merchant):
    other = Merchant(merchant.daemon)
    wanted = merchant.wanted()
    refused = (5, "wallet not found")
    assert merchant.create({**wanted, "pg_wallet_id": str(other.wallet_id)}) == refused
    assert merchant.create({**wanted, "pg_wallet_id": "999999"}) == refused
    with merchant.grpc() as call:
        assert call("createOrder", {**wanted, "pg_wallet_id": other.wallet_id}) == refused
    # The same number is another order with another merchant.
    code, mine = merchant.create(wanted)
    also, theirs = other.create({**wanted, "pg_wallet_id": str(other.wallet_id)})
    assert code == also == 0
    assert mine["id"] != theirs["id"]
    assert not other.invoices().keys() & merchant.invoices().keys()


def test_a_key_revoked_by_a_command_is_refused_at_the_very_next_request(merchant):
    wanted = merchant.wanted()
    with merchant.grpc() as call:
        assert merchant.create(wanted)[0] == call("createOrder", wanted)[0] == 0
        done = merchant.daemon.command("access", "revoke", merchant.token[3:11])
        assert done.returncode == 0, done.stderr
        assert call("createOrder", wanted) == (16, "invalid apikey")
        assert merchant.create(wanted) == (16, "invalid apikey")
    done = merchant.daemon.command(
        "access", "add", "--name", "new", "--scope", "write", "--user", merchant.user_id
    )
    assert done.returncode == 0, done.stderr
    assert merchant.create(wanted, token=done.stdout.strip())[0] == 0


def test_many_ask_for_the_same_order_at_once(merchant):
    wanted = [merchant.wanted() for _ in range(4)]
    with merchant.grpc() as call, ThreadPoolExecutor(16) as pool:
        ways = (merchant.create, lambda one: call("createOrder", one))
        asked = [pool.submit(ways[number % 2], wanted[number % 4]) for number in range(48)]
        asked += [pool.submit(way, one) for one in wanted for way in ways]
        found = [one.result() for one in asked]
    assert {code for code, _ in found} == {0}
    orders = Counter((order["merchant_order_id"], order["id"]) for _, order in found)
    assert len(orders) == 4
    assert len(merchant.invoices()) == 4


def test_grpc_js(merchant):
    require_grpc_js()
    script = """
const [apikey, wallet] = process.argv.slice(3);
const api = new (load('payscrypt/pg/pg_api.proto').payscrypt.pg.PgApi)(
  address, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
metadata.set('apikey', apikey);
const answer = done => (error, reply) => done(error ? [error.code, error.details] : reply.order);
(async () => {
  const wanted = {merchant_order_id: 'JS-1', asset_name: 'BTC', target_value: '150000',
    pg_wallet_id: wallet};
  const made = await new Promise(done => api.createOrder(wanted, metadata, answer(done)));
  out.push(made);
  out.push(await new Promise(done => api.getPublicOrderById({id: made.id}, answer(done))));
  out.push(await new Promise(done => api.createOrder(wanted, answer(done))));
  api.close();
})();
"""
    where = f"127.0.0.1:{merchant.daemon.grpc_port}"
    made, public, refused = run_node(
        script, where, merchant.token, str(merchant.wallet_id), root=""
    )
    assert merchant.create(merchant.wanted(merchant_order_id="JS-1")) == (0, made)
    assert public["variants"] == made["variants"]
    assert refused == [16, "invalid apikey"]


def test_the_page_is_where_the_setting_says(make_daemon, btc_node):
    daemon = make_daemon(btc_node, env={"TALLY_HTTP_PUBLIC_URL": "https://pay.example.org/"})
    daemon.start()
    merchant = Merchant(daemon)
    with merchant.grpc() as call:
        for create in (merchant.create, lambda wanted: call("createOrder", wanted)):
            code, order = create(merchant.wanted())
            assert code == 0, order
            assert order["redirect_url"] == f"https://pay.example.org/pay/{order['id']}"


@pytest.fixture(params=["sqlite", "postgres"])
def cut_daemon(request, make_daemon, btc_node):
    env = {}
    if request.param == "postgres":
        env["TALLY_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    return make_daemon(btc_node, env=env)


def test_kill_9_while_orders_are_made(cut_daemon):
    """Who asks again after the cut gets the order they were told of, and never a second one."""
    print(f"TALLY_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    daemon = cut_daemon
    daemon.start()
    merchant = Merchant(daemon)
    wanted = {}
    told = {}
    answered = threading.Event()

    def ask(number):
        for _ in range(2):
            try:
                code, order = merchant.create(wanted[number])
            except (*GONE, json.JSONDecodeError):
                return
            if code == 0:
                assert told.setdefault(number, order["id"]) == order["id"]
                answered.set()

    def kill(after_s, *, patient):
        """Every other time not before somebody is answered."""
        if patient:
            answered.wait(PATIENCE_S)
        time.sleep(after_s)  # the moment of the power cut, not a synchronisation
        daemon.kill()

    for cut in range(CUTS):
        answered.clear()
        if not daemon.is_running:
            daemon.start()
        # Some of those before once more: of a few nobody knows whether they were made.
        again = chance.sample(sorted(wanted), min(8, len(wanted)))
        fresh = [merchant.wanted() for _ in range(40)]
        wanted.update((one["merchant_order_id"], one) for one in fresh)
        after_s = chance.uniform(0.02, 0.3)
        with ThreadPoolExecutor(9) as pool:
            killed = pool.submit(kill, after_s, patient=cut % 2 == 0)
            list(pool.map(ask, [*again, *(one["merchant_order_id"] for one in fresh)]))
            killed.result()
    daemon.start()
    final = {}
    for number, one in wanted.items():
        code, order = merchant.create(one)
        assert code == 0, order
        assert told.get(number, order["id"]) == order["id"]
        final[number] = order
    assert len({order["id"] for order in final.values()}) == len(wanted)
    addresses = [order["variants"][0] for order in final.values()]
    assert len(set(addresses)) == len(wanted)
    assert set(merchant.invoices()) == set(addresses)
    assert told, "the daemon was killed before it could answer anything"
