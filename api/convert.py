"""Between the wires and the core: ids, money, instants, statuses, invoices.

Inside there are UUIDs, integers of base units, Unix milliseconds and bytes; outside there is text,
and GoiPay's doubles. The converting is exact but for the doubles.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from uuid import UUID

from actors.core.assets import Catalogue
from actors.core.invoice import Invoice, State
from actors.core.money import to_double
from api.payment_link import where_to_pay
from proto.goipay.crypto.v1 import CoinType
from proto.goipay.invoice.v1 import Invoice as WireInvoice
from proto.goipay.invoice.v1 import InvoiceStatusType

STATUS_OF: Mapping[State, InvoiceStatusType] = MappingProxyType(
    {
        State.PENDING: InvoiceStatusType.PENDING,
        State.SEEN: InvoiceStatusType.PENDING_MEMPOOL,
        State.SETTLED: InvoiceStatusType.CONFIRMED,
        State.EXPIRED: InvoiceStatusType.EXPIRED,
        # GoiPay has no word for it: to its clients the time to pay is over.
        State.CANCELLED: InvoiceStatusType.EXPIRED,
    }
)
STATUS_WORD: Mapping[State, str] = MappingProxyType(
    {
        **{state: str(status.name) for state, status in STATUS_OF.items()},
        State.CANCELLED: "CANCELLED",
    }
)
"""The REST interface's words."""
STATE_OF_WORD: Mapping[str, State] = MappingProxyType(
    {word: state for state, word in STATUS_WORD.items()}
)
NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""What GoiPay sends for an instant that is not set: the zero time of Go."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# RFC 3339, section 5.6; a blank stands for the + that a query string turned into one.
_INSTANT = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(\.\d{1,9})?([Zz]|[+\- ]\d{2}:\d{2})"
)
_COINS: Mapping[str, CoinType] = MappingProxyType({str(coin.name): coin for coin in CoinType})


# --- ids ------------------------------------------------------------------------------------------


def parse_uuid(text: str) -> UUID | None:
    """The UUID written as 36 characters or 32 hex digits; None for any other text.

    `uuid.UUID` would also take braces, `urn:uuid:` and dashes anywhere.
    """
    return UUID(text) if _UUID.fullmatch(text) else None


# --- assets ---------------------------------------------------------------------------------------


def asset_id_of(coin: CoinType) -> str | None:
    """The asset of a CoinType; None for a number that has no name."""
    return coin.name or None


def coin_of(asset_id: str) -> CoinType | None:
    """The CoinType of an asset; None for one that GoiPay's enum does not have."""
    return _COINS.get(asset_id)


# --- instants -------------------------------------------------------------------------------------


def instant(at_ms: int) -> datetime:
    """A datetime in UTC, exact to the millisecond; years 1 to 9999."""
    return EPOCH + timedelta(milliseconds=at_ms)


def format_instant(at_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds: `2026-01-31T23:59:59.000Z`."""
    return instant(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_instant(text: str) -> int:
    """Unix milliseconds of an RFC 3339 instant, rounded down. Raises ValueError, for people."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError(
            "must be an RFC 3339 instant with a time zone, such as 2026-01-31T23:59:59Z"
        )
    day, time, fraction, zone = match.groups()
    offset = "+00:00" if zone in "Zz" else zone.replace(" ", "+")
    try:
        at = datetime.fromisoformat(f"{day}T{time}{offset}")
        whole_ms = (at - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"is not an instant that exists ({error})") from None
    return whole_ms + int((fraction or ".0")[1:4].ljust(3, "0"))


# --- GoiPay's invoice -----------------------------------------------------------------------------


def wire_invoice(invoice: Invoice, catalogue: Catalogue) -> WireInvoice | None:
    """The invoice as GoiPay's message; None where its enum has no number for the asset, or the
    operator took the asset out of the catalogue: its exponent is unknown then.
    """
    terms = invoice.terms
    coin, asset = coin_of(terms.asset), catalogue.assets.get(terms.asset)
    if coin is None or asset is None:
        return None
    settled_at_ms = invoice.settled_at_ms
    return WireInvoice(
        id=str(terms.invoice_id),
        crypto_address=where_to_pay(terms),
        coin=coin,
        required_amount=to_double(terms.required_base, asset.exponent),
        actual_amount=to_double(invoice.received_base, asset.exponent),
        confirmations_required=invoice.confirmations,
        created_at=instant(terms.created_at_ms),
        confirmed_at=NEVER if settled_at_ms is None else instant(settled_at_ms),
        status=STATUS_OF[invoice.state],
        expires_at=instant(terms.expires_at_ms),
        tx_id=catalogue.hash_text(terms.chain, invoice.txid) if invoice.txid else "",
        user_id=str(terms.user_id),
    )
