from __future__ import annotations

from dataclasses import replace

import pytest

from actors.core.assets import Asset, Catalogue, CatalogueError, Chain

BTC_CHAIN = Chain("btc", "Bitcoin", "bitcoin", "BTC", 600.0, 3)
ETH_CHAIN = Chain("eth", "Ethereum", "evm", "ETH", 12.0, 12)
BTC = Asset("BTC", "btc", "BTC", "Bitcoin", 8)
ETH = Asset("ETH", "eth", "ETH", "Ether", 18)
USDT = Asset("USDT_ERC20", "eth", "USDT", "Tether", 6, contract=b"\x01" * 20)


def test_the_catalogue_finds_by_id():
    catalogue = Catalogue(chains=[BTC_CHAIN, ETH_CHAIN], assets=[BTC, ETH, USDT])
    assert catalogue.chain_of(catalogue.assets["USDT_ERC20"]) is ETH_CHAIN
    assert list(catalogue.chains) == ["btc", "eth"]


def test_the_catalogue_cannot_be_changed():
    catalogue = Catalogue(chains=[BTC_CHAIN], assets=[BTC])
    with pytest.raises(TypeError):
        catalogue.assets["LTC"] = BTC


@pytest.mark.parametrize(
    ("chains", "assets", "message"),
    [
        ([BTC_CHAIN, BTC_CHAIN], [BTC], "chain btc: listed twice"),
        ([BTC_CHAIN], [BTC, BTC], "asset BTC: listed twice"),
        ([BTC_CHAIN], [BTC, ETH], "asset ETH: chain 'eth' is not in the catalogue"),
        ([BTC_CHAIN], [replace(BTC, exponent=-1)], "asset BTC: exponent -1 is outside 0..30"),
        ([BTC_CHAIN], [replace(BTC, exponent=31)], "asset BTC: exponent 31 is outside 0..30"),
        ([BTC_CHAIN], [], "chain btc: coin 'BTC' is not a native asset of that chain"),
        ([replace(BTC_CHAIN, coin="ETH"), ETH_CHAIN], [ETH], "chain btc: coin 'ETH' is not"),
        ([replace(ETH_CHAIN, coin="USDT_ERC20")], [USDT], "coin 'USDT_ERC20' is not a native"),
    ],
)
def test_data_that_contradict_themselves_are_refused_by_name(chains, assets, message):
    with pytest.raises(CatalogueError, match=message):
        Catalogue(chains=chains, assets=assets)


@pytest.mark.parametrize("exponent", [0, 30])
def test_the_outermost_exponents_are_taken(exponent):
    asset = replace(BTC, exponent=exponent)
    assert Catalogue(chains=[BTC_CHAIN], assets=[asset]).assets["BTC"].exponent == exponent


def test_contracts_are_written_as_their_chain_writes_them():
    assert chain_of("evm").contract_text(bytes(19) + b"\x01") == "0x" + "00" * 19 + "01"
    assert chain_of("ton").contract_text(b"\x00" + bytes(31) + b"\x01") == "0:" + "00" * 31 + "01"
    assert chain_of("ton").contract_text(b"\xff" + bytes(32)) == "-1:" + "00" * 32


def chain_of(family):
    return Chain("one", "One", family, "ONE", 1.0, 1)
