"""Whole pages: well formed in every language at every moment, and safe whatever is in them."""

from __future__ import annotations

import re
from uuid import UUID

import html5lib
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.brand_book import Brand
from api.page.live import live_part
from api.page.pages import error_page, order_page
from api.page.words import LANGUAGES, phrase, words
from tests.helpers.page_moments import MOMENTS, NOW_MS, made, order
from tests.helpers.qr_codes import qr_texts

EVERYTHING = [(name, language) for name in MOMENTS for language in LANGUAGES]
ELEMENTS = {
    "html", "head", "meta", "title", "link", "style", "script", "noscript", "body", "a", "header",
    "main", "footer", "nav", "section", "h1", "h2", "p", "div", "span", "bdi", "strong", "dl", "dt",
    "dd", "time", "button", "label", "progress", "img", "svg", "path", "ul", "li",
}  # fmt: skip
OWN_LINKS = re.compile(r"(#main|\?lang=[a-z]{2}|data:,|assets/(style|page)-[0-9a-f]{12}\.(css|js))")
WALLET_LINKS = re.compile(r"(bitcoin|litecoin|ethereum|monero|ton):[^\s\"'<>]+")


def brand(**changes) -> Brand:
    return Brand(user_id=UUID(int=2), **changes)


def page(name: str = "waiting", language: str = "en", looks: Brand | None = None, **changes) -> str:
    made_so = MOMENTS[name]()
    found = order_page(
        order(**changes), made_so.invoice, brand=looks, language=language, **made_so.told()
    )
    return found.content.decode()


