"""The part of a payment page that changes: rendered here, and swapped in by the page's script.

First load, polling and the stream all get it from the same template, so they cannot disagree.

What the script expects
-----------------------
`GET /pay/{order}/live?lang=de` is a stream of server-sent events. A message without an event name
has `LivePart.document` as its data and `LivePart.version` as its id; the present part comes first,
further ones when the version changes. An event `beat`, with any data, comes at least every 20
seconds: a stream without either for 45 seconds is given up for polling. Where `LivePart.final` is
true the script closes the stream itself, and so may the server.

`GET /pay/{order}/status?lang=de` has the same document, with the version as its ETag.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import orjson
from markupsafe import Markup

from actors.chain_supervisor import ChainHealth
from actors.core.assets import Catalogue
from actors.core.invoice import Invoice
from actors.order_book import Order
from api.convert import format_instant
from api.page.environment import render
from api.page.view import View, page_view
from api.page.words import words

POLL_S = 5
"""What the script waits between two looks while it has no stream."""


@dataclass(frozen=True, slots=True)
class LivePart:
    """The part as it is at one moment, in one language; equal bytes, equal version."""

    version: str
    """A digest of the document: 16 hexadecimal digits."""
    status: str
    """PENDING, CONFIRMING, SUCCESSFUL, EXPIRED or CANCELED."""
    final: bool
    """Nothing more is to be expected: settled or cancelled."""
    headline: str
    """The status in a word or two."""
    announcement: str
    """The status and what else must be known, in sentences, for screen readers."""
    document: bytes
    """All of this as one line of JSON."""
    changes_at_ms: int | None
    """The next instant at which time alone changes the part; None if it never does."""

    @property
    def html(self) -> Markup:
        """The `<section id="live">`; kept in the document alone, for many parts are held."""
        # Rendered by a template that escapes.
        return Markup(orjson.loads(self.document)["html"])  # noqa: S704


def live_part(
    order: Order,
    invoice: Invoice,
    *,
    language: str,
    catalogue: Catalogue,
    health: ChainHealth | None,
    now_ms: int,
) -> LivePart:
    """The part in one of LANGUAGES; `health` is of the invoice's chain, None if it is not followed.

    It depends on nothing else, and on the time only as `changes_at_ms` says.
    """
    view = page_view(
        order, invoice, catalogue=catalogue, health=health, now_ms=now_ms, words=words(language)
    )
    return part_of(view, language)


def part_of(view: View, language: str) -> LivePart:
    """The part that shows the view."""
    spoken = words(language)
    html = render("live.html", language, view=view, **_deadline(view, language))
    headline = spoken.text(view.headline)
    sentences = (view.text, *(note.phrase for note in view.notes))
    announcement = " ".join((f"{headline}.", *map(spoken.text, sentences)))
    told = {
        "status": view.status,
        "final": view.final,
        "headline": headline,
        "announcement": announcement,
        "html": html,
    }
    version = blake2b(orjson.dumps(told), digest_size=8).hexdigest()
    return LivePart(
        version=version,
        status=view.status,
        final=view.final,
        headline=headline,
        announcement=announcement,
        document=orjson.dumps({"version": version, **told}),
        changes_at_ms=view.changes_at_ms,
    )


def _deadline(view: View, language: str) -> dict[str, str]:
    if view.instructions is None:
        return {}
    at_ms = view.instructions.deadline_ms
    return {"deadline": words(language).instant(at_ms), "deadline_iso": format_instant(at_ms)}
