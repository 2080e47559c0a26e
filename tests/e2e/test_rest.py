"""Following an invoice by REST alone: polling that costs nothing, and long-polls."""

from concurrent.futures import ThreadPoolExecutor

from tests.helpers.shop import block_of, new_key

AMOUNT = "0.00123457"
AMOUNT_BASE = 123_457


def test_a_backend_that_only_speaks_rest_is_served(daemons, node):
    for daemon in daemons.values():
        chain = node.family
        status, _, user = daemon.http("POST", "/v1/users")
        assert status == 201
        path = f"/v1/users/{user['id']}/keys"
        assert daemon.http("PUT", path, {chain: new_key()})[0] == 204
        status, headers, invoice = daemon.http(
            "POST",
            "/v1/invoices",
            {
                "user_id": user["id"],
                "asset": chain.upper(),
                "amount": AMOUNT,
                "expires_in": 600,
                "confirmations": 2,
            },
        )
        assert status == 201
        path = f"/v1/invoices/{invoice['id']}"
        assert headers["location"].endswith(path)
        assert (invoice["status"], invoice["amount_base"]) == ("PENDING", str(AMOUNT_BASE))
        txid = follow(daemon, node, path, invoice)
        _, _, listed = daemon.http("GET", f"/v1/invoices?user_id={user['id']}")
        assert [one["id"] for one in listed["items"]] == [invoice["id"]]
        (payment,) = listed["items"][0]["payments"]
        assert payment["txid"] == txid
        assert payment["height"] == block_of(node, txid)[0]


def follow(daemon, node, path, invoice):
    """Pay and mine, each step told by a long-poll that began before it."""
    status, headers, shown = daemon.http("GET", path)
    assert (status, shown) == (200, invoice)

    def next_view(action):
        """What a long-poll, begun before the action, comes back with."""
        known = {"If-None-Match": headers["etag"]}
        assert daemon.http("GET", path, headers=known)[0] == 304
        with ThreadPoolExecutor() as pool:
            poll = pool.submit(daemon.http, "GET", f"{path}?wait=30", None, known)
            done = action()
            status, headers_, document = poll.result()
        assert status == 200
        headers.update(headers_)
        return done, document

    txid, shown = next_view(lambda: node.pay(invoice["address"], AMOUNT_BASE))
    assert shown["status"] == "PENDING_MEMPOOL"
    assert (shown["received"], shown["received_base"]) == (AMOUNT, str(AMOUNT_BASE))
    assert [one["txid"] for one in shown["payments"]] == [txid]
    assert shown["payments"][0]["confirmations"] == 0
    _, shown = next_view(node.mine)
    assert shown["status"] == "PENDING_MEMPOOL"
    assert shown["payments"][0]["confirmations"] == 1
    _, shown = next_view(node.mine)
    while shown["status"] != "CONFIRMED":
        # The chain's tip and the invoice's own news may come one after the other.
        _, shown = next_view(lambda: None)
    assert shown["payments"][0]["confirmations"] == 2
    assert shown["confirmed_base"] == str(AMOUNT_BASE)
    _, shown = next_view(node.mine)
    assert shown["payments"][0]["confirmations"] == 3
    return txid
