"""The main job on real nodes: sold, paid, seen, confirmed, the same on every wire."""

import asyncio
import datetime as dt

from grpclib.client import Channel

from proto.goipay.crypto.v1 import BtcKeysUpdateRequest, CoinType
from proto.goipay.invoice.v1 import (
    CreateInvoiceRequest,
    InvoiceServiceStub,
    InvoiceStatusStreamRequest,
    InvoiceStatusType,
)
from proto.goipay.user.v1 import RegisterUserRequest, UpdateCryptoKeysRequest, UserServiceStub
from tests.helpers.shop import Shop, Ticket, block_of, check_log, new_key, pay_many

AMOUNT = 12_345_679
LIFE = ["PENDING", "PENDING_MEMPOOL", "CONFIRMED"]


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def close(first: dt.datetime, second: dt.datetime) -> bool:
    """Within the wire's millisecond."""
    return abs(first - second) < dt.timedelta(milliseconds=2)


def sold(shops: list[Shop], amount_base: int = AMOUNT, **terms: int) -> list[Ticket]:
    return [shop.sell(amount_base, **terms) for shop in shops]


def test_an_invoice_is_pending_then_seen_then_confirmed(shops, node):
    before = now()
    tickets = sold(shops)
    created = [ticket.heard("PENDING")[0] for ticket in tickets]
    txids = [ticket.pay() for ticket in tickets]
    seen = [ticket.heard("PENDING_MEMPOOL")[-1] for ticket in tickets]
    node.mine()
    for ticket, first, second, txid in zip(tickets, created, seen, txids, strict=True):
        third = ticket.heard("CONFIRMED")[-1]
        assert ticket.told() == LIFE
        for update in (first, second, third):
            assert update.address == ticket.address
            assert update.coin == node.family.upper()
            assert update.required_base == AMOUNT
            assert update.confirmations == 1
            assert update.user_id == ticket.shop.user_id
            assert update.created_at == first.created_at
            assert update.expires_at == first.created_at + dt.timedelta(hours=1)
        assert before - dt.timedelta(milliseconds=2) <= first.created_at <= now()
        assert (first.actual_base, first.txid, first.confirmed_at) == (0, "", None)
        assert (second.actual_base, second.txid, second.confirmed_at) == (AMOUNT, txid, None)
        assert (third.actual_base, third.txid) == (AMOUNT, txid)
        assert third.confirmed_at is not None
        assert first.created_at <= third.confirmed_at <= now()
        (payment,) = ticket.check()["payments"]
        height, block_hash = block_of(node, txid)
        assert payment["txid"] == txid
        assert payment["state"] == "included"
        assert (payment["height"], payment["block_hash"]) == (height, block_hash)
        assert payment["confirmations"] == 1
        assert ticket.kinds() == [
            "invoice.created",
            "payment.seen",
            "invoice.covered",
            "payment.included",
            "invoice.settled",
        ]


def test_the_first_addresses_are_0_1_and_0_2_of_the_key(daemons, clients, btc_node):
    """The contract's check vector is a signet address; on regtest only the prefix differs."""
    client, _ = clients["sqlite"]
    user = client.register()
    signet = (
        "tpubDCUURn3yPT4P3SkrUq9rG1RyJK6BGhmrovvSAF61LHLCZhNUMRw7FANPmhGuDWXo3GMkc6C4ZFGBuPMrov"
        "jdnXhtJfQE3uK3s6QzFuiQaz9"
    )
    client.set_keys(user, btc=signet)
    first = client.create(user, "BTC", AMOUNT).address
    known = btc_node.rpc("getaddressinfo", first)["scriptPubKey"]
    # The contract's tb1qqdcfs9s5gjsnmazcsqfe2h6gwzwdu2eufesk8h.
    assert known == "0014037098161444a13df4588013955f48709cde2b3c"
    client.set_keys(user, btc=signet)
    second = client.create(user, "BTC", AMOUNT).address
    assert second != first


def test_several_partial_payments_add_up(shops, node):
    tickets = sold(shops)
    parts = (5_000_001, 7_000_000, AMOUNT - 12_000_001)
    for ticket in tickets:
        ticket.pay(parts[0])
        ticket.heard(lambda all_: all_[-1].actual_base == parts[0])
        ticket.pay(parts[1])
        ticket.heard(lambda all_: all_[-1].actual_base == parts[0] + parts[1])
        assert ticket.rest()["flags"]["underpaid"]
        assert ticket.rest()["due_base"] == str(parts[2])
    node.mine()
    for ticket in tickets:
        ticket.until(
            lambda one: all(p["state"] == "included" for p in one["payments"]), "all are mined"
        )
        assert set(ticket.told()) == {"PENDING"}
        last = ticket.pay(parts[2])
        update = ticket.heard("PENDING_MEMPOOL")[-1]
        assert (update.actual_base, update.txid) == (AMOUNT, last)
    node.mine()
    for ticket in tickets:
        assert ticket.heard("CONFIRMED")[-1].actual_base == AMOUNT
        shown = ticket.check()
        assert [int(one["amount_base"]) for one in shown["payments"]] == list(parts)
        assert [one["confirmations"] for one in shown["payments"]] == [2, 2, 1]
        assert not shown["flags"]["underpaid"]


