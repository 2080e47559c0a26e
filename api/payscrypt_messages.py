"""An order as Payscrypt's messages: texts and whole numbers, for both wires."""

from __future__ import annotations

from collections.abc import Mapping

from actors.core.assets import Catalogue, Chain
from actors.core.payment import counting
from actors.orders import PlacedOrder
from api.payment_link import where_to_pay
from proto.payscrypt import pg

CHAIN_NAMES: Mapping[str, str] = {
    "btc": "bitcoin",
    "ltc": "litecoin",
    "xmr": "monero",
    "eth": "ethereum",
    "bnb": "bsc",
}
"""Other chains go by their id."""
MAINNET, TESTNET, REGTEST = "mainnet", "testnet", "regtest"
_NETWORKS: Mapping[str, str] = {
    "main": MAINNET,
    "mainnet": MAINNET,
    "regtest": REGTEST,
    "fakechain": REGTEST,
    # Chain ids of development nodes (anvil, geth --dev).
    "31337": REGTEST,
    "1337": REGTEST,
}
"""As nodes name them; all others are test networks, but for an EVM chain's own first chain id."""


def chain_name(chain_id: str) -> str:
    return CHAIN_NAMES.get(chain_id, chain_id)


def network_name(network: str, chain: Chain | None) -> str:
    """`mainnet`, `testnet` or `regtest`."""
    if chain is not None and network in chain.networks[:1]:
        return MAINNET
    return _NETWORKS.get(network, TESTNET)


def order_message(placed: PlacedOrder, catalogue: Catalogue, *, redirect_url: str) -> pg.Order:
    """What the merchant is told."""
    order, invoice = placed.order, placed.invoice
    terms = invoice.terms
    return pg.Order(
        id=str(order.id),
        type=pg.OrderType.NORMAL,
        asset_name=terms.asset,
        target_value=str(terms.required_base),
        target_confirmations=invoice.confirmations,
        variants=[where_to_pay(terms)],
        expired_at=seconds(terms.expires_at_ms),
        merchant_order_id=order.merchant_order_id,
        description=order.description,
        status=pg.OrderStatus(int(placed.status)),
        value=str(invoice.received_base),
        confirmations=placed.confirmations,
        created_at=seconds(terms.created_at_ms),
        updated_at=seconds(invoice.updated_at_ms),
        chain=chain_name(terms.chain),
        network=network_name(terms.network, catalogue.chains.get(terms.chain)),
        callback_url=order.callback_url,
        redirect_url=redirect_url,
    )


def public_message(
    placed: PlacedOrder, catalogue: Catalogue, *, with_payments: bool
) -> pg.PublicOrder:
    """What everybody may know who has the order's id."""
    full = order_message(placed, catalogue, redirect_url="")
    return pg.PublicOrder(
        id=full.id,
        type=full.type,
        asset_name=full.asset_name,
        target_value=full.target_value,
        target_confirmations=full.target_confirmations,
        variants=full.variants,
        expired_at=full.expired_at,
        description=full.description,
        status=full.status,
        value=full.value,
        confirmations=full.confirmations,
        created_at=full.created_at,
        updated_at=full.updated_at,
        chain=full.chain,
        network=full.network,
        callback_url=full.callback_url,
        payments=_payments(placed, catalogue) if with_payments else [],
        merchant_name=placed.merchant_name,
    )


def seconds(at_ms: int) -> int:
    return at_ms // 1000


def _payments(placed: PlacedOrder, catalogue: Catalogue) -> list[pg.Payment]:
    """Those of which `value` is the sum."""
    invoice = placed.invoice
    terms = invoice.terms
    found = list(counting(invoice.payments, terms.asset))
    # An invoice is told of a block before its chain counts the block as read.
    heights = [one.height for one in found if one.height is not None]
    tip_height = max([*heights, placed.tip_height or 0])
    return [
        pg.Payment(
            id=f"{txid}:{one.outpoint.index}",
            txid=txid,
            address=where_to_pay(terms),
            value=str(one.amount_base),
            confirmations=one.confirmations(tip_height),
            block_height=one.height or 0,
            created_at=seconds(one.first_seen_ms),
            updated_at=seconds(invoice.updated_at_ms),
        )
        for one in found
        for txid in [catalogue.hash_text(terms.chain, one.outpoint.txid)]
    ]
