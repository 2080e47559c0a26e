"""The payment page over HTTP: who gets it, how, and what an order's number alone gives away."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace

import html5lib
import orjson
import pytest

from actors.brand_book import Brand
from actors.gate import Gate, GateRules
from actors.orders import PlacedOrder
from actors.ports import PersistentError, TransientError
from api.page.words import LANGUAGES, words
from api.rest.app import create_app
from tests.helpers.house import House
from tests.helpers.orders import make_wallet, place_order
from tests.helpers.qr_codes import qr_texts

POLICY = (
    r"default-src 'none'; style-src 'self' 'sha256-[A-Za-z0-9+/=]{44}'; script-src 'self';"
    r" connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none';"
    r" frame-ancestors 'none'"
)
PNG = b"\x89PNG\r\n\x1a\n picture"


@pytest.fixture
async def placed(house: House) -> PlacedOrder:
    user_id = await house.user()
    wallet = await make_wallet(house, user_id)
    return await place_order(
        house, wallet, callback_url="https://shop.example/", description="Two <i>coffees</i>"
    )


async def page(client, placed, query="", **headers):
    response = await client.get(f"/pay/{placed.order.id}{query}", headers=headers)
    return response, await response.get_data(as_text=True)


def parsed(html: str):
    """The document, which must have no error."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(html)


async def test_a_page_says_how_to_pay(client, placed):
    response, html = await page(client, placed)
    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    terms = placed.invoice.terms
    link = f"bitcoin:{terms.address}?amount=0.015"
    assert qr_texts(html) == [link]
    document = parsed(html)
    assert [one.get("href") for one in document.iter("a") if one.get("class") == "button"] == [link]
    assert terms.address in html
    assert "TEST NETWORK" in html, "the chain is a regtest"
    assert "Two &lt;i&gt;coffees&lt;/i&gt;" in html


async def test_the_headers_let_nothing_in_and_nothing_out(client, placed):
    response, html = await page(client, placed)
    assert re.fullmatch(POLICY, response.headers["Content-Security-Policy"])
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in response.headers
    assert response.headers["Vary"] == "Accept-Language, Accept-Encoding"
    for url in re.findall(r'(?:src|href)="([^"]*)"', html):
        assert url.startswith(("assets/", "data:,", "#main", "?lang=", "bitcoin:")), url


async def test_nothing_private_is_on_it(client, placed, house):
    for path in ("", "/status"):
        response = await client.get(f"/pay/{placed.order.id}{path}")
        body = await response.get_data(as_text=True)
        order, terms = placed.order, placed.invoice.terms
        for private in (order.merchant_order_id, str(order.user_id), str(terms.invoice_id)):
            assert private not in body


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_language_is_asked_for(client, placed, language):
    spoken = words(language)
    _, html = await page(client, placed, f"?lang={language}", **{"Accept-Language": "en"})
    root = parsed(html)
    assert (root.get("lang"), root.get("dir")) == (language, spoken.direction)
    assert spoken.sentences["waiting"] in html
    _, same = await page(client, placed, **{"Accept-Language": f"fr, {language};q=0.5"})
    assert spoken.sentences["waiting"] in same


@pytest.mark.parametrize("query", ["?lang=xx", "?lang=de&lang=en", '?lang="><script>', "?utm=1"])
async def test_other_parameters_change_and_show_nothing(client, placed, query):
    response, html = await page(client, placed, query)
    assert response.status_code == 200
    assert ('lang="de"' in html.split(">")[1]) is (query == "?lang=de&lang=en")
    assert "<script>" not in html
    assert "utm" not in html


async def test_compressed_for_those_who_take_it(client, placed):
    plain, html = await page(client, placed)
    assert "Content-Encoding" not in plain.headers
    response = await client.get(
        f"/pay/{placed.order.id}", headers={"Accept-Encoding": "br, gzip;q=0.9"}
    )
    assert response.headers["Content-Encoding"] == "gzip"
    unpacked = gzip.decompress(await response.get_data()).decode()
    assert re.sub(r'data-now="\d+"', "", unpacked) == re.sub(r'data-now="\d+"', "", html)


