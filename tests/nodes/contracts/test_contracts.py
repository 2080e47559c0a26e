"""The compiled contracts are those of the sources."""

import json

import pytest

from tests.nodes.contracts import COMPILED, compile_all, contract, source_digest
from tests.nodes.install import find, how_to_install

ANEW = "compiled.json is out of date: run 'python -m tests.nodes.contracts --write'"


def test_the_sources_have_not_changed_since() -> None:
    assert json.loads(COMPILED.read_text())["sources"] == source_digest(), ANEW


def test_compiling_again_gives_the_same() -> None:
    if find("solc") is None:
        pytest.skip(how_to_install("solc"))
    assert compile_all() == json.loads(COMPILED.read_text()), ANEW


def test_the_standard_s_selectors() -> None:
    for name in ("Token", "SilentToken", "FeeToken"):
        selectors = contract(name).selectors
        assert selectors["transfer(address,uint256)"] == "a9059cbb"
        assert selectors["transferFrom(address,address,uint256)"] == "23b872dd"
        assert selectors["decimals()"] == "313ce567"
    assert "decimals()" not in contract("NoDecimalsToken").selectors
