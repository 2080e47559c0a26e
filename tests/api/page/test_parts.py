"""The small parts of a page: colours that can be read, QR codes, files that are kept."""

from __future__ import annotations

import gzip
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.page.assets import compress, page_asset, page_assets, takes_gzip
from api.page.colours import DARK, DEFAULT, LIGHT, TEXT_CONTRAST, contrast, palette
from api.page.qr import QUIET_ZONE, qr_svg
from tests.helpers.page_moments import MOMENTS, order
from tests.helpers.qr_codes import drawn, qr_texts

COLOURS = st.integers(0, 0xFFFFFF).map(lambda value: f"#{value:06x}")


# --- colours --------------------------------------------------------------------------------------


def test_contrast_is_that_of_the_guidelines():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#ffffff", "#ffffff") == pytest.approx(1)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert contrast("#ffffff", "#0000ff") == contrast("#0000ff", "#ffffff")


@settings(deadline=None)
@given(COLOURS)
def test_any_merchant_s_colour_can_be_read(colour):
    found = palette(colour)
    assert found.brand == colour
    assert contrast(found.on_brand, found.brand) >= TEXT_CONTRAST
    assert contrast(found.accent_light, LIGHT) >= TEXT_CONTRAST
    assert contrast(found.accent_dark, DARK) >= TEXT_CONTRAST


def test_a_readable_colour_stays_as_it_is():
    found = palette("#1F5FD0")
    assert (found.brand, found.accent_light, found.on_brand) == ("#1f5fd0", "#1f5fd0", "#ffffff")
    assert palette("#ffff00").on_brand == "#000000"


@settings(deadline=None)
@given(st.none() | st.text())
def test_what_is_no_colour_is_ours(text):
    css = palette(text).css()
    assert DEFAULT in css or text is not None
    assert not set(css) & set("<>&\"'\\/*")


def test_the_style_sheet_has_the_backgrounds_that_were_reckoned_with():
    css = page_asset("style.css").content.decode()
    light, dark = css.split("prefers-color-scheme: dark", 1)
    assert f"--page: {LIGHT}" in light
    assert f"--page: {DARK}" in dark


PAIRS = [
    ("text", "page"), ("quiet", "page"), ("text", "info"), ("text", "warning"),
    ("alarm-text", "alarm"), ("good", "page"), ("alarm-text", "page"),
]  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_style_sheet_s_own_colours_can_be_read(pair, scheme):
    css = page_asset("style.css").content.decode()
    part = css.split("prefers-color-scheme: dark", 1)[scheme == "dark"]
    text, behind = (part.split(f"--{name}: ", 1)[1][:7] for name in pair)
    assert contrast(text, behind) >= TEXT_CONTRAST
    edge, page = (part.split(f"--{name}: ", 1)[1][:7] for name in ("edge", "page"))
    assert contrast(edge, page) >= 3, "success criterion 1.4.11"


# --- QR codes -------------------------------------------------------------------------------------


LINKS = {
    name: instructions.qr
    for name, moment in MOMENTS.items()
    if (instructions := moment().view(order()).instructions) is not None
}


@pytest.mark.parametrize(("name", "text"), LINKS.items())
def test_a_reader_reads_what_the_page_s_link_says(name, text):
    assert qr_texts(str(qr_svg(text))) == [text]


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=300))
def test_a_reader_reads_any_text(text):
    assert qr_texts(str(qr_svg(text))) == [text]


def test_a_code_has_its_quiet_zone_and_nothing_but_shapes():
    svg = str(qr_svg("bitcoin:bc1q?amount=1&x=<script>"))
    side, dark = drawn(svg)
    assert min(x for x, _ in dark) == QUIET_ZONE
    assert max(y for _, y in dark) == side - QUIET_ZONE - 1
    assert not re.search("script|style", svg)


def test_what_is_read_is_the_drawing():
    svg = str(qr_svg("bitcoin:bc1q"))
    assert qr_texts(svg[: len(svg) // 2] + '"/></svg>') == []


# --- files ----------------------------------------------------------------------------------------


def test_files_are_named_by_their_content():
    assert set(page_assets()) == {page_asset(name).name for name in ("style.css", "page.js")}
    for name, asset in page_assets().items():
        assert asset.name == name
        assert gzip.decompress(asset.gzipped) == asset.content
        assert len(name.split("-")[1].split(".")[0]) == 12


def test_files_ask_for_nothing_elsewhere():
    for asset in page_assets().values():
        text = asset.content.decode()
        assert not re.search(r"https?:|//[^ ]", text)
        assert not re.search(r"url\(|@import|\beval\b|innerHTML|document\.write", text)


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, GZIP;q=0.8, *;q=0.1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("x-gzip", False),
        ("identity", False),
        ("*", False),
        ("", False),
        (None, False),
    ],
)
def test_who_takes_gzip(accepted, taken):
    assert takes_gzip(accepted) is taken


def test_equal_content_is_equal_compressed():
    assert compress(b"x" * 100) == compress(b"x" * 100)