async def test_the_whole_page_is_small(client, placed):
    """HTML, style sheet and script as they are sent: 60 KB are allowed, and we are far below."""
    total = 0
    _, html = await page(client, placed)
    order_id = placed.order.id
    for path in (str(order_id), *re.findall(r'"(assets/[^"]+)"', html)):
        response = await client.get(f"/pay/{path}", headers={"Accept-Encoding": "gzip"})
        assert response.headers["Content-Encoding"] == "gzip"
        total += len(await response.get_data())
    assert total < 20_000


async def test_files_are_kept_for_ever_and_found_by_their_hash_alone(client, placed):
    _, html = await page(client, placed)
    style, script = sorted(re.findall(r'"(assets/[^"]+)"', html), reverse=True)
    for path, kind in ((style, "text/css"), (script, "text/javascript")):
        response = await client.get(f"/pay/{path}")
        assert response.status_code == 200
        assert response.content_type == f"{kind}; charset=utf-8"
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    for name in ("style.css", "page.js", "..%2fpage.js", "style-000000000000.css"):
        assert (await client.get(f"/pay/assets/{name}")).status_code == 404


# --- the status -----------------------------------------------------------------------------------


async def test_the_status_is_the_part_that_the_page_has(client, placed, house):
    response = await client.get(f"/pay/{placed.order.id}/status?lang=de")
    part = orjson.loads(await response.get_data())
    assert (part["status"], part["final"]) == ("PENDING", False)
    assert part["headline"] == words("de").sentences["waiting"]
    assert response.headers["ETag"] == f'W/"{part["version"]}"'
    _, html = await page(client, placed, "?lang=de")
    assert part["html"] in html
    assert f'data-version="{part["version"]}"' in html


async def test_the_status_is_given_once_until_it_changes(client, placed, house):
    path = f"/pay/{placed.order.id}/status"
    first = await client.get(path)
    known = {"If-None-Match": first.headers["ETag"]}
    again = await client.get(path, headers=known)
    assert (again.status_code, await again.get_data()) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert (await client.get(f"{path}?lang=zh", headers=known)).status_code == 200
    await house.paid(placed.invoice)
    changed = await client.get(path, headers=known)
    assert changed.status_code == 200
    assert orjson.loads(await changed.get_data())["status"] == "CONFIRMING"


async def test_an_order_on_its_way(client, placed, house):
    invoice = placed.invoice
    steps = (
        lambda: house.state(invoice),
        lambda: house.paid(invoice, 1_000_000),
        lambda: house.paid(invoice, 500_000),
        lambda: house.mined(invoice),
        lambda: house.mined(invoice),
    )
    seen = []
    for step in steps:
        await step()
        _, html = await page(client, placed)
        parsed(html)
        codes = qr_texts(html) if 'class="qr"' in html else []
        seen.append((re.search(r'data-phase="(\w+)"', html)[1], codes))
    address = invoice.terms.address
    assert seen == [
        ("waiting", [f"bitcoin:{address}?amount=0.015"]),
        ("partial", [f"bitcoin:{address}?amount=0.005"]),
        ("confirming", []),
        ("confirming", []),
        ("paid", []),
    ]
    assert 'data-to="https://shop.example/"' in html


# --- what is not there ----------------------------------------------------------------------------


ABSURD = (
    "0", "-1", "+1", "01", "1.0", "1e3", "\uff19", "x", "9" * 16, "9" * 19, "9" * 5000, "%00",
    "<script>alert(1)</script>", "1%0d%0aSet-Cookie:%20a=b", "null", "..%2f..%2fetc", "assets",
)  # fmt: skip


@pytest.mark.parametrize("word", ABSURD)
@pytest.mark.parametrize("rest", ["", "/logo", "/status"])
async def test_absurd_numbers_are_nothing(client, placed, word, rest):
    response = await client.get(f"/pay/{word}{rest}")
    assert response.status_code == 404
    body = await response.get_data(as_text=True)
    assert "<script>" not in body or response.content_type == "application/problem+json"


@pytest.mark.parametrize("path", ["/pay/4711", "/pay/4711/logo", "/pay/1/2/3", "/pay/1/", "/pay/"])
async def test_an_unknown_order_has_a_friendly_page(client, placed, path):
    response = await client.get(path, headers={"Accept-Language": "es"})
    html = await response.get_data(as_text=True)
    assert response.status_code == 404
    assert response.content_type == "text/html; charset=utf-8"
    assert "script-src" not in response.headers["Content-Security-Policy"]
    assert words("es").sentences["not_found_text"] in html
    assert "4711" not in html
    root = parsed(html)
    [style] = [one.get("href") for one in root.iter("link") if one.get("rel") == "stylesheet"]
    depth = path.count("/") - 2
    assert style.startswith("../" * depth + "assets/style-")


