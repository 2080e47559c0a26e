"""Opaque cursors: where the next page of a list begins, and for which question."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from uuid import UUID

from actors.ports import InvoiceQuery, InvoiceRow, Order

_FORMAT = b"\x01"
_DIGEST_BYTES = 8


class CursorError(ValueError):
    """The cursor is none of ours, or belongs to another question."""


def cursor_after(row: InvoiceRow, query: InvoiceQuery) -> str:
    """The cursor of the page that begins after `row`."""
    terms = row.invoice.terms
    position = terms.created_at_ms if query.order is Order.CREATED else row.updated_seq
    raw = _FORMAT + _digest(query) + position.to_bytes(8, "big") + terms.invoice_id.bytes
    return urlsafe_b64encode(raw).decode().rstrip("=")


def read_cursor(text: str, query: InvoiceQuery) -> tuple[int, UUID]:
    """`InvoiceQuery.after` for the question that `query` asks. Raises CursorError, for people."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 1 + _DIGEST_BYTES + 8 + 16 or raw[:1] != _FORMAT:
        raise CursorError("is not a cursor that this API gave; take it from `next` as it is")
    if raw[1 : 1 + _DIGEST_BYTES] != _digest(query):
        raise CursorError("belongs to a list with other filters or another order; begin anew")
    at = 1 + _DIGEST_BYTES
    position = int.from_bytes(raw[at : at + 8], "big")
    if position >= 2**63:
        raise CursorError("names a position that no list has; take it from `next` as it is")
    return position, UUID(bytes=raw[at + 8 :])


def _digest(query: InvoiceQuery) -> bytes:
    """What the position means depends on filters and order, not on the page's size."""
    asked = repr(
        (
            query.user_id,
            sorted(query.assets),
            sorted(query.states),
            query.updated_since_ms,
            query.order.value,
            query.descending,
        )
    )
    return blake2b(asked.encode(), digest_size=_DIGEST_BYTES).digest()