def test_an_over_payment_is_confirmed_with_all_of_it(shops, node):
    tickets = sold(shops)
    for ticket in tickets:
        ticket.pay(AMOUNT + 1)
        assert ticket.heard("PENDING_MEMPOOL")[-1].actual_base == AMOUNT + 1
    node.mine()
    for ticket in tickets:
        assert ticket.heard("CONFIRMED")[-1].actual_base == AMOUNT + 1
        shown = ticket.check()
        assert shown["flags"]["overpaid"]
        assert shown["due_base"] == "0"


def test_one_transaction_pays_two_invoices_each(shops, node):
    """A batch payout; the original paid one invoice only."""
    tickets = [*sold(shops, AMOUNT), *sold(shops, 2 * AMOUNT)]
    txid = pay_many(node, {ticket.address: ticket.amount_base for ticket in tickets})
    for ticket in tickets:
        assert ticket.heard("PENDING_MEMPOOL")[-1].txid == txid
    node.mine()
    for ticket in tickets:
        update = ticket.heard("CONFIRMED")[-1]
        assert (update.actual_base, update.txid) == (ticket.amount_base, txid)
        assert ticket.told() == LIFE
        ticket.check()
    outpoints = {ticket.rest()["payments"][0]["outpoint"] for ticket in tickets}
    assert len(outpoints) == len(tickets)


def test_no_confirmation_asked_is_seen_and_confirmed_at_once(shops, node):
    tickets = sold(shops, confirmations=0)
    for ticket in tickets:
        txid = ticket.pay()
        updates = ticket.heard("CONFIRMED")
        assert [update.status for update in updates] == LIFE
        assert [update.txid for update in updates] == ["", txid, txid]
    node.mine()
    for ticket in tickets:
        ticket.until(lambda one: one["payments"][0]["confirmations"] == 1, "it is mined")
        assert ticket.told() == LIFE
        ticket.check()


def test_three_confirmations_are_waited_for(shops, node):
    tickets = sold(shops, confirmations=3)
    for ticket in tickets:
        ticket.pay()
        ticket.heard("PENDING_MEMPOOL")
    for depth in (1, 2):
        node.mine()
        for ticket in tickets:
            shown = ticket.until(
                lambda one, depth=depth: one["payments"][0]["confirmations"] == depth,
                f"{depth} confirmations",
            )
            assert shown["status"] == "PENDING_MEMPOOL"
            assert shown["confirmed_base"] == "0"
    node.mine()
    for ticket in tickets:
        ticket.heard("CONFIRMED")
        assert ticket.told() == LIFE
        assert ticket.check()["confirmed_base"] == str(AMOUNT)


def test_an_open_amount_is_satisfied_by_anything(shops, node):
    tickets = sold(shops, 0)
    for ticket in tickets:
        ticket.pay(54_321)
        ticket.heard("PENDING_MEMPOOL")
    node.mine()
    for ticket in tickets:
        assert ticket.heard("CONFIRMED")[-1].actual_base == 54_321
        ticket.check()


def test_absurd_terms_are_taken_and_the_invoice_works(shops, node):
    tickets = sold(shops, timeout_s=2**64 - 1, confirmations=2**32 - 1)
    for ticket in tickets:
        ticket.pay()
        update = ticket.heard("PENDING_MEMPOOL")[-1]
        assert update.expires_at.year == 9999
        assert update.confirmations == 2**32 - 1
        ticket.check()


def test_a_grpclib_client_sees_the_same(daemons, btc_node):
    async def trade() -> list[tuple[InvoiceStatusType, float, str]]:
        async with Channel("127.0.0.1", daemons["postgres"].grpc_port) as channel:
            users, invoices = UserServiceStub(channel), InvoiceServiceStub(channel)
            heard = []
            stream = invoices.invoice_status_stream(InvoiceStatusStreamRequest())
            reading = asyncio.ensure_future(anext(stream))
            # grpclib's generator opens the call with the first read, which runs while the next call
            # waits; when the one after that is answered, the daemon has it.
            user_id = (await users.register_user(RegisterUserRequest())).user_id
            await users.update_crypto_keys(
                UpdateCryptoKeysRequest(
                    user_id=user_id, btc_req=BtcKeysUpdateRequest(master_pub_key=new_key())
                )
            )
            created = await invoices.create_invoice(
                CreateInvoiceRequest(
                    user_id=user_id, coin=CoinType.BTC, amount=0.1, timeout=60, confirmations=1
                )
            )
            while not heard or heard[-1][0] is not InvoiceStatusType.CONFIRMED:
                invoice = (await asyncio.wait_for(reading, 30)).invoice
                reading = asyncio.ensure_future(anext(stream))
                if invoice is None or invoice.id != created.payment_id:
                    continue
                heard.append((invoice.status, invoice.actual_amount, invoice.tx_id))
                if invoice.status is InvoiceStatusType.PENDING:
                    txid = await asyncio.to_thread(btc_node.pay, created.address, 10_000_000)
                elif invoice.status is InvoiceStatusType.PENDING_MEMPOOL:
                    await asyncio.to_thread(btc_node.mine)
            reading.cancel()
            assert {txid for _, _, txid in heard[1:]} == {txid}
            return heard

    heard = asyncio.run(trade())
    assert [status.name for status, _, _ in heard] == LIFE
    assert [amount for _, amount, _ in heard] == [0, 0.1, 0.1]


def test_the_event_logs_are_dense_and_in_order(daemons):
    for daemon in daemons.values():
        check_log(daemon)
