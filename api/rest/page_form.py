"""How the payment pages answer: with pages, also where they refuse; compressed for who takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Response, request

from api.errors import KINDS
from api.page.assets import compress, takes_gzip
from api.page.pages import Page, error_page
from api.page.words import choose_language
from api.rest.operation import Operation, Reply
from api.rest.problems import Problem

PREFIX = "/pay/"
_FOR_SCRIPTS = ("/status", "/live")
"""Asked for by the page, which shows nothing of an error."""
HTML = "text/html; charset=utf-8"
ERRORS = ("not_found", "too_many", "failed")
"""What an error page can say."""
_ERROR_OF = {404: "not_found", 405: "not_found", 429: "too_many"}
_KEPT_HEADERS = ("Allow", "Retry-After")
_ALWAYS = ("RATE_LIMITED", "STORE_UNAVAILABLE", "OPERATOR_NEEDED", "BUG")


class PageForm:
    """A `Form` of `api.rest.operation`: who asks is a person, and is told so much as helps them."""

    def covers(self, path: str) -> bool:
        return path.startswith(PREFIX) and not path.endswith(_FOR_SCRIPTS)

    def refusal(self, found: Problem) -> Response:
        """A page that says nothing of what was asked for but that it cannot be had."""
        key = _ERROR_OF.get(found.status, "failed")
        page = error_page(key, language=asked_language(), path=request.path)
        sent = send_page(page, status=found.status)
        made = Response(sent.content, status=found.status, content_type=HTML)
        for name, value in sent.headers.items():
            made.headers[name] = value
        for name, value in found.all_headers().items():
            if name in _KEPT_HEADERS:
                made.headers[name] = value
        return made

    def finish(self, response: Response, *, method: str, path: str) -> None:
        """Nothing is in all of the answers."""

    def documented(self, one: Operation) -> dict[str, Any]:
        titles: dict[int, list[str]] = {}
        for reason in (*one.refusals, *_ALWAYS):
            titles.setdefault(KINDS[reason].http, []).append(f"{KINDS[reason].title}.")
        return {
            str(status): {
                "description": " ".join(dict.fromkeys(said)),
                "content": {HTML: {"schema": {"type": "string"}}},
            }
            for status, said in sorted(titles.items())
        }


def asked_language() -> str:
    """The language of the request: `?lang=`, else Accept-Language; never anything unknown."""
    return choose_language(request.args.get("lang"), request.headers.get("Accept-Language"))


def send_page(page: Page, *, status: int = 200) -> Reply:
    headers = {"Content-Security-Policy": page.security_policy, "Vary": "Accept-Language"}
    return send(page.content, HTML, status=status, headers=headers)


def send(
    content: bytes,
    media_type: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    gzipped: bytes | None = None,
) -> Reply:
    """The content, compressed (unless it is so already) for those who take it."""
    told = dict(headers or {})
    told["Vary"] = ", ".join(one for one in (told.get("Vary"), "Accept-Encoding") if one)
    if takes_gzip(request.headers.get("Accept-Encoding")):
        told["Content-Encoding"] = "gzip"
        content = compress(content) if gzipped is None else gzipped
    return Reply(status, content=content, media_type=media_type, headers=told)
