"""The router's bound on what one transaction can make us record."""

from hypothesis import given
from hypothesis import strategies as st

from actors.core.chain_events import OutPoint, Output
from actors.router import MAX_OUTPUTS, _bounded

ASSETS = st.sampled_from(["ETH", "USDT_ERC20", "DAI_ERC20"])
TXID = b"\x07" * 32


def outputs_of(parts: list[tuple[str, int]]) -> list[Output]:
    return [
        Output(OutPoint(TXID, index), b"address", amount_base, asset)
        for index, (asset, amount_base) in enumerate(parts)
    ]


def sums(outputs: list[Output] | tuple[Output, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for output in outputs:
        found[output.asset] = found.get(output.asset, 0) + output.amount_base
    return found


@given(st.lists(st.tuples(ASSETS, st.integers(1, 10**30)), max_size=300))
def test_many_outputs_are_recorded_as_few_without_losing_a_unit(parts):
    outputs = outputs_of(parts)
    bounded = _bounded(outputs)
    assert sums(bounded) == sums(outputs)
    assert len(bounded) <= MAX_OUTPUTS + 2
    assert len({output.outpoint for output in bounded}) == len(bounded)
    assert len(outputs) > MAX_OUTPUTS or bounded == tuple(outputs)


def test_an_ordinary_transaction_is_left_as_it_is():
    outputs = outputs_of([("BTC", amount) for amount in range(1, MAX_OUTPUTS + 1)])
    assert _bounded(outputs) == tuple(outputs)
