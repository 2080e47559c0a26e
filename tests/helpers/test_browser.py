"""The browser sees what goes wrong in a page: otherwise its silence would prove nothing."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import segno

from tests.helpers.browser import Browser, Page
from tests.helpers.qr_reader import read_qr

HEAD = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>A page</title>'
    '<link rel="icon" href="data:,"></head><body><main><h1>A page</h1>'
)
STRICT = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:"


class Pages:
    """Serves what a test puts there."""

    def __init__(self) -> None:
        self.bodies: dict[str, tuple[str, str]] = {}
        """By path: content type and content."""
        self.policy = ""
        self.languages: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.languages.append(self.headers.get("accept-language", ""))
                kind, text = outer.bodies.get(self.path, ("text/html", ""))
                self.send_response(200 if self.path in outer.bodies else 404)
                self.send_header("content-type", f"{kind}; charset=utf-8")
                if outer.policy:
                    self.send_header("content-security-policy", outer.policy)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name above us
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"

    def put(self, body: str, script: str = "") -> str:
        """Returns the page's address."""
        tag = '<script src="/script.js"></script>' if script else ""
        self.bodies["/"] = ("text/html", f"{HEAD}{body}</main>{tag}</body></html>")
        self.bodies["/script.js"] = ("text/javascript", script)
        return f"http://{self.host}/"


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    served = Pages()
    thread = threading.Thread(target=served.server.serve_forever, args=(0.01,))
    thread.start()
    with browser.allow(served.host):
        yield served
    served.server.shutdown()
    served.server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def only_page(browser: Browser) -> Iterator[Page]:
    with browser.page() as opened:
        yield opened


@pytest.fixture
def page(only_page: Page) -> Page:
    """As if new: a new one costs half a second."""
    only_page.open("about:blank")
    for memory in (only_page.problems, only_page.requests, only_page.blocked, only_page.excused):
        memory.clear()
    return only_page


def test_a_good_page_gives_no_cause_for_complaint(pages: Pages, page: Page) -> None:
    pages.policy = STRICT
    page.open(pages.put("<p>Good", "document.title = 'ran'"))
    assert page.evaluate("document.title") == "ran"
    assert page.barriers() == []
    assert page.requests == [f"http://{pages.host}/", f"http://{pages.host}/script.js"]
    page.check()


@pytest.mark.parametrize(
    ("body", "script", "told"),
    [
        ("", "throw new Error('thrown')", "thrown"),
        ("", "Promise.reject(new Error('rejected'))", "rejected"),
        ("", "console.error('said')", "said"),
        ("", "alert('a dialog')", "dialog: a dialog"),
        ("", "fetch('/missing')", "404"),
        ("", "fetch('http://localhost:9/').catch(() => 0)", "another host: http://localhost:9/"),
        ('<img src="http://localhost:9/pixel" alt="">', "", "another host"),
        ("<script>document.title = 'inline'</script>", "", "ContentSecurityPolicyIssue"),
        ('<p style="color: red">Inline', "", "ContentSecurityPolicyIssue"),
    ],
)
def test_a_problem_is_told(pages: Pages, page: Page, body: str, script: str, told: str) -> None:
    if "Policy" in told:
        pages.policy = STRICT
    page.open(pages.put(body, script))
    page.until_problem(told)
    with pytest.raises(AssertionError):
        page.check()
    page.excuse(".*")
    page.check()


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ('<img src="data:,">', "image-alt"),
        ('<p style="color: #bbb">Pale', "color-contrast"),
        ("<button></button>", "button-name"),
    ],
)
def test_a_barrier_is_found(pages: Pages, page: Page, body: str, rule: str) -> None:
    page.open(pages.put(body))
    assert [barrier.partition(":")[0] for barrier in page.barriers()] == [rule]


def test_without_javascript_a_page_is_still_looked_at(pages: Pages, browser: Browser) -> None:
    address = pages.put("<noscript>Off</noscript><p>Text", "document.title = 'ran'")
    with browser.page(javascript=False) as page:
        page.open(address)
        assert page.text("noscript") == "Off"
        assert page.evaluate("document.title") == "A page"


def test_it_looks_as_it_is_told_to(pages: Pages, browser: Browser) -> None:
    address = pages.put("<p>Text")
    with browser.page(lang="ar", dark=True, width=360, is_phone=True) as page:
        page.open(address)
        assert pages.languages[0].startswith("ar")
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        assert page.evaluate("innerWidth") == 980  # as phones do for pages that do not know them
        assert page.evaluate("screen.width") == 360
        assert page.evaluate("navigator.language") == "ar"


def test_every_script_has_glyphs(pages: Pages, page: Page) -> None:
    """Otherwise the screenshots would show boxes."""
    page.open(pages.put("<p><span>支付</span> <span>دفع</span> <span>\U0010fffd</span>"))
    shots = [page.screenshot(selector=f"span:nth-child({number})") for number in (1, 2, 3)]
    names = [page.fonts(f"span:nth-child({number})") for number in (1, 2)]
    assert names == [["WenQuanYi Micro Hei"], ["DejaVu Sans"]]
    assert len(set(shots)) == 3


def test_requests_can_be_blocked(pages: Pages, page: Page) -> None:
    page.blocked.append(re.compile("/script"))
    page.open(pages.put("<p>Text"))
    assert page.evaluate("fetch('/script.js').then(() => 'came', () => 'failed')") == "failed"
    assert page.evaluate("fetch('/').then(() => 'came', () => 'failed')") == "came"


def test_a_person_s_hands(pages: Pages, page: Page) -> None:
    page.open(
        pages.put(
            '<p style="height: 3000px">Far down<p><button id="one">1</button><button>2</button>',
            "document.onclick = event => { document.title = event.target.id; };",
        )
    )
    page.click("#one")
    assert page.evaluate("document.title") == "one"
    page.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "2"
    page.press("Tab", shift=True)
    page.evaluate("document.title = ''")
    page.press("Enter")
    assert page.evaluate("document.title") == "one"


def test_qr_codes_are_read_off_the_screen(pages: Pages, page: Page) -> None:
    said = ["bitcoin:bcrt1q?amount=0.1", "ethereum:0x00@1?value=1"]
    drawn = [segno.make_qr(text).svg_inline(scale=4, border=4, light="#fff") for text in said]
    page.open(pages.put('<div style="padding: 2em; background: #357">' + "<hr>".join(drawn)))
    assert sorted(read_qr(page.screenshot())) == said
    assert read_qr(page.screenshot(selector="h1")) == []
