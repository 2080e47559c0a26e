"""What REST's answers have beside the order: headers, HTTP's own errors, CORS, their document."""

from __future__ import annotations

from functools import partial
from urllib.parse import unquote

import grpc
import orjson
import pytest
import trio
from jsonschema import Draft202012Validator

from api.payscrypt import HTTP_OF, percent_encoded
from api.rest.serving import serve
from tests.helpers.payscrypt import CREATE, LATER, PUBLIC

PUBLIC_HEADERS = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "grpc-code, grpc-message",
}
CORS = "access-control-"
JSON = {"Content_Type": "application/json"}


@pytest.mark.parametrize("root", ["", "/payscrypt"])
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/apis/pg/nothing", 404, 5),
        ("POST", "/payment/v1/nothing", 404, 5),
        ("GET", "/payment/v1/invoice/1/2", 404, 5),
        ("GET", "/apis/pg/create_order", 405, 12),
        ("PUT", "/apis/pg/get_public_order", 405, 12),
        ("DELETE", "/payment/v1/invoice", 405, 12),
    ],
)
async def test_what_is_not_there(shop, root, method, path, status, code):
    found = await shop.rest(root + path, method=method)
    assert (found.status, found.code) == (status, code)
    assert ("Allow" in found.headers) == (status == 405)
    assert found.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "sent", "status", "code", "message"),
    [
        (b"{", JSON, 400, 3, "invalid body"),
        (b"[]", JSON, 400, 3, "invalid body"),
        (b'"x"', JSON, 400, 3, "invalid body"),
        (b"\xff", JSON, 400, 3, "invalid body"),
        (b'{"id":"\\ud800"}', JSON, 400, 3, "invalid body"),
        (b'{"id":5}', JSON, 400, 3, "invalid id"),
        (b'{"id":["1"]}', JSON, 400, 3, "invalid id"),
        (b'{"id":"1","with_payments":"true"}', JSON, 400, 3, "invalid with_payments"),
        (b'{"id":"1","with_payments":1}', JSON, 400, 3, "invalid with_payments"),
        (b'{"id":"1","with_payments":true,"withPayments":true}', JSON, 400, 3, None),
        (b'{"id":null}', JSON, 400, 3, "invalid id"),
        (b"", {}, 400, 3, "invalid id"),
        (b"{}", JSON, 400, 3, "invalid id"),
        (b'{"id":"1","with_payments":null,"x":{}}', JSON, 404, 5, "order not found"),
        (b'{"id":"1"}', {"Content_Type": "application/json; charset=utf-8"}, 404, 5, None),
        (b"id=1", {"Content_Type": "application/x-www-form-urlencoded"}, 415, 3, None),
        (b'{"id":"1"}', {"Content_Type": "text/plain"}, 415, 3, None),
        (b" " * 70_000, JSON, 413, 8, None),
    ],
)
async def test_bodies(shop, body, sent, status, code, message):
    found = await shop.rest(PUBLIC, body, **sent)
    assert (found.status, found.code) == (status, code)
    assert message in (None, found.message)
    assert found.headers["Access-Control-Allow-Origin"] == "*"
    created = await shop.rest(CREATE, body, apikey=shop.token, **sent)
    if status in (413, 415) or message == "invalid body":
        assert (created.status, created.code) == (status, code)
    else:
        assert created.code == 3


@pytest.mark.parametrize("query", ["", "id=", "id=x", "id=1&id=2", "id=1&with_payments=maybe"])
async def test_queries(shop, query):
    found = await shop.rest(f"{PUBLIC}?{query}", method="GET")
    assert (found.status, found.code) == (400, 3)
    field = "with_payments" if "with" in query else "id"
    assert found.message == f"invalid {field}"


async def test_a_wrong_key_is_refused_with_what_http_asks_for(shop):
    found = await shop.create(shop.wanted(), apikey="x")
    assert found.status == 401
    assert found.headers["WWW-Authenticate"].startswith("Bearer")


# --- pages of other sites -------------------------------------------------------------------------


def by_name(headers):
    return {name.lower(): value for name, value in headers.items()}