async def test_every_unknown_thing_has_the_same_page(client, placed):
    first, second = [
        await (await client.get(f"/pay/{number}")).get_data() for number in (4711, 4712)
    ]
    assert first == second


async def test_programs_are_told_in_their_form(client, placed):
    response = await client.get("/pay/4711/status")
    assert response.content_type == "application/problem+json"


async def test_other_methods_are_refused_by_a_page(client, placed):
    response = await client.post(f"/pay/{placed.order.id}", json={})
    assert response.status_code == 405
    assert response.content_type == "text/html; charset=utf-8"
    assert "GET" in response.headers["Allow"]


async def test_a_page_is_there_for_head_too(client, placed):
    response = await client.head(f"/pay/{placed.order.id}")
    assert response.status_code == 200


@pytest.mark.parametrize("failure", [TransientError, PersistentError, RuntimeError])
async def test_a_failing_store_is_said_kindly(client, placed, house, failure, monkeypatch):
    async def fails(order_id: int):
        raise failure("postgresql://user:secret@db is away")

    monkeypatch.setattr(house.orders, "find", fails)
    response, html = await page(client, placed, "?lang=de")
    assert response.status_code >= 500
    assert words("de").sentences["failed"] in html
    assert "secret" not in html
    parsed(html)


async def test_too_many_strangers_wait(house, placed):
    house.gate = Gate(
        house.store,
        GateRules(rate_per_s=0.001, burst=2),
        clock=house.clock,
        log=house.log,
    )
    client = create_app(house.edge()).test_client()
    scope = {"client": ("203.0.113.7", 4711)}
    answers = [await client.get(f"/pay/{placed.order.id}", scope_base=scope) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 429]
    html = await answers[2].get_data(as_text=True)
    assert words("en").sentences["too_many"] in html
    assert int(answers[2].headers["Retry-After"]) > 0


async def test_keys_are_not_looked_at(client, placed):
    response, _ = await page(client, placed, Authorization="Basic bWU6c2VjcmV0")
    assert response.status_code == 200


# --- the merchant's looks -------------------------------------------------------------------------


async def brand(house, placed, **fields):
    made = Brand(user_id=placed.order.user_id, **fields)
    assert await house.store.brands.set_brand(made, at_ms=1) is None
    return made


async def test_a_brand_shows(client, placed, house):
    await brand(house, placed, name="Café Blau", colour="#ffee00", logo=PNG, logo_type="image/png")
    _, html = await page(client, placed)
    assert "Payment to <bdi>Café Blau</bdi>" in html
    assert "--brand:#ffee00;--on-brand:#000000" in html
    [logo] = list(parsed(html).iter("img"))
    assert logo.get("alt") == "Café Blau"
    picture = await client.get(f"/pay/{logo.get('src')}")
    assert (picture.status_code, picture.content_type) == (200, "image/png")
    assert await picture.get_data() == PNG
    assert picture.headers["Content-Security-Policy"].startswith("default-src 'none'")


async def test_another_logo_has_another_url(client, placed, house):
    srcs = set()
    for logo in (PNG, PNG + b"2"):
        await brand(house, placed, name="x", logo=logo, logo_type="image/png")
        _, html = await page(client, placed)
        srcs.add(re.search(r'src="([^"]+logo[^"]+)"', html)[1])
    assert len(srcs) == 2


async def test_what_could_hold_a_script_is_no_logo(client, placed, house):
    await brand(house, placed, name="x", logo=b"<svg onload=alert(1)>", logo_type="image/svg+xml")
    _, html = await page(client, placed)
    assert "<img" not in html
    assert (await client.get(f"/pay/{placed.order.id}/logo")).status_code == 404


async def test_no_brand_no_logo(client, placed):
    _, html = await page(client, placed)
    assert "<img" not in html
    assert (await client.get(f"/pay/{placed.order.id}/logo")).status_code == 404
    assert replace(placed, brand=None).merchant_name == ""
