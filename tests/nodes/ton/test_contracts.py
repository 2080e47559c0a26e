"""The compiled contracts are those of the sources."""

import json

import pytest

from tests.nodes.install import find, how_to_install
from tests.nodes.ton import CONTRACTS, compile_all, source_digest

ANEW = "contracts.json is out of date: run 'python -m tests.nodes.ton --write'"


def test_the_sources_have_not_changed_since() -> None:
    assert json.loads(CONTRACTS.read_text())["sources"] == source_digest(), ANEW


def test_compiling_again_gives_the_same() -> None:
    if find("ton") is None:
        pytest.skip(how_to_install("ton"))
    assert compile_all() == json.loads(CONTRACTS.read_text()), ANEW
