"""A customer buys at a shop's site and pays on the payment page, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.helpers.browser import Page
from tests.helpers.merchant_site import Purchase
from tests.helpers.pay_desk import AMOUNTS, NEEDED, PayDesk, until_phase
from tests.helpers.qr_reader import read_qr

LINK = 'a.button:not([href^="http"])'
"""Opens a wallet."""


@pytest.fixture(scope="module", autouse=True)
def hurried(desk: PayDesk) -> dict[str, Purchase]:
    """Orders whose time is over when the last tests here need them."""
    found = {
        name: desk.order(asset, short=True)
        for name, asset in {"unpaid": "BTC", "late": "ETH", "part": "ETH"}.items()
    }
    desk.pay(found["part"], found["part"].amount_base // 2)
    desk.mine("ETH")
    return found


@pytest.fixture(scope="module", autouse=True)
def left_open(desk: PayDesk, hurried: dict[str, Purchase]) -> Iterator[Page]:
    """The page of the one that nobody pays, since before its time was over."""
    with desk.page(hurried["unpaid"]) as page:
        until_phase(page, "waiting")
        page.evaluate("document.body.dataset.redirect = 1")
        yield page


def shown_link(page) -> str:
    """The wallet's link, which the QR code on the screen says too."""
    link = page.attribute(LINK, "href")
    assert read_qr(page.screenshot(selector=".qr")) == [link]
    return link


def link_of(order: dict, amount_base: int) -> str:
    """What it must be, from the order alone."""
    (address,) = order["variants"]
    if order["asset_name"] == "ETH":
        return f"ethereum:{address}@1?value={amount_base}"
    return f"bitcoin:{address}?amount={Decimal(amount_base).scaleb(-8).normalize():f}"


@pytest.mark.parametrize("asset", ["BTC", "ETH"])
def test_from_the_shop_s_button_to_its_thanks(desk, asset):
    with desk.browser.page() as page:
        page.open(desk.site.url)
        page.click(f"#pay-{asset}")
        page.until_at(f"{desk.daemon.url}/pay/")
        purchase = next(one for one in desk.site.purchases.values() if one.page == page.url)
        until_phase(page, "waiting")
        assert shown_link(page) == link_of(purchase.order, purchase.amount_base)
        assert page.text("#address") == purchase.address
        page.evaluate("document.body.dataset.redirect = 1")
        desk.pay(purchase)
        until_phase(page, "confirming")
        assert page.count(".qr") == 0, "nobody is to pay twice"
        for depth in range(1, NEEDED[asset]):
            desk.mine(asset)
            page.until(f"document.querySelector('#confirmations').value === {depth}")
            assert page.attribute("#confirmations", "max") == str(NEEDED[asset])
        desk.mine(asset)
        page.until_at(f"{desk.site.url}/thanks/{purchase.number}")
        page.until("document.title === 'Thank you'")
        page.check()
    desk.site.until_heard(purchase, "CONFIRMING", "SUCCESSFUL")
    assert purchase.read_back[-1] == "SUCCESSFUL"
    order = desk.site.read(purchase, with_payments=True)
    assert order["status"] == "SUCCESSFUL"
    assert int(order["value"]) == purchase.amount_base
    (payment,) = order["payments"]
    assert payment["address"] == purchase.address
    assert int(payment["confirmations"]) >= NEEDED[asset]


@pytest.mark.parametrize("asset", ["BTC", "ETH"])
def test_a_part_and_then_the_rest(desk, asset):
    purchase = desk.order(asset)
    part = purchase.amount_base // 3
    with desk.page(purchase) as page:
        desk.pay(purchase, part)
        if asset == "ETH":
            desk.mine(asset)  # money in its mempool can still fail
        until_phase(page, "partial")
        rest = purchase.amount_base - part
        assert shown_link(page) == link_of(purchase.order, rest)
        decimals = {"BTC": 8, "ETH": 18}[asset]
        for amount in (part, purchase.amount_base, rest):
            assert f"{Decimal(amount).scaleb(-decimals).normalize():f}" in page.text("#status")
        desk.pay(purchase, rest)
        until_phase(page, "confirming")
        desk.settle(purchase)
        until_phase(page, "paid")
    desk.site.until_heard(purchase, "CONFIRMING", "SUCCESSFUL")


def test_more_than_was_asked_for_is_told_and_nobody_is_led_away(desk):
    purchase = desk.order()
    with desk.page(purchase) as page:
        page.evaluate("document.body.dataset.redirect = 1")
        desk.pay(purchase, purchase.amount_base + 12_345)
        until_phase(page, "confirming")
        assert "0.00012345" in page.text("#notes")
        desk.settle(purchase)
        until_phase(page, "paid")
        assert page.count("#redirect") == 0
        assert "0.00012345" in page.text("#notes")
        page.click("#back")
        page.until("document.title === 'Thank you'")
    desk.site.until_heard(purchase, "CONFIRMING", "SUCCESSFUL")


