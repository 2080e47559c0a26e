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
    html: str
    """The `<section id="live">`."""
    announcement: str
    """The status in one sentence, for screen readers."""
    document: bytes
    """All of this as one line of JSON."""
    changes_at_ms: int | None
    """The next instant at which time alone changes the part; None if it never does."""
