"""Style sheet and script of the pages: named by their content, so that browsers keep them."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from types import MappingProxyType

_TYPES = {"style.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class PageAsset:
    name: str
    """With twelve digits of the content's hash: `style-0123456789ab.css`."""
    content: bytes
    gzipped: bytes
    media_type: str


@cache
def page_asset(source: str) -> PageAsset:
    """The asset of a source file: `style.css`, `page.js`."""
    content = files("api.page").joinpath(source).read_bytes()
    stem, _, suffix = source.rpartition(".")
    name = f"{stem}-{sha256(content).hexdigest()[:12]}.{suffix}"
    return PageAsset(name, content, compress(content, level=9), _TYPES[source])


@cache
def page_assets() -> Mapping[str, PageAsset]:
    """All of them, by name."""
    return MappingProxyType({one.name: one for one in map(page_asset, _TYPES)})


def compress(content: bytes, *, level: int = 5) -> bytes:
    """With gzip; equal content, equal bytes."""
    return gzip.compress(content, compresslevel=level, mtime=0)


def takes_gzip(accepted: str | None) -> bool:
    """Whether an Accept-Encoding (RFC 9110, 12.5.3) names gzip, and not to refuse it."""
    for one in (accepted or "")[:500].lower().split(","):
        coding, _, weight = one.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "").rstrip("0").rstrip(".") not in ("q=", "q=0")
    return False
