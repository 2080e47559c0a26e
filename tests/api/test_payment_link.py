"""Links of every family; and what a payer on TON is told, over GoiPay and REST."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from actors.core.assets import Asset, Catalogue, Chain
from actors.core.chain_events import OutPoint
from actors.core.invoice import Invoice, State
from actors.core.payment import Payment
from api.payment_link import due_base, payment_link, where_to_pay
from api.rest.app import create_app
from daemon.keys import TonForm, Wallet
from tests.daemon.keys.ton_samples import friendly_of
from tests.helpers.goipay_calls import goipay
from tests.helpers.house import CATALOGUE, TON_KEY, House, open_house
from tests.helpers.invoices import TERMS

ADDRESS = friendly_of("v4r2", "mainnet", 0)
MASTER = "EQCxE6mUtQJKFnGfaROTKOt1lZbDiiX1kCixRv7Nw2Id_sDs"
TON = replace(
    TERMS, chain="ton", asset="TON", network="mainnet", address=ADDRESS, required_base=1_500_000_000
)


def invoice_of(**changes):
    return Invoice(replace(TON, **changes))


def read(link):
    """Address and query of a link."""
    parts = urlsplit(link)
    assert (parts.scheme, parts.netloc) == ("ton", "transfer")
    query = parse_qs(parts.query, strict_parsing=bool(parts.query))
    return parts.path.removeprefix("/"), {name: value for name, [value] in query.items()}


def test_where_nothing_has_to_be_said_the_address_is_told():
    assert where_to_pay(TERMS) == "bcrt1qexample"
    assert where_to_pay(TON) == ADDRESS
    said = where_to_pay(replace(TON, memo="100000308"))
    assert said == f"ton://transfer/{ADDRESS}?text=100000308"


def test_a_link_has_all_that_a_payment_needs():
    assert read(payment_link(invoice_of(), CATALOGUE)) == (ADDRESS, {"amount": "1500000000"})
    link = payment_link(invoice_of(memo="100000308", asset="USDT_TON", required_base=5), CATALOGUE)
    assert read(link) == (ADDRESS, {"jetton": MASTER, "amount": "5", "text": "100000308"})
    testnet = payment_link(invoice_of(asset="USDT_TON", network="testnet"), CATALOGUE)
    assert read(testnet)[1]["jetton"].startswith("kQ")
    assert payment_link(invoice_of(required_base=0), CATALOGUE) == f"ton://transfer/{ADDRESS}"


EVM_ADDRESS = "0x8ba1f109551bD432803012645Ac136ddd64DBA72"
XMR_ADDRESS = "8" + "A" * 94
LINKS = {
    # BIP 21: whole coins with a point, exactly.
    ("btc", "BTC", "main", "bc1qexample", 1_500_001): "bitcoin:bc1qexample?amount=0.01500001",
    ("btc", "BTC", "regtest", "bcrt1q", 21 * 10**14): "bitcoin:bcrt1q?amount=21000000",
    ("btc", "BTC", "main", "bc1qexample", 0): "bitcoin:bc1qexample",
    ("ltc", "LTC", "main", "ltc1qexample", 1): "litecoin:ltc1qexample?amount=0.00000001",
    # ERC-681: base units; the chain is always named.
    ("eth", "ETH", "1", EVM_ADDRESS, 10**18 + 1): (
        f"ethereum:{EVM_ADDRESS}@1?value=1000000000000000001"
    ),
    ("bnb", "BNB", "56", EVM_ADDRESS, 5): f"ethereum:{EVM_ADDRESS}@56?value=5",
    ("eth", "ETH", "11155111", EVM_ADDRESS, 0): f"ethereum:{EVM_ADDRESS}@11155111",
    ("eth", "HOUSE_TOKEN", "1", EVM_ADDRESS, 2_500_000): (
        f"ethereum:0x{'0' * 40}@1/transfer?address={EVM_ADDRESS}&uint256=2500000"
    ),
    ("eth", "HOUSE_TOKEN", "1", EVM_ADDRESS, 0): (
        f"ethereum:0x{'0' * 40}@1/transfer?address={EVM_ADDRESS}"
    ),
    ("xmr", "XMR", "mainnet", XMR_ADDRESS, 10**12 // 4): f"monero:{XMR_ADDRESS}?tx_amount=0.25",
    ("xmr", "XMR", "mainnet", XMR_ADDRESS, 0): f"monero:{XMR_ADDRESS}",
    ("ton", "TON", "mainnet", ADDRESS, 7): f"ton://transfer/{ADDRESS}?amount=7",
}


@pytest.mark.parametrize(("asked", "link"), LINKS.items())
def test_every_family_has_its_link(asked, link):
    chain, asset, network, address, required_base = asked
    terms = replace(
        TERMS,
        chain=chain,
        asset=asset,
        network=network,
        address=address,
        required_base=required_base,
    )
    assert payment_link(Invoice(terms), CATALOGUE) == link


def payment(amount_base: int, **changes) -> Payment:
    return Payment(OutPoint(bytes(32), 0), amount_base, "BTC", 0, late=False, **changes)


def test_the_link_asks_for_what_is_missing():
    invoice = replace(Invoice(TERMS), payments=(payment(20_000_000),))
    assert due_base(invoice) == 30_000_000
    assert payment_link(invoice, CATALOGUE) == "bitcoin:bcrt1qexample?amount=0.3"
    late = replace(invoice, payments=(replace(payment(20_000_000), late=True),))
    assert payment_link(late, CATALOGUE) == "bitcoin:bcrt1qexample?amount=0.5"
    for state, payments in ((State.SEEN, (payment(50_000_000),)), (State.EXPIRED, ())):
        assert due_base(replace(invoice, state=state, payments=payments)) == 0


def test_no_link_leads_to_another_chain_than_the_invoice_s():
    """A wallet takes a link without a chain id for Ethereum's main network."""
    for network in ("regtest", "", "0", "01", "1 "):
        terms = replace(TERMS, chain="eth", asset="ETH", network=network)
        assert payment_link(Invoice(terms), CATALOGUE) is None
    doge = Asset("DOGE", "doge", "DOGE", "Dogecoin", 8)
    for name, scheme in (("Dogecoin", "dogecoin"), ("Two Words", None), ("Ünlaut", None)):
        chain = Chain("doge", name, "bitcoin", "DOGE", 60, 20)
        invoice = Invoice(replace(TERMS, chain="doge", asset="DOGE"))
        link = payment_link(invoice, Catalogue(chains=[chain], assets=[doge]))
        assert link == (scheme and f"{scheme}:bcrt1qexample?amount=0.5")
    unknown = Chain("doge", "Dogecoin", "other", "DOGE", 60, 20)
    assert payment_link(invoice, Catalogue(chains=[unknown], assets=[doge])) is None


