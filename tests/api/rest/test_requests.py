"""What is no request of this API: paths, methods, media types, sizes, JSON; and safe headers."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.rest import fields
from api.rest.app import create_app
from api.rest.edge import HttpLimits
from api.rest.fields import Field, Shape
from api.rest.problems import Fault
from tests.helpers.problems import problem_of

JSON = {"Content-Type": "application/json"}


async def test_a_path_that_is_not_there(client):
    for path in ("/", "/v1", "/v1/users/x", "/v2/invoices", "/v1/invoices/", "//", "/%ff"):
        document = await problem_of(await client.get(path), 404, "NOT_FOUND")
        assert "/docs" in document["advice"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/v1/users/{user_id}/keys", "OPTIONS, PUT"),
     ("DELETE", "/v1/invoices", "GET, HEAD, OPTIONS, POST"),
     ("POST", "/healthz", "GET, HEAD, OPTIONS"), ("TRACE", "/docs", "GET, HEAD, OPTIONS")],
)  # fmt: skip
async def test_a_method_that_is_not_there(client, method, path, allowed):
    response = await client.open(path, method=method)
    await problem_of(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["Allow"] == allowed


async def test_options_and_head(client):
    response = await client.options("/v1/invoices")
    assert response.status_code == 200
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert "Access-Control-Allow-Origin" not in response.headers
    head = await client.head("/v1/assets")
    got = await client.get("/v1/assets")
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/xml", "multipart/form-data"])
async def test_another_media_type(client, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    response = await client.post("/v1/invoices", data=b"{}", headers=headers)
    await problem_of(response, 415, "NOT_JSON")
    assert response.headers["Accept"] == "application/json"


async def test_a_charset_beside_the_media_type_is_fine(client):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await client.post("/v1/users", data=b"{}", headers=headers)).status_code == 201


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"nul", b"[]", b"1", b'"x"', b"null", b'{"a": NaN}', b"\xff\xfe", b'{"a":"\xff"}',
     b"[" * 5000, b"{'a': 1}", b'{"a": 1,}'],
)  # fmt: skip
async def test_what_is_no_json_object(client, data):
    response = await client.post("/v1/invoices", data=data, headers=JSON)
    await problem_of(response, 400, "MALFORMED_JSON")


async def test_a_body_that_is_too_large(house):
    client = create_app(house.edge(limits=HttpLimits(body_bytes=1000))).test_client()
    for size, status in ((999, 422), (1001, 413), (100_000, 413)):
        data = b'{"x": "' + b"y" * (size - 9) + b'"}'
        response = await client.post("/v1/users", data=data, headers=JSON)
        reason = "BODY_TOO_LARGE" if status == 413 else "INVALID_REQUEST"
        assert len(await response.get_data()) < 1000
        await problem_of(response, status, reason)


async def test_a_bug_ends_one_request_and_is_logged(client, house, monkeypatch):
    async def crash(*args, **more):
        raise ZeroDivisionError("secret internals")

    monkeypatch.setattr(house.store, "add_user", crash)
    response = await client.post("/v1/users")
    await problem_of(response, 500, "BUG")
    assert b"secret" not in await response.get_data()
    (line,) = house.log.of("a request crashed")
    assert isinstance(line.fields["exc_info"], ZeroDivisionError)


async def test_every_answer_bears_the_safe_headers(client):
    for path in ("/healthz", "/docs", "/openapi.json", "/nope", "/v1/assets"):
        headers = (await client.get(path)).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["Referrer-Policy"] == "no-referrer"


async def test_unknown_query_parameters_are_refused_but_for_probes(client):
    assert (await client.get("/healthz?_=123")).status_code == 200
    response = await client.get("/v1/assets?page=2")
    await problem_of(response, 422, "INVALID_REQUEST")


# --- the field readers ----------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
SHAPE = Shape(
    (
        Field("uuid", fields.uuid, {}, ""),
        Field("amount", fields.amount, {}, ""),
        Field("base", fields.base_units, {}, ""),
        Field("whole", fields.whole(0, 10), {}, ""),
        Field("whole_text", fields.whole_text(0, 10), {}, ""),
        Field("choice", fields.choice(("BTC", "LTC")), {}, ""),
        Field("listed", fields.listed(fields.choice(("BTC", "LTC"))), {}, ""),
        Field("instant", fields.instant, {}, "", required=True),
    ),
    one_of=(("amount", "base"),),
)
NAMES = st.sampled_from(list(SHAPE.names)) | st.text(max_size=200)


@given(st.dictionaries(NAMES, VALUES, max_size=9))
def test_no_value_breaks_a_reader_and_every_fault_names_its_place(given_values):
    values, faults = SHAPE.read(given_values, lambda name, detail: Fault(detail, pointer=name))
    refused = {fault.pointer for fault in faults}
    for name, value in given_values.items():
        if value is not None:
            assert (name in values) != (name in refused) or name in ("amount", "base")
    for fault in faults:
        assert len(fault.detail) < 400
        orjson.dumps(fault.as_json())
