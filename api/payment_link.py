"""How a payer is told where to pay, and what to say, in one text.

Links are those that TON's wallets open: `ton://transfer/ADDRESS`, with the amount in base units, a
comment as `text` and a jetton's master as `jetton`.
"""

from __future__ import annotations

from urllib.parse import urlencode

from pytoniq_core import Address

from actors.core.assets import Asset, Catalogue
from actors.core.events import Terms
from actors.core.invoice import Invoice, State


def where_to_pay(terms: Terms) -> str:
    """The address; where something must be said with the payment, a link that says both.

    For wires that have one field for it: a bare address would lose money there.
    """
    return terms.address if terms.memo is None else _ton_link(terms)


def payment_link(invoice: Invoice, catalogue: Catalogue) -> str | None:
    """A link that fills in the payment: what is still missing of the amount, and the comment.

    None on chains other than TON, for an asset that is no longer in the catalogue, and once there
    is nothing to pay.
    """
    terms = invoice.terms
    chain, asset = catalogue.chains.get(terms.chain), catalogue.assets.get(terms.asset)
    if chain is None or asset is None or chain.family != "ton":
        return None
    if invoice.state is not State.PENDING:
        return None
    due_base = max(0, terms.required_base - invoice.credited_base)
    return _ton_link(terms, asset=asset, amount_base=due_base)


def _ton_link(terms: Terms, *, asset: Asset | None = None, amount_base: int = 0) -> str:
    query: dict[str, str] = {}
    if asset is not None and asset.contract is not None:
        master = Address(
            (int.from_bytes(asset.contract[:1], "big", signed=True), asset.contract[1:])
        )
        query["jetton"] = str(master.to_str(is_test_only=terms.network != "mainnet"))
    if amount_base:
        query["amount"] = str(amount_base)
    if terms.memo is not None:
        query["text"] = terms.memo
    return f"ton://transfer/{terms.address}" + (f"?{urlencode(query)}" if query else "")
