"""Facts, states and chain views as the columns that hold them, and back.

JSON is written by `actors.core.codec`; what never changes about an invoice (its terms) has a column
of its own, so that an append writes only what it changed.
"""

from __future__ import annotations

import struct
from uuid import UUID

import orjson

from actors.core import codec
from actors.core.chain_view import BlockRef, ChainView
from actors.core.events import Event, InvoiceCreated, Terms
from actors.core.invoice import Invoice
from daemon.store.schema import WITHOUT_END


def encode_event(event: Event) -> str:
    return orjson.dumps(codec.event_to_json(event)).decode()


def decode_event(kind: str, data: str) -> Event:
    """Raises codec.CodecError when the row is damaged or of a newer version."""
    return codec.event_from_json(kind, _loads(data))


def encode_creation(event: InvoiceCreated) -> tuple[str, str]:
    """The event as `encode_event` writes it, and its terms by themselves; encoded once."""
    data = codec.event_to_json(event)
    terms = orjson.dumps(data["terms"])
    data["terms"] = orjson.Fragment(terms)
    return orjson.dumps(data).decode(), terms.decode()


def encode_terms(terms: Terms) -> str:
    """The second text of `encode_creation` by itself."""
    return orjson.dumps(codec.terms_to_json(terms)).decode()


def decode_invoice(terms: str, snapshot: str) -> Invoice:
    """Raises codec.CodecError when the row is damaged or of a newer version."""
    return codec.state_from_json(codec.terms_from_json(_loads(terms)), _loads(snapshot))


def terms_columns(
    key: bytes | UUID, user_key: bytes | UUID, terms: Terms, encoded: str
) -> tuple[object, ...]:
    """TERMS_COLUMNS of a new invoice; `key` and `user_key` are its ids as the database has them."""
    major, minor = terms.path
    return (
        key,
        user_key,
        terms.chain,
        terms.network,
        terms.asset,
        terms.account_id,
        major,
        minor,
        terms.created_at_ms,
        terms.expires_at_ms,
        encoded,
    )


TERMS_COLUMNS = (
    "id",
    "user_id",
    "chain",
    "network",
    "asset",
    "account_id",
    "major",
    "minor",
    "created_at_ms",
    "expires_at_ms",
    "terms",
)


def state_columns(invoice: Invoice) -> tuple[object, ...]:
    """STATE_COLUMNS of an invoice; `updated_seq` is known only to the writer."""
    until = invoice.watched_until()
    state = codec.state_to_json(invoice)
    return (
        state["state"],
        WITHOUT_END if until is None else until,
        invoice.version,
        invoice.updated_at_ms,
        orjson.dumps(state).decode(),
    )


STATE_COLUMNS = ("state", "watched_until", "version", "updated_at_ms", "snapshot")

_VIEW_FORMAT = 1
_FOLLOWS = 1
_BLOCK = struct.Struct(">qqBBB")  # height, time_s, flags, length of hash, length of parent


def encode_view(view: ChainView) -> bytes:
    """A format byte, then the blocks; a parent that is the block before is not repeated."""
    parts = [bytes((_VIEW_FORMAT,))]
    previous: bytes | None = None
    for block in view.blocks:
        follows = block.parent == previous
        parent = b"" if follows else block.parent
        flags = _FOLLOWS if follows else 0
        parts.append(_BLOCK.pack(block.height, block.time_s, flags, len(block.hash), len(parent)))
        parts.append(block.hash)
        parts.append(parent)
        previous = block.hash
    return b"".join(parts)


def decode_view(data: bytes) -> ChainView:
    """Raises codec.CodecError when the row is damaged or of a newer version."""
    if data[:1] != bytes((_VIEW_FORMAT,)):
        raise codec.CodecError(f"chain view of format {data[:1].hex()} is unknown to this version")
    blocks: list[BlockRef] = []
    at = 1
    try:
        while at < len(data):
            height, time_s, flags, hash_length, parent_length = _BLOCK.unpack_from(data, at)
            at += _BLOCK.size
            block_hash = data[at : at + hash_length]
            at += hash_length
            parent = blocks[-1].hash if flags & _FOLLOWS else data[at : at + parent_length]
            at += parent_length
            blocks.append(BlockRef(height, block_hash, parent, time_s))
    except (struct.error, IndexError) as error:
        raise codec.CodecError(f"chain view cannot be read: {error}") from error
    if at != len(data) or not blocks:
        raise codec.CodecError("chain view is cut off")
    return ChainView(tuple(blocks))


def _loads(text: str) -> codec.Json:
    try:
        loaded = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise codec.CodecError(f"stored JSON cannot be read: {error}") from error
    if not isinstance(loaded, dict):
        raise codec.CodecError("stored JSON is not an object")
    return loaded
