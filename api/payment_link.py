"""How a payer is told where to pay, and what to say, in one text: a link that wallets open.

| family | form | source |
|---|---|---|
| bitcoin | `bitcoin:ADDRESS?amount=0.015` (of Litecoin `litecoin:`) | BIP 21 |
| evm, coin | `ethereum:ADDRESS@CHAIN_ID?value=WEI` | ERC-681 |
| evm, token | `ethereum:CONTRACT@CHAIN_ID/transfer?address=ADDRESS&uint256=BASE_UNITS` | ERC-681 |
| monero | `monero:ADDRESS?tx_amount=0.25` | Monero's `make_uri` |
| ton | `ton://transfer/ADDRESS?jetton=MASTER&amount=BASE_UNITS&text=COMMENT` | TON's wallets |
"""

from __future__ import annotations

import re
from urllib.parse import urlencode

from pytoniq_core import Address

from actors.core.assets import Asset, Catalogue, Chain
from actors.core.events import Terms
from actors.core.invoice import Invoice, State
from actors.core.money import format_decimal

_SCHEME = re.compile(r"[a-z][a-z0-9]*")
_CHAIN_ID = re.compile(r"[1-9][0-9]{0,77}")


def where_to_pay(terms: Terms) -> str:
    """The address; where something must be said with the payment, a link that says both.

    For wires that have one field for it: a bare address would lose money there.
    """
    return terms.address if terms.memo is None else _ton_link(terms)


def due_base(invoice: Invoice) -> int:
    """What is still missing of the amount; 0 once it is covered, and for an open amount."""
    if not invoice.open or invoice.covered:
        return 0
    return max(0, invoice.terms.required_base - invoice.credited_base)


def payment_link(invoice: Invoice, catalogue: Catalogue) -> str | None:
    """A link that fills in the payment: what is still missing of the amount, and the comment.

    None once there is nothing to pay, for an asset that is no longer in the catalogue, and where no
    link would surely lead to the right chain.
    """
    terms = invoice.terms
    chain, asset = catalogue.chains.get(terms.chain), catalogue.assets.get(terms.asset)
    if chain is None or asset is None or invoice.state is not State.PENDING:
        return None
    amount_base = due_base(invoice)
    match chain.family:
        case "bitcoin":
            return _bitcoin_link(terms, chain, asset, amount_base)
        case "evm":
            return _evm_link(terms, chain, asset, amount_base)
        case "monero":
            return _with_amount(f"monero:{terms.address}", "tx_amount", asset, amount_base)
        case "ton":
            return _ton_link(terms, asset=asset, amount_base=amount_base)
    return None


def _bitcoin_link(terms: Terms, chain: Chain, asset: Asset, amount_base: int) -> str | None:
    """The scheme is the chain's name; there is none of a name in several words."""
    scheme = chain.name.lower()
    if not _SCHEME.fullmatch(scheme):
        return None
    return _with_amount(f"{scheme}:{terms.address}", "amount", asset, amount_base)


def _with_amount(link: str, name: str, asset: Asset, amount_base: int) -> str:
    """With the amount in whole coins, exactly."""
    return f"{link}?{name}={format_decimal(amount_base, asset.exponent)}" if amount_base else link


def _evm_link(terms: Terms, chain: Chain, asset: Asset, amount_base: int) -> str | None:
    """Without a chain id a wallet would take the main network, so there is no link then."""
    if not _CHAIN_ID.fullmatch(terms.network):
        return None
    if asset.contract is None:
        link = f"ethereum:{terms.address}@{terms.network}"
        return f"{link}?value={amount_base}" if amount_base else link
    contract = chain.contract_text(asset.contract)
    link = f"ethereum:{contract}@{terms.network}/transfer?address={terms.address}"
    return f"{link}&uint256={amount_base}" if amount_base else link


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
