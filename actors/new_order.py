"""What is asked of a new order, and whether it can be meant. Pure.

The order's words are public and foreign: they are kept as given, and escaped where they are shown.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from actors.order_book import Order

MAX_MERCHANT_ORDER_ID = 128
MAX_DESCRIPTION = 200
MAX_MERCHANT_NAME = 100
MAX_CALLBACK_URL = 2048
"""Characters, all of them."""
MAX_ASSET_NAME = 64
MAX_WALLET_ID = 2**63 - 1

_VALUE = re.compile("[1-9][0-9]{0,77}")
_LINE_ENDS = frozenset("\t\n\r")
_URL = re.compile(
    r"https?://"
    # No "@": a name and a password are nobody's business here, and a way to lie about the host.
    r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[\w.-]{1,253})"
    r"(?::(?P<port>[0-9]{1,5}))?"
    # Browsers take "\" for "/"; the others must be percent-encoded in a URL (RFC 3986).
    r"(?:[/?#][^\\<>\"`^{|}\s]*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """The fields of createOrder, as they came."""

    merchant_order_id: str
    """1 to 128 printable characters."""
    asset_name: str
    """An asset of the wallet: its id in the catalogue, `BTC`."""
    target_value: str
    """Base units in decimal digits, above 0, without sign and leading zeros."""
    pg_wallet_id: int
    callback_url: str = ""
    """An http or https URL; empty: none."""
    description: str = ""
    merchant_name: str = ""

    @property
    def amount_base(self) -> int:
        return int(self.target_value)

    def described_by(self, order: Order) -> bool:
        """Whether the order's row was written for these fields, as far as it has them."""
        return (
            self.merchant_order_id,
            self.pg_wallet_id,
            self.callback_url,
            self.description,
            self.merchant_name,
        ) == (
            order.merchant_order_id,
            order.wallet_id,
            order.callback_url,
            order.description,
            order.merchant_name,
        )


@dataclass(frozen=True, slots=True)
class InvalidField:
    """A field of the request is missing or malformed."""

    field: str
    """As the document calls it: `target_value`."""


def check(wanted: NewOrder) -> InvalidField | None:
    """The first field, in the order of the request, that cannot be meant."""
    good = {
        "merchant_order_id": is_name(wanted.merchant_order_id, most=MAX_MERCHANT_ORDER_ID),
        "asset_name": is_name(wanted.asset_name, most=MAX_ASSET_NAME),
        "target_value": _VALUE.fullmatch(wanted.target_value) is not None,
        "callback_url": not wanted.callback_url or is_web_url(wanted.callback_url),
        "pg_wallet_id": 1 <= wanted.pg_wallet_id <= MAX_WALLET_ID,
        "description": is_text(wanted.description, most=MAX_DESCRIPTION),
        "merchant_name": is_text(wanted.merchant_name, most=MAX_MERCHANT_NAME),
    }
    return next((InvalidField(field) for field, is_good in good.items() if not is_good), None)


def is_name(text: str, *, most: int) -> bool:
    """1 to `most` characters that can be seen, and spaces."""
    return 1 <= len(text) <= most and text.isprintable()


def is_text(text: str, *, most: int) -> bool:
    """At most `most` characters, ends of lines among them, but nothing that controls a terminal.

    Nor halves of surrogate pairs, which have no form in UTF-8.
    """
    return len(text) <= most and not any(
        unicodedata.category(one) in ("Cc", "Cs") for one in text if one not in _LINE_ENDS
    )


def is_web_url(text: str) -> bool:
    """Whether a browser may be sent there: http(s), a host, no credentials, nothing unseen."""
    if len(text) > MAX_CALLBACK_URL or not text.isprintable():
        return False
    found = _URL.fullmatch(text)
    return found is not None and int(found["port"] or 0) < 2**16
