"""Five languages that say the same; numbers and instants; which language is answered in."""

from __future__ import annotations

import re
from string import Formatter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from actors.core.money import parse_decimal
from api.page.words import LANGUAGES, NARROW_SPACE, Words, choose_language, phrase, seemly, words
from tests.api.page.used_words import used_keys

ENGLISH = words("en")


def holes(sentence: str) -> list[str]:
    """The names in braces."""
    return sorted(name for _, name, _, _ in Formatter().parse(sentence) if name is not None)


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_has_every_sentence_with_the_same_values(code):
    spoken = words(code)
    assert list(spoken.sentences) == list(ENGLISH.sentences)
    for key, sentence in spoken.sentences.items():
        assert holes(sentence) == holes(ENGLISH.sentences[key]), key
        assert sentence == sentence.strip() != "", key
        assert not set(sentence) & set("<>&\"'"), key
    assert spoken.direction == ("rtl" if code == "ar" else "ltr")
    assert (spoken.code, spoken.name) == (code, spoken.name.strip())


@pytest.mark.parametrize("code", [one for one in LANGUAGES if one != "en"])
def test_nothing_was_left_in_english(code):
    """A few words are the same in several languages; sentences are not."""
    said = words(code).sentences
    same = [key for key, text in ENGLISH.sentences.items() if said[key] == text and " " in text]
    assert same == ["page_title"]


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_key_is_there_for_nothing(code):
    """Every key is in a template or in the code, whole or as one of a kind."""
    assert set(words(code).sentences) == used_keys()


def test_numbers_are_exact_and_in_the_language_s_form():
    assert ENGLISH.number(150_000_000, 8) == "1.5"
    assert words("de").number(1, 18) == "0,000000000000000001"
    assert words("es").number(123_456, 2) == "1234,56"
    assert words("zh").number(10**18, 18) == "1"
    assert words("ar").number(5 * 10**7, 8) == "0.5"
    assert ENGLISH.number(1_234_567, 0) == f"1{NARROW_SPACE}234{NARROW_SPACE}567"
    assert words("de").number(12_345_678, 3) == f"12{NARROW_SPACE}345,678"
    assert ENGLISH.number(0, 8) == "0"


@settings(deadline=None)
@given(st.integers(0, 10**40), st.integers(0, 30), st.sampled_from(LANGUAGES))
def test_no_digit_is_ever_lost(amount_base, exponent, code):
    spoken = words(code)
    plain = spoken.number(amount_base, exponent).replace(NARROW_SPACE, "")
    assert parse_decimal(plain.replace(spoken.decimal, "."), exponent) == amount_base


def test_instants_name_their_zone():
    at_ms = 1_700_000_000_000
    assert ENGLISH.instant(at_ms) == "14 November 2023, 22:13 UTC"
    assert words("de").instant(at_ms) == "14. November 2023, 22:13 UTC"
    assert words("es").instant(at_ms) == "14 de noviembre de 2023, 22:13 UTC"
    assert words("zh").instant(at_ms) == "2023年11月14日 22:13 UTC"
    assert words("ar").instant(at_ms) == "14 نوفمبر 2023، 22:13 UTC"
    assert words("en").instant(253_402_300_799_999).startswith("31 December 9999")


def test_values_are_isolated_where_they_could_turn_the_text():
    arabic, said = "متجر", phrase("title_merchant", merchant="متجر")
    assert ENGLISH.text(said) == f"Payment to \u2068{arabic}\u2069"
    assert ENGLISH.text(phrase("title_merchant", merchant="Shop")) == "Payment to Shop"
    assert "\u2068Shop\u2069" in words("ar").text(phrase("title_merchant", merchant="Shop"))
    assert ENGLISH.html(said) == f"Payment to <bdi>{arabic}</bdi>"


@settings(deadline=None)
@given(st.text(), st.sampled_from(LANGUAGES))
def test_values_are_escaped_and_never_read_as_placeholders(text, code):
    html = words(code).html(phrase("title_merchant", merchant=text))
    assert f"<bdi>{escape(text)}</bdi>" in html
    assert html.count("<") == 2


def test_a_value_may_have_braces_and_a_language_must_have_the_key():
    said = phrase("title_merchant", merchant="{amount} {0.__class__}")
    assert ENGLISH.text(said) == "Payment to {amount} {0.__class__}"
    with pytest.raises(KeyError):
        ENGLISH.text(phrase("no_such_key"))


@pytest.mark.parametrize(
    ("asked", "accepted", "language"),
    [
        (None, None, "en"),
        ("de", "es", "de"),
        ("DE", "es", "es"),
        ("<script>", "zh-Hant-TW,zh;q=0.9,en;q=0.8", "zh"),
        ("", "fr-FR, ar-EG;q=0.7, en;q=0.6", "ar"),
        (None, "de;q=0, es;q=0.1", "es"),
        (None, "en-GB;q=0.3,de-CH;q=0.9", "de"),
        (None, "*", "en"),
        (None, "de;q=2,es;q=x,;;;,zh;q=", "en"),
        (None, "x" * 600 + ",de", "en"),
        ("../../etc/passwd", "DE-at", "de"),
    ],
)
def test_the_language_is_one_that_we_have(asked, accepted, language):
    assert choose_language(asked, accepted) == language


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_wish_has_an_answer(asked, accepted):
    assert choose_language(asked, accepted) in LANGUAGES


def test_seemly_text_has_one_line_and_steers_nothing():
    assert seemly("  Two\n\tcoffees \u2028 ", 50) == "Two coffees"
    assert seemly("evil\u202egpj.exe\u2069\u200f\x00\x1b[1m\ud800", 50) == "evilgpj.exe[1m"
    assert seemly("👩\u200d👧 مقهى", 50) == "👩\u200d👧 مقهى"
    assert seemly("x" * 101, 100) == "x" * 99 + "…"
    assert seemly("\u202e" * 1000 + "x", 100) == ""


@settings(deadline=None)
@given(st.text(), st.integers(1, 50))
def test_any_text_becomes_seemly(text, limit):
    shown = seemly(text, limit)
    assert len(shown) <= limit
    shown.encode()
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert isinstance(ENGLISH, Words)
