"""Which fields of an order can be meant."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from actors.new_order import InvalidField, NewOrder, check, is_web_url
from actors.order_book import Order

GOOD = NewOrder(merchant_order_id="1001", asset_name="BTC", target_value="1500000", pg_wallet_id=1)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"merchant_order_id": "x"},
        {"merchant_order_id": "№ 7 / 'quoted' \"twice\" <b>" + "ü" * 100},
        {"asset_name": "USDT_ERC20"},
        {"target_value": "1"},
        {"target_value": "9" * 78},
        {"pg_wallet_id": 2**63 - 1},
        {"description": "two lines\r\n\tand <script>alert(1)</script>"},
        {"description": "ü" * 200},
        {"merchant_name": "商店" * 50},
        {"callback_url": "https://shop.example/"},
    ],
)
def test_what_can_be_meant(fields: dict[str, object]) -> None:
    assert check(replace(GOOD, **fields)) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("merchant_order_id", text) for text in ("", "x" * 129, "a\0", "a\n", "\x7f", "\ud800")),
        *(("asset_name", text) for text in ("", "x" * 65, "BTC\n")),
        *(
            ("target_value", text)
            for text in (
                *("", "0", "00", "01", "+1", "-1", "1.0", "1e3", " 1", "1 ", "1\n", "0x10"),
                *("1_000", "\uff11", "\u0663", "1" * 79, "NaN", "Infinity"),
            )
        ),
        *(("pg_wallet_id", number) for number in (0, -1, 2**63, -(2**70), 2**200)),
        *(("description", text) for text in ("x" * 201, "a\0b", "\x1b[31m", "\udfff", "\x85")),
        *(("merchant_name", text) for text in ("x" * 101, "\0", "\ud800\udc00")),
        ("callback_url", "javascript:alert(1)"),
    ],
)
def test_what_cannot_be_meant(field: str, value: object) -> None:
    assert check(replace(GOOD, **{field: value})) == InvalidField(field)


def test_the_first_field_of_the_request_is_named() -> None:
    nothing = NewOrder(
        merchant_order_id="",
        asset_name="",
        target_value="",
        pg_wallet_id=0,
        callback_url="x",
        description="\0",
        merchant_name="\0",
    )
    found = []
    for field, good in (
        ("merchant_order_id", "1"),
        ("asset_name", "BTC"),
        ("target_value", "1"),
        ("callback_url", ""),
        ("pg_wallet_id", 1),
        ("description", ""),
        ("merchant_name", ""),
    ):
        found.append(check(nothing) == InvalidField(field))
        nothing = replace(nothing, **{field: good})
    assert found == [True] * 7
    assert check(nothing) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://a",
        "HTTPS://Shop.Example:8443/done?order=1&x=%20#paid",
        "https://shop.example?x",
        "https://shop.example#x",
        "https://xn--mnchen-3ya.de/ok",
        "https://münchen.de/straße/金",
        "http://127.0.0.1:3000/",
        "http://[::1]:65535/x",
        "http://localhost",
        "https://shop.example/a:b@c;d,e(f)'g'*h!",
        "https://shop.example/" + "x" * (2048 - 21),
    ],
)
def test_urls_to_which_a_customer_may_be_sent(url: str) -> None:
    assert is_web_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example",
        "//shop.example/",
        "/done",
        "ftp://shop.example/",
        "javascript:alert(1)",
        "JavaScript://shop.example/%0aalert(1)",
        "java\nscript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "file:///etc/passwd",
        "vbscript:x",
        "https:shop.example",
        "https:/shop.example",
        "https:///shop.example",
        "https://",
        "https:// shop.example/",
        " https://shop.example/",
        "https://shop.example/ ",
        "https://shop.example/a b",
        "https://shop.example/\t",
        "https://shop.example/\n",
        "https://shop.example/\0",
        "https://shop.example/\u2028",
        "https://shop.example/\u202e",
        "https://shop.example/\xa0",
        "https://shop.example/\ud800",
        "https://user@shop.example/",
        "https://user:secret@shop.example/",
        "https://shop.example:80@evil.example/",
        "https://evil.example\\@shop.example/",
        "https:\\\\shop.example/",
        "https://shop.example\\evil",
        'https://shop.example/"onmouseover="alert(1)',
        "https://shop.example/<script>",
        "https://shop.example/`x`",
        "https://shop.example:/",
        "https://shop.example:65536/",
        "https://shop.example:x/",
        "https://shop.example:-1/",
        "https://[::1/",
        "https://[evil]/",
        "https://sh%6fp.example/",
        "https://shop.example/" + "x" * (2049 - 21),
    ],
)
def test_urls_to_which_nobody_is_sent(url: str) -> None:
    assert not is_web_url(url)


def test_a_row_is_compared_in_every_field_it_has() -> None:
    order = Order(
        id=1,
        invoice_id=UUID(int=1),
        user_id=UUID(int=2),
        wallet_id=1,
        merchant_order_id="1001",
        attempt=1,
        description="",
        callback_url="",
        merchant_name="",
        created_at_ms=0,
    )
    assert GOOD.described_by(order)
    assert GOOD.described_by(replace(order, id=2, attempt=3, created_at_ms=9))
    for other in (
        {"merchant_order_id": "2"},
        {"pg_wallet_id": 2},
        {"callback_url": "http://a"},
        {"description": "x"},
        {"merchant_name": "x"},
    ):
        assert not replace(GOOD, **other).described_by(order)
