"""The service as clients of other makers see it; Google's own in Python is used all over."""

from __future__ import annotations

import grpclib.exceptions
import pytest
import trio
from grpclib.const import Status

from proto.payscrypt.pg import (
    CreateOrderRequest,
    GetPublicOrderByIdRequest,
    OrderStatus,
    PgApiStub,
)
from tests.helpers.google_messages import google_class
from tests.helpers.grpc_node import require_grpc_js, run_node
from tests.helpers.grpc_serving import Running
from tests.helpers.payscrypt import as_json

GRPC_JS = """
const [apikey, wallet] = process.argv.slice(3);
const api = new (load('payscrypt/pg/pg_api.proto').payscrypt.pg.PgApi)(
  address, grpc.credentials.createInsecure());
const metadata = key => {
  const found = new grpc.Metadata();
  found.set('apikey', key);
  return found;
};
const answer = done => (error, reply) => done(error ? [error.code, error.details] : reply.order);
const wanted = {merchant_order_id: 'JS-1', asset_name: 'BTC', target_value: '1500000',
  pg_wallet_id: wallet, description: 'ü'};
(async () => {
  const first = await new Promise(done => api.createOrder(wanted, metadata(apikey), answer(done)));
  out.push(first);
  out.push(await new Promise(done => api.createOrder(wanted, metadata(apikey), answer(done))));
  out.push(await new Promise(done => api.createOrder(wanted, metadata('x'), answer(done))));
  out.push(await new Promise(done => api.createOrder(wanted, answer(done))));
  out.push(await new Promise(done => api.getPublicOrderById({id: first.id}, answer(done))));
  out.push(await new Promise(done => api.getPublicOrderById({id: '1'}, answer(done))));
  api.close();
})();
"""


async def test_grpc_js(shop):
    await trio.to_thread.run_sync(require_grpc_js)
    where = f"127.0.0.1:{shop.port}"
    out = await trio.to_thread.run_sync(
        lambda: run_node(GRPC_JS, where, shop.token, str(shop.wallet_id), root="")
    )
    first, second, wrong, none, public, absent = out
    assert first == second
    assert (first["status"], first["value"], first["type"]) == ("PENDING", "0", "NORMAL")
    assert first["description"] == "ü"
    assert first["redirect_url"] == f"https://pay.example/pay/{first['id']}"
    assert wrong == none == [16, "invalid apikey"]
    assert public["variants"] == first["variants"]
    assert "merchant_order_id" not in public
    assert absent == [5, "order not found"]


async def test_grpclib(shop):
    running = Running(None, shop.port, shop.house.log, ())

    async def work(channel):
        api = PgApiStub(channel)
        wanted = CreateOrderRequest(
            merchant_order_id="LIB-1",
            asset_name="BTC",
            target_value="1500000",
            pg_wallet_id=shop.wallet_id,
        )
        made = await api.create_order(wanted, metadata={"apikey": shop.token})
        found = await api.get_public_order_by_id(GetPublicOrderByIdRequest(id=made.order.id))
        with pytest.raises(grpclib.exceptions.GRPCError) as refused:
            await api.create_order(wanted)
        return made.order, found.order, refused.value

    made, found, error = await running.grpclib(work)
    assert (error.status, error.message) == (Status.UNAUTHENTICATED, "invalid apikey")
    assert (made.status, made.value, made.merchant_order_id) == (OrderStatus.PENDING, "0", "LIB-1")
    assert found.variants == made.variants
    # Google's reader finds the same in the same bytes.
    theirs = google_class("payscrypt.pg.Order").FromString(bytes(made))
    assert as_json(theirs)["id"] == made.id
