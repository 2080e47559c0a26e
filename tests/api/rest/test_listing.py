"""Lists of invoices: filters, orders, and pages that neither repeat nor skip."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import quote

import pytest

from api.convert import format_instant
from tests.helpers.house import EVM_KEY
from tests.helpers.problems import places, problem_of


@pytest.fixture
async def many(house):
    """Seven invoices of two users; the third is paid, the fourth confirmed, the fifth expired."""
    one = await house.user()
    two = await house.user(btc=EVM_KEY)
    invoices = []
    for number in range(7):
        house.clock.jump(1)
        ttl_s = 10 if number == 4 else 3600
        asset = "LTC" if number == 6 else "BTC"
        owner = two if number in (1, 4) else one
        invoices.append(await house.invoice(owner, 1000, asset=asset, ttl_s=ttl_s, confirmations=1))
    await house.paid(invoices[3])
    await house.mined(invoices[3])
    await house.paid(invoices[2])
    house.clock.jump(20)
    await house.told()
    return invoices


def numbers(many, document):
    ids = [str(one.terms.invoice_id) for one in many]
    return [ids.index(one["id"]) for one in document["items"]]


async def listed(client, query=""):
    response = await client.get(f"/v1/invoices{query}")
    assert response.status_code == 200, await response.get_data()
    return await response.get_json()


@pytest.mark.parametrize(
    ("query", "wanted"),
    [("", [6, 5, 4, 3, 2, 1, 0]),
     ("?order=created", [0, 1, 2, 3, 4, 5, 6]),
     ("?order=updated", [0, 1, 5, 6, 3, 2, 4]),
     ("?order=-updated", [4, 2, 3, 6, 5, 1, 0]),
     ("?asset=LTC", [6]),
     ("?asset=LTC,BTC&limit=2", [6, 5]),
     ("?status=EXPIRED", [4]),
     ("?status=CONFIRMED,PENDING_MEMPOOL&order=created", [2, 3]),
     ("?status=PENDING&asset=BTC&order=created", [0, 1, 5]),
     ("?asset=ETH", [])],
)  # fmt: skip
async def test_filters_and_orders(client, many, query, wanted):
    assert numbers(many, await listed(client, query)) == wanted


async def test_one_users_and_what_changed_since(client, many):
    owner = many[1].terms.user_id
    assert numbers(many, await listed(client, f"?user_id={owner.hex}&order=created")) == [1, 4]
    since = format_instant(many[6].terms.created_at_ms)
    assert numbers(many, await listed(client, f"?updated_since={quote(since)}")) == [6, 3, 2, 4]
    zoned = since.replace("Z", "+00:00")
    assert numbers(many, await listed(client, f"?updated_since={zoned}")) == [6, 3, 2, 4]


@pytest.mark.parametrize("order", ["created", "-created", "updated", "-updated"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_join_into_the_whole(client, many, order, limit):
    whole = numbers(many, await listed(client, f"?order={order}"))
    found, query, pages = [], f"?order={order}&limit={limit}", 0
    while True:
        response = await client.get(f"/v1/invoices{query}")
        document = await response.get_json()
        found += numbers(many, document)
        pages += 1
        if document["next"] is None:
            assert "Link" not in response.headers
            break
        assert len(document["items"]) == limit
        target, relation = response.headers["Link"].split(">; ")
        assert relation == 'rel="next"'
        assert document["next"] in target
        query = target.removeprefix("</v1/invoices")
    assert found == whole
    assert pages == -(-7 // limit)


async def test_a_page_stays_right_when_invoices_are_added_meanwhile(client, house, many):
    first = await listed(client, "?limit=3")
    await house.invoice(many[0].terms.user_id)
    second = await listed(client, f"?limit=9&cursor={first['next']}")
    assert numbers(many, first) + numbers(many, second) == [6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("limit=0", "limit"), ("limit=501", "limit"), ("limit=1_0", "limit"), ("limit=", "limit"),
     ("order=newest", "order"), ("status=PAID", "status"), ("status=PENDING,", "status"),
     ("asset=btc", "asset"), ("user_id=me", "user_id"),
     ("updated_since=yesterday", "updated_since"), ("cursor=x", "cursor"),
     ("cursor=%C3%A4", "cursor"), ("cursor=", "cursor"),
     ("limit=1&limit=2", "limit"), ("limt=3", "limt"), ("wait=3", "wait")],
)  # fmt: skip
async def test_what_cannot_be_asked_is_refused(client, query, parameter):
    response = await client.get(f"/v1/invoices?{query}")
    document = await problem_of(response, 422, "INVALID_REQUEST")
    assert places(document) == [parameter]


async def test_a_cursor_that_was_tampered_with_breaks_nothing(client, many):
    cursor = (await listed(client, "?limit=1"))["next"]
    raw = bytearray(urlsafe_b64decode(cursor + "="))
    for at in range(len(raw)):
        changed = bytes(raw[:at]) + bytes([raw[at] ^ 0xFF]) + bytes(raw[at + 1 :])
        text = urlsafe_b64encode(changed).decode().rstrip("=")
        response = await client.get(f"/v1/invoices?cursor={text}")
        # Position and id may be anything; what they stand for is looked up, never trusted.
        assert response.status_code == (422 if at <= 9 else 200)


async def test_a_cursor_belongs_to_its_question(client, many):
    cursor = (await listed(client, "?limit=1"))["next"]
    assert (await client.get(f"/v1/invoices?limit=5&cursor={cursor}")).status_code == 200
    for other in ("order=created", "status=PENDING", "asset=BTC"):
        response = await client.get(f"/v1/invoices?{other}&cursor={cursor}")
        document = await problem_of(response, 422, "INVALID_REQUEST")
        assert "other filters" in document["detail"]
