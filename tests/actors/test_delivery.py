"""Every scenario comes out the same, however the daemon gets to know of it."""

import pytest

from tests.helpers.scenarios import SCENARIOS
from tests.helpers.stage import Delivery, Scenario, Stage
from tests.helpers.watched_chain import watched_chain

CASES = [
    pytest.param(scenario, delivery, id=f"{scenario.name} | {delivery.name.lower()}")
    for scenario in SCENARIOS
    for delivery in Delivery
    if delivery not in scenario.not_in
]


@pytest.mark.parametrize(("scenario", "delivery"), CASES)
async def test_same_end_under_every_delivery(
    autojump_clock, scenario: Scenario, delivery: Delivery
):
    async with watched_chain() as it:
        stage = Stage(it, delivery)
        await stage.begin()
        await scenario.play(stage)
        await stage.rest()
        ends = tuple([await stage.outcome(terms) for terms in stage.invoices])
        assert ends == scenario.ends
