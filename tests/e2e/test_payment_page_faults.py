"""What can go wrong between a customer's browser and the daemon, and what strangers may write."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from tests.helpers.pay_desk import PICTURES, until_phase
from tests.helpers.process import wait_until

CONNECTION = r"net::ERR_|Failed to load resource"
"""What the browser says on its console of a network that is away."""
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title><svg onload=alert(1)>",
    "' onfocus='alert(1)' autofocus='",
    "{{ 7 * 7 }}${alert(1)}",
    "<!--<style>*{display:none}</style>",
)


def test_a_stream_that_is_blocked_is_made_up_for_by_polling(desk):
    purchase = desk.order()
    with desk.browser.page() as page:
        page.blocked.append(re.compile(r"/live(\?|$)"))
        page.excuse(CONNECTION)
        page.open(purchase.page)
        desk.pay(purchase)
        until_phase(page, "confirming")
        assert any("/status" in url for url in page.requests)
        assert page.evaluate("document.querySelector('#offline').hidden")
        desk.settle(purchase)
        until_phase(page, "paid")
        page.check()


def test_an_open_page_asks_nothing_while_its_stream_is_open(desk):
    purchase = desk.order()
    with desk.page(purchase) as page:
        desk.pay(purchase)
        until_phase(page, "confirming")
        desk.settle(purchase)
        until_phase(page, "paid")
        assert not any("/status" in url for url in page.requests), page.requests


def test_the_network_goes_and_comes_back(desk):
    purchase = desk.order()
    with desk.line() as line, desk.browser.page() as page:
        page.excuse(CONNECTION)
        page.open(line.address(purchase))
        line.cut(page)
        page.until("!document.querySelector('#offline').hidden", "the page says it is offline")
        desk.pay(purchase)
        desk.site.until(purchase, "CONFIRMING")
        assert page.attribute("#live", "data-phase") == "waiting"
        line.mend(page)
        until_phase(page, "confirming")
        page.until("document.querySelector('#offline').hidden", "the page is back")
        page.check()


def test_a_daemon_that_is_started_anew_under_an_open_page(desk):
    purchase = desk.order()
    with desk.page(purchase) as page:
        page.excuse(CONNECTION)
        assert desk.daemon.stop()
        page.until("!document.querySelector('#offline').hidden", "the page says it is offline")
        desk.pay(purchase)
        desk.daemon.start()
        until_phase(page, "confirming")
        page.until("document.querySelector('#offline').hidden", "the page is back")
        desk.settle(purchase)
        until_phase(page, "paid")
    desk.site.until_heard(purchase, "CONFIRMING", "SUCCESSFUL")


def test_without_javascript(desk):
    purchase = desk.order()
    with desk.page(purchase, javascript=False) as page:
        assert purchase.address in page.text("#address")
        assert page.count(".qr svg") == 1
        seen = "[...document.querySelectorAll('button')].filter(one => one.offsetParent).length"
        assert page.evaluate(seen) == 0, "what needs a script is not shown"
        assert page.text("noscript p")
        page.screenshot(PICTURES / "waiting-without-javascript.png")
        page.run_scripts(True)  # axe's own: those of the page have had their time
        assert page.barriers() == []
        page.run_scripts(False)
        desk.pay(purchase)
        desk.site.until(purchase, "CONFIRMING")
        page.reload()
        assert page.attribute("#live", "data-phase") == "confirming"
        desk.settle(purchase)
        page.reload()
        assert page.attribute("#live", "data-phase") == "paid"
        assert page.count("noscript p") == 0
        page.click("#back")
        page.until_at(f"{desk.site.url}/thanks/{purchase.number}")


def test_what_merchants_write_is_text(desk):
    first, second = " ".join(HOSTILE[:3]), " ".join(HOSTILE[3:])
    orders = [
        desk.order(description=first, merchant_name=second),
        desk.order(description=second, merchant_name=first),
        desk.order(description=first),
    ]
    desk.brand(name=second, colour="#00ff00")
    for purchase in orders:
        with desk.page(purchase) as page:
            shown = page.text("header")
            assert first in shown
            assert second in shown
            assert page.count("main script, header script, svg[onload], img[onerror]") == 0
            desk.cancel(purchase)
            until_phase(page, "cancelled")
    desk.brand()


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "JaVaScRiPt:alert(1)//http://x", "data:text/html,x", "//evil.test/"],
)
def test_a_way_back_that_is_no_page_is_refused(desk, url):
    with pytest.raises(ValueError, match=r"400.*callback_url"):
        desk.order(callback_url=url)


def test_an_order_without_a_way_back(desk):
    purchase = desk.order(callback_url=None)
    with desk.page(purchase) as page:
        desk.pay(purchase)
        desk.settle(purchase)
        until_phase(page, "paid")
        assert page.count("#back, #redirect") == 0


@pytest.mark.parametrize(
    "name", ["1", "9007199254740993", "0", "-1", "1e3", "99999999999999999999", "%3Cscript%3E", "x"]
)
def test_an_order_that_is_not_there(desk, name):
    with desk.browser.page() as page:
        page.excuse("404")
        page.open(f"{desk.daemon.url}/pay/{name}")
        assert page.text("h1") == "There is nothing here"
        assert name not in page.text() or name in ("0", "1", "x")
        page.check()


def test_nothing_is_asked_of_others_and_little_is_sent(desk):
    """The whole page is below 60 KB as it is transferred, and everything has its policy."""
    purchase = desk.order()
    with desk.browser.page() as page:
        page.open(purchase.page)
        assert {urlsplit(url).netloc for url in page.requests} <= {
            urlsplit(desk.daemon.url).netloc,
            "",  # data:
        }
        wait_until(lambda: page.transferred, "something was transferred")
        assert sum(page.transferred.values()) < 60_000, page.transferred
        page.check()
    status, headers, _ = desk.daemon.http("GET", f"/pay/{purchase.id}")
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] in ("no-referrer", "same-origin")
