"""What the messages say of chains, networks and addresses."""

from __future__ import annotations

import pytest

from actors.core.assets import Chain
from actors.order_book import Order
from actors.orders import PlacedOrder
from api.payscrypt_messages import chain_name, network_name, order_message, public_message
from daemon.keys import TonForm
from tests.helpers.house import CATALOGUE, TON_KEY, open_house


@pytest.mark.parametrize(
    ("chain", "network", "names"),
    [
        ("btc", "main", ("bitcoin", "mainnet")),
        ("btc", "test", ("bitcoin", "testnet")),
        ("btc", "testnet4", ("bitcoin", "testnet")),
        ("btc", "signet", ("bitcoin", "testnet")),
        ("ltc", "regtest", ("litecoin", "regtest")),
        ("eth", "1", ("ethereum", "mainnet")),
        ("eth", "11155111", ("ethereum", "testnet")),
        ("eth", "31337", ("ethereum", "regtest")),
        ("bnb", "56", ("bsc", "mainnet")),
        ("bnb", "97", ("bsc", "testnet")),
        ("xmr", "mainnet", ("monero", "mainnet")),
        ("xmr", "stagenet", ("monero", "testnet")),
        ("xmr", "fakechain", ("monero", "regtest")),
        ("ton", "mainnet", ("ton", "mainnet")),
        ("ton", "testnet", ("ton", "testnet")),
        ("polygon", "137", ("polygon", "mainnet")),
    ],
)
def test_chains_and_networks_have_the_documents_names(chain, network, names):
    first = {"eth": ("1", "11155111"), "bnb": ("56", "97"), "polygon": ("137",)}.get(chain, ())
    known = Chain(chain, chain, "evm", "X", 1, 1, first)
    assert (chain_name(chain), network_name(network, known)) == names


def test_a_chain_that_left_the_catalogue_is_still_named():
    assert network_name("main", None) == "mainnet"
    assert network_name("5", None) == "testnet"


async def test_where_a_comment_is_needed_the_variant_says_it_too():
    async with open_house(chains=("ton",), ton=TonForm(comments=True)) as house:
        user_id = await house.user(ton=TON_KEY)
        invoice = await house.invoice(user_id, asset="TON")
        assert invoice.terms.memo is not None
        order = Order(
            id=7,
            invoice_id=invoice.terms.invoice_id,
            user_id=user_id,
            wallet_id=1,
            merchant_order_id="A",
            attempt=1,
            description="",
            callback_url="",
            merchant_name="",
            created_at_ms=0,
        )
        placed = PlacedOrder(order=order, invoice=invoice, tip_height=None, brand=None)
        (variant,) = order_message(placed, CATALOGUE, redirect_url="").variants
        assert invoice.terms.address in variant
        assert invoice.terms.memo in variant
        paid = await house.paid(invoice)
        placed = PlacedOrder(order=order, invoice=paid, tip_height=None, brand=None)
        public = public_message(placed, CATALOGUE, with_payments=True)
        assert [one.address for one in public.payments] == [variant] * len(paid.payments)