def parsed(html: str):
    """The document; whatever html5lib's strict mode minds is an error."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(html)


def part_of(name: str, language: str = "en", **changes):
    made_so = MOMENTS[name]()
    return live_part(order(**changes), made_so.invoice, language=language, **made_so.told())


def text_in(element) -> str:
    return " ".join("".join(element.itertext()).split())


# --- every page -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "language"), EVERYTHING)
def test_every_page_is_well_formed(name, language):
    root = parsed(page(name, language))
    assert (root.get("lang"), root.get("dir")) == (language, words(language).direction)
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids)), "every id once"
    assert text_in(root.find(".//title"))


@pytest.mark.parametrize(("name", "language"), EVERYTHING)
def test_every_page_can_be_found_one_s_way_in(name, language):
    """Landmarks, headings in their order, names for what can be used."""
    root = parsed(page(name, language))
    for landmark in ("header", "main", "footer", "nav"):
        assert len(list(root.iter(landmark))) == 1
    headings = [one.tag for one in root.iter() if one.tag in ("h1", "h2", "h3")]
    assert headings[:2] == ["h1", "h2"]
    assert headings.count("h1") == 1
    for button in root.iter("button"):
        name_of = button.get("aria-label") or text_in(button)
        assert text_in(button).lower() in name_of.lower(), "the label is in the name (2.5.3)"
    for link in root.iter("a"):
        assert text_in(link)
    for labelled in root.iter("label"):
        assert root.find(f".//*[@id='{labelled.get('for')}']") is not None
    for one in root.iter():
        by = one.get("aria-labelledby")
        assert by is None or root.find(f".//*[@id='{by}']") is not None


def test_only_the_status_is_told_to_screen_readers_by_itself():
    root = parsed(page())
    told = [one.get("id") for one in root.iter() if one.get("aria-live") == "polite"]
    assert told == ["announcement"]
    assert root.find(".//*[@id='countdown']").get("aria-live") == "off"


@pytest.mark.parametrize("name", MOMENTS)
def test_without_a_script_the_page_asks_to_be_reloaded_until_the_end(name):
    html = page(name)
    ended = part_of(name).final
    assert (words("en").text(phrase("noscript")) in html) is not ended
    # A page that reloads by itself takes readers from their place (WCAG 2.2.1, F41).
    assert 'http-equiv="refresh"' not in html
    # What needs the script is not shown without it.
    for button in parsed(html).iter("button"):
        assert button.get("hidden") is not None or button.get("id") == "stay"


@pytest.mark.parametrize(("name", "language"), EVERYTHING)
def test_the_code_says_what_the_link_says(name, language):
    html = page(name, language)
    link = MOMENTS[name]().view(order()).instructions
    wanted = [] if link is None or link.qr is None else [link.qr]
    assert (qr_texts(html) if 'class="qr"' in html else []) == wanted
    hrefs = [one.get("href") for one in parsed(html).iter("a")]
    assert (link is not None and link.link in hrefs) is (link is not None and link.link is not None)


def test_what_is_copied_is_exact():
    root = parsed(page("partial", "de"))
    copied = {one.get("id"): one.get("data-copy") for one in root.iter("button")}
    assert copied == {"copy-amount": "0.2", "copy-address": "bcrt1qexample"}
    assert text_in(root.find(".//*[@id='amount']")) == "0,2 BTC"
    comment = parsed(page("waiting_comment"))
    assert comment.find(".//*[@id='copy-memo']").get("data-copy") == "100000308"
    assert words("en").sentences["memo_warning"] in text_in(comment)


def test_partial_payment_and_progress_are_told_in_words():
    assert "0.3 BTC of 0.5 BTC received, 0.2 BTC to go." in text_in(parsed(page("partial")))
    root = parsed(page("confirming"))
    bar = root.find(".//progress")
    assert (bar.get("value"), bar.get("max")) == ("2", "3")
    assert "Confirmations 2 of 3" in text_in(root)


# --- the live part --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MOMENTS)
def test_the_part_is_on_the_page_and_in_the_document(name):
    part = part_of(name)
    assert part.html in page(name)
    assert part.html.lstrip().startswith('<section id="live"')
    told = orjson.loads(part.document)
    assert told == {
        "version": part.version,
        "status": part.status,
        "final": part.final,
        "headline": part.headline,
        "announcement": part.announcement,
        "html": str(part.html),
    }
    assert b"\n" not in part.document, "one line of a stream"
    root = parsed(f"<!DOCTYPE html><html><head><title>x</title></head><body>{part.html}</body>")
    assert [one.get("id") for one in root.find(".//section")] == ["status", "notes", "pay", "end"]


def test_parts_differ_where_what_they_say_differs():
    parts = {(name, code): part_of(name, code) for name, code in EVERYTHING}
    by_version: dict[str, set[str]] = {}
    for part in parts.values():
        by_version.setdefault(part.version, set()).add(str(part.html))
    assert all(len(htmls) == 1 for htmls in by_version.values())
    assert parts["waiting", "en"].version != parts["waiting", "de"].version
    assert parts["waiting", "en"].version != parts["partial", "en"].version


def test_the_part_does_not_change_while_nothing_does():
    part = part_of("waiting")
    later = made(now_ms=NOW_MS + 1000)
    again = live_part(order(), later.invoice, language="en", **later.told())
    assert again == part


# --- what strangers wrote -------------------------------------------------------------------------


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'\"`--></style></title></noscript><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% include 'x' %}{0}{merchant}",
    "\u202egpj.exe\u2066\u2069\u2069\u2067",
    "\x00\x08\ud800\uffff",
)
ANY_TEXT = st.text(max_size=250) | st.sampled_from(HOSTILE) | st.text("<>&\"'/={}%\u202e\u2069a")


def assert_harmless(html: str) -> None:
    """Only our own elements, attributes and links; no handler, no style, no steering."""
    root = html5lib.parse(html, namespaceHTMLElements=False)
    for one in root.iter():
        if not isinstance(one.tag, str):
            continue
        tag = one.tag.rpartition("}")[2]
        assert tag in ELEMENTS, tag
        for attribute, value in one.attrib.items():
            assert not str(attribute).startswith("on"), attribute
            assert attribute != "style"
            if attribute in ("href", "src") and not OWN_LINKS.fullmatch(value):
                shop = value.lower().startswith(("http://", "https://")) and one.get("id") == "back"
                logo = re.fullmatch(r"\d+/logo\?v=[0-9a-f]{12}", value)
                assert shop or logo or WALLET_LINKS.fullmatch(value), value
    scripts = [one.get("src") for one in root.iter("script")]
    assert len(scripts) == 1
    assert re.fullmatch(r"assets/page-[0-9a-f]{12}\.js", scripts[0])
    assert [one.text for one in root.iter("script")] == [None]
    assert not re.search("[\u202a-\u202e\u200b]", html)


@settings(max_examples=150, deadline=None)
@given(
    name=ANY_TEXT,
    description=ANY_TEXT,
    url=ANY_TEXT | ANY_TEXT.map(lambda text: f"https://shop.example/{text}"),
    brand_name=ANY_TEXT,
    colour=st.none() | ANY_TEXT | st.just("#00ff00"),
    language=st.sampled_from(LANGUAGES),
    moment=st.sampled_from([*MOMENTS]),
)
def test_nothing_that_strangers_wrote_is_more_than_text(
    name, description, url, brand_name, colour, language, moment
):
    looks = brand(name=brand_name, colour=colour, logo=b"logo", logo_type="image/png")
    html = page(
        moment, language, looks, merchant_name=name, description=description, callback_url=url
    )
    assert_harmless(html)


def test_the_check_on_harmlessness_can_fail():
    html = page()
    for bad in ("<img src=x onerror=alert(1)>", "<iframe>", '<a href="javascript:x">x</a>'):
        with pytest.raises(AssertionError):
            assert_harmless(html.replace("</main>", f"{bad}</main>"))


def test_a_name_is_shown_as_it_was_meant():
    root = parsed(page(merchant_name="<b>Tom & Jerry's</b> مقهى", description="A\nB"))
    assert text_in(root.find(".//h1")) == "Payment to <b>Tom & Jerry's</b> مقهى"
    assert root.find(".//h1/bdi") is not None
    assert text_in(root.find(".//header/p/bdi")) == "A B"
    assert "Payment to Brand" in page(looks=brand(name="Brand"), merchant_name="")
    assert "<h1>Payment</h1>" in page(merchant_name="\u202e ", description="")


def test_long_texts_are_cut():
    root = parsed(page(merchant_name="x" * 5000, description="y" * 5000))
    assert len(text_in(root.find(".//h1/bdi"))) == 100
    assert len(text_in(root.find(".//header/p/bdi"))) == 200


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["not_found", "too_many", "failed"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_an_error_is_a_page_too(key, language):
    found = error_page(key, language=language, path="/pay/1")
    root = parsed(found.content.decode())
    assert text_in(root.find(".//h1")) == words(language).sentences[key]
    assert root.get("dir") == words(language).direction
    assert not list(root.iter("script"))
    assert "script-src" not in found.security_policy


@pytest.mark.parametrize(("path", "root"), [("/pay/", ""), ("/pay/1", ""), ("/pay/1/logo", "../")])
def test_an_error_page_finds_its_style_sheet(path, root):
    html = error_page("failed", language="en", path=path).content.decode()
    assert f'href="{root}assets/style-' in html
    deep = error_page("failed", language="en", path="/pay" + "/x" * 10_000)
    assert len(deep.content) < 5000