def test_no_link_where_there_is_nothing_to_pay_or_to_know():
    for state in set(State) - {State.PENDING}:
        assert payment_link(replace(invoice_of(), state=state), CATALOGUE) is None
        assert payment_link(replace(Invoice(TERMS), state=state), CATALOGUE) is None
    assert payment_link(invoice_of(asset="GONE"), CATALOGUE) is None
    assert payment_link(invoice_of(), Catalogue(chains=[], assets=[])) is None


# --- over the wires -------------------------------------------------------------------------------


async def told(house: House, asset: str):
    """What REST says of a new invoice, and of an older one what GoiPay says (None for no TON)."""
    client = create_app(house.edge()).test_client()
    user_id = str(await house.user(ton=TON_KEY))
    response = await client.post(
        "/v1/invoices",
        json={"user_id": user_id, "asset": asset, "amount": "1.5", "expires_in": 600},
    )
    assert response.status_code == 201
    made = await response.get_json()
    async with goipay(house) as call:
        first = await call("CreateInvoice", userId=user_id, coin="TON", amount=1.5, timeout=600)
        ids = [first.paymentId, made["id"]]
        listed = (await call("GetInvoices", paymentIds=ids)).invoices
    return made, first.address, [one.cryptoAddress for one in listed]


@pytest.mark.parametrize("wallet", Wallet)
async def test_an_address_each_is_told_as_it_is(wallet):
    async with open_house(chains=("ton",), ton=TonForm(wallet=wallet)) as house:
        made, address, listed = await told(house, "TON")
    first, second = (friendly_of(wallet, "mainnet", number) for number in (1, 2))
    assert (made["address"], made["memo"]) == (first, None)
    assert made["payment_uri"] == f"ton://transfer/{first}?amount=1500000000"
    assert address == second
    assert listed == [second, first]


async def test_one_address_is_told_with_the_comment():
    async with open_house(chains=("ton",), ton=TonForm(comments=True)) as house:
        made, address, listed = await told(house, "TON")
    assert (made["address"], made["memo"]) == (ADDRESS, "100000308")
    assert read(made["payment_uri"]) == (ADDRESS, {"amount": "1500000000", "text": "100000308"})
    assert address == f"ton://transfer/{ADDRESS}?text=100000502"
    assert listed == [address, f"ton://transfer/{ADDRESS}?text=100000308"]


async def test_usdt_is_our_own_and_goipay_is_not_told_of_it():
    async with open_house(chains=("ton",), ton=TonForm(comments=True)) as house:
        made, _, listed = await told(house, "USDT_TON")
    assert (made["asset"], made["amount_base"]) == ("USDT_TON", "1500000")
    assert read(made["payment_uri"])[1]["jetton"] == MASTER
    assert len(listed) == 1


async def test_another_mode_leaves_old_invoices_as_they_are():
    """Two invoices of the same key, before and after a restart with another setting."""
    async with open_house(chains=("ton",), ton=TonForm(comments=True)) as house:
        user_id = await house.user(ton=TON_KEY)
        old = await house.invoice(user_id, asset="TON")
        keyring = type(house.keyring)(house.keyring.vault, ton={"ton": TonForm(Wallet.V5R1)})
        house.invoicing._deriver = keyring
        new = await house.invoice(user_id, asset="TON")
        stored = await house.store.invoice(old.terms.invoice_id)
        destinations = dict(await house.store.destinations("ton"))
    assert stored.invoice.terms == old.terms
    assert (old.terms.memo, new.terms.memo) == ("100000308", None)
    assert new.terms.address == friendly_of("v5r1", "mainnet", 2)
    assert destinations == {
        old.terms.destination: old.terms.invoice_id,
        new.terms.destination: new.terms.invoice_id,
    }
