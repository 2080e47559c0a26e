"""Every state of the payment page: axe finds no barrier, nothing is cut off, and pictures are kept.

The pictures are in .cache/screenshots: each state in light and dark, on a phone, and from right to
left.
"""

from __future__ import annotations

import base64
import contextlib
import struct
import zlib
from collections.abc import Iterator

import pytest

from tests.helpers.browser import Page
from tests.helpers.merchant_site import Purchase
from tests.helpers.pay_desk import PICTURES, PayDesk

STATES = {
    "waiting": "waiting",
    "partial": "partial",
    "confirming": "confirming",
    "paid": "paid",
    "returning": "paid",
    "overpaid": "paid",
    "cancelled": "cancelled",
    "ethereum": "waiting",
    "expired": "expired",
    "late": "expired",
    "part-expired": "expired",
}
"""With the page's own word for each."""
SHORT = ("expired", "late", "part-expired")
LANGUAGES = ("en", "de", "es", "zh", "ar")
NARROW = 320
"""CSS pixels, at which nothing may need scrolling sideways (WCAG 1.4.10)."""


@pytest.fixture(scope="module")
def orders(desk: PayDesk) -> dict[str, Purchase]:
    """One for each state, in it but for those whose time has to pass."""
    desk.brand()
    found = {
        name: desk.order(
            "ETH" if name == "ethereum" else "BTC",
            short=name in SHORT,
            description="Two coffees and a slice of cake",
            merchant_name="Corner Shop",
            # Nothing is to lead the page away while it is looked at.
            **({"callback_url": None} if name in ("paid", "expired", "cancelled") else {}),
        )
        for name in STATES
    }
    amount = found["paid"].amount_base
    desk.pay(found["part-expired"], amount // 4)
    desk.pay_many(
        {found["paid"]: amount, found["returning"]: amount, found["overpaid"]: amount * 2}
    )
    desk.mine()
    desk.pay_many({found["confirming"]: amount, found["partial"]: amount // 3})
    desk.mine()
    desk.cancel(found["cancelled"])
    for name in ("paid", "returning", "overpaid"):
        desk.site.until(found[name], "SUCCESSFUL")
    return found


def ready(desk: PayDesk, orders: dict[str, Purchase], state: str) -> str:
    """The address of a page that is in the state."""
    order = orders[state]
    if state in SHORT:
        desk.site.until(order, "EXPIRED")
    if state == "late" and desk.site.read(order)["value"] == "0":
        desk.pay(order)
        desk.site.until_value(order, order.amount_base)
    return order.page


@pytest.fixture(scope="module")
def tabs(desk: PayDesk) -> Iterator[dict[str, Page]]:
    """One tab in each language."""
    with contextlib.ExitStack() as stack:
        yield {lang: stack.enter_context(desk.browser.page(lang=lang)) for lang in LANGUAGES}


def look_at(page: Page, name: str) -> None:
    """axe in both colour schemes, the pictures, and nothing beside a narrow screen's edge."""
    for dark in (False, True):
        page.look(dark=dark)
        page.resize(1100, 900)
        assert page.barriers() == [], f"{name}, {'dark' if dark else 'light'}"
        page.screenshot(PICTURES / f"{name}-{'dark' if dark else 'light'}.png")
    page.resize(360, 740, is_phone=True)
    page.look(dark=False)
    assert page.barriers() == [], f"{name}, on a phone"
    page.screenshot(PICTURES / f"{name}-phone.png")
    page.resize(NARROW, 600)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= NARROW, f"{name}: {width} pixels wide where there are {NARROW}"
    page.check()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("lang", ["en", "ar"])
def test_a_state_has_no_barrier(desk, orders, tabs, state, lang):
    page = tabs[lang]
    page.open(ready(desk, orders, state))
    assert page.attribute("#live", "data-phase") == STATES[state]
    look_at(page, f"{state}-{lang}")


@pytest.mark.parametrize("lang", ["de", "es", "zh"])
def test_the_other_languages(orders, tabs, lang):
    page = tabs[lang]
    page.open(orders["partial"].page)
    assert page.attribute("html", "lang") == lang
    look_at(page, f"partial-{lang}")


@pytest.mark.parametrize("lang", ["en", "ar"])
def test_a_merchant_s_own_look(desk, orders, tabs, lang):
    desk.brand(name="Café Zur schönen Aussicht", colour="#ffd400", logo=logo())
    page = tabs[lang]
    page.open(orders["waiting"].page)
    page.until("document.querySelector('.logo').naturalWidth === 120")
    look_at(page, f"branded-{lang}")
    desk.brand()


@pytest.mark.parametrize("lang", ["en", "ar"])
def test_no_such_order(desk, lang):
    with desk.browser.page(lang=lang) as page:
        page.excuse("404")
        page.open(f"{desk.daemon.url}/pay/12345")
        look_at(page, f"missing-{lang}")


@pytest.mark.parametrize("lang", ["en", "ar"])
def test_offline(desk, lang):
    purchase = desk.order()
    with desk.line() as line, desk.browser.page(lang=lang) as page:
        page.excuse("net::ERR_")
        page.open(line.address(purchase))
        line.cut(page)
        page.until("!document.querySelector('#offline').hidden", "the page says it is offline")
        look_at(page, f"offline-{lang}")


def logo() -> str:
    """A picture of 120 by 40 pixels, as the brand's REST call takes it."""
    rows = b"".join(
        b"\0" + b"".join(bytes((255, 212, x * 2)) for x in range(120)) for _ in range(40)
    )

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            chunk(b"IHDR", struct.pack(">IIBBBBB", 120, 40, 8, 2, 0, 0, 0)),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        )
    )
    return base64.b64encode(png).decode()
