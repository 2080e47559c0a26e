"""Whole pages: an order's, and the one that says why there is none."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b, sha256

from markupsafe import Markup

from actors.brand_book import Brand
from actors.chain_supervisor import ChainHealth
from actors.core.assets import Catalogue
from actors.core.invoice import Invoice
from actors.order_book import Order
from api.page.assets import page_asset
from api.page.colours import palette
from api.page.environment import render
from api.page.live import POLL_S, part_of
from api.page.view import page_view
from api.page.words import phrase, seemly, words

REDIRECT_S = 20
"""Before the payer is taken back to the shop, unless he stops it: WCAG 2.2.1 asks for so much."""
MAX_NAME = 100
MAX_DESCRIPTION = 200
LOGO_TYPES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
"""What is shown as a logo: pictures that hold no script."""


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page and the policy that lets in what is its own, and nothing else."""

    content: bytes
    security_policy: str


@dataclass(frozen=True, slots=True)
class _Style:
    css: Markup
    digest: str


def order_page(
    order: Order,
    invoice: Invoice,
    *,
    brand: Brand | None,
    language: str,
    catalogue: Catalogue,
    health: ChainHealth | None,
    now_ms: int,
) -> Page:
    """The page of an order as it is now, in one of LANGUAGES."""
    spoken = words(language)
    view = page_view(
        order, invoice, catalogue=catalogue, health=health, now_ms=now_ms, words=spoken
    )
    live = part_of(view, language)
    merchant = seemly(order.merchant_name, MAX_NAME)
    if not merchant and brand is not None:
        merchant = seemly(brand.name, MAX_NAME)
    heading = phrase("title_merchant", merchant=merchant) if merchant else phrase("title")
    style = _style(brand.colour if brand else None)
    html = render(
        "page.html",
        language,
        root="",
        style=page_asset("style.css").name,
        script=page_asset("page.js").name,
        brand_css=style.css,
        title=spoken.text(phrase("page_title", status=live.headline, title=spoken.text(heading))),
        heading=spoken.html(heading),
        merchant=merchant,
        description=seemly(order.description, MAX_DESCRIPTION),
        logo=_logo(order, brand),
        order_id=order.id,
        view=view,
        live=live,
        now_ms=now_ms,
        poll_s=POLL_S,
        redirect_s=REDIRECT_S,
    )
    return Page(html.encode(), _policy(style, script=True))


def error_page(key: str, *, language: str, path: str) -> Page:
    """`not_found`, `too_many` or `failed`; `path` is the request's, for links from there."""
    return _error_page(key, language, min(8, max(0, path.count("/") - 2)))


@lru_cache(maxsize=256)
def _error_page(key: str, language: str, depth: int) -> Page:
    style = _style(None)
    html = render(
        "error.html",
        language,
        root="../" * depth,
        style=page_asset("style.css").name,
        brand_css=style.css,
        key=key,
        again=key != "not_found",
    )
    return Page(html.encode(), _policy(style, script=False))


def has_logo(brand: Brand | None) -> bool:
    return brand is not None and brand.logo is not None and brand.logo_type in LOGO_TYPES


def _logo(order: Order, brand: Brand | None) -> str | None:
    """Where the logo is; its digest is there so that browsers do not keep an old one."""
    if brand is None or brand.logo is None or not has_logo(brand):
        return None
    return f"{order.id}/logo?v={logo_digest(brand.logo)}"


def logo_digest(logo: bytes) -> str:
    return blake2b(logo, digest_size=6).hexdigest()


@lru_cache(maxsize=256)
def _style(colour: str | None) -> _Style:
    """The merchant's colours; the policy names them by their hash."""
    css = palette(colour).css()
    digest = b64encode(sha256(css.encode()).digest()).decode()
    # Made of six digits for each colour.
    return _Style(Markup(css), digest)  # noqa: S704


def _policy(style: _Style, *, script: bool) -> str:
    parts = ["default-src 'none'", f"style-src 'self' 'sha256-{style.digest}'"]
    if script:
        parts += ["script-src 'self'", "connect-src 'self'"]
    parts += [
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return "; ".join(parts)
