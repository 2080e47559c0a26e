"""The templates, compiled once, and how they speak a language."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup

from api.page.qr import qr_svg
from api.page.words import LANGUAGES, Words, phrase, words

_NAMES = ("layout.html", "page.html", "live.html", "error.html", "languages.html")


class Speech:
    """What the templates call; every value in a sentence is escaped and isolated."""

    def __init__(self, language: Words) -> None:
        self._words = language

    def __call__(self, key: str, **values: str) -> Markup:
        return self._words.html(phrase(key, **values))


@cache
def _environment() -> Environment:
    folder = files("api.page").joinpath("templates")
    sources = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in _NAMES}
    made = Environment(
        loader=DictLoader(sources),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals["qr"] = qr_svg
    return made


@cache
def _template(name: str) -> Template:
    return _environment().get_template(name)


@cache
def _spoken(language: str) -> dict[str, Any]:
    spoken = words(language)
    return {
        "w": spoken,
        "say": Speech(spoken),
        "phrase": spoken.html,
        "languages": [words(code) for code in LANGUAGES],
    }


def render(name: str, language: str, **values: object) -> str:
    """The template in that language (one of LANGUAGES)."""
    return _template(name).render(_spoken(language), **values)
