"""The OpenAPI document says what the API does; the page says what the document says."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from uuid import uuid4

import orjson
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.errors import KINDS
from tests.helpers.orders import NUMBER, make_wallet, place_order
from tests.helpers.problems import refusing_with_problems


@pytest.fixture
async def document(client):
    response = await client.get("/openapi.json")
    assert response.headers["Content-Type"] == "application/json"
    return orjson.loads(await response.get_data())


async def test_the_document_is_openapi_3_1(document):
    assert document["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


async def test_every_route_is_documented_and_every_document_is_a_route(app, document):
    routes = {
        (method, re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    documented = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    assert routes - documented == {("GET", "/docs"), ("GET", "/openapi.json")}
    assert documented <= routes


def validator(document, name):
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


async def test_answers_fit_their_schemas(client, document, house):
    user_id = await house.user()
    invoice = await house.invoice(user_id)
    await house.paid(invoice, 10)
    await house.paid(invoice, 2_000_000)
    await house.mined(invoice)
    lost = await house.invoice(user_id)
    tx = house.btc.pay(lost.terms.destination, 5)
    await house.told()
    house.btc.mine(house.btc.steal(tx))
    await house.told()
    known = {"{invoice_id}": str(invoice.terms.invoice_id), "{user_id}": str(user_id)}
    known["{asset}"] = "BTC"
    added = await client.post("/v1/webhooks", json={"url": "https://shop.example/"})
    known["{webhook_id}"] = (await added.get_json())["id"]
    placed = await place_order(house, await make_wallet(house, user_id))
    known["{wallet_id}"] = str(placed.order.wallet_id)
    known["{order_id}"] = str(placed.order.id)
    queries = {"/v1/orders": f"?user_id={user_id}&merchant_order_id={NUMBER}"}
    for path, method, operation in refusing_with_problems(document):
        if method != "get" or path == "/metrics":
            continue
        url = path
        for name, value in known.items():
            url = url.replace(name, value)
        response = await client.get(url + queries.get(path, ""))
        answer = operation["responses"][str(response.status_code)]
        reference = answer["content"]["application/json"]["schema"]["$ref"]
        validator(document, reference.rsplit("/", 1)[1]).validate(await response.get_json())
        problem = await client.get(url.replace(known["{invoice_id}"], str(uuid4())) + "?nonsense=1")
        if problem.status_code >= 400:
            assert str(problem.status_code) in operation["responses"]
            validator(document, "Problem").validate(orjson.loads(await problem.get_data()))


async def test_examples_fit_and_what_the_schema_refuses_the_code_refuses_too(client, document):
    for path, method, operation in refusing_with_problems(document):
        body = operation.get("requestBody")
        if body is None:
            continue
        content = body["content"]["application/json"]
        check = Draft202012Validator(content["schema"])
        check.validate(content["example"])
        for strange in ({"nonsense": 1}, {**content["example"], "x": None}):
            assert not check.is_valid(strange)
            url = re.sub(r"{\w+}", str(uuid4()), path)
            response = await client.open(url, method=method.upper(), json=strange)
            assert response.status_code == 422


class Page(HTMLParser):
    """What a page asks for and links to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags = set()
        self.ids = []
        self.links = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src"):
                self.links.append(value)
            assert not name.startswith("on"), "no scripts"
            assert name != "style", "the policy lets no inline style in"

    def handle_data(self, data):
        self.text += data


async def test_the_page_needs_nothing_from_elsewhere_and_its_links_lead_somewhere(client, document):
    response = await client.get("/docs")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    page = Page()
    page.feed((await response.get_data()).decode())
    assert not page.tags & {"script", "img", "link", "iframe", "object", "form"}
    assert len(set(page.ids)) == len(page.ids)
    for link in page.links:
        assert link == "/openapi.json" or link.removeprefix("#") in page.ids
    for item in document["paths"].values():
        for operation in item.values():
            assert operation["operationId"] in page.ids
            assert operation["summary"] in page.text
    # `type` of a problem document leads to this page.
    assert {kind.slug for kind in KINDS.values()} <= set(page.ids)
    assert "{{" not in page.text
    assert "url(" not in (await response.get_data()).decode()


async def test_the_policy_lets_the_pages_style_in_and_nothing_else(client):
    response = await client.get("/docs")
    policy = response.headers["Content-Security-Policy"]
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]+'; frame-ancestors 'none'", policy
    )
    style = re.search(r"<style>(.*?)</style>", (await response.get_data()).decode(), re.DOTALL)
    digest = b64encode(sha256(style.group(1).encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
