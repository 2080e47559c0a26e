"""An event of the log as JSON: the same bytes over REST, server-sent events and webhooks."""

from __future__ import annotations

from typing import Any

import orjson

from actors.published import Published
from api.convert import format_instant


def event_document(event: Published) -> dict[str, Any]:
    """For orjson; `data` is bytes of JSON already."""
    return {
        "id": event.id,
        "seq": event.seq,
        "type": event.type,
        "at": format_instant(event.at_ms),
        "invoice_id": str(event.invoice_id),
        "user_id": str(event.user_id),
        "version": event.version,
        "asset": event.asset,
        "data": orjson.Fragment(event.data),
    }


def event_json(event: Published) -> bytes:
    return orjson.dumps(event_document(event))


def notice_json(
    event_id: str, kind: str, *, at_ms: int, user_id: str | None, data: dict[str, Any]
) -> bytes:
    """Something that is not in the log, in the same form: it has no place and no invoice."""
    return orjson.dumps(
        {
            "id": event_id,
            "seq": None,
            "type": kind,
            "at": format_instant(at_ms),
            "invoice_id": None,
            "user_id": user_id,
            "version": None,
            "asset": None,
            "data": data,
        }
    )