def test_the_customer_may_stay(desk):
    purchase = desk.order()
    with desk.page(purchase) as page:
        page.evaluate("document.body.dataset.redirect = 3600")
        desk.pay(purchase)
        desk.settle(purchase)
        until_phase(page, "paid")
        page.click("#stay")
        page.until("document.querySelector('#redirect').hidden")
        assert page.evaluate("document.activeElement.id") == "back"


def test_two_pages_of_one_order_say_the_same_in_their_languages(desk):
    purchase = desk.order()
    with desk.page(purchase) as english, desk.page(purchase, lang="ar") as arabic:
        assert english.attribute("html", "dir") == "ltr"
        assert arabic.attribute("html", "dir") == "rtl"
        assert arabic.attribute("html", "lang") == "ar"
        before = arabic.text("#headline")
        desk.pay(purchase)
        for page in (english, arabic):
            until_phase(page, "confirming")
        assert arabic.text("#headline") != before != english.text("#headline")
        assert english.text("#announcement").startswith(english.text("#headline"))
        desk.settle(purchase)
        for page in (english, arabic):
            until_phase(page, "paid")


def test_a_cancelled_order(desk):
    purchase = desk.order()
    with desk.page(purchase) as page:
        page.evaluate("document.body.dataset.redirect = 3600")
        desk.cancel(purchase)
        until_phase(page, "cancelled")
        assert page.count(".qr") == 0
        assert page.count(LINK) == 0
        page.click("#back")
        page.until("document.title === 'Not paid'")
    desk.site.until_heard(purchase, "CANCELED")


@pytest.mark.parametrize("lang", ["en", "de", "es", "zh", "ar"])
def test_copying_and_the_keyboard(desk, lang):
    purchase = desk.order()
    with desk.page(purchase, lang=lang) as page:
        page.allow_clipboard()
        assert page.attribute("html", "lang") == lang
        stops = [stop["id"] or stop["link"] for stop in walk(page)]
        link = page.attribute(LINK, "href")
        for wanted in ("#main", "copy-amount", link, "copy-address"):
            assert wanted in stops, (wanted, stops)
        assert stops.index("copy-amount") < stops.index(link) < stops.index("copy-address")
        focus(page, "copy-address")
        page.press("Enter")
        page.until("document.querySelector('#announcement').innerText !== ''")
        said = page.attribute("#copy-address", "data-said")
        assert page.text("#announcement") == said
        assert page.evaluate("navigator.clipboard.readText()") == purchase.address
        page.click("#copy-amount")
        wanted = f"{Decimal(AMOUNTS['BTC']).scaleb(-8).normalize():f}"
        page.until(f"navigator.clipboard.readText().then(text => text === '{wanted}')")


def walk(page) -> list[dict]:
    """Press Tab from the page's start to its end; each stop must be seen to be one."""
    stops = []
    while True:
        page.press("Tab")
        stop = page.evaluate(
            """(() => {
              const one = document.activeElement;
              if (one === document.body) return null;
              const style = getComputedStyle(one), box = one.getBoundingClientRect();
              return {id: one.id, link: one.getAttribute("href"),
                outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
                visible: box.width > 0 && box.top >= 0 && box.bottom <= innerHeight + 1};
            })()"""
        )
        if stop is None or stop in stops:
            return stops
        assert stop["outline"] >= 2, f"the focus is not seen: {stop}"
        assert stop["visible"], f"the focus is not in sight: {stop}"
        stops.append(stop)
        assert len(stops) < 40, "the keyboard finds no end"


def focus(page, identity: str) -> None:
    page.evaluate(f"document.getElementById({identity!r}).focus()")


def test_the_countdown_runs_by_the_server_s_clock(desk):
    purchase = desk.order()
    with desk.page(purchase) as page:
        first = page.text("#countdown")
        minutes, seconds = first.split(":")
        assert 28 <= int(minutes) <= 30
        assert 0 <= int(seconds) < 60
        page.until(f"document.querySelector('#countdown').innerText !== {first!r}")


def test_an_order_whose_time_is_over_while_its_page_is_open(desk, hurried, left_open):
    purchase = hurried["unpaid"]
    left_open.until_at(f"{desk.site.url}/thanks/{purchase.number}")
    left_open.until("document.title === 'Not paid'")
    left_open.check()
    desk.site.until_heard(purchase, "EXPIRED")


def test_money_that_comes_too_late(desk, hurried):
    purchase = hurried["late"]
    desk.site.until(purchase, "EXPIRED")
    with desk.page(purchase) as page:
        until_phase(page, "expired")
        page.click("#stay")
        desk.pay(purchase)
        desk.mine("ETH")
        page.until("document.querySelector('#notes').innerText.includes('0.03')")
        assert page.count("#redirect") == 0, "there is something to be read"
        order = desk.site.read(purchase)
        assert (order["status"], int(order["value"])) == ("EXPIRED", purchase.amount_base)
    desk.site.until_heard(purchase, "EXPIRED")


def test_a_part_that_stayed_alone(desk, hurried):
    purchase = hurried["part"]
    desk.site.until(purchase, "EXPIRED")
    with desk.page(purchase) as page:
        until_phase(page, "expired")
        assert "0.015" in page.text("#status")
        assert page.count("#redirect") == 0
    desk.site.until_heard(purchase, "EXPIRED")