@pytest.mark.parametrize("root", ["", "/payscrypt"])
@pytest.mark.parametrize("path", [PUBLIC, f"{LATER}/1"])
async def test_pages_of_any_site_may_read_what_is_public(shop, root, path):
    asked = {
        "Origin": "https://shop.example",
        "Access_Control_Request_Method": "POST",
        "Access_Control_Request_Headers": "content-type",
    }
    found = await shop.rest(root + path, method="OPTIONS", **asked)
    assert (found.status, found.code) == (200, 0)
    assert PUBLIC_HEADERS.items() <= by_name(found.headers).items()
    assert found.headers["Access-Control-Allow-Headers"] == "content-type"
    assert {"GET", "OPTIONS"} <= set(found.headers["Access-Control-Allow-Methods"].split(", "))
    read = await shop.rest(root + path, method="GET", Origin="https://shop.example")
    assert {name for name in by_name(read.headers) if name.startswith(CORS)} == set(PUBLIC_HEADERS)
    assert PUBLIC_HEADERS.items() <= by_name(read.headers).items()


@pytest.mark.parametrize("root", ["", "/payscrypt"])
@pytest.mark.parametrize("path", [CREATE, LATER])
async def test_no_page_of_another_site_may_create(shop, root, path):
    for method, document in (("OPTIONS", None), ("POST", shop.wanted())):
        found = await shop.rest(
            root + path, document, method=method, Origin="https://x.example", apikey=shop.token
        )
        assert not [name for name in by_name(found.headers) if name.startswith(CORS)]
        assert {"grpc-code", "grpc-message"} <= set(by_name(found.headers))


async def test_our_own_api_has_none_of_it(shop):
    response = await shop.client.get("/v1/nothing", headers={"Origin": "https://x.example"})
    assert response.content_type == "application/problem+json"
    names = by_name(response.headers)
    assert not [name for name in names if name.startswith(("grpc-", CORS))]


# --- codes and texts ------------------------------------------------------------------------------


def test_every_status_of_grpc_has_the_http_status_of_googles_table():
    known = {code.value[0] for code in grpc.StatusCode}
    assert set(HTTP_OF) == known
    assert [HTTP_OF[code] for code in sorted(HTTP_OF)] == [
        200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["invalid id", "100 % \u00fcber\u4e2d\n", "\x7f", "~!\"'"])
def test_texts_are_percent_encoded(text):
    coded = percent_encoded(text)
    assert coded.isascii()
    assert coded.isprintable()
    assert unquote(coded) == text
    assert text not in coded or "%" not in text


# --- the OpenAPI document -------------------------------------------------------------------------


async def test_answers_are_what_the_document_says(shop, house):
    document = orjson.loads(await (await shop.client.get("/openapi.json")).get_data())
    made = await shop.create(shop.wanted())
    row = await house.store.orders.order(int(made.order["id"]))
    invoice = (await house.store.invoice(row.invoice_id)).invoice
    await house.paid(invoice)
    seen = 0
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if operation["tags"] != ["Payscrypt"]:
                continue
            url = path.replace("{id}", made.order["id"])
            if method == "get" and "{id}" not in path:
                url += f"?id={made.order['id']}&with_payments=true"
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json")
            body = None if schema is None else schema["example"]
            if body is not None:
                Draft202012Validator(schema["schema"]).validate(body)
            if body and "id" in body:
                body["id"] = made.order["id"]
            headers = {"apikey": shop.token} if operation["security"] else {}
            for sent in ({}, headers):
                response = await shop.client.open(
                    url, method=method.upper(), headers=sent, json=body
                )
                told = operation["responses"][str(response.status_code)]
                reference = told["content"]["application/json"]["schema"]
                Draft202012Validator({**reference, "components": document["components"]}).validate(
                    orjson.loads(await response.get_data())
                )
                seen += response.status_code == 200
    assert seen >= 14


# --- over a real socket ---------------------------------------------------------------------------


async def test_headers_arrive_as_they_are_meant(shop, nursery):
    """What the test client does not show: how names and texts look on the wire."""
    shutdown = trio.Event()
    bound = await nursery.start(partial(serve, shop.app, "127.0.0.1", 0, shutdown=shutdown))
    stream = await trio.open_tcp_stream(*bound[0])
    question = f"GET {PUBLIC}?id=x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    await stream.send_all(question.encode())
    with trio.fail_after(20):
        data = b"".join([part async for part in stream])
    await stream.aclose()
    shutdown.set()
    head, _, body = data.partition(b"\r\n\r\n")
    lines = {line.lower() for line in head.split(b"\r\n")}
    assert {b"grpc-code: 3", b"grpc-message: invalid id"} <= lines
    assert orjson.loads(body) == {"code": 3, "message": "invalid id", "details": []}
