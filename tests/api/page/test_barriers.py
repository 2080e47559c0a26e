"""axe finds no barrier at any moment that a page can show, also those that hardly ever come."""

import pytest

from api.page.assets import page_asset
from api.page.pages import error_page, order_page
from api.page.words import LANGUAGES
from tests.helpers.browser import Browser, Page
from tests.helpers.page_moments import MOMENTS, order

ROOT = "http://pay.test/pay/"
SHOW_ALL = "for (const one of document.querySelectorAll('[hidden]')) one.hidden = false"
"""What the script shows only now and then."""


def put(page: Page, found) -> None:
    """Open a page with its own policy and style; without a server its script has nothing to say."""
    headers = {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": found.security_policy,
    }
    style, script = page_asset("style.css"), page_asset("page.js")
    page.made_up = {
        f"{ROOT}1": (headers, found.content),
        f"{ROOT}assets/{style.name}": ({"content-type": style.media_type}, style.content),
        f"{ROOT}assets/{script.name}": ({"content-type": script.media_type}, b""),
    }
    page.open(f"{ROOT}1")
    page.evaluate(SHOW_ALL)


def assert_open_to_all(page: Page, name: str) -> None:
    page.look(dark=False)
    assert page.barriers() == [], name
    page.look(dark=True)
    assert page.barriers(rules=["color-contrast"]) == [], f"{name}, dark"
    page.check()


def test_no_moment_has_a_barrier(browser: Browser):
    with browser.page(width=360) as page:
        for name, moment in MOMENTS.items():
            now = moment()
            put(page, order_page(order(), now.invoice, brand=None, language="en", **now.told()))
            assert page.attribute("#live", "data-phase") == now.view(order()).phase.value
            assert_open_to_all(page, name)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_page_without_an_order_has_a_barrier(browser: Browser, language: str):
    with browser.page(lang=language, width=360) as page:
        for key in ("not_found", "too_many", "failed"):
            put(page, error_page(key, language=language, path="/pay/1"))
            assert_open_to_all(page, key)
